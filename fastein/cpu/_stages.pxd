from ._problem cimport Problem


cdef void lay_out_stage(Problem *p, Py_ssize_t pitch) noexcept
cdef Py_ssize_t table_bytes(Problem *p) noexcept nogil
cdef void write(Problem *p, char *stages, Py_ssize_t step, Py_ssize_t lanes, Py_ssize_t *first,
                Py_ssize_t *count, char *result, Py_ssize_t *table) noexcept nogil
