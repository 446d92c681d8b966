from ._permutation_problem cimport Problem

cdef struct Call:
    Problem *problem
    char *operand
    char *result
    char *rooms
    Py_ssize_t units
    Py_ssize_t share        # units of a ticket
    long long slot
    long long ticket


cdef void tickets(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil
