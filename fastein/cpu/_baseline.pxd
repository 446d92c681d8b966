from .._nest cimport LoopNest
from ._inner_loops cimport inner_t
from ._loop_pairs cimport pair_t

ctypedef void (*kernel_t)(char **data, Py_ssize_t *shape, Py_ssize_t *strides,
                          char *scratch, Py_ssize_t begin, Py_ssize_t end) noexcept nogil

cdef enum:
    NEAR = 12  # operands (output included) whose pointers fit on the walker's stack

ctypedef struct Header:
    # What the baseline kernel needs to know of its nest; handed to it as `scratch`.
    inner_t inner
    pair_t pair  # NULL where the innermost loop runs alone
    int rank
    int nin
    unsigned char *is_summed
    # Room for one pointer and one step per operand when there are more than NEAR, else NULL.
    char **pointers
    Py_ssize_t *steps
    float carry  # the sum so far of float16, where the nest is run in turn

cdef int prepare(Header *header, LoopNest nest) except -1
cdef void run(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
              Py_ssize_t begin, Py_ssize_t end) noexcept nogil
cdef void run_in_turn(char **data, Py_ssize_t *shape, Py_ssize_t *strides, char *scratch,
                      Py_ssize_t begin, Py_ssize_t end) noexcept nogil
