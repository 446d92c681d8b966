from ._interrupts cimport Watch
from ._problem cimport Problem

cdef enum:
    RING = 4        # stages whose progress is told apart; two are under way at most


cdef struct Call:
    Problem *problem
    char *operand[2]
    char *result
    bint streams
    char *shared[2]
    char *rooms
    Py_ssize_t room_bytes
    long long ticket
    long long packed[RING]
    long long done[RING]
    Watch watch
    long long *progress     # stages that each block of the side that is not shared has behind it


cdef Py_ssize_t room_bytes(Problem *p, bint private) noexcept nogil
cdef Py_ssize_t blocks_of(Problem *p) noexcept nogil
cdef void matrices(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                   Py_ssize_t begin, Py_ssize_t end) noexcept nogil
cdef void tickets(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil
