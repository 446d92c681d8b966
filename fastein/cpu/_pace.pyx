# cython: language_level=3
"""Following the calls of one step, for tests: what it decides is inlined (see `_pace.pxd`)."""
from libc.string cimport memset


def ways(estimate, times):
    """Follow the calls of one step; for each whether it wakes threads.

    Parameters
    ----------
    estimate : float
        Seconds that a call is thought to take on one thread.
    times : iterable of (float, float)
        Seconds that each call takes alone, and with threads woken.

    Returns
    -------
    list of bool
    """
    cdef Pace pace
    cdef bint wakes
    taken = []
    memset(&pace, 0, sizeof(Pace))
    pace.estimate = estimate
    for alone, woken in times:
        wakes = wakes_threads(&pace)
        taken.append(wakes)
        if wakes:
            book_woken(&pace, woken)
        else:
            book_alone(&pace, alone)
    return taken
