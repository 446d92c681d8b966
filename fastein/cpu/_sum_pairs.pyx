# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Pairs of loops whose inner one is summed: four sums at once.

Where the outer loop is summed as well, the output stays where it is: its stride `so` is 0, and only
the first of the sums may overwrite it.
"""

from .._nest cimport LoopNest
from ._elements cimport (
    KINDS, ahead, at, bool_t, c64, c128, c256, element, g80, hot, plus, position, times, u8, u16,
    u32, u64,
)
from ._loop_pairs cimport fours, has_contiguous_rows, may_pair, pair_t, put, put_four

cdef enum:
    # Rows from which `_inner_loops` does as well: it keeps several sums of one row.
    LONG_FLOATS = 64
    LONG_INTEGERS = 256
    LONG_STRIDED = 64
    LONG_SHARED = 1024  # what is loaded once for four rows repays longer


cdef hot row_sums(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, Py_ssize_t m,
                  Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j])``, contiguous rows."""
    cdef Py_ssize_t i, _
    cdef element t
    for _ in range(m):
        t = 0
        for i in range(n):
            t = plus[element](t, a[i])
        put[element](out, t, first)
        first = first and so != 0
        a = ahead[element](a, sa)
        out = ahead[element](out, so)


cdef hot row_dots(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, element *b,
                  Py_ssize_t sb, Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b[j])``, contiguous rows."""
    cdef Py_ssize_t i, _
    cdef element t
    for _ in range(m):
        t = 0
        for i in range(n):
            t = plus[element](t, times[element](a[i], b[i]))
        put[element](out, t, first)
        first = first and so != 0
        a = ahead[element](a, sa)
        b = ahead[element](b, sb)
        out = ahead[element](out, so)


cdef void contiguous_sums(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                          Py_ssize_t n, bint first) noexcept nogil:
    row_sums[element](p[1], outer[1], p[0], outer[0], m, n, first)


cdef void contiguous_dots(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                          Py_ssize_t n, bint first) noexcept nogil:
    row_dots[element](p[2], outer[2], p[0], outer[0], p[1], outer[1], m, n, first)


cdef void strided_sums(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                       Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j])``."""
    cdef Py_ssize_t i, _, _i, s = outer[0], so = outer[1], step = inner[0]
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *a = p[0]
    cdef element *row
    cdef element *out = p[1]
    cdef element t0, t1, t2, t3
    for _ in range(quads):
        t0 = t1 = t2 = t3 = 0
        row = a
        for _i in range(n):
            t0 = plus[element](t0, row[0])
            t1 = plus[element](t1, at[element](row, s))
            t2 = plus[element](t2, at[element](row, 2 * s))
            t3 = plus[element](t3, at[element](row, 3 * s))
            row = ahead[element](row, step)
        put_four[element](out, so, t0, t1, t2, t3, first)
        first = first and so != 0
        a = ahead[element](a, 4 * s)
        out = ahead[element](out, 4 * so)
    for _ in range(m - 4 * quads):
        t0 = 0
        for i in range(n):
            t0 = plus[element](t0, at[element](a, i * step))
        put[element](out, t0, first)
        first = first and so != 0
        a = ahead[element](a, s)
        out = ahead[element](out, so)


