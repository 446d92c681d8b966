cdef class LoopNest:
    cdef readonly object dtype
    cdef readonly int nin
    cdef readonly int rank
    cdef readonly Py_ssize_t itemsize
    cdef Py_ssize_t *size            # [rank], outermost loop first
    cdef Py_ssize_t *stride          # [(nin + 1) * rank], operand-major, in bytes
    cdef unsigned char *is_summed    # [rank]

    cdef double work(self) noexcept nogil
