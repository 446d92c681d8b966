# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Innermost loops of the baseline nest, for every C dtype.

There are two kinds:

dot
    the loop is summed: register accumulators, one store per run;
map
    the loop is an output axis: ``out[i] = product`` on the first visit, ``out[i] += product`` on
    later ones, so that the output needs no zero fill.

Contiguous operands have loops of their own, which the C compiler vectorises, cloned for the vector
units of the machine. Strided ones are unrolled over four accumulators; they are not cloned, since
compilers turn them into gathers, which are slower than plain loads.

What bools, integers and complex numbers add up to is defined in `_elements.pxd`. float16
accumulates in float32 and rounds once.
"""

from ._elements cimport (
    KINDS, NPY_HALF, ahead, at, bool_t, c64, c128, c256, element, from_half, g80, half_t, hot,
    is_extended, plus, position, stored, times, to_half, u8, u16, u32, u64, wraps,
)

# --- products -------------------------------------------------------------------------------
# Three inputs and more are multiplied block by block, one input after the other: the products go
# from left to right, whatever regrouping the compiler is allowed within one expression.

cdef enum:
    BLOCK = 512
    FEW = 16  # steps that are not worth a block


cdef hot multiplied(element *block, element *a, Py_ssize_t n) noexcept nogil:
    """``block *= a``, contiguous."""
    cdef Py_ssize_t i
    for i in range(n):
        block[i] = times[element](block[i], a[i])


cdef void products(element *block, element **p, Py_ssize_t *s, Py_ssize_t begin, Py_ssize_t n,
                   int nin) noexcept nogil:
    """Write the products of the first `nin` inputs at `n` steps from `begin` on."""
    cdef int k
    cdef Py_ssize_t i, unit = sizeof(element)
    cdef element *a = ahead[element](p[0], begin * s[0])
    cdef element *b = ahead[element](p[1], begin * s[1])
    if s[0] == unit and s[1] == unit:
        hadamard[element](block, a, b, n, True)
    elif s[0] == 0 and s[1] == unit:
        scaled[element](block, a[0], b, n, True)
    elif s[0] == unit and s[1] == 0:
        scaled[element](block, b[0], a, n, True)
    else:
        map_strided_2[element](a, s[0], b, s[1], block, unit, n, True)
    for k in range(2, nin):
        a = ahead[element](p[k], begin * s[k])
        if s[k] == unit:
            multiplied[element](block, a, n)
        else:
            for i in range(n):
                block[i] = times[element](block[i], at[element](a, i * s[k]))


cdef inline element product(element **p, Py_ssize_t *s, Py_ssize_t i, int nin) noexcept nogil:
    """The product of all inputs at one step."""
    cdef int k
    cdef element term = at[element](p[0], i * s[0])
    for k in range(1, nin):
        term = times[element](term, at[element](p[k], i * s[k]))
    return term


# --- sums -----------------------------------------------------------------------------------
# Long sums of floats are four sums at once: an addition waits four cycles for the one before it.
# Long doubles, which no vector holds, go through the strided loops: quarters of powers of two would
# only meet in the same sets of the cache.

cdef inline Py_ssize_t quarter(Py_ssize_t n, element *kind) noexcept nogil:
    """Terms of each of four sums; 0 where one is better."""
    if element is float or element is double or element is c64 or element is c128:
        return n // 4 if n >= 64 else 0
    else:
        return 0


cdef hot sum_unit(element *a, Py_ssize_t n, element *total) noexcept nogil:
    cdef Py_ssize_t i, q = quarter[element](n, a)
    cdef element t0 = 0, t1 = 0, t2 = 0, t3 = 0
    for i in range(q):
        t0 = plus[element](t0, a[i])
        t1 = plus[element](t1, a[q + i])
        t2 = plus[element](t2, a[2 * q + i])
        t3 = plus[element](t3, a[3 * q + i])
    for i in range(4 * q, n):
        t0 = plus[element](t0, a[i])
    total[0] = plus[element](plus[element](t0, t1), plus[element](t2, t3))


cdef hot dot_unit(element *a, element *b, Py_ssize_t n, element *total) noexcept nogil:
    cdef Py_ssize_t i, q = quarter[element](n, a)
    cdef element t0 = 0, t1 = 0, t2 = 0, t3 = 0
    for i in range(q):
        t0 = plus[element](t0, times[element](a[i], b[i]))
        t1 = plus[element](t1, times[element](a[q + i], b[q + i]))
        t2 = plus[element](t2, times[element](a[2 * q + i], b[2 * q + i]))
        t3 = plus[element](t3, times[element](a[3 * q + i], b[3 * q + i]))
    for i in range(4 * q, n):
        t0 = plus[element](t0, times[element](a[i], b[i]))
    total[0] = plus[element](plus[element](t0, t1), plus[element](t2, t3))


# Four complex numbers do not fit into the registers of the x87.

cdef inline element sum_strided(element *a, Py_ssize_t sa, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t _, fours = 0 if element is c256 else n // 4
    cdef element t0 = 0, t1 = 0, t2 = 0, t3 = 0
    for _ in range(fours):
        t0 = plus[element](t0, a[0])
        t1 = plus[element](t1, at[element](a, sa))
        t2 = plus[element](t2, at[element](a, 2 * sa))
        t3 = plus[element](t3, at[element](a, 3 * sa))
        a = ahead[element](a, 4 * sa)
    for _ in range(n - 4 * fours):
        t0 = plus[element](t0, a[0])
        a = ahead[element](a, sa)
    return plus[element](plus[element](t0, t1), plus[element](t2, t3))


cdef inline element dot_strided(element *a, Py_ssize_t sa, element *b, Py_ssize_t sb,
                                Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t _, fours = 0 if element is c256 else n // 4
    cdef element t0 = 0, t1 = 0, t2 = 0, t3 = 0
    for _ in range(fours):
        t0 = plus[element](t0, times[element](a[0], b[0]))
        t1 = plus[element](t1, times[element](at[element](a, sa), at[element](b, sb)))
        t2 = plus[element](t2, times[element](at[element](a, 2 * sa), at[element](b, 2 * sb)))
        t3 = plus[element](t3, times[element](at[element](a, 3 * sa), at[element](b, 3 * sb)))
        a = ahead[element](a, 4 * sa)
        b = ahead[element](b, 4 * sb)
    for _ in range(n - 4 * fours):
        t0 = plus[element](t0, times[element](a[0], b[0]))
        a = ahead[element](a, sa)
        b = ahead[element](b, sb)
    return plus[element](plus[element](t0, t1), plus[element](t2, t3))


cdef inline element dot_strided_3(element **p, Py_ssize_t *s, Py_ssize_t n) noexcept nogil:
    """Three inputs whose products are the same in any grouping: no block, one pass."""
    cdef Py_ssize_t _, sa = s[0], sb = s[1], sc = s[2]
    cdef element *a = p[0]
    cdef element *b = p[1]
    cdef element *c = p[2]
    cdef element t0 = 0, t1 = 0
    for _ in range(n // 2):
        t0 = plus[element](t0, times[element](times[element](a[0], b[0]), c[0]))
        t1 = plus[element](t1, times[element](
            times[element](at[element](a, sa), at[element](b, sb)), at[element](c, sc)))
        a = ahead[element](a, 2 * sa)
        b = ahead[element](b, 2 * sb)
        c = ahead[element](c, 2 * sc)
    if n % 2:
        t0 = plus[element](t0, times[element](times[element](a[0], b[0]), c[0]))
    return plus[element](t0, t1)


cdef element dot_blocks(element **p, Py_ssize_t *s, Py_ssize_t n, int nin) noexcept nogil:
    cdef Py_ssize_t done = 0, count
    cdef element total = 0, partial = 0
    cdef element block[BLOCK]
    cdef element *last
    while done < n:
        count = min(n - done, BLOCK)
        products[element](block, p, s, done, count, nin - 1)
        last = ahead[element](p[nin - 1], done * s[nin - 1])
        if s[nin - 1] == sizeof(element):
            dot_unit[element](block, last, count, &partial)
        else:
            partial = dot_strided[element](block, sizeof(element), last, s[nin - 1], count)
        total = plus[element](total, partial)
        done += count
    return total


cdef void dot(element **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
              float *carry) noexcept nogil:
    cdef Py_ssize_t i, unit = sizeof(element)
    cdef element total = 0
    if nin == 2:
        if s[0] == unit and s[1] == unit and not is_extended[element](NULL):
            dot_unit[element](p[0], p[1], n, &total)
        elif is_extended[element](NULL) and (s[0] == 0 or s[1] == 0):
            # its range is such that a sum can be scaled where a float's might overflow
            i = 0 if s[1] == 0 else 1
            total = times[element](sum_strided[element](p[i], s[i], n), p[1 - i][0])
        else:
            total = dot_strided[element](p[0], s[0], p[1], s[1], n)
    elif nin == 1:
        if s[0] == unit and not is_extended[element](NULL):
            sum_unit[element](p[0], n, &total)
        else:
            total = sum_strided[element](p[0], s[0], n)
    elif nin == 3 and wraps[element](NULL) and not (s[0] == unit and s[1] == unit):
        total = dot_strided_3[element](p, s, n)
    elif n < FEW or is_extended[element](NULL):
        for i in range(n):
            total = plus[element](total, product[element](p, s, i, nin))
    else:
        total = dot_blocks[element](p, s, n, nin)
    total = stored[element](total)
    p[nin][0] = total if first else plus[element](p[nin][0], total)


# --- maps -----------------------------------------------------------------------------------

cdef hot scaled(element *out, element a, element *x, Py_ssize_t n, bint first) noexcept nogil:
    """``out (+)= a * x``, contiguous."""
    cdef Py_ssize_t i
    if first:
        for i in range(n):
            out[i] = stored[element](times[element](a, x[i]))
    else:
        for i in range(n):
            out[i] = plus[element](out[i], stored[element](times[element](a, x[i])))


cdef hot hadamard(element *out, element *a, element *b, Py_ssize_t n, bint first) noexcept nogil:
    """``out (+)= a * b``, contiguous."""
    cdef Py_ssize_t i
    if first:
        for i in range(n):
            out[i] = stored[element](times[element](a[i], b[i]))
    else:
        for i in range(n):
            out[i] = plus[element](out[i], stored[element](times[element](a[i], b[i])))


cdef hot added(element *out, element *a, Py_ssize_t n) noexcept nogil:
    """``out += a``, contiguous."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = plus[element](out[i], stored[element](a[i]))


