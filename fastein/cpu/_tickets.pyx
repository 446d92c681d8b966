# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The work of a contraction: blocks are packed and multiplied, by one thread or by several.

The rows' operand and the columns' operand are packed, block by block, into panels that the
register tile reads from front to back (`fastein.cpu._panels`, `fastein.cpu.tile`). One side is
*shared*: a block of it is packed once, by all threads together, and meets every block of the
other side, which its thread packs for itself. The order of work is one list of tickets::

    for each matrix of the batch, each shared block, each part of the sum (a *stage*):
        pack the panels of the shared block          (one ticket for each group of panels)
        pack a block of the other side and multiply  (one ticket for each block)

Threads draw tickets in this order and wait for what a ticket needs; whatever it needs has a
smaller number, so whoever has drawn that one is at work on it: there is no deadlock for any
number of threads, and none is waited for that the system does not run. The shared block has two
buffers, so that one is packed while the other is in use. A block of the result is always added
to in the order of the sum: the answer does not depend on the number of threads.

Where there are many matrices, each is one thread's.

Where both operands are the same memory the result may be symmetric. Then only tiles with an element
whose column is not before its row are computed, and what is left is their mirror image
(`fastein.cpu._mirror`): to the last bit, as both are sums of the same products in the same order.
"""
from ._atomics cimport add, wait_for
from ._axes cimport Axes, offset
from ._threads cimport goes_on
from ._mirror cimport mirror, strips_of
from ._panels cimport pack
from ._problem cimport (
    COLUMNS, DIRECT, LINE, ROWS, SLACK, Side, panel_bytes, pitch_of, up, words_of,
)
from ._streams cimport fence
from ._tile_tables cimport rooms_of, tabulate


cdef enum:
    LONG_SUM = 16   # steps beside which asking for a tile of the result costs next to nothing


# One block of either side


cdef Room room_at(Problem *p, char *memory, bint private) noexcept nogil:
    """Lay out one thread's scratch memory: its block, the shared one if it is private, tables."""
    cdef Room room
    cdef int own = 1 - p.shared
    room.block[own] = memory
    memory += p.side[own].bytes
    room.block[p.shared] = NULL
    if private:
        room.block[p.shared] = memory
        memory += p.side[p.shared].bytes
    room.spare = memory
    memory += up(p.side[ROWS].width * p.side[COLUMNS].width * p.itemsize + SLACK, LINE)
    room.lines = memory
    memory += rooms_of(p)
    room.table = <Py_ssize_t *>memory
    return room


cdef Py_ssize_t room_bytes(Problem *p, bint private) noexcept nogil:
    cdef Room room = room_at(p, NULL, private)
    return up(<Py_ssize_t>room.table + p.entries * sizeof(Py_ssize_t), LINE) + LINE


cdef void multiply(Call *call, char *result, char *rows, char *columns, Py_ssize_t i,
                   Py_ssize_t height, Py_ssize_t j, Py_ssize_t width, Py_ssize_t k,
                   Py_ssize_t depth, bint adds, Room *room) noexcept nogil:
    """Multiply a block of rows and one of columns, packed or where they lie, into the result."""
    cdef Problem *p = call.problem
    cdef char *data[4]
    cdef Py_ssize_t[9] shape
    cdef Axes *across = &p.side[COLUMNS].free
    cdef Py_ssize_t *table = room.table
    if p.table != NULL:
        table = p.table
    else:
        tabulate(p, i, height, j, width, k, depth, table)
    data[0], data[1], data[2], data[3] = rows, columns, result, room.spare
    shape[0], shape[1], shape[2], shape[3] = words_of(p, depth), table[0], adds, call.past
    shape[4] = p.packed
    if p.side[COLUMNS].kind == DIRECT:
        shape[4] = across.stride[0][across.rank - 1]
    # streamed rows are read once: they meet all columns before the next ones
    shape[5] = p.side[ROWS].width if p.side[ROWS].kind == DIRECT else table[0]
    shape[6] = j - i if call.halved else table[0]
    shape[7] = p.is_far and shape[0] >= LONG_SUM
    shape[8] = table[2]
    p.tiles(data, shape, table + 3, room.lines, 0, table[1])


