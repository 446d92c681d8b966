"""Stores past the caches, and lines that are asked for before they are needed."""

from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #define fastein_fence() _mm_sfence()
    static inline void fastein_stream_line(char *to, const char *from)
    {
        __m128i a = _mm_loadu_si128((const __m128i *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(from + 48));
        _mm_stream_si128((__m128i *)to, a);
        _mm_stream_si128((__m128i *)(to + 16), b);
        _mm_stream_si128((__m128i *)(to + 32), c);
        _mm_stream_si128((__m128i *)(to + 48), d);
    }
    #else
    #include <string.h>
    #define fastein_fence() ((void)0)
    #define fastein_stream_line(to, from) memcpy(to, from, 64)
    #endif
    #if defined(__GNUC__)
    #define fastein_ask(address) __builtin_prefetch(address, 0, 2)
    #else
    #define fastein_ask(address) ((void)(address))
    #endif
    """
    void fence "fastein_fence" () noexcept nogil
    void ask "fastein_ask" (const char *address) noexcept nogil
    void stream_line "fastein_stream_line" (char *to, const char *source) noexcept nogil

cdef enum:
    LINE = 64


cdef inline Py_ssize_t to_line(char *address) noexcept nogil:
    """Bytes to where the next line begins."""
    return <Py_ssize_t>(-<uintptr_t>address % LINE)


cdef inline void stream(char *to, const char *source, Py_ssize_t count) noexcept nogil:
    """Copy bytes, whole lines past the caches."""
    cdef Py_ssize_t head = min(to_line(to), count)
    memcpy(to, source, head)
    to, source, count = to + head, source + head, count - head
    while count >= LINE:
        stream_line(to, source)
        to, source, count = to + LINE, source + LINE, count - LINE
    memcpy(to, source, count)
