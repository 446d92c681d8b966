from ._problem cimport Problem


cdef Py_ssize_t block_bytes(Problem *p, int side) noexcept nogil
cdef Py_ssize_t packing_entries(Problem *p) noexcept nogil
cdef void pack(Problem *p, int side, char *source, Py_ssize_t begin, Py_ssize_t count,
               Py_ssize_t k, Py_ssize_t depth, Py_ssize_t pitch, char *target,
               Py_ssize_t *table) noexcept nogil
