# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The other half of a symmetric result, as the mirror image of the half that was computed.

Rows and columns of such a result are the same operand. An element whose row comes behind its column
is copied from the one whose row is that column, square by square through a buffer: so that lines
are read and written whole, even where all of them compete for the same places in the first cache,
as with strides of a power of two.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ._problem cimport COLUMNS, ROWS
from ._tile_tables cimport offsets

cdef enum:
    SQUARE = 16     # elements: a line of four bytes each

ctypedef struct Two:
    uint64_t[2] words

ctypedef fused word:  # functions are specialised by a null pointer to one
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    Two

cdef struct Strip:
    # Where some elements of the joint index lie in the result, as rows and as columns.
    Py_ssize_t count
    bint is_run             # whether they lie one after the other as rows
    Py_ssize_t row[STRIP]
    Py_ssize_t column[STRIP]


cdef void mirror(Problem *p, char *result, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Fill the strips ``begin:end`` of rows up to the diagonal."""
    cdef Strip rows, columns
    cdef Py_ssize_t r, c
    for r in range(begin, end):
        place(p, r, &rows)
        for c in range(r + 1):
            place(p, c, &columns)
            if p.itemsize == 1:
                mirror_strips(result, &rows, &columns, r == c, <uint8_t *>NULL)
            elif p.itemsize == 2:
                mirror_strips(result, &rows, &columns, r == c, <uint16_t *>NULL)
            elif p.itemsize == 4:
                mirror_strips(result, &rows, &columns, r == c, <uint32_t *>NULL)
            elif p.itemsize == 8:
                mirror_strips(result, &rows, &columns, r == c, <uint64_t *>NULL)
            else:
                mirror_strips(result, &rows, &columns, r == c, <Two *>NULL)


cdef void place(Problem *p, Py_ssize_t number, Strip *strip) noexcept nogil:
    cdef Py_ssize_t begin = number * STRIP, k
    strip.count = min(<Py_ssize_t>STRIP, p.side[ROWS].free.total - begin)
    offsets(&p.side[ROWS].free, 1, begin, strip.count, strip.row)
    offsets(&p.side[COLUMNS].free, 1, begin, strip.count, strip.column)
    strip.is_run = True
    for k in range(1, strip.count):
        strip.is_run &= strip.row[k] - strip.row[k - 1] == p.itemsize


cdef void mirror_strips(char *result, Strip *rows, Strip *columns, bint same,
                        word *kind) noexcept nogil:
    """Fill where strips of rows and columns meet; before the diagonal if both are the same."""
    cdef Py_ssize_t i, j, height, width
    for i from 0 <= i < rows.count by SQUARE:
        height = min(<Py_ssize_t>SQUARE, rows.count - i)
        for j from 0 <= j < (i + 1 if same else columns.count) by SQUARE:
            width = min(<Py_ssize_t>SQUARE, columns.count - j)
            if rows.is_run and columns.is_run and height == width == SQUARE and not same:
                mirror_whole(result + rows.row[i], rows.column + i, result + columns.row[j],
                             columns.column + j, kind)
            else:
                mirror_part(result, rows, columns, i, height, j, width, same and i == j, kind)


cdef inline void mirror_whole(char *target, Py_ssize_t *rows, char *source, Py_ssize_t *columns,
                              word *kind) noexcept nogil:
    """Fill a square of contiguous elements: most of any large matrix, in half the time."""
    cdef word[SQUARE][SQUARE] buffer
    cdef Py_ssize_t r, c
    for r in range(SQUARE):
        memcpy(&buffer[r][0], source + rows[r], SQUARE * sizeof(word))
    for c in range(SQUARE):
        for r in range(SQUARE):
            memcpy(target + columns[c] + r * sizeof(word), &buffer[r][c], sizeof(word))


cdef inline void mirror_part(char *result, Strip *rows, Strip *columns, Py_ssize_t i,
                             Py_ssize_t height, Py_ssize_t j, Py_ssize_t width, bint diagonal,
                             word *kind) noexcept nogil:
    """Fill any square, element by element."""
    cdef word[SQUARE][SQUARE] buffer
    cdef Py_ssize_t r, c
    cdef char *line
    for r in range(height):
        line = result + rows.column[i + r]
        for c in range(width):
            memcpy(&buffer[r][c], line + columns.row[j + c], sizeof(word))
    for c in range(width):
        line = result + columns.column[j + c]
        for r in range(c + 1 if diagonal else 0, height):
            memcpy(line + rows.row[i + r], &buffer[r][c], sizeof(word))
