# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Ctrl-C in the midst of a long call.

Python runs the handlers of signals in the main thread, between two of its instructions, so that a
call that computes for a minute would not be interrupted for a minute. If the call is the main
thread's, that thread therefore looks for signals every now and then, between two blocks. When a
handler raises, no thread begins another block; the exception is raised once all have come to
the end of theirs. What the result holds then is undefined.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF

from ..forks import no_fork
from ._atomics cimport exchange

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil

cdef extern from *:
    """
    #include <time.h>
    static double fastein_seconds(void)
    {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    """
    double seconds "fastein_seconds" () nogil

cdef double PERIOD = 0.05  # seconds


cdef int begin_watch(Watch *watch) except -1:
    """Have a call looked after that takes long enough for somebody to lose patience."""
    with no_fork:
        from threading import main_thread
    cdef unsigned long own = PyThread_get_thread_ident()
    watch.thread = own if main_thread().ident == own else 0
    watch.due = seconds() + PERIOD
    return 0


cdef int end_watch(Watch *watch) except -1:
    """Raise what a handler has raised."""
    cdef object reason
    if watch.reason != NULL:
        reason = <object>watch.reason
        Py_DECREF(reason)
        watch.reason = NULL
        raise reason
    return 0


cdef void look(Watch *watch) noexcept nogil:
    """Look for signals, if it is time and this is the thread for it."""
    cdef double now
    if PyThread_get_thread_ident() != watch.thread:
        return
    now = seconds()
    if now < watch.due and watch.due - now <= PERIOD:  # the clock may be set back
        return
    ask(watch)
    watch.due = seconds() + PERIOD


cdef void ask(Watch *watch) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as reason:
        Py_INCREF(reason)
        watch.reason = <void *>reason
        watch.thread = 0
        exchange(&watch.stopped, 1)
