from ._problem cimport DIRECT, Problem


cdef Py_ssize_t block_bytes(Problem *p, int side) noexcept nogil
cdef Py_ssize_t packing_entries(Problem *p) noexcept nogil
cdef void pack_block(Problem *p, int side, char *source, Py_ssize_t begin, Py_ssize_t count,
                     Py_ssize_t k, Py_ssize_t depth, Py_ssize_t pitch, char *target,
                     Py_ssize_t *table) noexcept nogil


cdef inline void pack(Problem *p, int side, char *source, Py_ssize_t begin, Py_ssize_t count,
                      Py_ssize_t k, Py_ssize_t depth, Py_ssize_t pitch, char *target,
                      Py_ssize_t *table) noexcept nogil:
    """Pack a block (see `pack_block`) unless tiles read it where it lies."""
    if p.side[side].kind != DIRECT:
        pack_block(p, side, source, begin, count, k, depth, pitch, target, table)
