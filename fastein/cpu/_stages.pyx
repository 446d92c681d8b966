# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Stages: dense memory of a thread's own that tiles write to in the place of the result.

What is in a stage is written to the result later, when it is complete: with what other stages
have for the same lines (`fastein.cpu._stacks`), or added up with it (`fastein.cpu._splits`).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ._axes cimport offsets
from ._problem cimport COLUMNS, ROWS, Side
from ._words cimport Pair, word


cdef void lay_out_stage(Problem *p, Py_ssize_t pitch) noexcept:
    """Have tiles write to a stage, whose columns lie `pitch` elements apart."""
    cdef Py_ssize_t step
    cdef Side *s
    cdef int side, a
    p.stage_pitch = pitch
    for side in range(2):
        s = &p.side[side]
        s.apart = s.free
        step = p.itemsize if side == ROWS else pitch * p.itemsize
        for a in range(s.free.rank - 1, -1, -1):
            s.free.stride[1][a] = step
            step *= s.free.size[a]


cdef Py_ssize_t table_bytes(Problem *p) noexcept nogil:
    """Room for what `write` needs for a block."""
    return (p.side[ROWS].block + p.side[COLUMNS].block) * sizeof(Py_ssize_t)


cdef void write(Problem *p, char *stages, Py_ssize_t step, Py_ssize_t lanes, Py_ssize_t *first,
                Py_ssize_t *count, char *result, Py_ssize_t *table) noexcept nogil:
    """Write a block of the result from the stages of some lanes, which lie `step` bytes apart."""
    cdef Py_ssize_t *rows = table
    cdef Py_ssize_t *columns = rows + count[ROWS]
    offsets(&p.side[ROWS].apart, 1, first[ROWS], count[ROWS], rows)
    offsets(&p.side[COLUMNS].apart, 1, first[COLUMNS], count[COLUMNS], columns)
    if p.itemsize == 1:
        interleave[uint8_t](p, <uint8_t *>stages, step, lanes, rows, columns, count, result)
    elif p.itemsize == 2:
        interleave[uint16_t](p, <uint16_t *>stages, step, lanes, rows, columns, count, result)
    elif p.itemsize == 4:
        interleave[uint32_t](p, <uint32_t *>stages, step, lanes, rows, columns, count, result)
    elif p.itemsize == 8:
        interleave[uint64_t](p, <uint64_t *>stages, step, lanes, rows, columns, count, result)
    else:
        interleave[Pair](p, <Pair *>stages, step, lanes, rows, columns, count, result)


cdef void interleave(Problem *p, word *stages, Py_ssize_t step, Py_ssize_t lanes,
                     Py_ssize_t *rows, Py_ssize_t *columns, Py_ssize_t *count,
                     char *result) noexcept nogil:
    cdef Py_ssize_t apart = step // <Py_ssize_t>sizeof(word), r, c, lane
    cdef word *source
    cdef char *out  # a complex64 is aligned to 4 bytes, not as a word of 8
    for c in range(count[COLUMNS]):
        for r in range(count[ROWS]):
            out = result + columns[c] + rows[r]
            source = stages + c * p.stage_pitch + r
            for lane in range(lanes):
                memcpy(out + lane * sizeof(word), &source[lane * apart], sizeof(word))