cdef void multiply_blocks(Call *call, char **operand, char *result, Room *room,
                          Py_ssize_t shared, Py_ssize_t own, Py_ssize_t k,
                          Py_ssize_t depth, bint adds) noexcept nogil:
    """Multiply the blocks that begin at elements `shared` and `own` of their sides."""
    cdef Problem *p = call.problem
    cdef Py_ssize_t begin[2]
    cdef Py_ssize_t count[2]
    cdef int side
    begin[p.shared], begin[1 - p.shared] = shared, own
    cdef char *source[2]
    for side in range(2):
        count[side] = min(p.side[side].block, p.side[side].free.total - begin[side])
        source[side] = operand[side] if p.side[side].kind == DIRECT else room.block[side]
    multiply(call, result, source[ROWS], source[COLUMNS], begin[ROWS], count[ROWS],
             begin[COLUMNS], count[COLUMNS], k, depth, adds, room)


cdef inline bint is_needed(Call *call, Py_ssize_t own, Py_ssize_t end) noexcept nogil:
    """Whether a block of rows that begins at `own` is needed for columns that end at `end`."""
    return not call.halved or own < end


# One thread alone


cdef void one_matrix(Call *call, char **operand, char *result, Py_ssize_t first,
                     Py_ssize_t last, Room *room) noexcept nogil:
    """Multiply one pair of matrices of the batch, a part of the sum, or begin to."""
    cdef Problem *p = call.problem
    cdef int own = 1 - p.shared
    cdef Side *s = &p.side[p.shared]
    cdef Side *o = &p.side[own]
    cdef Py_ssize_t outer, inner, k, depth, count
    for outer from 0 <= outer < s.free.total by s.block:
        for k from first <= k < last by p.depth:
            depth = min(p.depth, last - k)
            count = min(s.block, s.free.total - outer)
            pack(p, p.shared, operand[p.shared], outer, count, k, depth, pitch_of(s, count),
                 room.block[p.shared], room.table)
            for inner from 0 <= inner < o.free.total by o.block:
                if not is_needed(call, inner, outer + s.block):
                    break
                if not goes_on(&call.watch):
                    return
                count = min(o.block, o.free.total - inner)
                pack(p, own, operand[own], inner, count, k, depth, pitch_of(o, count),
                     room.block[own], room.table)
                multiply_blocks(call, operand, result, room, outer, inner, k, depth, k > first)