cdef void shared_dots(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                      Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b)``, or the same with a and b exchanged."""
    cdef int shared = 0 if outer[0] == 0 else 1, rows = 1 - shared
    cdef Py_ssize_t i, _, _i, s = outer[rows], so = outer[2]
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *a = p[rows]
    cdef element *row
    cdef element *b
    cdef element *out = p[2]
    cdef element t0, t1, t2, t3, factor
    for _ in range(quads):
        t0 = t1 = t2 = t3 = 0
        row = a
        b = p[shared]
        for _i in range(n):
            factor = b[0]
            t0 = plus[element](t0, times[element](row[0], factor))
            t1 = plus[element](t1, times[element](at[element](row, s), factor))
            t2 = plus[element](t2, times[element](at[element](row, 2 * s), factor))
            t3 = plus[element](t3, times[element](at[element](row, 3 * s), factor))
            row = ahead[element](row, inner[rows])
            b = ahead[element](b, inner[shared])
        put_four[element](out, so, t0, t1, t2, t3, first)
        first = first and so != 0
        a = ahead[element](a, 4 * s)
        out = ahead[element](out, 4 * so)
    b = p[shared]
    for _ in range(m - 4 * quads):
        t0 = 0
        for i in range(n):
            t0 = plus[element](t0, times[element](
                at[element](a, i * inner[rows]), at[element](b, i * inner[shared])))
        put[element](out, t0, first)
        first = first and so != 0
        a = ahead[element](a, s)
        out = ahead[element](out, so)


cdef void strided_dots(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                       Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b[j])``."""
    cdef Py_ssize_t i, _, _i, s = outer[0], r = outer[1], so = outer[2]
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *a = p[0]
    cdef element *b = p[1]
    cdef element *x
    cdef element *y
    cdef element *out = p[2]
    cdef element t0, t1, t2, t3
    for _ in range(quads):
        t0 = t1 = t2 = t3 = 0
        x = a
        y = b
        for _i in range(n):
            t0 = plus[element](t0, times[element](x[0], y[0]))
            t1 = plus[element](t1, times[element](at[element](x, s), at[element](y, r)))
            t2 = plus[element](t2, times[element](at[element](x, 2 * s), at[element](y, 2 * r)))
            t3 = plus[element](t3, times[element](at[element](x, 3 * s), at[element](y, 3 * r)))
            x = ahead[element](x, inner[0])
            y = ahead[element](y, inner[1])
        put_four[element](out, so, t0, t1, t2, t3, first)
        first = first and so != 0
        a = ahead[element](a, 4 * s)
        b = ahead[element](b, 4 * r)
        out = ahead[element](out, 4 * so)
    for _ in range(m - 4 * quads):
        t0 = 0
        for i in range(n):
            t0 = plus[element](t0, times[element](
                at[element](a, i * inner[0]), at[element](b, i * inner[1])))
        put[element](out, t0, first)
        first = first and so != 0
        a = ahead[element](a, s)
        b = ahead[element](b, r)
        out = ahead[element](out, so)


cdef struct Pairs:
    pair_t contiguous_sums
    pair_t contiguous_dots
    pair_t strided_sums
    pair_t strided_dots
    pair_t shared_dots


cdef inline Pairs pairs_of(element *kind) noexcept nogil:
    return Pairs(
        <pair_t>contiguous_sums[element], <pair_t>contiguous_dots[element],
        <pair_t>strided_sums[element], <pair_t>strided_dots[element],
        <pair_t>shared_dots[element])


cdef Pairs[KINDS] _pairs = [
    pairs_of[bool_t](NULL), pairs_of[u8](NULL), pairs_of[u16](NULL), pairs_of[u32](NULL),
    pairs_of[u64](NULL), pairs_of[float](NULL), pairs_of[double](NULL), pairs_of[c64](NULL),
    pairs_of[c128](NULL), pairs_of[g80](NULL), pairs_of[c256](NULL),
]


cdef pair_t sum_pair(LoopNest nest) noexcept:
    """The pair for a nest whose innermost loop is summed; NULL where that loop runs alone."""
    cdef int near = nest.rank - 2
    cdef Py_ssize_t n
    cdef Pairs *pairs
    if not may_pair(nest):
        return NULL
    pairs = &_pairs[position(nest.dtype.num)]
    n = nest.size[near + 1]
    if has_contiguous_rows(nest, nest.nin):
        if n >= (LONG_FLOATS if nest.dtype.kind in "fc" else LONG_INTEGERS):
            return NULL
        return pairs.contiguous_sums if nest.nin == 1 else pairs.contiguous_dots
    if n >= LONG_SHARED:
        return NULL
    if nest.nin == 2 and (nest.stride[near] == 0 or nest.stride[nest.rank + near] == 0):
        return pairs.shared_dots
    if n >= LONG_STRIDED and not has_close_rows(nest):
        return NULL
    if nest.nin == 1:
        return pairs.strided_sums
    return pairs.strided_dots


cdef bint has_close_rows(LoopNest nest) noexcept:
    """Whether neighbouring rows of an input share cache lines."""
    cdef int p, near
    for p in range(nest.nin):
        near = p * nest.rank + nest.rank - 2
        if abs(nest.stride[near]) < abs(nest.stride[near + 1]):
            return True
    return False
