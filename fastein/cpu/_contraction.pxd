from .._nest cimport LoopNest
from ._problem cimport Problem


cdef class Runner:
    cdef Problem *problem
    cdef int first          # which operand is the rows'
    cdef int second
    cdef bint by_matrix
    cdef double work
    cdef LoopNest nest
    cdef object keepalive

    cdef int remember_table(self) except -1
    cdef int run(self, char *first, char *second, char *result) except -1
