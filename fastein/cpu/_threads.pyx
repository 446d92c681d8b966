# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Sharing a kernel's outermost loop among threads.

The threads are fastein's own daemon threads, started when first needed. A thread has a mailbox: a
call puts its job into the mailboxes of threads that are idle, works itself, takes the job back
from those that have not begun, and waits for the others. A thread that was just at work looks
into its mailbox for some microseconds before it sleeps, so that waking it in a row of calls costs
nothing. Where all threads are busy, or none can be started, the caller does the work: a job never
waits for a thread that works for someone else, and nothing can deadlock.

No thread survives a fork; a child starts its own.

Ctrl-C in the midst of a long call: Python runs the handlers of signals in the main thread, between
two of its instructions, so that a call that computes for a minute would not be interrupted for a
minute. If the call is the main thread's, that thread therefore looks for signals every now and
then, between two shares or blocks. When a handler raises, no thread begins another one, and the
exception is raised once all have come to the end of theirs. The result is undefined then.
"""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memset

import os
from _thread import allocate_lock

from .._nest cimport LoopNest
from ..forks import no_fork
from ._atomics cimport SPINS, add, exchange, get, pause, swap, yield_slice
from ._baseline cimport kernel_t

cdef extern from *:
    """
    #if defined(__GNUC__)
    __attribute__((visibility("default"))) int fastein_threads = 1;
    #endif
    """
    # by which fastein.threadpools finds this library

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sched.h>
    #define fastein_current_cpu() sched_getcpu()
    static void fastein_leave_cpu(int cpu)
    {
        cpu_set_t own, others;
        if (cpu < 0 || sched_getcpu() != cpu || sched_getaffinity(0, sizeof own, &own))
            return;
        others = own;
        CPU_CLR(cpu, &others);
        if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others))
            sched_setaffinity(0, sizeof own, &own);
    }
    #else
    #define fastein_current_cpu() (-1)
    #define fastein_leave_cpu(cpu) ((void)(cpu))
    #endif
    """
    int current_cpu "fastein_current_cpu" () noexcept nogil
    # A thread that is woken may be put where its waker runs, and come in its way for
    # milliseconds while other cores are idle: Linux does so where cores share no cache.
    void leave_cpu "fastein_leave_cpu" (int cpu) noexcept nogil

cdef extern from *:
    """
    #include <time.h>
    #if defined(_WIN32)
    #define fastein_rest() fastein_yield()
    #else
    static inline void fastein_rest(void)
    {
        struct timespec moment = {0, 20000};
        nanosleep(&moment, NULL);
    }
    #endif
    """
    void rest "fastein_rest" () noexcept nogil

cdef extern from "pythread.h":
    ctypedef void *PyThread_type_lock
    unsigned long PyThread_get_thread_ident() nogil
    PyThread_type_lock PyThread_allocate_lock()
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) nogil
    void PyThread_release_lock(PyThread_type_lock lock) nogil

cdef extern from *:
    """
    #include <time.h>
    static double fastein_seconds(void)
    {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    static double fastein_worked(void)
    {
    #if defined(CLOCK_THREAD_CPUTIME_ID)
        struct timespec now;
        if (!clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now))
            return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    #endif
        return 0.0;
    }
    """
    double clock "fastein_seconds" () noexcept nogil
    double worked "fastein_worked" () noexcept nogil  # that this thread has, as far as is known

cdef enum:
    MOST_THREADS = 1024
    IDLE = 0        # what a mailbox holds if it holds no job
    AT_WORK = 1
    YIELDS = 100    # time slices that are given away, some 30 us, before a caller that waits sleeps

cdef struct Job:
    kernel_t function
    char **data
    Py_ssize_t *size
    Py_ssize_t *stride
    char *scratch
    Py_ssize_t n
    Py_ssize_t grain    # all shares but the last are a multiple of it
    Py_ssize_t shares
    Watch watch
    long long drawn     # shares that somebody does or has done
    int cpu             # the caller's
    long long settled   # less 1 for each thread that has the job in its mailbox or is at work

