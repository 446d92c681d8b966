# cython: cdivision=True
"""A contraction with everything decided, in C; the geometry of its panels."""

from ._axes cimport Axes
from ._baseline cimport kernel_t

cdef enum:
    ROWS = 0        # the side whose axes are the tile's vectors
    COLUMNS = 1
    LINE = 64
    SLACK = 256     # bytes that packing may overrun its block by

cdef enum PackKind:
    IN_RUNS         # elements of a panel's rows lie in runs
    TRANSPOSED      # the summed index runs along memory
    GATHERED        # neither
    DIRECT          # not at all: tiles read the operand where it lies
    LINES           # elements are whole vectors


cdef enum SumKind:
    INTEGERS        # of any size: they wrap around
    FLOATS
    DOUBLES
    BITS            # true if any is


cdef struct Side:
    PackKind kind
    kernel_t pack
    int along               # the summed axis that a transposed side lies along
    Axes free               # strides: in the operand, in the result (or where that is staged)
    Axes apart              # where results are staged, their strides in the result
    Py_ssize_t width        # elements of a panel
    Py_ssize_t grain        # what the width of the last panel is a multiple of
    Py_ssize_t pitch        # elements between steps of the sum in a full panel
    Py_ssize_t block        # elements of a block
    Py_ssize_t bytes        # of a packed block
    bint has_narrow         # whether there are tiles of three half vectors


cdef struct Problem:
    Side side[2]
    Axes sums               # strides: in the rows' operand, in the columns' operand
    Axes batch              # strides: in both operands, in the result
    int shared              # the side whose blocks threads share
    Py_ssize_t depth        # of a block: steps of the sum
    Py_ssize_t packed       # bytes of a packed element
    Py_ssize_t word         # steps of the sum that it holds
    Py_ssize_t together     # rows of words that are packed at a time where they are contiguous
    Py_ssize_t itemsize     # of the operands and the result
    Py_ssize_t vector       # bytes to which streaming stores must be aligned
    bint may_stream
    bint may_join           # tiles' lines may be written past the caches with those around them
    Py_ssize_t lanes        # matrices whose results interleave; 0 where none do
    Py_ssize_t staged       # of them together
    Py_ssize_t lane[3]      # from one to the next, in both operands and the result
    Py_ssize_t parts        # of the sum, each of which has a stage of its own; 1 if it is whole
    SumKind kind            # how they are added up
    Py_ssize_t stage_pitch  # elements between the columns of a stage
    bint symmetric          # the result is if both operands are the same memory
    kernel_t tiles
    Py_ssize_t entries      # of the tables of a block
    Py_ssize_t *table       # for tiles, where all blocks have the same one


cdef enum Join:     # see fastein.cpu.tile
    STREAM = 2
    JOIN = 3
    GOES_BEFORE = 1
    GOES_ON = 2
    JOIN_SHIFT = 3  # above a tile's vectors in the tables


cdef inline Py_ssize_t up(Py_ssize_t n, Py_ssize_t grain) noexcept nogil:
    return (n + grain - 1) // grain * grain


cdef inline bint is_narrow(Side *s, Py_ssize_t count) noexcept nogil:
    """Whether so many rows make a tile of three half vectors."""
    return s.has_narrow and s.grain < count and 2 * count <= 3 * s.grain


cdef inline Py_ssize_t pitch_of(Side *s, Py_ssize_t count) noexcept nogil:
    """Elements between steps of the sum in the panels of a block: fewer if it has one panel."""
    if count > s.width:
        return s.pitch
    return s.grain // 2 * 3 if is_narrow(s, count) else up(count, s.grain)


cdef inline Py_ssize_t words_of(Problem *p, Py_ssize_t depth) noexcept nogil:
    """Packed elements that hold so many steps of the sum."""
    return (depth + p.word - 1) // p.word


cdef inline Py_ssize_t panel_bytes(Problem *p, Py_ssize_t pitch, Py_ssize_t depth) noexcept nogil:
    """A panel's bytes, with the line that writing it may overrun its end by."""
    return pitch * words_of(p, depth) * p.packed + LINE


cdef inline Py_ssize_t next_width(Problem *p, Side *s, Py_ssize_t left) noexcept nogil:
    """Elements of the next panel of a block in which so many are left.

    Two panels of two vectors are faster than one of three and one of one. (A shared block is
    packed in parts, which do not know what is left.)
    """
    if s == &p.side[ROWS] and p.shared != ROWS and s.width < left <= s.width + s.grain:
        return (left // 2 + s.grain - 1) // s.grain * s.grain
    return min(s.width, left)
