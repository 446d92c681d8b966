from ._runtime cimport Executable


cdef enum:
    MOST_LABELS = 24
    MOST_INPUTS = 8


cdef class Recipe:
    cdef bint usable
    cdef bint is_view
    cdef bint can_wait  # for a plan, with one nest in its place
    cdef int nlabels
    cdef int nout
    cdef int nin
    cdef Py_ssize_t most_work  # iterations up to which the plan is certain
    cdef int rank[MOST_INPUTS]
    cdef bint repeats[MOST_INPUTS]
    cdef int term[MOST_INPUTS][MOST_LABELS]

cdef Executable simple(Recipe recipe, tuple operands, object out, char order, bint no_plans)
cdef Executable stand_in(Recipe recipe, tuple operands, object out, char order,
                         Py_ssize_t sights)
