from .._nest cimport LoopNest
from ._baseline cimport Header, kernel_t

cdef enum:
    # Iterations from where on threads share a nest, below which waking a thread costs more than
    # it brings: of the baseline nest, and of a kernel, which takes parts from there on.
    SHARE_WORK = 500_000
    SHARE_KERNEL_WORK = 150_000
    TASK_WORK = 100_000     # of a share, where there are more than threads
    TASKS = 8               # shares of a thread: one that is held up leaves its work to others


cdef inline Py_ssize_t tasks(Py_ssize_t threads, double work) noexcept nogil:
    """In how many shares so many iterations are to be cut."""
    if threads == 1:
        return 1
    return max(threads, <Py_ssize_t>min(<double>(threads * TASKS), work / <double>TASK_WORK))


cdef class KernelRun:
    cdef readonly object traversal
    cdef readonly object kernel     # keeps the machine code
    cdef kernel_t function
    cdef char *scratch
    cdef Header own                 # of the baseline nest, where that is the kernel
    cdef LoopNest nest
    cdef int shared                 # the loop that is shared
    cdef bint parallel
    cdef Py_ssize_t grain
    cdef Py_ssize_t block
    cdef Py_ssize_t parts
    cdef double worth               # in iterations
    cdef double least               # ... from where on threads share them
    cdef Py_ssize_t part_bytes
    cdef LoopNest sums              # adds up the parts, by the baseline nest
    cdef Header header
    cdef object narrowed            # layouts of wide sums and of the result, where they differ

    cdef int perform(self, char **data) except -1
    cdef int run(self, char **data, Py_ssize_t threads) except -1
    cdef int perform_by_way(self, char **data, Py_ssize_t threads) except -1