cdef hot copied(element *out, element *a, Py_ssize_t n) noexcept nogil:
    """``out = a``, contiguous."""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = stored[element](a[i])


cdef inline void map_strided_1(element *a, Py_ssize_t sa, element *out, Py_ssize_t so,
                               Py_ssize_t n, bint first) noexcept nogil:
    cdef Py_ssize_t _
    if first:
        for _ in range(n):
            out[0] = stored[element](a[0])
            a = ahead[element](a, sa)
            out = ahead[element](out, so)
    else:
        for _ in range(n):
            out[0] = plus[element](out[0], stored[element](a[0]))
            a = ahead[element](a, sa)
            out = ahead[element](out, so)


cdef inline void map_strided_2(element *a, Py_ssize_t sa, element *b, Py_ssize_t sb,
                               element *out, Py_ssize_t so, Py_ssize_t n,
                               bint first) noexcept nogil:
    cdef Py_ssize_t _
    if first:
        for _ in range(n):
            out[0] = stored[element](times[element](a[0], b[0]))
            a = ahead[element](a, sa)
            b = ahead[element](b, sb)
            out = ahead[element](out, so)
    else:
        for _ in range(n):
            out[0] = plus[element](out[0], stored[element](times[element](a[0], b[0])))
            a = ahead[element](a, sa)
            b = ahead[element](b, sb)
            out = ahead[element](out, so)


