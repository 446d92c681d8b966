# An innermost loop of n steps: p[k] points to operand k (the output last), s[k] is its stride.
# `first` says that the output has not been visited yet; `carry` keeps a float16 sum unrounded
# from one visit of an output element to the next.
ctypedef void (*inner_t)(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
                         float *carry) noexcept nogil

ctypedef struct Loops:
    inner_t dot
    inner_t map

cdef Loops loops_for(int type_num) noexcept nogil
