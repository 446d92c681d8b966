from numpy cimport npy_intp


cdef class Executable:
    cdef readonly object plan
    cdef readonly tuple steps
    cdef object dtype             # of the result
    cdef int kind
    cdef int nin
    cdef int nslots
    cdef int ndim
    cdef npy_intp *shape        # of the result; its strides follow
    cdef npy_intp *strides
    cdef npy_intp *offsets      # of the buffers in the arena
    cdef Py_ssize_t scratch
    cdef bint quiet               # some step goes through NumPy, which warns

    cdef object run(self, tuple operands, Py_ssize_t first, object out)
    cdef object view(self, object operand)
    cdef object allocated(self)
    cdef int perform(self, char **slots) except -1
