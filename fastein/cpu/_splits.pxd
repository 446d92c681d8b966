from ._problem cimport Problem, SumKind
from ._tickets cimport Call


cdef void split(Problem *p, Py_ssize_t parts, SumKind kind) noexcept
cdef Py_ssize_t split_bytes(Problem *p) noexcept nogil
cdef void splits(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                 Py_ssize_t begin, Py_ssize_t end) noexcept nogil
cdef void add_parts(Call *call) noexcept nogil