cdef struct Mailbox:
    long long job
    long long asleep
    PyThread_type_lock wake     # held by a thread that sleeps
    char[104] apart             # two mailboxes share no line

cdef double PERIOD = 0.05  # seconds from one look for signals to the next

cdef Mailbox[MOST_THREADS] _mailboxes
cdef Py_ssize_t _threads = 0
cdef long long _callers = 0     # threads of others that are in `run_shared`
cdef double _last_end = 0.0     # when a call that was shared came to its end
cdef double _last_worked = 0.0  # ... and how long its thread had worked by then

# To wake a thread can take the caller 10 us and the thread 50 us (on a virtual machine, whose cores
# stop when they are idle), and less if the caller has not slept itself. It pays for long calls, and
# in a row of calls, in which the thread stays awake.
cdef double WAKE_SECONDS = 2e-4
cdef double BUSY_SECONDS = 5e-5  # where the caller has worked since the last call
cdef double ROW_SECONDS = 3e-5  # from one call to the next: what a thread spins for
cdef object _starting = allocate_lock()


cdef void work_off(Job *job) noexcept nogil:
    """Do shares until there are none left."""
    cdef Py_ssize_t share, begin, end, units = (job.n + job.grain - 1) // job.grain
    while goes_on(&job.watch):
        share = add(&job.drawn, 1)
        if share >= job.shares:
            return
        begin = units * share // job.shares * job.grain
        end = min(job.n, units * (share + 1) // job.shares * job.grain)
        job.function(job.data, job.size, job.stride, job.scratch, begin, end)


cdef void serve(Mailbox *box) noexcept nogil:
    """A thread's life: jobs, for ever."""
    cdef int spins = 0
    cdef bint awoken = False
    cdef long long found
    cdef Job *job
    while True:
        found = get(&box.job)
        if found > AT_WORK and swap(&box.job, found, AT_WORK):
            job = <Job *>found
            if awoken:
                leave_cpu(job.cpu)
                awoken = False
            work_off(job)
            # The mailbox first: the caller, and with it the job, may be gone once it is told.
            exchange(&box.job, IDLE)
            add(&job.settled, 1)
            spins = 0
        elif spins < SPINS:
            spins += 1
            pause()
        else:
            sleep(box)
            spins = 0
            awoken = True


cdef void sleep(Mailbox *box) noexcept nogil:
    """Sleep until a job is put into the mailbox."""
    exchange(&box.asleep, 1)
    # A job that came before that would wake nobody. Whoever takes `asleep` back owes, or is
    # spared, one release of the lock.
    if get(&box.job) > AT_WORK and exchange(&box.asleep, 0) == 1:
        return
    PyThread_acquire_lock(box.wake, 1)


def _serve(Py_ssize_t number):
    with nogil:
        serve(&_mailboxes[number])


def _forget_threads():
    """A forked child has the mailboxes, but not the threads that look into them."""
    global _threads, _callers, _starting
    _threads = _callers = 0
    _starting = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


cdef int start_threads(Py_ssize_t wanted) except -1:
    """Have `wanted` threads, or as many as the system gives."""
    global _threads
    cdef Mailbox *box
    with no_fork:
        from threading import Thread
    # Somebody may be at it already, even this thread, if a signal handler or a finaliser got in
    # between: that is no reason to wait, for no job needs other threads.
    starting = _starting
    if not starting.acquire(False):
        return 0
    try:
        while _threads < min(wanted, <Py_ssize_t>MOST_THREADS):
            box = &_mailboxes[_threads]
            box.job, box.asleep, box.wake = AT_WORK, 0, PyThread_allocate_lock()
            if box.wake == NULL:
                break
            PyThread_acquire_lock(box.wake, 1)
            try:
                Thread(target=_serve, args=(_threads,), name="fastein", daemon=True).start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                break
            exchange(&box.job, IDLE)
            _threads += 1
    finally:
        starting.release()
    return 0


cdef inline bint hand_over(Mailbox *box, Job *job, bint wakes) noexcept nogil:
    """Put a job into a mailbox if its thread is idle, and awake or to be woken; whether it is."""
    if not wakes and get(&box.asleep):
        return False
    add(&job.settled, -1)
    if not swap(&box.job, IDLE, <long long>job):
        add(&job.settled, 1)
        return False
    if exchange(&box.asleep, 0) == 1:
        PyThread_release_lock(box.wake)
    return True


cdef bint wakes_threads(double seconds) noexcept nogil:
    """Whether a call that takes one thread so many seconds wakes threads that sleep."""
    cdef double gap
    if seconds >= WAKE_SECONDS:
        return True
    gap = clock() - _last_end
    if gap < ROW_SECONDS:
        return gap >= 0  # the clock may be set back
    return seconds >= BUSY_SECONDS and worked() - _last_worked > gap / 2


cdef void wait_for_others(long long *settled) noexcept nogil:
    """Wait until no other thread is at work on a job.

    One that has not come to its end soon has lost its core to somebody else's, who may keep it for
    milliseconds. The caller's core is free: it goes to sleep, so that the thread is moved there.
    """
    cdef int spins = 0
    while get(settled) < 0:
        spins += 1
        if spins <= SPINS:
            pause()
        elif spins <= SPINS + YIELDS:
            yield_slice()
        else:
            rest()


cdef void run_shared(Job *job, Py_ssize_t helpers, double seconds) noexcept nogil:
    """Do a job together with so many idle threads, the caller doing its part.

    Other threads that call meanwhile count among them: where a pool of threads calls, each of
    them keeps a core busy already.
    """
    global _last_end, _last_worked
    cdef Py_ssize_t handed = 0, k
    cdef bint wakes
    helpers -= add(&_callers, 1)
    if helpers > 0:
        wakes = wakes_threads(seconds)
        job.cpu = current_cpu()
        for k in range(_threads):
            if handed >= helpers:
                break
            handed += hand_over(&_mailboxes[k], job, wakes)
    work_off(job)
    if helpers > 0:
        for k in range(_threads):  # whoever has not begun is not needed any more
            if swap(&_mailboxes[k].job, <long long>job, IDLE):
                add(&job.settled, 1)
        wait_for_others(&job.settled)
        _last_end, _last_worked = clock(), worked()
    add(&_callers, -1)


cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads, Py_ssize_t shares, Py_ssize_t grain, double seconds) except -1:
    """Run a kernel's shared loop of `n` in equal shares on at most so many threads.

    Where there are more shares than threads, a signal can come in between two of them. Threads
    that sleep are woken if one thread would take about so many `seconds` that it pays.
    """
    cdef Job job
    shares = min(shares, (n + grain - 1) // grain)
    threads = min(threads, shares)
    if threads > 1 and _threads < threads - 1:
        start_threads(threads - 1)
    job.function, job.data, job.scratch = function, data, scratch
    job.size, job.stride = nest.size, nest.stride
    job.n, job.shares, job.grain = n, shares, grain
    job.drawn = job.settled = 0
    memset(&job.watch, 0, sizeof(Watch))
    if shares > threads:
        begin_watch(&job.watch)
    with nogil:
        run_shared(&job, threads - 1, seconds)
    return end_watch(&job.watch)


# --- signals --------------------------------------------------------------------------------------

cdef int begin_watch(Watch *watch) except -1:
    """Have a call looked after that takes long enough for somebody to lose patience."""
    with no_fork:
        from threading import main_thread
    cdef unsigned long own = PyThread_get_thread_ident()
    watch.thread = own if main_thread().ident == own else 0
    watch.due = clock() + PERIOD
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
    now = clock()
    if now < watch.due and watch.due - now <= PERIOD:  # the clock may be set back
        return
    ask(watch)
    watch.due = clock() + PERIOD


cdef void ask(Watch *watch) noexcept with gil:
    try:
        PyErr_CheckSignals()
    except BaseException as reason:
        Py_INCREF(reason)
        watch.reason = <void *>reason
        watch.thread = 0
        exchange(&watch.stopped, 1)
