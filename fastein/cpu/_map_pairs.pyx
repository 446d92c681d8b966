# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Pairs of loops whose inner one is an output axis.

rows
    the outer loop is summed: four rows are added up before the output is read and written;
maps
    the outer loop is an output axis as well.
"""

from .._nest cimport LoopNest
from ._elements cimport (
    KINDS, ahead, at, bool_t, c64, c128, c256, element, flat, g80, hot, plus, position, stored,
    times, u8, u16, u32, u64,
)
from ._loop_pairs cimport (
    fours, has_contiguous_rows, may_pair, pair_t, put, put_four, sum_of_four,
)

# --- rows -----------------------------------------------------------------------------------
# `so` and `step` are the strides along the rows, `s` those from row to row.

cdef inline flat add_fours(element *out, Py_ssize_t so, element *a, Py_ssize_t step, Py_ssize_t s,
                           Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    """``out (+)= sum over j of a[j]``."""
    cdef Py_ssize_t i, _
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *row
    for _ in range(quads):
        for i in range(n):
            row = ahead[element](a, i * step)
            put[element](ahead[element](out, i * so), sum_of_four[element](
                row[0], at[element](row, s), at[element](row, 2 * s), at[element](row, 3 * s)),
                first)
        first = False
        a = ahead[element](a, 4 * s)
    m -= 4 * quads
    for _ in range(m // 2):
        for i in range(n):
            row = ahead[element](a, i * step)
            put[element](ahead[element](out, i * so), plus[element](row[0], at[element](row, s)),
                         first)
        first = False
        a = ahead[element](a, 2 * s)
    if m % 2:
        for i in range(n):
            put[element](ahead[element](out, i * so), at[element](a, i * step), first)


cdef inline flat scale_fours(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, element *x,
                             Py_ssize_t step, Py_ssize_t s, Py_ssize_t m, Py_ssize_t n,
                             bint first) noexcept nogil:
    """``out (+)= sum over j of a[j] * x[j]``, each ``a[j]`` one element."""
    cdef Py_ssize_t i, _
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element a0, a1, a2, a3
    cdef element *row
    for _ in range(quads):
        a0 = a[0]
        a1 = at[element](a, sa)
        a2 = at[element](a, 2 * sa)
        a3 = at[element](a, 3 * sa)
        for i in range(n):
            row = ahead[element](x, i * step)
            put[element](ahead[element](out, i * so), sum_of_four[element](
                times[element](row[0], a0),
                times[element](at[element](row, s), a1),
                times[element](at[element](row, 2 * s), a2),
                times[element](at[element](row, 3 * s), a3)), first)
        first = False
        a = ahead[element](a, 4 * sa)
        x = ahead[element](x, 4 * s)
    m -= 4 * quads
    for _ in range(m // 2):
        a0 = a[0]
        a1 = at[element](a, sa)
        for i in range(n):
            row = ahead[element](x, i * step)
            put[element](ahead[element](out, i * so), plus[element](
                times[element](row[0], a0), times[element](at[element](row, s), a1)), first)
        first = False
        a = ahead[element](a, 2 * sa)
        x = ahead[element](x, 2 * s)
    if m % 2:
        a0 = a[0]
        for i in range(n):
            put[element](ahead[element](out, i * so),
                         times[element](at[element](x, i * step), a0), first)


cdef inline flat multiply_fours(element *out, Py_ssize_t so, element *a, Py_ssize_t step_a,
                                Py_ssize_t sa, element *b, Py_ssize_t step_b, Py_ssize_t sb,
                                Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    """``out (+)= sum over j of a[j] * b[j]``."""
    cdef Py_ssize_t i, _
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *x
    cdef element *y
    for _ in range(quads):
        for i in range(n):
            x = ahead[element](a, i * step_a)
            y = ahead[element](b, i * step_b)
            put[element](ahead[element](out, i * so), sum_of_four[element](
                times[element](x[0], y[0]),
                times[element](at[element](x, sa), at[element](y, sb)),
                times[element](at[element](x, 2 * sa), at[element](y, 2 * sb)),
                times[element](at[element](x, 3 * sa), at[element](y, 3 * sb))), first)
        first = False
        a = ahead[element](a, 4 * sa)
        b = ahead[element](b, 4 * sb)
    m -= 4 * quads
    for _ in range(m // 2):
        for i in range(n):
            x = ahead[element](a, i * step_a)
            y = ahead[element](b, i * step_b)
            put[element](ahead[element](out, i * so), plus[element](
                times[element](x[0], y[0]),
                times[element](at[element](x, sa), at[element](y, sb))), first)
        first = False
        a = ahead[element](a, 2 * sa)
        b = ahead[element](b, 2 * sb)
    if m % 2:
        for i in range(n):
            put[element](ahead[element](out, i * so), times[element](
                at[element](a, i * step_a), at[element](b, i * step_b)), first)


cdef hot add_contiguous(element *out, element *a, Py_ssize_t s, Py_ssize_t m, Py_ssize_t n,
                        bint first) noexcept nogil:
    add_fours[element](out, sizeof(element), a, sizeof(element), s, m, n, first)


cdef hot scale_contiguous(element *out, element *a, Py_ssize_t sa, element *x, Py_ssize_t s,
                          Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    scale_fours[element](out, sizeof(element), a, sa, x, sizeof(element), s, m, n, first)


cdef hot multiply_contiguous(element *out, element *a, Py_ssize_t sa, element *b, Py_ssize_t sb,
                             Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    cdef Py_ssize_t unit = sizeof(element)
    multiply_fours[element](out, unit, a, unit, sa, b, unit, sb, m, n, first)


cdef void added_rows(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                     Py_ssize_t n, bint first) noexcept nogil:
    if inner[0] == sizeof(element) and inner[1] == sizeof(element):
        add_contiguous[element](p[1], p[0], outer[0], m, n, first)
    else:
        add_fours[element](p[1], inner[1], p[0], inner[0], outer[0], m, n, first)


cdef void scaled_rows(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                      Py_ssize_t n, bint first) noexcept nogil:
    cdef int a = 0 if inner[0] == 0 else 1, x = 1 - a
    if inner[x] == sizeof(element) and inner[2] == sizeof(element):
        scale_contiguous[element](p[2], p[a], outer[a], p[x], outer[x], m, n, first)
    else:
        scale_fours[element](p[2], inner[2], p[a], outer[a], p[x], inner[x], outer[x], m, n, first)


cdef void multiplied_rows(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                          Py_ssize_t n, bint first) noexcept nogil:
    cdef Py_ssize_t unit = sizeof(element)
    if inner[0] == unit and inner[1] == unit and inner[2] == unit:
        multiply_contiguous[element](p[2], p[0], outer[0], p[1], outer[1], m, n, first)
    else:
        multiply_fours[element](p[2], inner[2], p[0], inner[0], outer[0], p[1], inner[1],
                                outer[1], m, n, first)


# --- maps -----------------------------------------------------------------------------------

cdef void copied(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """``out[j] (+)= a[j]``: what neighbouring rows share is cache lines."""
    cdef Py_ssize_t i, _, _i, s = outer[0], so = outer[1]
    cdef Py_ssize_t quads = fours[element](m, NULL)
    cdef element *a = p[0]
    cdef element *out = p[1]
    cdef element *x
    cdef element *y
    for _ in range(quads):
        x = a
        y = out
        for _i in range(n):
            put_four[element](y, so, x[0], at[element](x, s), at[element](x, 2 * s),
                              at[element](x, 3 * s), first)
            x = ahead[element](x, inner[0])
            y = ahead[element](y, inner[1])
        a = ahead[element](a, 4 * s)
        out = ahead[element](out, 4 * so)
    for _ in range(m - 4 * quads):
        for i in range(n):
            put[element](ahead[element](out, i * inner[1]), at[element](a, i * inner[0]), first)
        a = ahead[element](a, s)
        out = ahead[element](out, so)


cdef hot scale_each(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, element *x,
                    Py_ssize_t sx, Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= a[j] * x[j]``, each ``a[j]`` one element, contiguous rows."""
    cdef Py_ssize_t i, _
    cdef element factor
    for _ in range(m):
        factor = a[0]
        for i in range(n):
            put[element](&out[i], times[element](x[i], factor), first)
        a = ahead[element](a, sa)
        x = ahead[element](x, sx)
        out = ahead[element](out, so)


