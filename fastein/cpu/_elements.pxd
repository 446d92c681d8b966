# The elements of the loops compiled ahead of time, and their arithmetic: bool is OR of AND,
# integers wrap (unsigned arithmetic: in C signed overflow is undefined), complex products are the
# naive four multiplications.

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
            __attribute__((target_clones("avx2", "default")))
    #else
    #  define FASTEIN_HOT
    #endif
    /* Inlined for certain, so that a clone's callee is compiled for the clone's vector unit. */
    #if defined(__GNUC__)
    #  define FASTEIN_FLAT __attribute__((always_inline))
    #else
    #  define FASTEIN_FLAT
    #endif
    /* A value that no sum is regrouped around: to add the two products of a complex number one
       after the other is twice the x87's latency, which has no vectors that would gain by it. */
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    static inline long double fastein_whole(long double x) { __asm__("" : "+t"(x)); return x; }
    #else
    #  define fastein_whole(x) (x)
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
    ctypedef void flat "FASTEIN_FLAT void"
    long double whole "fastein_whole"(long double x) noexcept nogil
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

ctypedef fused element:  # half_t is apart: its sums are float
    bool_t
    u8
    u16
    u32
    u64
    float
    double
    c64
    c128
    g80
    c256

cdef enum:
    KINDS = 11    # of element
    INTEGERS = 5  # the first of them, bools among them: sums and products in any grouping

cdef inline element times(element a, element b) noexcept nogil:
    if element is bool_t:
        return a & <bool_t>-<int>(b != 0)  # true or false, but not yet 1 or 0: see `stored`
    elif element is u8 or element is u16:
        return <element>(<u32>a * <u32>b)  # int promotion would overflow at 65535 * 65535
    elif element is c256:
        a = a * b
        a.real = whole(a.real)
        a.imag = whole(a.imag)
        return a
    else:
        return a * b


cdef inline element plus(element a, element b) noexcept nogil:
    if element is bool_t:
        return a | b
    elif element is u8 or element is u16:
        return <element>(<u32>a + <u32>b)
    else:
        return a + b


cdef inline element stored(element x) noexcept nogil:
    """A value as it may stand in memory: a bool is 0 or 1, whatever byte it came from."""
    if element is bool_t:
        return x != 0
    else:
        return x


cdef inline bint is_extended(element *kind) noexcept nogil:
    """Whether values live on the stack of the x87: no vectors, and slow to store."""
    return element is g80 or element is c256


cdef inline bint wraps(element *kind) noexcept nogil:
    """Whether products are exact, or wrap: the same in any grouping."""
    return not (element is float or element is double or element is g80
                or element is c64 or element is c128 or element is c256)


cdef inline element at(element *p, Py_ssize_t bytes) noexcept nogil:
    return (<element *>(<char *>p + bytes))[0]


cdef inline element *ahead(element *p, Py_ssize_t bytes) noexcept nogil:
    return <element *>(<char *>p + bytes)


cdef inline int position(int type_num) noexcept nogil:
    """Where a NumPy type number's element stands in `element`; -1 if C has no such type."""
    if type_num == NPY_BOOL:
        return 0
    if type_num == NPY_BYTE or type_num == NPY_UBYTE:
        return 1
    if type_num == NPY_SHORT or type_num == NPY_USHORT:
        return 2
    if type_num == NPY_INT or type_num == NPY_UINT:
        return 3
    if type_num == NPY_LONG or type_num == NPY_ULONG:
        return 4 if sizeof(long) == 8 else 3
    if type_num == NPY_LONGLONG or type_num == NPY_ULONGLONG:
        return 4
    if type_num == NPY_FLOAT:
        return 5
    if type_num == NPY_DOUBLE:
        return 6
    if type_num == NPY_CFLOAT:
        return 7
    if type_num == NPY_CDOUBLE:
        return 8
    if type_num == NPY_LONGDOUBLE:
        return 9
    if type_num == NPY_CLONGDOUBLE:
        return 10
    return -1
