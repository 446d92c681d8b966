from ._problem cimport Problem


cdef Py_ssize_t tile_entries(Problem *p) noexcept nogil
cdef Py_ssize_t rooms_of(Problem *p) noexcept nogil
cdef void tabulate(Problem *p, Py_ssize_t i, Py_ssize_t height, Py_ssize_t j, Py_ssize_t width,
                   Py_ssize_t k, Py_ssize_t depth, Py_ssize_t *table) noexcept nogil
