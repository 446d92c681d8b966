from libc.stdint cimport int64_t, uint64_t

from .cpu._runtime cimport Executable


cdef class Entry:
    cdef uint64_t hash
    cdef Py_ssize_t nwords
    cdef int64_t *words
    cdef object subscripts
    cdef object options
    cdef Executable executable
    cdef Entry next
    cdef uint64_t used

cdef Entry find(object subscripts, tuple operands, Py_ssize_t first, object out, object options)
cdef Entry remember(object subscripts, tuple operands, object out, object options,
                    Executable executable, uint64_t made_in)
cdef Py_ssize_t sights(object subscripts, tuple operands, object out) except -1
cdef uint64_t generation() noexcept
cdef void outdate() noexcept
