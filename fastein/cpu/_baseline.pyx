# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The baseline nest: any loop nest of any C dtype, compiled ahead of time.

It exists the moment fastein is imported and answers every equation without a compiler; for
small work it is the fastest answer there is. One walker steps the outer loops; the innermost
loop is one of two bodies, instantiated for every dtype:

dot
    the innermost loop is summed: a register accumulator, one store per run;
map
    the innermost loop is an output axis: ``out[i] = product`` on the first visit,
    ``out[i] += product`` on later ones, so that the output needs no zero fill.

Meaning of the arithmetic: bool is OR of AND, integers wrap (unsigned arithmetic: in C signed
overflow is undefined), float16 accumulates in float32 and rounds once, complex products are the
naive four multiplications.
"""
cdef extern from "numpy/ndarraytypes.h":
    cdef enum:
        NPY_BOOL, NPY_BYTE, NPY_UBYTE, NPY_SHORT, NPY_USHORT, NPY_INT, NPY_UINT, NPY_LONG
        NPY_ULONG, NPY_LONGLONG, NPY_ULONGLONG, NPY_HALF, NPY_FLOAT, NPY_DOUBLE
        NPY_LONGDOUBLE, NPY_CFLOAT, NPY_CDOUBLE, NPY_CLONGDOUBLE

cdef extern from *:
    """
    /* Clones of the inner loops for wider vectors, picked by the loader (GCC on x86-64 glibc). */
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
    #  define FASTEIN_HOT \\
            __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
    #else
    #  define FASTEIN_HOT
    #endif
    typedef signed char fastein_bool; /* another type than uint8's, or the two would be one */
    typedef unsigned short fastein_half;

    static inline float fastein_from_half(fastein_half h) {
        /* Shift the significand into place and let one float multiplication fix the exponent:
           exact for normal and subnormal numbers; infinities and NaN keep their payload. */
        union { unsigned int u; float f; } v, scale;
        unsigned int sign = (unsigned int)(h & 0x8000u) << 16;
        if ((h & 0x7c00u) == 0x7c00u) {
            v.u = sign | 0x7f800000u | (unsigned int)(h & 0x3ffu) << 13;
            return v.f;
        }
        v.u = (unsigned int)(h & 0x7fffu) << 13;
        scale.u = 0x77800000u; /* 2**112 */
        v.f *= scale.f;
        v.u |= sign;
        return v.f;
    }

    static inline fastein_half fastein_to_half(float f) {
        /* Round to nearest, ties to even. */
        union { float f; unsigned int u; } v;
        unsigned int sign, magnitude, kept, rest, half;
        int shift;
        v.f = f;
        sign = (v.u >> 16) & 0x8000u;
        magnitude = v.u & 0x7fffffffu;
        if (magnitude > 0x7f800000u)  /* NaN stays NaN */
            return (fastein_half)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
        if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
            return (fastein_half)(sign | 0x7c00u);
        if (magnitude < 0x33000000u)  /* below half of the smallest subnormal */
            return (fastein_half)sign;
        if (magnitude >= 0x38800000u) {
            kept = magnitude - 0x38000000u;
            shift = 13;
        } else {
            kept = (magnitude & 0x7fffffu) | 0x800000u;
            shift = 126 - (int)(magnitude >> 23);
        }
        half = 1u << (shift - 1);
        rest = kept & ((1u << shift) - 1u);
        kept >>= shift;
        kept += (rest > half) || (rest == half && (kept & 1u));
        return (fastein_half)(sign | kept);
    }
    """
    ctypedef signed char bool_t "fastein_bool"
    ctypedef unsigned short half_t "fastein_half"
    ctypedef void hot "FASTEIN_HOT void"
    float from_half "fastein_from_half"(half_t h) noexcept nogil
    half_t to_half "fastein_to_half"(float f) noexcept nogil

ctypedef unsigned char u8
ctypedef unsigned short u16
ctypedef unsigned int u32
ctypedef unsigned long long u64
ctypedef long double g80
ctypedef float complex c64
ctypedef double complex c128
ctypedef long double complex c256

ctypedef fused element:
    bool_t
    u8
    u16
    u32
    u64
    float
    double
    g80
    c64
    c128
    c256

cdef enum:
    CHUNK = 8192  # terms added up one after the other


cdef inline element times(element a, element b) noexcept nogil:
    if element is bool_t:
        return a != 0 and b != 0
    elif element is u8 or element is u16:
        return <element>(<u32>a * <u32>b)  # int promotion would overflow at 65535 * 65535
    else:
        return a * b


cdef inline element plus(element a, element b) noexcept nogil:
    if element is bool_t:
        return a != 0 or b != 0
    elif element is u8 or element is u16:
        return <element>(<u32>a + <u32>b)
    else:
        return a + b


cdef hot dot(element **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
             float *carry) noexcept nogil:
    cdef Py_ssize_t i, sa = s[0], sb
    cdef Py_ssize_t unit = sizeof(element)
    cdef char *a = <char *>p[0]
    cdef char *b
    cdef int k
    cdef element total = 0
    cdef element term
    if nin == 2:
        b = <char *>p[1]
        sb = s[1]
        if sa == unit and sb == unit:
            for i in range(n):
                total = plus[element](total, times[element]((<element *>a)[i], (<element *>b)[i]))
        else:
            for i in range(n):
                term = times[element]((<element *>(a + i * sa))[0], (<element *>(b + i * sb))[0])
                total = plus[element](total, term)
    elif nin == 1:
        if sa == unit:
            for i in range(n):
                total = plus[element](total, (<element *>a)[i])
        else:
            for i in range(n):
                total = plus[element](total, (<element *>(a + i * sa))[0])
    else:
        for i in range(n):
            term = (<element *>(a + i * sa))[0]
            for k in range(1, nin):
                term = times[element](term, (<element *>(<char *>p[k] + i * s[k]))[0])
            total = plus[element](total, term)
    p[nin][0] = total if first else plus[element](p[nin][0], total)


cdef hot map(element **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
             float *carry) noexcept nogil:
    cdef Py_ssize_t i, sa = s[0], sb, so = s[nin]
    cdef Py_ssize_t unit = sizeof(element)
    cdef char *a = <char *>p[0]
    cdef char *b
    cdef char *out = <char *>p[nin]
    cdef int k
    cdef element zero = 0
    cdef element term
    if nin == 2 and so == unit:
        b = <char *>p[1]
        sb = s[1]
        if sa == 0 and sb == unit:
            axpy[element](<element *>out, (<element *>a)[0], <element *>b, n, first)
            return
        if sa == unit and sb == 0:
            axpy[element](<element *>out, (<element *>b)[0], <element *>a, n, first)
            return
        if sa == unit and sb == unit:
            if first:
                for i in range(n):
                    (<element *>out)[i] = times[element]((<element *>a)[i], (<element *>b)[i])
            else:
                for i in range(n):
                    (<element *>out)[i] = plus[element](
                        (<element *>out)[i], times[element]((<element *>a)[i], (<element *>b)[i]))
            return
    if nin == 1:
        if sa == unit and so == unit and not first:
            for i in range(n):
                (<element *>out)[i] = plus[element]((<element *>out)[i], (<element *>a)[i])
        else:
            for i in range(n):
                # adding to 0 makes a bool 0 or 1, whatever its byte holds
                term = plus[element](zero, (<element *>(a + i * sa))[0])
                if not first:
                    term = plus[element]((<element *>(out + i * so))[0], term)
                (<element *>(out + i * so))[0] = term
        return
    for i in range(n):
        term = (<element *>(a + i * sa))[0]
        for k in range(1, nin):
            term = times[element](term, (<element *>(<char *>p[k] + i * s[k]))[0])
        if not first:
            term = plus[element]((<element *>(out + i * so))[0], term)
        (<element *>(out + i * so))[0] = term


cdef inline void axpy(element *out, element a, element *x, Py_ssize_t n, bint first) noexcept nogil:
    cdef Py_ssize_t i
    if first:
        for i in range(n):
            out[i] = times[element](a, x[i])
    else:
        for i in range(n):
            out[i] = plus[element](out[i], times[element](a, x[i]))


cdef hot dot_half(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
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


cdef hot map_half(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
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


cdef inner_t dot_for(int type_num) noexcept nogil:
    """The summing innermost loop of a dtype; NULL if C has no such dtype."""
    if type_num == NPY_BOOL:
        return <inner_t>dot[bool_t]
    if type_num == NPY_BYTE or type_num == NPY_UBYTE:
        return <inner_t>dot[u8]
    if type_num == NPY_SHORT or type_num == NPY_USHORT:
        return <inner_t>dot[u16]
    if type_num == NPY_INT or type_num == NPY_UINT:
        return <inner_t>dot[u32]
    if type_num == NPY_LONG or type_num == NPY_ULONG:
        return <inner_t>dot[u64] if sizeof(long) == 8 else <inner_t>dot[u32]
    if type_num == NPY_LONGLONG or type_num == NPY_ULONGLONG:
        return <inner_t>dot[u64]
    if type_num == NPY_HALF:
        return <inner_t>dot_half
    if type_num == NPY_FLOAT:
        return <inner_t>dot[float]
    if type_num == NPY_DOUBLE:
        return <inner_t>dot[double]
    if type_num == NPY_LONGDOUBLE:
        return <inner_t>dot[g80]
    if type_num == NPY_CFLOAT:
        return <inner_t>dot[c64]
    if type_num == NPY_CDOUBLE:
        return <inner_t>dot[c128]
    if type_num == NPY_CLONGDOUBLE:
        return <inner_t>dot[c256]
    return NULL


cdef inner_t map_for(int type_num) noexcept nogil:
    """The innermost loop along an output axis of a dtype; NULL if C has no such dtype."""
    if type_num == NPY_BOOL:
        return <inner_t>map[bool_t]
    if type_num == NPY_BYTE or type_num == NPY_UBYTE:
        return <inner_t>map[u8]
    if type_num == NPY_SHORT or type_num == NPY_USHORT:
        return <inner_t>map[u16]
    if type_num == NPY_INT or type_num == NPY_UINT:
        return <inner_t>map[u32]
    if type_num == NPY_LONG or type_num == NPY_ULONG:
        return <inner_t>map[u64] if sizeof(long) == 8 else <inner_t>map[u32]
    if type_num == NPY_LONGLONG or type_num == NPY_ULONGLONG:
        return <inner_t>map[u64]
    if type_num == NPY_HALF:
        return <inner_t>map_half
    if type_num == NPY_FLOAT:
        return <inner_t>map[float]
    if type_num == NPY_DOUBLE:
        return <inner_t>map[double]
    if type_num == NPY_LONGDOUBLE:
        return <inner_t>map[g80]
    if type_num == NPY_CFLOAT:
        return <inner_t>map[c64]
    if type_num == NPY_CDOUBLE:
        return <inner_t>map[c128]
    if type_num == NPY_CLONGDOUBLE:
        return <inner_t>map[c256]
    return NULL


cdef void run(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
              Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """A kernel (see the developer docs for the ABI) whose `scratch` is the nest's `Header`."""
    cdef Header *nest = <Header *>scratch
    cdef int rank = nest.rank, nop = nest.nin + 1, last = rank - 1, k
    cdef char *near_pointers[NEAR]
    cdef Py_ssize_t near_steps[NEAR]
    cdef char **p = near_pointers
    cdef Py_ssize_t *step = near_steps
    cdef Py_ssize_t i, n
    cdef float carry = 0.0
    if nest.pointers != NULL:
        p = nest.pointers
        step = nest.steps
    for k in range(nop):
        p[k] = data[k]
        step[k] = 0
    if rank == 0:
        stretch(nest, p, step, 1, True, &carry)
        return
    for k in range(nop):
        p[k] += begin * strides[k * rank]
        step[k] = strides[k * rank + last]
    if rank == 1:
        stretch(nest, p, step, end - begin, True, &carry)
    elif rank == 2:
        n = shape[1]
        for i in range(begin, end):
            stretch(nest, p, step, n, i == begin or not nest.is_summed[0], &carry)
            for k in range(nop):
                p[k] += strides[k * rank]
    else:
        walk(nest, p, step, shape, strides, end - begin)


