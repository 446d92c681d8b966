from ._runtime cimport Executable


cdef class Recipe:
    cdef bint usable
    cdef bint is_view
    cdef int nlabels
    cdef int nout
    cdef int nin
    cdef Py_ssize_t most_work  # iterations up to which the plan is certain
    cdef int rank[8]
    cdef bint repeats[8]
    cdef int term[8][24]

cdef Executable simple(Recipe recipe, tuple operands, object out)
