from .._nest cimport LoopNest
from ._baseline cimport kernel_t

cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads, Py_ssize_t shares=*) except -1