cdef inline void scaled_strided(element *out, Py_ssize_t so, element a, element *x,
                                Py_ssize_t sx, Py_ssize_t n, bint first) noexcept nogil:
    """``out (+)= a * x``: to load a long double again after each store takes twice as long."""
    cdef Py_ssize_t _
    for _ in range(n):
        out[0] = times[element](a, x[0]) if first else plus[element](
            out[0], times[element](a, x[0]))
        x = ahead[element](x, sx)
        out = ahead[element](out, so)


cdef void map_blocks(element **p, Py_ssize_t *s, Py_ssize_t n, int nin,
                     bint first) noexcept nogil:
    cdef Py_ssize_t done = 0, count
    cdef element block[BLOCK]
    cdef element *out = p[nin]
    while done < n:
        count = min(n - done, BLOCK)
        products[element](block, p, s, done, count, nin)
        if s[nin] != sizeof(element):
            map_strided_1[element](block, sizeof(element), out, s[nin], count, first)
        elif first:
            copied[element](out, block, count)
        else:
            added[element](out, block, count)
        out = ahead[element](out, count * s[nin])
        done += count


cdef void map(element **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
              float *carry) noexcept nogil:
    cdef Py_ssize_t i, so = s[nin], unit = sizeof(element)
    cdef element *out = p[nin]
    cdef element term
    if nin == 2:
        if so == unit and s[0] == 0 and s[1] == unit:
            scaled[element](out, p[0][0], p[1], n, first)
        elif so == unit and s[0] == unit and s[1] == 0:
            scaled[element](out, p[1][0], p[0], n, first)
        elif so == unit and s[0] == unit and s[1] == unit:
            hadamard[element](out, p[0], p[1], n, first)
        elif is_extended[element](NULL) and s[0] == 0:
            scaled_strided[element](out, so, p[0][0], p[1], s[1], n, first)
        elif is_extended[element](NULL) and s[1] == 0:
            scaled_strided[element](out, so, p[1][0], p[0], s[0], n, first)
        else:
            map_strided_2[element](p[0], s[0], p[1], s[1], out, so, n, first)
    elif nin == 1:
        if so == unit and s[0] == unit:
            if first:
                copied[element](out, p[0], n)
            else:
                added[element](out, p[0], n)
        else:
            map_strided_1[element](p[0], s[0], out, so, n, first)
    elif n < FEW or is_extended[element](NULL):
        for i in range(n):
            term = stored[element](product[element](p, s, i, nin))
            out[0] = term if first else plus[element](out[0], term)
            out = ahead[element](out, so)
    else:
        map_blocks[element](p, s, n, nin, first)


