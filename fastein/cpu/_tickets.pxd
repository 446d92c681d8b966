from ._threads cimport Watch
from ._problem cimport Problem

cdef enum:
    RING = 4        # stages whose progress is told apart; two are under way at most


cdef struct Call:
    Problem *problem
    char *operand[2]
    char *result
    int past                # how tiles bypass the caches: STREAM, JOIN, or 0
    bint halved             # the result is symmetric: half of it is a mirror image
    char *shared[2]
    char *stages            # where parts of the sum are added up apart
    char *rooms
    Py_ssize_t room_bytes
    long long ticket
    long long packed[RING]
    long long done[RING]
    Watch watch
    long long *progress     # stages that each block of the side that is not shared has behind it


cdef struct Room:
    # One thread's scratch memory.
    char *block[2]
    char *spare
    char *lines             # that are kept for the next tiles
    Py_ssize_t *table


cdef Py_ssize_t room_bytes(Problem *p, bint private) noexcept nogil
cdef Room room_at(Problem *p, char *memory, bint private) noexcept nogil
cdef void multiply(Call *call, char *result, char *rows, char *columns, Py_ssize_t i,
                   Py_ssize_t height, Py_ssize_t j, Py_ssize_t width, Py_ssize_t k,
                   Py_ssize_t depth, bint adds, Room *room) noexcept nogil
cdef void one_matrix(Call *call, char **operand, char *result, Py_ssize_t first,
                     Py_ssize_t last, Room *room) noexcept nogil
cdef Py_ssize_t blocks_of(Problem *p) noexcept nogil
cdef void matrices(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                   Py_ssize_t begin, Py_ssize_t end) noexcept nogil
cdef void tickets(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil
cdef void mirrors(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil
