# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Pairs of short loops over three inputs, and of those over four where there are no vectors.

Long sums of contiguous rows go block by block (see `_inner_loops`), where they may be regrouped;
short ones would only pay for the blocks, and so would maps and strided operands of any length.
The products go from left to right, so this module is compiled without regrouping of sums: the
permission would extend to the products of one expression.
"""

from .._nest cimport LoopNest
from ._elements cimport (
    INTEGERS, KINDS, ahead, at, bool_t, c64, c128, c256, element, g80, hot, is_extended, plus,
    position, stored, times, u8, u16, u32, u64, whole, wraps,
)
from ._loop_pairs cimport has_contiguous_rows, pair_t, put

cdef enum:
    LONG = 48            # steps from which sums by blocks are faster
    LONG_INTEGERS = 256  # the same, of contiguous rows whose sums compilers may regroup anywhere
    FEW = 16             # steps that are not worth a vector
    ROOM = 48            # of the largest elements: what is kept of an input that stands still


cdef inline element multiplied(element a, element b, element c) noexcept nogil:
    return stored[element](times[element](times[element](a, b), c))


cdef inline element product(element *a, element *b, element *c) noexcept nogil:
    """``a * b * c``; parts of complex long doubles stay in registers until their second use."""
    cdef g80 real, imag, c_real, c_imag
    cdef element value
    if element is c256:
        real = a.real * b.real - a.imag * b.imag
        imag = a.real * b.imag + a.imag * b.real
        c_real = whole(c.real)
        c_imag = whole(c.imag)
        value.real = real * c_real - imag * c_imag
        value.imag = real * c_imag + imag * c_real
        return value
    else:
        return multiplied[element](a[0], b[0], c[0])


cdef inline element added_up(element *a, Py_ssize_t sa, element *b, Py_ssize_t sb, element *c,
                             Py_ssize_t sc, Py_ssize_t n) noexcept nogil:
    """``sum(a * b * c)``; a long double that stands still is loaded once, for that takes long.

    Complex ones leave no register for it.
    """
    cdef Py_ssize_t i
    cdef element kept, total = 0
    if element is g80 and sa == 0:
        kept = a[0]
        for i in range(n):
            total = plus[element](total, multiplied[element](
                kept, at[element](b, i * sb), at[element](c, i * sc)))
    elif element is g80 and sb == 0:
        kept = b[0]
        for i in range(n):
            total = plus[element](total, multiplied[element](
                at[element](a, i * sa), kept, at[element](c, i * sc)))
    elif element is g80 and sc == 0:
        kept = c[0]
        for i in range(n):
            total = plus[element](total, multiplied[element](
                at[element](a, i * sa), at[element](b, i * sb), kept))
    elif is_extended[element](NULL) or wraps[element](NULL):
        for i in range(n):
            total = plus[element](total, product[element](
                ahead[element](a, i * sa), ahead[element](b, i * sb), ahead[element](c, i * sc)))
    else:
        total = two_sums[element](a, sa, b, sb, c, sc, n)
    return total


cdef inline element two_sums(element *a, Py_ssize_t sa, element *b, Py_ssize_t sb, element *c,
                             Py_ssize_t sc, Py_ssize_t n) noexcept nogil:
    """``sum(a * b * c)`` of floats, whose additions wait for each other."""
    cdef Py_ssize_t _
    cdef element even = 0, odd = 0
    for _ in range(n // 2):
        even = plus[element](even, product[element](a, b, c))
        odd = plus[element](odd, product[element](
            ahead[element](a, sa), ahead[element](b, sb), ahead[element](c, sc)))
        a = ahead[element](a, 2 * sa)
        b = ahead[element](b, 2 * sb)
        c = ahead[element](c, 2 * sc)
    if n % 2:
        even = plus[element](even, product[element](a, b, c))
    return plus[element](even, odd)


cdef void summed(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b[j] * c[j])``."""
    cdef Py_ssize_t j
    for j in range(m):
        put[element](ahead[element](p[3], j * outer[3]), added_up[element](
            ahead[element](p[0], j * outer[0]), inner[0],
            ahead[element](p[1], j * outer[1]), inner[1],
            ahead[element](p[2], j * outer[2]), inner[2], n), first)
        first = first and outer[3] != 0