# --- float16 --------------------------------------------------------------------------------

cdef void dot_half(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
                   float *carry) noexcept nogil:
    """float16: the sum lives in `carry` as float32; the output is its rounding so far."""
    cdef Py_ssize_t i
    cdef int k
    cdef float term, total = 0.0
    for i in range(n):
        term = from_half((<half_t *>(p[0] + i * s[0]))[0])
        for k in range(1, nin):
            term = term * from_half((<half_t *>(p[k] + i * s[k]))[0])
        total = total + term
    carry[0] = total if first else carry[0] + total
    (<half_t *>p[nin])[0] = to_half(carry[0])


cdef void map_half(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
                   float *carry) noexcept nogil:
    """float16 without a sum inside: schedules never visit an element twice."""
    cdef Py_ssize_t i
    cdef int k
    cdef float term
    for i in range(n):
        term = from_half((<half_t *>(p[0] + i * s[0]))[0])
        for k in range(1, nin):
            term = term * from_half((<half_t *>(p[k] + i * s[k]))[0])
        (<half_t *>(p[nin] + i * s[nin]))[0] = to_half(term)


# --- by dtype -------------------------------------------------------------------------------

cdef inline Loops loops_of(element *kind) noexcept nogil:
    return Loops(<inner_t>dot[element], <inner_t>map[element])


cdef Loops[KINDS] _loops = [
    loops_of[bool_t](NULL), loops_of[u8](NULL), loops_of[u16](NULL), loops_of[u32](NULL),
    loops_of[u64](NULL), loops_of[float](NULL), loops_of[double](NULL), loops_of[c64](NULL),
    loops_of[c128](NULL), loops_of[g80](NULL), loops_of[c256](NULL),
]


cdef Loops loops_for(int type_num) noexcept nogil:
    """The loops of a NumPy type number; both NULL if C has no such type."""
    cdef int k = position(type_num)
    if type_num == NPY_HALF:
        return Loops(<inner_t>dot_half, <inner_t>map_half)
    return _loops[k] if k >= 0 else Loops(NULL, NULL)
