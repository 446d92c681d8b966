from .._nest cimport LoopNest
from ._baseline cimport kernel_t
from ._problem cimport Problem
from ._pace cimport Pace
from ._tickets cimport Call


cdef struct Way:
    # How the threads of a call go about it, and what memory they need.
    kernel_t function
    Py_ssize_t threads
    Py_ssize_t shares
    bint alone                  # nobody helps, though somebody might
    Py_ssize_t room_bytes       # of one thread
    Py_ssize_t shared_bytes     # of one buffer for the shared block
    Py_ssize_t progress_bytes
    Py_ssize_t stage_bytes      # of all parts of the sum


cdef class Runner:
    cdef Problem problem
    cdef int first          # which operand is the rows'
    cdef int second
    cdef bint by_matrix
    cdef double work
    cdef Pace pace
    cdef Pace mirror_pace   # where the result's other half is its mirror image
    cdef LoopNest nest
    cdef object keepalive
    cdef Runner rest        # of what does not fill whole vectors
    cdef Py_ssize_t shift   # bytes from all to that

    cdef int remember_table(self) except -1
    cdef Way way_of(self) noexcept
    cdef int work_off(self, Call *call, Way *way) except -1
    cdef int run(self, char *first, char *second, char *result) except -1
