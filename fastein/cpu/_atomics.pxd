"""Counters that threads share, and how to wait for them."""

cdef extern from *:
    """
    #ifndef FASTEIN_ATOMICS
    #define FASTEIN_ATOMICS
    #if defined(_MSC_VER)
    #include <intrin.h>
    #include <windows.h>
    typedef volatile long long *fastein_shared;
    #define fastein_add(p, n) _InterlockedExchangeAdd64((fastein_shared)(p), n)
    #define fastein_get(p) _InterlockedOr64((fastein_shared)(p), 0)
    #define fastein_exchange(p, n) _InterlockedExchange64((fastein_shared)(p), n)
    #define fastein_swap(p, old, n) \\
        (_InterlockedCompareExchange64((fastein_shared)(p), n, old) == (old))
    #define fastein_yield() SwitchToThread()
    #else
    #include <sched.h>
    #define fastein_add(p, n) __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST)
    #define fastein_get(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define fastein_exchange(p, n) __atomic_exchange_n(p, n, __ATOMIC_SEQ_CST)
    static inline int fastein_swap(long long *p, long long old, long long n)
    {
        return __atomic_compare_exchange_n(p, &old, n, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    #define fastein_yield() sched_yield()
    #endif
    #if defined(__x86_64__) || defined(__i386__)
    #define fastein_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define fastein_pause() __asm__ volatile("yield")
    #else
    #define fastein_pause() ((void)0)
    #endif
    #endif
    """
    # Each returns what was there before, or whether it has swapped.
    long long add "fastein_add" (long long *counter, long long n) noexcept nogil
    long long get "fastein_get" (long long *counter) noexcept nogil
    long long exchange "fastein_exchange" (long long *counter, long long n) noexcept nogil
    bint swap "fastein_swap" (long long *counter, long long old, long long n) noexcept nogil
    void yield_slice "fastein_yield" () noexcept nogil
    void pause "fastein_pause" () noexcept nogil

cdef enum:
    SPINS = 2000    # looks at a counter, some 30 us, before the time slice is given away


cdef inline void wait_for(long long *counter, long long value) noexcept nogil:
    """Wait until a counter that only grows has reached `value`."""
    cdef int spins = 0
    while get(counter) < value:
        spins += 1
        if spins > SPINS:
            yield_slice()
        else:
            pause()
