# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Pairs of short loops over three inputs.

Long loops multiply block by block (see `_inner_loops`); short ones would only pay for the blocks.
The products go from left to right, so this module is compiled without regrouping of sums: the
permission would extend to the products of one expression.
"""

from .._nest cimport LoopNest
from ._elements cimport (
    KINDS, NPY_CLONGDOUBLE, NPY_LONGDOUBLE, ahead, bool_t, c64, c128, c256, element, g80, plus,
    position, stored, times, u8, u16, u32, u64,
)
from ._loop_pairs cimport pair_t, put

cdef enum:
    LONG = 48  # steps from which the loops by blocks are faster, where there are vectors


cdef inline element product(element *a, element *b, element *c) noexcept nogil:
    return stored[element](times[element](times[element](a[0], b[0]), c[0]))


cdef void summed(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b[j] * c[j])``."""
    cdef Py_ssize_t i, j
    cdef element *a
    cdef element *b
    cdef element *c
    cdef element total
    for j in range(m):
        a = ahead[element](p[0], j * outer[0])
        b = ahead[element](p[1], j * outer[1])
        c = ahead[element](p[2], j * outer[2])
        total = 0
        for i in range(n):
            total = plus[element](total, product[element](
                ahead[element](a, i * inner[0]), ahead[element](b, i * inner[1]),
                ahead[element](c, i * inner[2])))
        put[element](ahead[element](p[3], j * outer[3]), total, first)
        first = first and outer[3] != 0


cdef void mapped(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """``out[j] (+)= a[j] * b[j] * c[j]``; all ``out[j]`` are one where the outer loop is summed."""
    cdef Py_ssize_t i, j
    cdef element *a
    cdef element *b
    cdef element *c
    cdef element *out
    for j in range(m):
        a = ahead[element](p[0], j * outer[0])
        b = ahead[element](p[1], j * outer[1])
        c = ahead[element](p[2], j * outer[2])
        out = ahead[element](p[3], j * outer[3])
        for i in range(n):
            put[element](ahead[element](out, i * inner[3]), product[element](
                ahead[element](a, i * inner[0]), ahead[element](b, i * inner[1]),
                ahead[element](c, i * inner[2])), first)
        first = first and outer[3] != 0


cdef struct Pairs:
    pair_t summed
    pair_t mapped


cdef inline Pairs pairs_of(element *kind) noexcept nogil:
    return Pairs(<pair_t>summed[element], <pair_t>mapped[element])


cdef Pairs[KINDS] _pairs = [
    pairs_of[bool_t](NULL), pairs_of[u8](NULL), pairs_of[u16](NULL), pairs_of[u32](NULL),
    pairs_of[u64](NULL), pairs_of[float](NULL), pairs_of[double](NULL), pairs_of[c64](NULL),
    pairs_of[c128](NULL), pairs_of[g80](NULL), pairs_of[c256](NULL),
]


cdef pair_t triple_pair(LoopNest nest) noexcept:
    """The pair for a nest of three inputs; NULL where its innermost loop runs alone."""
    cdef int kind = position(nest.dtype.num)
    if kind < 0 or nest.nin != 3 or nest.rank < 2:
        return NULL
    if nest.size[nest.rank - 1] >= LONG and not is_extended(nest.dtype.num):
        return NULL
    return _pairs[kind].summed if nest.is_summed[nest.rank - 1] else _pairs[kind].mapped


cdef inline bint is_extended(int type_num) noexcept:
    return type_num == NPY_LONGDOUBLE or type_num == NPY_CLONGDOUBLE