cdef inline element added_up_four(element **p, Py_ssize_t *outer, Py_ssize_t *inner,
                                  Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """``sum(a[j] * b[j] * c[j] * d[j])``."""
    cdef Py_ssize_t i
    cdef element *a = ahead[element](p[0], j * outer[0])
    cdef element *b = ahead[element](p[1], j * outer[1])
    cdef element *c = ahead[element](p[2], j * outer[2])
    cdef element *d = ahead[element](p[3], j * outer[3])
    cdef element total = 0
    for i in range(n):
        total = plus[element](total, stored[element](times[element](
            product[element](ahead[element](a, i * inner[0]), ahead[element](b, i * inner[1]),
                             ahead[element](c, i * inner[2])), at[element](d, i * inner[3]))))
    return total


cdef void summed_four(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                      Py_ssize_t n, bint first) noexcept nogil:
    """``out[j] (+)= sum(a[j] * b[j] * c[j] * d[j])``."""
    cdef Py_ssize_t j
    for j in range(m):
        put[element](ahead[element](p[4], j * outer[4]),
                     added_up_four[element](p, outer, inner, j, n), first)
        first = first and outer[4] != 0


cdef void mapped(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """``out[j] (+)= a[j] * b[j] * c[j]``; all ``out[j]`` are one where the outer loop is summed."""
    cdef Py_ssize_t j
    for j in range(m):
        map_strided_3[element](
            ahead[element](p[0], j * outer[0]), inner[0],
            ahead[element](p[1], j * outer[1]), inner[1],
            ahead[element](p[2], j * outer[2]), inner[2],
            ahead[element](p[3], j * outer[3]), inner[3], n, first)
        first = first and outer[3] != 0


cdef inline void map_strided_3(element *a, Py_ssize_t sa, element *b, Py_ssize_t sb, element *c,
                               Py_ssize_t sc, element *out, Py_ssize_t so, Py_ssize_t n,
                               bint first) noexcept nogil:
    """By strides that are values: from memory they would be read again after each byte written."""
    cdef Py_ssize_t _
    if first:
        for _ in range(n):
            out[0] = stored[element](product[element](a, b, c))
            a = ahead[element](a, sa)
            b = ahead[element](b, sb)
            c = ahead[element](c, sc)
            out = ahead[element](out, so)
    else:
        for _ in range(n):
            out[0] = plus[element](out[0], stored[element](product[element](a, b, c)))
            a = ahead[element](a, sa)
            b = ahead[element](b, sb)
            c = ahead[element](c, sc)
            out = ahead[element](out, so)


cdef hot multiply_contiguous(element *out, Py_ssize_t so, element *a, Py_ssize_t sa, element *b,
                             Py_ssize_t sb, element *c, Py_ssize_t sc, Py_ssize_t m, Py_ssize_t n,
                             bint first) noexcept nogil:
    """``out[j] (+)= a[j] * b[j] * c[j]``, contiguous rows."""
    cdef Py_ssize_t i, _
    for _ in range(m):
        if first:
            for i in range(n):
                out[i] = multiplied[element](a[i], b[i], c[i])
        else:
            for i in range(n):
                out[i] = plus[element](out[i], multiplied[element](a[i], b[i], c[i]))
        first = first and so != 0
        a = ahead[element](a, sa)
        b = ahead[element](b, sb)
        c = ahead[element](c, sc)
        out = ahead[element](out, so)


cdef void contiguous(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m,
                     Py_ssize_t n, bint first) noexcept nogil:
    multiply_contiguous[element](
        p[3], outer[3], p[0], outer[0], p[1], outer[1], p[2], outer[2], m, n, first)


cdef hot fill(element *room, element value, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        room[i] = value


cdef void spread(element **p, Py_ssize_t *outer, Py_ssize_t *inner, Py_ssize_t m, Py_ssize_t n,
                 bint first) noexcept nogil:
    """As `contiguous`, but inputs may stand still in the inner loop: these fill a room."""
    cdef c256 room[3][ROOM]
    cdef Py_ssize_t steps = sizeof(room[0]) // sizeof(element), done = 0
    cdef element *part[4]
    cdef int k
    while done < n:
        for k in range(4):
            part[k] = ahead[element](p[k], done * inner[k])
        spread_part[element](part, outer, inner, room, m, min(n - done, steps), first)
        done += steps


cdef inline void spread_part(element **p, Py_ssize_t *outer, Py_ssize_t *inner, c256 (*room)[ROOM],
                             Py_ssize_t m, Py_ssize_t n, bint first) noexcept nogil:
    cdef element *row[3]
    cdef Py_ssize_t j
    cdef int k
    for j in range(m):
        for k in range(3):
            row[k] = ahead[element](p[k], j * outer[k])
            if inner[k] == 0:
                if j == 0 or outer[k] != 0:
                    fill[element](<element *>room[k], row[k][0], n)
                row[k] = <element *>room[k]
        multiply_contiguous[element](ahead[element](p[3], j * outer[3]), 0, row[0], 0, row[1], 0,
                                     row[2], 0, 1, n, first)
        first = first and outer[3] != 0


cdef struct Pairs:
    pair_t summed
    pair_t summed_four
    pair_t mapped
    pair_t contiguous
    pair_t spread


cdef inline Pairs pairs_of(element *kind) noexcept nogil:
    return Pairs(
        <pair_t>summed[element], <pair_t>summed_four[element], <pair_t>mapped[element],
        <pair_t>contiguous[element], <pair_t>spread[element])


cdef Pairs[KINDS] _pairs = [
    pairs_of[bool_t](NULL), pairs_of[u8](NULL), pairs_of[u16](NULL), pairs_of[u32](NULL),
    pairs_of[u64](NULL), pairs_of[float](NULL), pairs_of[double](NULL), pairs_of[c64](NULL),
    pairs_of[c128](NULL), pairs_of[g80](NULL), pairs_of[c256](NULL),
]


cdef pair_t triple_pair(LoopNest nest) noexcept:
    """The pair for a nest of three or four inputs; NULL where its innermost loop runs alone."""
    cdef int last = nest.rank - 1, kind = position(nest.dtype.num)
    cdef bint is_long, by_blocks
    if kind < 0 or nest.rank == 0:
        return NULL
    if nest.nin == 4:
        return _pairs[kind].summed_four if nest.is_extended and nest.is_summed[last] else NULL
    if nest.nin != 3:
        return NULL
    if nest.is_summed[last]:
        is_long = nest.size[last] >= (LONG_INTEGERS if kind < INTEGERS else LONG)
        by_blocks = is_long and not nest.is_extended and has_contiguous_rows(nest, 3)
        return NULL if by_blocks else _pairs[kind].summed
    if has_contiguous_rows(nest, 4):
        return _pairs[kind].contiguous
    if can_spread(nest) and nest.size[last] >= FEW:
        return _pairs[kind].spread
    return _pairs[kind].mapped


cdef inline bint can_spread(LoopNest nest) noexcept:
    """Whether all that moves in the innermost loop goes from element to element."""
    cdef int p
    cdef Py_ssize_t step
    for p in range(4):
        step = nest.stride[p * nest.rank + nest.rank - 1]
        if step != nest.itemsize and (step != 0 or p == 3):
            return False
    return True
