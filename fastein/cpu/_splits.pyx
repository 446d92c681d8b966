# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Long sums of small results, a part for each thread.

The products of a few long vectors with each other are too few tiles for several threads to share.
Their sum is cut into *parts* instead, each of which one thread adds up in a stage of its own, and
in the end the stages are added up in their order. Parts depend on the problem alone, not on the
threads, and so do the bits of the result.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from ._atomics cimport add
from ._axes cimport offset
from ._mirror cimport mirror, strips_of
from ._problem cimport BITS, COLUMNS, DOUBLES, FLOATS, LINE, ROWS, up
from ._stages cimport lay_out_stage, write
from ._threads cimport goes_on
from ._tickets cimport Room, one_matrix, room_at

ctypedef fused number:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float
    double


cdef void split(Problem *p, Py_ssize_t parts, SumKind kind) noexcept:
    """Have the sum cut into so many parts, of whole blocks."""
    p.parts = parts
    p.kind = kind
    lay_out_stage(p, p.side[ROWS].free.total)


cdef inline Py_ssize_t elements(Problem *p) noexcept nogil:
    """Elements of one matrix of the result."""
    return p.side[ROWS].free.total * p.side[COLUMNS].free.total


cdef inline Py_ssize_t part_bytes(Problem *p) noexcept nogil:
    """Bytes from one part's stage to the next one's."""
    return up(elements(p) * p.itemsize, LINE)


cdef Py_ssize_t split_bytes(Problem *p) noexcept nogil:
    """Room for the stages of all threads."""
    cdef Py_ssize_t tables = p.side[ROWS].free.total + p.side[COLUMNS].free.total
    if p.parts == 1:
        return 0
    return up(p.batch.total * p.parts * part_bytes(p) + tables * sizeof(Py_ssize_t), LINE)


cdef void splits(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                 Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Draw parts until there are none; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
    cdef Problem *p = call.problem
    cdef Room room = room_at(p, call.rooms + begin * call.room_bytes, True)
    cdef Py_ssize_t blocks = (p.sums.total + p.depth - 1) // p.depth, part, b, first, last
    cdef char *operand[2]
    cdef char *stage
    cdef long long ticket
    cdef int side
    while goes_on(&call.watch):
        ticket = add(&call.ticket, 1)
        b, part = ticket // p.parts, ticket % p.parts
        if b >= p.batch.total:
            return
        for side in range(2):
            operand[side] = call.operand[side] + offset(&p.batch, side, b)
        stage = call.stages + ticket * part_bytes(p)
        first = blocks * part // p.parts * p.depth
        last = min(blocks * (part + 1) // p.parts * p.depth, p.sums.total)
        one_matrix(call, operand, stage, first, last, &room)
        if call.halved:
            mirror(p, stage, 0, strips_of(p))


cdef void add_parts(Call *call) noexcept nogil:
    """Add up what the parts have come to, and write it to the result."""
    cdef Problem *p = call.problem
    cdef Py_ssize_t b, step = part_bytes(p)
    cdef Py_ssize_t *table = <Py_ssize_t *>(call.stages + p.batch.total * p.parts * step)
    cdef Py_ssize_t[2] first
    cdef Py_ssize_t[2] count
    cdef char *stages
    first[ROWS], first[COLUMNS] = 0, 0
    count[ROWS], count[COLUMNS] = p.side[ROWS].free.total, p.side[COLUMNS].free.total
    for b in range(p.batch.total):
        stages = call.stages + b * p.parts * step
        if p.kind == FLOATS:
            add_up[float](p, <float *>stages)
        elif p.kind == DOUBLES:
            add_up[double](p, <double *>stages)
        elif p.kind == BITS or p.itemsize == 1:
            add_up[uint8_t](p, <uint8_t *>stages)
        elif p.itemsize == 2:
            add_up[uint16_t](p, <uint16_t *>stages)
        elif p.itemsize == 4:
            add_up[uint32_t](p, <uint32_t *>stages)
        else:
            add_up[uint64_t](p, <uint64_t *>stages)
        write(p, stages, step, 1, first, count, call.result + offset(&p.batch, 2, b), table)


cdef void add_up(Problem *p, number *total) noexcept nogil:
    """Add all stages to the first."""
    cdef Py_ssize_t n = elements(p) * p.itemsize // <Py_ssize_t>sizeof(number), part, i
    cdef number *stage
    for part in range(1, p.parts):
        stage = <number *>(<char *>total + part * part_bytes(p))
        if p.kind == BITS:
            for i in range(n):
                if number is uint8_t:
                    total[i] |= stage[i]
        else:
            for i in range(n):
                total[i] += stage[i]
