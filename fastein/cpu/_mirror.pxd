from ._problem cimport Problem

cdef enum:
    STRIP = 64      # rows of a strip; a multiple of all that is moved at once


cdef inline Py_ssize_t strips_of(Problem *p) noexcept nogil:
    return (p.side[0].free.total + STRIP - 1) // STRIP


cdef void mirror(Problem *p, char *result, Py_ssize_t begin, Py_ssize_t end) noexcept nogil
