from .._nest cimport LoopNest
from ._atomics cimport add, get
from ._baseline cimport kernel_t
from ._clock cimport clock
from ._pace cimport ROW_SECONDS, Pace, book_alone, wakes_threads

cdef enum:
    # Iterations from where on threads share a nest, below which waking a thread costs more than
    # it brings: of the baseline nest, and of a kernel, which takes parts from there on.
    SHARE_WORK = 500_000
    SHARE_KERNEL_WORK = 150_000
    TASK_WORK = 100_000     # of a share, where there are more than threads
    TASKS = 8               # shares of a thread: one that is held up leaves its work to others


cdef struct Watch:
    # Looking for signals while one call computes.
    long long stopped       # nobody is to begin another block
    unsigned long thread    # the one that looks: the main thread if the call is its, else 0
    double due              # when to look next
    void *reason            # the exception that a signal's handler has raised


cdef int begin_watch(Watch *watch) except -1
cdef int end_watch(Watch *watch) except -1
cdef void look(Watch *watch) noexcept nogil


cdef inline bint goes_on(Watch *watch) noexcept nogil:
    """Whether to begin another block; looks for signals now and then."""
    if watch.thread:
        look(watch)
    return get(&watch.stopped) == 0


# What calls that may be shared know of each other.
cdef long long callers      # threads that make one
cdef double last_end        # when one came to its end
cdef double row             # seconds of work in a row of calls since one woke threads


cdef inline bint stays_alone(Pace *pace) noexcept nogil:
    """Whether a call that may be shared can expect no help: the others sleep, and are left asleep.

    It is then one thread's from the beginning. That spares it what is laid out for several threads,
    and code that has been in nobody's cache for long.
    """
    return not wakes_threads(pace) and clock() - last_end > ROW_SECONDS


cdef inline void run_alone(kernel_t function, char *scratch, Py_ssize_t n,
                           Pace *pace) noexcept nogil:
    """Do all shares of a call that stays alone."""
    global last_end, row
    cdef double begin = clock()
    add(&callers, 1)
    function(NULL, NULL, NULL, scratch, 0, n)
    add(&callers, -1)
    last_end, row = clock(), 0
    book_alone(pace, last_end - begin)


cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads, Py_ssize_t alone, Py_ssize_t shares, Py_ssize_t grain,
               Pace *pace) except -1


cdef inline Py_ssize_t watched_shares(double work) noexcept nogil:
    """Shares of so many iterations between which a signal can come in; 0 if it is soon over."""
    return <Py_ssize_t>min(work / 1e8, 1e6)


cdef inline Py_ssize_t tasks(Py_ssize_t threads, double work) noexcept nogil:
    """In how many shares so many iterations are to be cut."""
    if threads == 1:
        return 1
    return max(threads, <Py_ssize_t>min(<double>(threads * TASKS), work / <double>TASK_WORK))
