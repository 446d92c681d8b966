from .._nest cimport LoopNest
from ._baseline cimport Header, kernel_t
from ._runtime cimport Run
from ._pace cimport Pace


cdef class KernelRun(Run):
    cdef readonly object traversal
    cdef object account             # of the kernel that is to come
    cdef kernel_t function
    cdef char *scratch
    cdef Header own                 # of the baseline nest, where that is the kernel
    cdef LoopNest nest
    cdef Pace pace
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
    cdef object rounded             # the dtype of one sum of floats, which is added up exactly
    cdef object narrowed            # layouts of wide sums and of the result, where they differ

    cdef int run(self, char **data, Py_ssize_t threads) except -1
    cdef int perform_by_way(self, char **data, Py_ssize_t threads) except -1
    cdef void add_up(self, char *partial, char *result) noexcept
