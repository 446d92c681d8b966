from .._nest cimport LoopNest
from ._baseline cimport kernel_t

cdef enum:
    MOST_AXES = 64
    ROWS = 0        # the side whose axes are the tile's vectors
    COLUMNS = 1
    FIXED_ENTRIES = 8192    # of a table that is kept
    NARROW = 4      # see fastein.cpu.tile
    STEPS = 256      # of the sum that are packed at a time where rows lie in runs
    RING = 4        # stages whose progress is told apart; two are under way at most
    LINE = 64
    SLACK = 256     # bytes that packing may overrun its block by

cdef enum PackKind:
    IN_RUNS         # elements of a panel's rows lie in runs
    TRANSPOSED      # the summed index runs along memory
    GATHERED        # neither
    DIRECT          # not at all: tiles read the operand where it lies


cdef struct Axes:
    # Axes that act as one index, outermost first, with their strides in up to three operands.
    int rank
    Py_ssize_t total
    Py_ssize_t size[MOST_AXES]
    Py_ssize_t stride[3][MOST_AXES]


cdef struct Side:
    PackKind kind
    kernel_t pack
    int along               # the summed axis that a transposed side lies along
    Axes free               # strides: in the operand, in the result
    Py_ssize_t width        # elements of a panel
    Py_ssize_t grain        # what the width of the last panel is a multiple of
    Py_ssize_t pitch        # elements between steps of the sum in a full panel
    Py_ssize_t block        # elements of a block
    bint has_narrow         # whether there are tiles of three half vectors


cdef struct Problem:
    Side side[2]
    Axes sums               # strides: in the rows' operand, in the columns' operand
    Axes batch              # strides: in both operands, in the result
    int shared              # the side whose blocks threads share
    Py_ssize_t depth        # of a block: steps of the sum
    Py_ssize_t packed       # bytes of a packed element
    Py_ssize_t itemsize     # of the operands and the result
    Py_ssize_t vector       # bytes to which streaming stores must be aligned
    bint may_stream
    kernel_t tiles
    Py_ssize_t *table       # for tiles, where all blocks have the same one


cdef class Runner:
    cdef Problem *problem
    cdef int first          # which operand is the rows'
    cdef int second
    cdef bint by_matrix
    cdef double work
    cdef LoopNest nest
    cdef object keepalive

    cdef int remember_table(self) except -1
    cdef int run(self, char *first, char *second, char *result) except -1