cdef void scaled_each(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                      Py_ssize_t n, bint first) noexcept nogil:
    cdef int a = 0 if inner[0] == 0 else 1, x = 1 - a
    scale_each[element](p[2], outer[2], p[a], outer[a], p[x], outer[x], m, n, first)


cdef hot multiply_each(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, element *b,
                       Py_ssize_t sb, Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= a[j] * b[j]``, contiguous rows."""
    cdef Py_ssize_t i, _
    for _ in range(m):
        for i in range(n):
            put[element](&out[i], times[element](a[i], b[i]), first)
        a = ahead[element](a, sa)
        b = ahead[element](b, sb)
        out = ahead[element](out, so)


cdef void multiplied_each(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                          Py_ssize_t n, bint first) noexcept nogil:
    multiply_each[element](p[2], outer[2], p[0], outer[0], p[1], outer[1], m, n, first)


cdef enum:
    GATHERED = 512  # elements of a row that are brought together at once
    SHARING = 3     # rows from which that is repaid


cdef void scaled_gathered(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                          Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= a[j] * x``, each ``a[j]`` one element, the same strided x for all j."""
    cdef int a = 0 if inner[0] == 0 else 1, x = 1 - a
    cdef element row[GATHERED]
    cdef Py_ssize_t i, done = 0, count
    while done < n:
        count = min(n - done, GATHERED)
        for i in range(count):
            row[i] = at[element](p[x], (done + i) * inner[x])
        scale_each[element](p[2] + done, outer[2], p[a], outer[a], row, 0, m, count, first)
        done += count


# Where each row begins at the end of the one before it, a short row may be written as a longer one:
# the next row puts right what went too far. So there are loops of few lengths, which leave nothing
# over that vectors are too long for.

cdef enum:
    WIDE = 16  # elements


cdef inline Py_ssize_t widened(element *row, element *x, Py_ssize_t sx,
                               Py_ssize_t n) noexcept nogil:
    """Copy n elements to a row of `WIDE`; how many of these to go through."""
    cdef Py_ssize_t i
    for i in range(WIDE):
        row[i] = at[element](x, min(i, n - 1) * sx)
    return WIDE // 2 if n <= WIDE // 2 else WIDE


cdef inline Py_ssize_t rows_within(Py_ssize_t m, Py_ssize_t n, Py_ssize_t wide) noexcept nogil:
    """How many of m rows of n end within the last, if each is written so wide."""
    return m - (wide + n - 1) // n + 1


cdef hot scale_short(element *out, element *a, Py_ssize_t sa, element *x, Py_ssize_t sx,
                     Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """``out[j] = a[j] * x``, each ``a[j]`` one element, rows of at most `WIDE` in a row."""
    cdef element row[WIDE]
    cdef element factor
    cdef Py_ssize_t i, j, wide = widened[element](row, x, sx, n)
    cdef Py_ssize_t within = rows_within(m, n, wide)
    for j in range(m):
        factor = a[0]
        for i in range(wide if j < within else n):
            out[i] = stored[element](times[element](row[i], factor))
        a = ahead[element](a, sa)
        out += n


cdef hot multiply_short(element *out, element *a, element *x, Py_ssize_t sx, Py_ssize_t m,
                        Py_ssize_t n) noexcept nogil:
    """``out[j] = a[j] * x``, rows of at most `WIDE` in a row."""
    cdef element row[WIDE]
    cdef Py_ssize_t i, j, wide = widened[element](row, x, sx, n)
    cdef Py_ssize_t within = rows_within(m, n, wide)
    for j in range(m):
        for i in range(wide if j < within else n):
            out[i] = stored[element](times[element](row[i], a[i]))
        a += n
        out += n


cdef void short_rows(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                     Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] = a[j] * x``, the same row or element x for all j."""
    cdef Py_ssize_t unit = sizeof(element)
    cdef int a = 0 if is_short(outer[1], outer[0], inner[0], unit, n * unit) else 1, x = 1 - a
    if inner[a] == 0:
        scale_short[element](p[2], p[a], outer[a], p[x], inner[x], m, n)
    else:
        multiply_short[element](p[2], p[a], p[x], inner[x], m, n)


cdef inline bint is_short(Py_ssize_t still, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t unit,
                          Py_ssize_t row) noexcept nogil:
    """Whether one input stands still in the outer loop and the other in the inner one, or both
    loops of the other are one."""
    return still == 0 and (inner == 0 or (inner == unit and outer == row))


# --- choice ---------------------------------------------------------------------------------

cdef struct Pairs:
    pair_t added_rows
    pair_t scaled_rows
    pair_t multiplied_rows
    pair_t copied
    pair_t scaled_each
    pair_t multiplied_each
    pair_t scaled_gathered
    pair_t short_rows


cdef inline Pairs pairs_of(element *kind) noexcept nogil:
    return Pairs(
        <pair_t>added_rows[element], <pair_t>scaled_rows[element],
        <pair_t>multiplied_rows[element], <pair_t>copied[element], <pair_t>scaled_each[element],
        <pair_t>multiplied_each[element], <pair_t>scaled_gathered[element],
        <pair_t>short_rows[element])


cdef Pairs[KINDS] _pairs = [
    pairs_of[bool_t](NULL), pairs_of[u8](NULL), pairs_of[u16](NULL), pairs_of[u32](NULL),
    pairs_of[u64](NULL), pairs_of[float](NULL), pairs_of[double](NULL), pairs_of[c64](NULL),
    pairs_of[c128](NULL), pairs_of[g80](NULL), pairs_of[c256](NULL),
]


cdef pair_t map_pair(LoopNest nest) noexcept:
    """The pair for a nest whose innermost loop is not summed; NULL where that loop runs alone."""
    cdef Pairs *pairs
    if not may_pair(nest):
        return NULL
    pairs = &_pairs[position(nest.dtype.num)]
    return rows_for(nest, pairs) if nest.is_summed[nest.rank - 2] else maps_for(nest, pairs)


cdef pair_t rows_for(LoopNest nest, Pairs *pairs) noexcept:
    cdef int last = nest.rank - 1
    if nest.nin == 1:
        return pairs.added_rows
    if nest.stride[last] == 0 or nest.stride[nest.rank + last] == 0:
        return pairs.scaled_rows
    return pairs.multiplied_rows


cdef pair_t maps_for(LoopNest nest, Pairs *pairs) noexcept:
    cdef int rank = nest.rank, last = rank - 1, a, x
    if nest.nin == 1:
        return NULL if has_contiguous_rows(nest, 2) else pairs.copied
    if has_short_rows(nest):
        return pairs.short_rows
    if has_contiguous_rows(nest, 3):
        return pairs.multiplied_each
    a = 0 if nest.stride[last] == 0 else 1
    x = 1 - a
    if nest.stride[a * rank + last] or nest.stride[2 * rank + last] != nest.itemsize:
        return NULL
    if nest.stride[x * rank + last] == nest.itemsize:
        return pairs.scaled_each
    if nest.stride[x * rank + last - 1] == 0 and nest.size[last - 1] >= SHARING:
        return pairs.scaled_gathered
    return NULL


cdef bint has_short_rows(LoopNest nest) noexcept:
    """Whether `short_rows` will do, which writes an output that is visited once."""
    cdef int rank = nest.rank, last = rank - 1, near = rank - 2, a
    cdef Py_ssize_t n = nest.size[last], row = n * nest.itemsize
    cdef Py_ssize_t *first = nest.stride
    cdef Py_ssize_t *second = nest.stride + rank
    cdef Py_ssize_t *out = nest.stride + 2 * rank
    for a in range(near):
        if nest.is_summed[a]:
            return False
    if nest.itemsize > 8 or n > (WIDE if nest.itemsize <= 4 else WIDE // 2):
        return False
    if out[last] != nest.itemsize or out[near] != row:
        return False
    return (
        is_short(second[near], first[near], first[last], nest.itemsize, row)
        or is_short(first[near], second[near], second[last], nest.itemsize, row))
