# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Stacks of matrices whose results interleave: the batch holds the result's unit stride.

So it is with attention's logits, ``bqhd,bkhd->bhqk``, in the layout that NumPy gives them: the
heads are innermost. One matrix after the other would visit every line of the result once for
each head. Here a block of the result is multiplied for some heads (*lanes*), each into a stage of
its own that stays in the second cache, and then written for all of them together.
"""
from ._atomics cimport add
from ._threads cimport goes_on
from ._axes cimport offset
from ._panels cimport pack
from ._problem cimport COLUMNS, LINE, ROWS, pitch_of, up
from ._stages cimport lay_out_stage, table_bytes, write
from ._tickets cimport Room, multiply, room_at, room_bytes


cdef void stack(Problem *p, lanes, Py_ssize_t staged) except *:
    """Have some lanes multiplied together."""
    cdef int a
    p.lanes = lanes.size
    p.staged = staged
    for a in range(3):
        p.lane[a] = lanes.strides[a]
    lay_out_stage(p, p.side[ROWS].block)


cdef Py_ssize_t lane_bytes(Problem *p) noexcept nogil:
    """Bytes from one lane's stage to the next one's, which begin in other sets of the cache."""
    return up(p.side[ROWS].block * p.side[COLUMNS].block * p.itemsize, LINE) + LINE


cdef Py_ssize_t stack_bytes(Problem *p) noexcept nogil:
    """Room for the stages of a thread."""
    return up(p.staged * lane_bytes(p) + table_bytes(p), LINE) if p.lanes else 0


cdef inline Py_ssize_t parts(Py_ssize_t total, Py_ssize_t block) noexcept nogil:
    return (total + block - 1) // block


cdef Py_ssize_t stacks_of(Problem *p) noexcept nogil:
    """Number of blocks of the result, each for some lanes."""
    cdef Py_ssize_t count = p.batch.total * parts(p.lanes, p.staged)
    cdef int side
    for side in range(2):
        count *= parts(p.side[side].free.total, p.side[side].block)
    return count


cdef void stacks(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                 Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Compute some blocks of the result; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
    cdef Problem *p = call.problem
    cdef char *memory = call.rooms + add(&call.ticket, 1) * call.room_bytes
    cdef Room room = room_at(p, memory, True)
    cdef char *operand[2]
    cdef char *result
    cdef Py_ssize_t first[2]
    cdef Py_ssize_t count[2]
    cdef Py_ssize_t n, left, lane, lanes
    cdef int side
    memory += room_bytes(p, True)
    for n in range(begin, end):
        if not goes_on(&call.watch):
            return
        left = n
        for side in range(2):
            lanes = parts(p.side[side].free.total, p.side[side].block)
            first[side] = left % lanes * p.side[side].block
            count[side] = min(p.side[side].block, p.side[side].free.total - first[side])
            left //= lanes
        lane = left % parts(p.lanes, p.staged) * p.staged
        lanes = min(p.staged, p.lanes - lane)
        left //= parts(p.lanes, p.staged)
        for side in range(2):
            operand[side] = call.operand[side] + offset(&p.batch, side, left) + lane * p.lane[side]
        one_block(call, operand, first, count, lanes, memory, &room)
        result = call.result + offset(&p.batch, 2, left) + lane * p.lane[2]
        write(p, memory, lane_bytes(p), lanes, first, count, result,
              <Py_ssize_t *>(memory + p.staged * lane_bytes(p)))


cdef void one_block(Call *call, char **operand, Py_ssize_t *first, Py_ssize_t *count,
                    Py_ssize_t lanes, char *stages, Room *room) noexcept nogil:
    """Multiply one block of each side for some lanes, each into its stage."""
    cdef Problem *p = call.problem
    cdef Py_ssize_t lane, k, depth
    cdef char *here
    cdef int side
    for lane in range(lanes):
        here = stages + lane * lane_bytes(p)
        # tiles count rows and columns from the beginning of the matrix
        here -= (first[ROWS] + first[COLUMNS] * p.side[ROWS].block) * p.itemsize
        for k from 0 <= k < p.sums.total by p.depth:
            depth = min(p.depth, p.sums.total - k)
            for side in range(2):
                pack(p, side, operand[side] + lane * p.lane[side], first[side], count[side], k,
                     depth, pitch_of(&p.side[side], count[side]), room.block[side], room.table)
            multiply(call, here, room.block[ROWS], room.block[COLUMNS], first[ROWS], count[ROWS],
                     first[COLUMNS], count[COLUMNS], k, depth, k > 0, room)
