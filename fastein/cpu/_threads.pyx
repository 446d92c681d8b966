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
from ._clock cimport clock
from ._pace cimport (
    ROW_SECONDS, WAKE_SECONDS, alone_of, book_alone, book_woken, wakes_threads, woken_of,
)

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
    typedef struct { cpu_set_t own, others; int is_off; } fastein_cpus;
    #define fastein_current_cpu() sched_getcpu()
    static void fastein_keep_off(fastein_cpus *cpus, int cpu)
    {
        cpus->is_off = 0;
        if (cpu < 0 || sched_getaffinity(0, sizeof cpus->own, &cpus->own))
            return;
        cpus->others = cpus->own;
        CPU_CLR(cpu, &cpus->others);
        cpus->is_off = CPU_COUNT(&cpus->others)
            && !sched_setaffinity(0, sizeof cpus->others, &cpus->others);
    }
    static void fastein_come_back(fastein_cpus *cpus)
    {
        cpu_set_t now;
        if (!cpus->is_off || sched_getaffinity(0, sizeof now, &now))
            return;
        if (CPU_EQUAL(&now, &cpus->others))  /* else somebody has set it meanwhile */
            sched_setaffinity(0, sizeof cpus->own, &cpus->own);
        cpus->is_off = 0;
    }
    #else
    typedef struct { int is_off; } fastein_cpus;
    #define fastein_current_cpu() (-1)
    #define fastein_keep_off(cpus, cpu) ((cpus)->is_off = 0)
    #define fastein_come_back(cpus) ((void)(cpus))
    #endif
    """
    ctypedef struct Cpus "fastein_cpus":
        pass
    int current_cpu "fastein_current_cpu" () noexcept nogil
    # Linux may wake a thread where its waker runs and others are idle: on machines whose cores
    # share no cache, or, if they are virtual, have no core of their own while they are idle. The
    # caller then stands still for 50 us until the thread has left. So a thread keeps off the CPU
    # of its last caller while it sleeps.
    void keep_off "fastein_keep_off" (Cpus *cpus, int cpu) noexcept nogil
    void come_back "fastein_come_back" (Cpus *cpus) noexcept nogil

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
    bint is_long        # so that a thread may well be moved meanwhile, even to the caller's CPU
    long long settled   # less 1 for each thread that has the job in its mailbox or is at work

cdef struct Mailbox:
    long long job
    long long asleep
    PyThread_type_lock wake     # held by a thread that sleeps
    char[104] apart             # two mailboxes share no line

cdef double PERIOD = 0.05  # seconds from one look for signals to the next

cdef Mailbox[MOST_THREADS] _mailboxes
cdef Py_ssize_t _threads = 0
cdef long long callers = 0
cdef double last_end = 0.0
cdef double row = 0.0

cdef double LONG_SECONDS = 5e-4     # of calls amid which threads are moved
cdef double WATCH_SECONDS = 1e-4    # of calls, as estimated, that may take as long as `PERIOD`
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
    cdef int spins = 0, cpu = -1
    cdef long long found
    cdef Job *job
    cdef Cpus cpus
    keep_off(&cpus, cpu)  # which says that it is on no other CPUs
    while True:
        found = get(&box.job)
        if found > AT_WORK and swap(&box.job, found, AT_WORK):
            job = <Job *>found
            cpu = job.cpu
            if job.is_long:
                come_back(&cpus)
            work_off(job)
            # The mailbox first: the caller, and with it the job, may be gone once it is told.
            exchange(&box.job, IDLE)
            add(&job.settled, 1)
            come_back(&cpus)
            spins = 0
        elif spins < SPINS:
            spins += 1
            pause()
        else:
            come_back(&cpus)
            keep_off(&cpus, cpu)
            sleep(box)
            spins = 0


cdef void sleep(Mailbox *box) noexcept nogil:
    """Sleep until a job is put into the mailbox."""
    exchange(&box.asleep, 1)
    # A job that came before that would wake nobody. Whoever takes `asleep` back owes, or is
    # spared, one release of the lock.
    if get(&box.job) <= AT_WORK or exchange(&box.asleep, 0) == 0:
        PyThread_acquire_lock(box.wake, 1)


def _serve(Py_ssize_t number):
    with nogil:
        serve(&_mailboxes[number])


def _forget_threads():
    """A forked child has the mailboxes, but not the threads that look into them."""
    global _threads, callers, _starting
    _threads = callers = 0
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


cdef inline bint hand_over(Mailbox *box, Job *job, Py_ssize_t *wakes) noexcept nogil:
    """Put a job into a mailbox if its thread is idle, and awake or to be woken; whether it is."""
    if wakes[0] <= 0 and get(&box.asleep):
        return False
    if job.cpu < 0:
        job.cpu = current_cpu()
    add(&job.settled, -1)
    if not swap(&box.job, IDLE, <long long>job):
        add(&job.settled, 1)
        return False
    if exchange(&box.asleep, 0) == 1:
        PyThread_release_lock(box.wake)
        wakes[0] -= 1
    return True


cdef Py_ssize_t threads_to_wake(Pace *pace, double now) noexcept nogil:
    """How many threads that sleep a call may wake.

    In a row of calls that alone would wake nobody, one call of about as much work as that pays
    for does: the threads then stay awake.
    """
    global row
    cdef double alone = alone_of(pace)
    row = row + alone if now - last_end < ROW_SECONDS else 0
    if row > 4 * WAKE_SECONDS or wakes_threads(pace):
        row = 0
        return 1 + <Py_ssize_t>min(alone / WAKE_SECONDS, <double>MOST_THREADS)
    return 0


cdef inline void take_back(Job *job) noexcept nogil:
    """Spare the threads that have not begun: they are not needed any more."""
    cdef Py_ssize_t k
    for k in range(_threads):
        if swap(&_mailboxes[k].job, <long long>job, IDLE):
            add(&job.settled, 1)


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


cdef void run_shared(Job *job, Py_ssize_t helpers, Py_ssize_t alone, Pace *pace) noexcept nogil:
    """Do a job together with so many idle threads, the caller doing its part.

    If there are none the caller does it in `alone` shares.

    Other threads that call meanwhile count among them: where a pool of threads calls, each of
    them keeps a core busy already.
    """
    global last_end
    cdef Py_ssize_t handed = 0, wakes = 0, may_wake, k
    cdef double begin
    helpers -= add(&callers, 1)
    if helpers > 0:
        begin = clock()
        wakes = may_wake = threads_to_wake(pace, begin)
        job.cpu, job.is_long = -1, woken_of(pace) > LONG_SECONDS
        for k in range(_threads):
            if handed >= helpers:
                break
            handed += hand_over(&_mailboxes[k], job, &wakes)
    if handed == 0:
        job.shares = min(job.shares, alone)
    work_off(job)
    if helpers > 0:
        if handed:
            take_back(job)
            wait_for_others(&job.settled)
        last_end = clock()
        if wakes < may_wake:
            book_woken(pace, last_end - begin)
        elif handed == 0:
            book_alone(pace, last_end - begin)
    add(&callers, -1)


cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads, Py_ssize_t alone, Py_ssize_t shares, Py_ssize_t grain,
               Pace *pace) except -1:
    """Run a kernel's shared loop of `n` in equal shares on at most so many threads.

    The caller does it in `alone` shares if no other thread helps. Where there are more shares than
    threads, a signal can come in between two of them.
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
    if shares > threads and alone_of(pace) > WATCH_SECONDS:
        begin_watch(&job.watch)
    with nogil:
        run_shared(&job, threads - 1, alone, pace)
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
