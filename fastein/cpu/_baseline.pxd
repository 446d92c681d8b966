# An innermost loop of n steps: p[k] points to operand k (the output last), s[k] is its stride.
# `first` says that the output has not been visited yet; `carry` keeps a float16 sum unrounded
# from one visit of an output element to the next.
ctypedef void (*inner_t)(char **p, Py_ssize_t *s, Py_ssize_t n, int nin, bint first,
                         float *carry) noexcept nogil

ctypedef void (*kernel_t)(char **data, Py_ssize_t *shape, Py_ssize_t *strides,
                          char *scratch, Py_ssize_t begin, Py_ssize_t end) noexcept nogil

cdef enum:
    NEAR = 12  # operands (output included) whose pointers fit on the walker's stack

ctypedef struct Header:
    # What the baseline kernel needs to know of its nest; handed to it as `scratch`.
    inner_t inner
    int rank
    int nin
    unsigned char *is_summed
    # Room for one pointer and one step per operand when there are more than NEAR, else NULL.
    char **pointers
    Py_ssize_t *steps

cdef inner_t dot_for(int type_num) noexcept nogil
cdef inner_t map_for(int type_num) noexcept nogil
cdef void run(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
              Py_ssize_t begin, Py_ssize_t end) noexcept nogil
