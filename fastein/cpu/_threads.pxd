from .._nest cimport LoopNest
from ._baseline cimport kernel_t

cdef int share(kernel_t function, char **data, LoopNest nest, char *scratch, Py_ssize_t n,
               Py_ssize_t threads, Py_ssize_t shares, Py_ssize_t grain) except -1


cdef inline Py_ssize_t watched_shares(double work) noexcept nogil:
    """Shares of so many iterations between which a signal can come in; 0 if it is soon over."""
    return <Py_ssize_t>min(work / 1e8, 1e6)
