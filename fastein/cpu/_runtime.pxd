from numpy cimport npy_intp

from .._nest cimport LoopNest
from ._baseline cimport Header
from ._pace cimport Pace


cdef class Step:
    cdef int perform(self, char **slots) except -1


cdef class Run:
    cdef readonly object kernel     # keeps the machine code

    cdef int perform(self, char **data) except -1


cdef class NestStep(Step):
    cdef readonly LoopNest nest
    cdef object _traversal
    cdef object _tier
    cdef bint may_generate
    cdef bint may_promote
    cdef bint called
    cdef Run generated
    cdef bint provisional         # there is no plan of the call yet
    cdef Run in_parts       # the baseline nest, where it sums in parts
    cdef Header header
    cdef int *slots
    cdef double work
    cdef Pace pace
    cdef bint parallel

    cdef void wait_for_plan(self) noexcept
    cdef int perform_many(self, char **slots) except -1
    cdef int perform_large(self, char **data, Header *header) except -1
    cdef int perform_baseline(self, char **data, Header *header) except -1
    cdef object account(self)
    cdef bint sums_in_parts(self) except -1


cdef class Executable:
    cdef readonly object plan
    cdef readonly tuple steps
    cdef object dtype             # of the result
    cdef int kind
    cdef int nin
    cdef int nslots
    cdef int ndim
    cdef npy_intp *shape          # of the result; its strides follow
    cdef npy_intp *strides
    cdef npy_intp *offsets        # of the buffers in the arena
    cdef Py_ssize_t scratch
    cdef bint is_large            # the result

    cdef int lay_out(self, object dtype, int nin, int nbuffers, int ndim) except -1
    cdef void weigh(self) noexcept
    cdef bint is_view(self) noexcept
    cdef object run(self, tuple operands, Py_ssize_t first, object out)
    cdef object view(self, object operand)
    cdef object allocated(self)
    cdef int perform(self, char **slots) except -1


cdef bint plans_can_wait() noexcept
cdef Executable view_executable(object dtype, int ndim, npy_intp *shape, npy_intp *strides)
cdef Executable loops_executable(object dtype, int nin, int ndim, npy_intp *shape,
                                 npy_intp *strides, NestStep step)