cdef void matrices(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                   Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Multiply some matrices of the batch; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
    cdef Problem *p = call.problem
    cdef long long slot = add(&call.ticket, 1)
    cdef Room room = room_at(p, call.rooms + slot * call.room_bytes, True)
    cdef Py_ssize_t b
    for b in range(begin, end):
        whole_matrix(call, b, &room)
        if call.halved and goes_on(&call.watch):
            mirror(p, call.result + offset(&p.batch, 2, b), 0, strips_of(p))
    if call.past:
        fence()


cdef void whole_matrix(Call *call, Py_ssize_t b, Room *room) noexcept nogil:
    """Multiply the pair of matrices `b` of the batch."""
    cdef Problem *p = call.problem
    cdef char *operand[2]
    operand[ROWS] = call.operand[ROWS] + offset(&p.batch, ROWS, b)
    operand[COLUMNS] = call.operand[COLUMNS] + offset(&p.batch, COLUMNS, b)
    one_matrix(call, operand, call.result + offset(&p.batch, 2, b), 0, p.sums.total, room)


cdef void without_tickets(Call *call) noexcept nogil:
    """Do the work of all threads alone: in the memory of two rooms and of the shared blocks."""
    cdef Room room = room_at(call.problem, call.rooms, True)
    cdef Py_ssize_t b
    for b in range(call.problem.batch.total):
        whole_matrix(call, b, &room)
    if call.past:
        fence()


# Threads together


cdef Py_ssize_t blocks_of(Problem *p) noexcept nogil:
    """Number of blocks of the side that is not shared."""
    cdef Side *o = &p.side[1 - p.shared]
    return (o.free.total + o.block - 1) // o.block


cdef Py_ssize_t group_of(Problem *p) noexcept nogil:
    """Elements of the shared side that one ticket packs: an eighth of a block, some panels."""
    cdef Side *s = &p.side[p.shared]
    return up(min(max(min(s.block, s.free.total) // 8, 1), 256), s.width)


cdef void tickets(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Draw tickets until there are none; in the kernels' signature, for `share`.

    Whoever is given more than one share is given all.
    """
    cdef Call *call = <Call *>scratch
    if end - begin > 1:
        without_tickets(call)
        return
    cdef Problem *p = call.problem
    cdef int own = 1 - p.shared
    cdef Side *s = &p.side[p.shared]
    cdef Side *o = &p.side[own]
    cdef Room room = room_at(p, call.rooms + begin * call.room_bytes, False)
    cdef Py_ssize_t parts = (p.sums.total + p.depth - 1) // p.depth
    cdef Py_ssize_t outers = (s.free.total + s.block - 1) // s.block
    cdef Py_ssize_t group = group_of(p)
    cdef Py_ssize_t packs = (min(s.block, s.free.total) + group - 1) // group
    cdef Py_ssize_t blocks = blocks_of(p)
    cdef Py_ssize_t each = packs + blocks, stages = p.batch.total * outers * parts
    cdef long long ticket, stage
    cdef Py_ssize_t task, b, k, depth, outer, count, pitch
    cdef int ring, side
    cdef bint needed
    cdef char *operand[2]
    while goes_on(&call.watch):
        ticket = add(&call.ticket, 1)
        stage, task = ticket // each, ticket % each
        if stage >= stages:
            break
        ring = stage % RING
        k = stage % parts * p.depth
        outer = stage // parts % outers * s.block
        b = stage // parts // outers
        depth = min(p.depth, p.sums.total - k)
        room.block[p.shared] = call.shared[stage % 2]
        for side in range(2):
            operand[side] = call.operand[side] + offset(&p.batch, side, b)
        if task < packs:
            if stage >= 2:  # who reads the buffer must have done with it
                wait_for(&call.done[(stage - 2) % RING], blocks * ((stage - 2) // RING + 1))
            count = min(s.block, s.free.total - outer)
            if task * group < count:
                pitch = pitch_of(s, count)
                pack(p, p.shared, operand[p.shared], outer + task * group,
                     min(group, count - task * group), k, depth, pitch,
                     room.block[p.shared] + task * group // s.width * panel_bytes(p, pitch, depth),
                     room.table)
            add(&call.packed[ring], 1)
            continue
        task -= packs
        needed = is_needed(call, task * o.block, outer + s.block)
        if needed:
            count = min(o.block, o.free.total - task * o.block)
            pack(p, own, operand[own], task * o.block, count, k, depth, pitch_of(o, count),
                 room.block[own], room.table)
        wait_for(&call.packed[ring], packs * (stage // RING + 1))
        wait_for(&call.progress[task], stage)  # the parts of the sum are added in order
        if needed:
            multiply_blocks(call, operand, call.result + offset(&p.batch, 2, b), &room, outer,
                            task * o.block, k, depth, k > 0)
        add(&call.progress[task], 1)
        add(&call.done[ring], 1)
    if call.past:
        fence()


cdef void mirrors(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Draw strips of symmetric results and fill them, once all is multiplied."""
    cdef Call *call = <Call *>scratch
    cdef Problem *p = call.problem
    cdef Py_ssize_t strips = strips_of(p), strip, b
    cdef long long ticket
    while True:
        ticket = add(&call.ticket, 1)
        b, strip = ticket // strips, strips - 1 - ticket % strips  # the longest first
        if b >= p.batch.total:
            return
        mirror(p, call.result + offset(&p.batch, 2, b), strip, strip + 1)
