from ._problem cimport Problem
from ._tickets cimport Call


cdef void stack(Problem *p, lanes, Py_ssize_t staged) except *
cdef Py_ssize_t stack_bytes(Problem *p) noexcept nogil
cdef Py_ssize_t stacks_of(Problem *p) noexcept nogil
cdef void stacks(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                 Py_ssize_t begin, Py_ssize_t end) noexcept nogil
