# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Moving the blocks of a permutation, compiled ahead of time.

In the signature of all kernels, and with the arguments of those that transpose in registers
(`fastein.cpu.permutation_kernel`), but that the last pointer is to the `Problem`: it knows how far
rows and columns are apart. Nothing here streams.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ._baseline cimport kernel_t
from ._permutation_problem cimport Problem
from ._streams cimport LINE
from ._words cimport Pair, word


cdef void move_words(char **data, Py_ssize_t *shape, Py_ssize_t *table, Problem *p,
                     word *kind) noexcept nogil:
    """Move a block of words, which may lie anywhere: a complex64 is one, and aligned to 4 bytes."""
    cdef Py_ssize_t columns = shape[0], rows = shape[1], r, c, begin, end
    cdef Py_ssize_t *targets = table + shape[2]
    cdef Py_ssize_t read = p.column_read, written = p.row_written
    cdef Py_ssize_t near = LINE // p.size
    cdef char *source
    cdef char *to
    for begin from 0 <= begin < columns by near:
        end = min(begin + near, columns)
        for c in range(begin, end):
            source = data[0] + c * read
            to = data[1] + targets[c]
            if written == sizeof(word):
                for r in range(rows):
                    memcpy(to + r * sizeof(word), source + table[r], sizeof(word))
            else:
                for r in range(rows):
                    memcpy(to + r * written, source + table[r], sizeof(word))


cdef void move_runs(char **data, Py_ssize_t *shape, Py_ssize_t *table, Problem *p,
                    word *kind) noexcept nogil:
    """Move a block of short runs, longer than a word and at most as long as two: these overlap."""
    cdef Py_ssize_t written = p.row_written, last = p.size - <Py_ssize_t>sizeof(word), r, c
    cdef char *source
    cdef char *to
    cdef word begin, end
    for c in range(shape[0]):
        source = data[0] + c * p.column_read
        to = data[1] + table[shape[2] + c]
        for r in range(shape[1]):
            memcpy(&begin, source + table[r], sizeof(word))
            memcpy(&end, source + table[r] + last, sizeof(word))
            memcpy(to + r * written, &begin, sizeof(word))
            memcpy(to + r * written + last, &end, sizeof(word))


cdef void copy_runs(char **data, Py_ssize_t *shape, Py_ssize_t *table, Problem *p) noexcept nogil:
    """Move a block of runs of any length."""
    cdef Py_ssize_t r, c
    cdef char *source
    cdef char *to
    for c in range(shape[0]):
        source = data[0] + c * p.column_read
        to = data[1] + table[shape[2] + c]
        for r in range(shape[1]):
            memcpy(to + r * p.row_written, source + table[r], p.size)


cdef void move_bytes(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                     Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Move a block of words, or of runs."""
    cdef Problem *p = <Problem *>problem
    if p.size == 1:
        move_words[uint8_t](data, shape, table, p, NULL)
    elif p.size == 2:
        move_words[uint16_t](data, shape, table, p, NULL)
    elif p.size == 4:
        move_words[uint32_t](data, shape, table, p, NULL)
    elif p.size == 8:
        move_words[uint64_t](data, shape, table, p, NULL)
    elif p.size == sizeof(Pair):
        move_words[Pair](data, shape, table, p, NULL)
    elif p.size < 4:
        move_runs[uint16_t](data, shape, table, p, NULL)
    elif p.size < 8:
        move_runs[uint32_t](data, shape, table, p, NULL)
    elif p.size < 16:
        move_runs[uint64_t](data, shape, table, p, NULL)
    elif p.size <= 32:
        move_runs[Pair](data, shape, table, p, NULL)
    else:
        copy_runs(data, shape, table, p)


cdef void move_truths(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                      Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Move a block of bool, whose bytes become 0 or 1."""
    cdef Problem *p = <Problem *>problem
    cdef Py_ssize_t r, c
    cdef char *source
    cdef char *to
    for c in range(shape[0]):
        source = data[0] + c * p.column_read
        to = data[1] + table[shape[2] + c]
        for r in range(shape[1]):
            to[r * p.row_written] = source[table[r]] != 0


cdef kernel_t moving(str element) noexcept:
    return move_truths if element == "bool" else move_bytes
