cdef class LoopNest:
    cdef readonly object dtype
    cdef readonly int nin
    cdef readonly int rank
    cdef readonly Py_ssize_t itemsize
    cdef readonly bint is_half       # float16
    cdef readonly bint is_extended   # long double and its complex numbers: no vectors, slow stores
    cdef Py_ssize_t *size            # [rank], outermost loop first
    cdef Py_ssize_t *stride          # [(nin + 1) * rank], operand-major, in bytes
    cdef unsigned char *is_summed    # [rank]

    cdef double work(self) noexcept nogil
    cdef LoopNest permuted(self, int *order)

cdef enum:
    MAX_RANK = 63  # axes longer than 1: one more and the loops exceed 2**63 iterations

cdef void fuse(LoopNest nest) noexcept
cdef void sort_by_stride(int *perm, Py_ssize_t *table, int naxes, int nin) noexcept
