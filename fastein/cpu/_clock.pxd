"""Seconds, as time goes by."""

cdef extern from *:
    """
    #ifndef FASTEIN_CLOCK
    #define FASTEIN_CLOCK
    #include <time.h>
    static inline double fastein_seconds(void)
    {
        struct timespec now;
    #if defined(CLOCK_MONOTONIC)
        clock_gettime(CLOCK_MONOTONIC, &now);
    #else
        timespec_get(&now, TIME_UTC);
    #endif
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    #endif
    """
    double clock "fastein_seconds" () noexcept nogil