cdef inline void stretch(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t n, bint first,
                         float *carry) noexcept nogil:
    """The innermost loop, long sums in chunks: adding up partial sums bounds the rounding error."""
    if n <= CHUNK or not nest.is_summed[nest.rank - 1]:
        nest.inner(p, step, n, nest.nin, first, carry)
    else:
        in_chunks(nest, p, step, n, first, carry)


cdef void in_chunks(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t n, bint first,
                    float *carry) noexcept nogil:
    cdef Py_ssize_t done = 0, count
    cdef int k
    while done < n:
        count = min(n - done, CHUNK)
        nest.inner(p, step, count, nest.nin, first and done == 0, carry)
        done += count
        for k in range(nest.nin):
            p[k] += count * step[k]
    for k in range(nest.nin):
        p[k] -= n * step[k]


cdef void walk(Header *nest, char **p, Py_ssize_t *step, Py_ssize_t *shape, Py_ssize_t *strides,
               Py_ssize_t outermost) noexcept nogil:
    """Step the loops outside the innermost like an odometer."""
    cdef int rank = nest.rank, nop = nest.nin + 1, last = rank - 1, axis, k
    cdef Py_ssize_t index[64]
    cdef Py_ssize_t size, n = shape[last]
    cdef int moved_sums = 0  # outer summed loops that are past their first iteration
    cdef float carry = 0.0
    for axis in range(last):
        index[axis] = 0
    while True:
        stretch(nest, p, step, n, moved_sums == 0, &carry)
        axis = last - 1
        while axis >= 0:
            size = outermost if axis == 0 else shape[axis]
            index[axis] += 1
            if index[axis] < size:
                if nest.is_summed[axis] and index[axis] == 1:
                    moved_sums += 1
                for k in range(nop):
                    p[k] += strides[k * rank + axis]
                break
            if nest.is_summed[axis] and size > 1:
                moved_sums -= 1
            index[axis] = 0
            for k in range(nop):
                p[k] -= strides[k * rank + axis] * (size - 1)
            axis -= 1
        if axis < 0:
            return
