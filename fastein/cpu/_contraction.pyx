# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Running a contraction: loops over blocks, packing, and register tiles between packed panels.

The rows' operand and the columns' operand are packed, block by block, into panels that the
register tile reads from front to back (`fastein.cpu.packing`, `fastein.cpu.tile`). One side is
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
"""
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from numpy cimport PyArray_BYTES, import_array, ndarray

from .._nest cimport LoopNest
from ._atomics cimport add, wait_for
from ._baseline cimport kernel_t
from ._runtime cimport Step
from ._threads cimport share

from time import perf_counter

from ..config import settings

import_array()

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #define fastein_fence() _mm_sfence()
    #else
    #define fastein_fence() ((void)0)
    #endif
    """
    void fastein_fence() noexcept nogil

PACK_KINDS = {
    "rows": IN_RUNS, "transposed": TRANSPOSED, "gathered": GATHERED, "direct": DIRECT,
}


cdef struct Room:
    # One thread's scratch memory.
    char *block[2]
    char *spare
    Py_ssize_t *table


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
    long long *progress     # stages that each block of the side that is not shared has behind it


# Offsets


cdef void offsets(Axes *axes, int operand, Py_ssize_t begin, Py_ssize_t count,
                  Py_ssize_t *out) noexcept nogil:
    """Write where the elements `begin` to ``begin + count`` of the joint index lie."""
    cdef Py_ssize_t at[MOST_AXES]
    cdef Py_ssize_t *stride = axes.stride[operand]
    cdef Py_ssize_t here = 0, left = begin, step, run, k
    cdef int last = axes.rank - 1, a
    if last < 0:
        for k in range(count):
            out[k] = 0
        return
    for a in range(last, -1, -1):
        at[a] = left % axes.size[a]
        left //= axes.size[a]
        here += at[a] * stride[a]
    step = stride[last]
    while True:
        run = min(axes.size[last] - at[last], count)
        for k in range(run):
            out[k] = here + k * step
        count -= run
        if count == 0:
            return
        out += run
        here -= at[last] * step
        at[last] = 0
        a = last - 1
        while a >= 0:
            at[a] += 1
            here += stride[a]
            if at[a] < axes.size[a]:
                break
            here -= axes.size[a] * stride[a]
            at[a] = 0
            a -= 1


cdef Py_ssize_t offset(Axes *axes, int operand, Py_ssize_t index) noexcept nogil:
    cdef Py_ssize_t here = 0
    cdef int a
    for a in range(axes.rank - 1, -1, -1):
        here += index % axes.size[a] * axes.stride[operand][a]
        index //= axes.size[a]
    return here


# Packing and multiplying blocks


cdef inline Py_ssize_t up(Py_ssize_t n, Py_ssize_t grain) noexcept nogil:
    return (n + grain - 1) // grain * grain


cdef Py_ssize_t block_bytes(Problem *p, int side) noexcept nogil:
    """Room for a packed block of one side."""
    cdef Side *s = &p.side[side]
    if s.kind == DIRECT:
        return 0
    return up((s.block // s.width + 1) * panel_bytes(p, s.pitch, p.depth) + SLACK, LINE)


cdef inline bint is_narrow(Side *s, Py_ssize_t count) noexcept nogil:
    """Whether so many rows make a tile of three half vectors."""
    return s.has_narrow and s.grain < count and 2 * count <= 3 * s.grain


cdef inline Py_ssize_t pitch_of(Side *s, Py_ssize_t count) noexcept nogil:
    """Elements between steps of the sum in the panels of a block: fewer if it has one panel."""
    if count > s.width:
        return s.pitch
    return s.grain // 2 * 3 if is_narrow(s, count) else up(count, s.grain)


cdef inline Py_ssize_t panel_bytes(Problem *p, Py_ssize_t pitch, Py_ssize_t depth) noexcept nogil:
    """A panel's bytes, with the line that writing it may overrun its end by."""
    return pitch * depth * p.packed + LINE


cdef inline Py_ssize_t next_width(Problem *p, Side *s, Py_ssize_t left) noexcept nogil:
    """Elements of the next panel of a block in which so many are left.

    Two panels of two vectors are faster than one of three and one of one. (A shared block is
    packed in parts, which do not know what is left.)
    """
    if s == &p.side[ROWS] and p.shared != ROWS and s.width < left <= s.width + s.grain:
        return (left // 2 + s.grain - 1) // s.grain * s.grain
    return min(s.width, left)


cdef void pack(Problem *p, int side, char *source, Py_ssize_t begin, Py_ssize_t count,
               Py_ssize_t k, Py_ssize_t depth, Py_ssize_t pitch, char *target,
               Py_ssize_t *table) noexcept nogil:
    """Pack elements ``begin:begin + count`` of a side, ``k:k + depth`` of the sum, into panels.

    `begin` is the first element of a panel. `table` is room for offsets.
    """
    cdef Side *s = &p.side[side]
    cdef Py_ssize_t *steps = table
    cdef Py_ssize_t *panel = steps + depth  # where one panel's elements lie
    cdef Py_ssize_t *places = panel + s.pitch
    cdef Py_ssize_t *rest = places + count
    cdef Py_ssize_t first, width
    if s.kind == DIRECT:
        return
    offsets(&p.sums, side, k, depth, steps)
    offsets(&s.free, 0, begin, count, places)
    if s.kind == IN_RUNS:
        pack_runs(p, s, source, steps, depth, places, count, pitch, target, rest)
        return
    first = 0
    while first < count:
        width = next_width(p, s, count - first)
        if s.kind == TRANSPOSED:
            pack_transposed(p, s, source, steps, k, depth, places + first, width, pitch, target,
                            panel)
        else:
            pack_gathered(s, source, steps, depth, places + first, width, pitch, target, panel)
        target += panel_bytes(p, pitch, depth)
        first += width


cdef inline Py_ssize_t stretch_of(Problem *p, Side *s) noexcept nogil:
    """Entries of a panel's table in `pack_runs`: a count, offsets of steps, runs."""
    return 1 + min(<Py_ssize_t>STEPS, p.depth) + 2 * s.width


cdef void pack_runs(Problem *p, Side *s, char *source, Py_ssize_t *steps, Py_ssize_t depth,
                    Py_ssize_t *places, Py_ssize_t count, Py_ssize_t pitch, char *target,
                    Py_ssize_t *table) noexcept nogil:
    """Pack panels whose elements lie in runs, all of them for a few steps of the sum at a time.

    So memory is read in its order, and a line that two panels share is still near.
    """
    cdef char *data[2]
    cdef Py_ssize_t[3] shape
    cdef Py_ssize_t *segments = table
    cdef Py_ssize_t most = min(<Py_ssize_t>STEPS, p.depth), stretch = stretch_of(p, s)
    cdef Py_ssize_t r = 0, start, end, n, at = 0, k, panels = 0
    while r < count:  # of each panel: its number of runs, room for offsets, the runs
        end = r + next_width(p, s, count - r)
        n = 0
        while r < end:
            start = r
            r += 1
            while r < end and places[r] - places[r - 1] == p.itemsize:
                r += 1
            segments[1 + most + 2 * n] = places[start]
            segments[1 + most + 2 * n + 1] = r - start
            n += 1
        segments[0] = n
        segments += stretch
        panels += 1
    shape[1] = pitch
    while at < depth:
        shape[0] = min(most, depth - at)
        for n in range(panels):
            segments = table + n * stretch
            shape[2] = segments[0]
            segments += 1 + most - shape[0]  # the offsets of the steps stand before the runs
            for k in range(shape[0]):
                segments[k] = steps[at + k]
            data[0] = source
            data[1] = target + n * panel_bytes(p, pitch, depth) + at * pitch * p.packed
            s.pack(data, shape, segments, NULL, 0, 1)
        at += most


cdef void pack_gathered(Side *s, char *source, Py_ssize_t *steps, Py_ssize_t depth,
                        Py_ssize_t *places, Py_ssize_t width, Py_ssize_t pitch, char *target,
                        Py_ssize_t *segments) noexcept nogil:
    cdef char *data[2]
    cdef Py_ssize_t[3] shape
    cdef Py_ssize_t r
    for r in range(width):
        segments[r] = places[r]
    data[0], data[1] = source, target
    shape[0], shape[1], shape[2] = depth, pitch, width
    s.pack(data, shape, steps, NULL, 0, 1)


cdef void pack_transposed(Problem *p, Side *s, char *source, Py_ssize_t *steps, Py_ssize_t k,
                          Py_ssize_t depth, Py_ssize_t *places, Py_ssize_t width,
                          Py_ssize_t pitch, char *target, Py_ssize_t *segments) noexcept nogil:
    """Pack one panel, run by run of the summed axis along which it lies.

    Inside that axis there may be one more: a part of an axis along which the other operand lies.
    """
    cdef char *data[2]
    cdef Py_ssize_t[4] shape
    cdef Py_ssize_t run = p.sums.size[s.along], inner = 1, part, r, piece, at
    if s.along < p.sums.rank - 1:
        inner = p.sums.size[p.sums.rank - 1]
    for r in range(pitch):
        segments[r] = places[r if r < width else width - 1]
    shape[1], shape[2], shape[3] = pitch, width, inner
    k //= inner
    depth //= inner
    for part in range(inner):
        at = 0
        while at < depth:
            piece = min(run - (k + at) % run, depth - at)
            data[0] = source + steps[at * inner + part]
            data[1] = target + (at * inner + part) * pitch * p.packed
            shape[0] = piece
            s.pack(data, shape, segments, NULL, 0, 1)
            at += piece


cdef Py_ssize_t table_entries(Problem *p) noexcept nogil:
    """Room for the offsets that `pack` and `multiply` write."""
    cdef Side *side
    cdef int s
    cdef Py_ssize_t pitch = max(p.side[ROWS].pitch, p.side[COLUMNS].pitch), packing = 0
    for s in range(2):
        side = &p.side[s]
        packing = max(packing, p.depth + side.pitch + side.block
                      + (side.block // side.width + 1) * stretch_of(p, side))
    cdef Py_ssize_t multiplying = (
        4 * most_places(p, ROWS) + 2 * most_places(p, COLUMNS) + 2 * p.depth + pitch + 2)
    return max(packing, multiplying) + 8


cdef Py_ssize_t most_places(Problem *p, int side) noexcept nogil:
    """Bound of `places_in`: a piece of the innermost axis costs a tile more than it needs."""
    cdef Side *s = &p.side[side]
    cdef Py_ssize_t pieces
    if s.kind != DIRECT:
        return s.block
    pieces = s.block // s.free.size[s.free.rank - 1] + 2
    return s.block + pieces * s.width


cdef Py_ssize_t next_tile(Problem *p, int side, Py_ssize_t begin, Py_ssize_t end,
                          Py_ssize_t *start, Py_ssize_t *advance) noexcept nogil:
    """The elements of the tile that takes a side from `begin` on where it lies, up to `end`.

    A tile is whole, and crosses no end of the innermost axis. At such an end it begins earlier
    than it needs to, at `start`: what it then computes again is what was there. The next tile
    begins `advance` elements further.
    """
    cdef Side *s = &p.side[side]
    cdef Py_ssize_t size = s.free.size[s.free.rank - 1]
    cdef Py_ssize_t at = begin % size
    cdef Py_ssize_t left = min(size - at, end - begin)
    cdef Py_ssize_t width = s.width
    if side == ROWS:
        width = min(up(next_width(p, s, left), s.grain), size // s.grain * s.grain)
    start[0] = begin
    if width > left:
        start[0] = begin - min(width - left, at)
    advance[0] = min(width, left)
    return width


cdef Py_ssize_t places_in(Problem *p, int side, Py_ssize_t begin, Py_ssize_t count) noexcept nogil:
    """Entries of a side's tables: its elements, and those that overlapping tiles take twice."""
    cdef Py_ssize_t end = begin + count, start, advance, entries = 0
    if p.side[side].kind != DIRECT:
        return count
    while begin < end:
        entries += next_tile(p, side, begin, end, &start, &advance)
        begin += advance
    return entries


cdef void tabulate(Problem *p, Py_ssize_t i, Py_ssize_t height, Py_ssize_t j, Py_ssize_t width,
                   Py_ssize_t k, Py_ssize_t depth, Py_ssize_t *table) noexcept nogil:
    """Write the tables of a block of rows and one of columns (see `fastein.cpu.tile.source`).

    Before them stand the numbers of their rows and columns.
    """
    cdef Py_ssize_t rows = places_in(p, ROWS, i, height)
    cdef Py_ssize_t columns = places_in(p, COLUMNS, j, width)
    cdef Py_ssize_t *out = table + 2
    cdef Py_ssize_t *runs = out + rows
    cdef Py_ssize_t *out_columns = runs + rows
    cdef Py_ssize_t *spare = out_columns + columns
    cdef Py_ssize_t *places = spare + p.side[COLUMNS].width
    cdef Py_ssize_t *vectors = places + rows
    cdef Py_ssize_t *steps = vectors + rows
    cdef Py_ssize_t r
    table[0], table[1] = rows, columns
    tabulate_rows(p, i, height, k, depth, out, places, vectors, steps)
    runs[rows - 1] = 1
    for r in range(rows - 2, -1, -1):
        runs[r] = runs[r + 1] + 1 if out[r + 1] - out[r] == p.itemsize else 1
    for r in range(p.side[COLUMNS].width):
        spare[r] = r * p.side[ROWS].width * p.itemsize
    tabulate_columns(p, j, width, k, depth, out_columns, steps + depth, steps + 2 * depth)


cdef void tabulate_rows(Problem *p, Py_ssize_t i, Py_ssize_t height, Py_ssize_t k,
                        Py_ssize_t depth, Py_ssize_t *out, Py_ssize_t *places,
                        Py_ssize_t *vectors, Py_ssize_t *steps) noexcept nogil:
    cdef Side *s = &p.side[ROWS]
    cdef Py_ssize_t end = i + height, pitch = pitch_of(s, height)
    cdef Py_ssize_t r = 0, n = 0, panel, start, advance
    if s.kind == DIRECT:
        while i < end:
            panel = next_tile(p, ROWS, i, end, &start, &advance)
            offsets(&s.free, 1, start, panel, out + r)
            places[r] = offset(&s.free, 0, start)
            vectors[r] = panel // s.grain
            i += advance
            r += panel
        offsets(&p.sums, ROWS, k, depth, steps)
        return
    offsets(&s.free, 1, i, height, out)
    while r < height:
        panel = next_width(p, s, height - r)
        places[r] = n * panel_bytes(p, pitch, depth)
        vectors[r] = NARROW if is_narrow(s, panel) else (panel + s.grain - 1) // s.grain
        r += panel
        n += 1
    for r in range(depth):
        steps[r] = r * pitch * p.packed


cdef void tabulate_columns(Problem *p, Py_ssize_t j, Py_ssize_t width, Py_ssize_t k,
                           Py_ssize_t depth, Py_ssize_t *out, Py_ssize_t *steps,
                           Py_ssize_t *places) noexcept nogil:
    cdef Side *s = &p.side[COLUMNS]
    cdef Py_ssize_t end = j + width, pitch = pitch_of(s, width), c = 0, start, advance
    if s.kind == DIRECT:
        while j < end:
            next_tile(p, COLUMNS, j, end, &start, &advance)
            offsets(&s.free, 1, start, s.width, out + c)
            places[c] = offset(&s.free, 0, start)
            j += advance
            c += s.width
        offsets(&p.sums, COLUMNS, k, depth, steps)
        return
    offsets(&s.free, 1, j, width, out)
    for c from 0 <= c < width by s.width:
        places[c] = c // s.width * panel_bytes(p, pitch, depth)
    for c in range(depth):
        steps[c] = c * pitch * p.packed


cdef void multiply(Problem *p, char *result, bint streams, char *rows, char *columns,
                   Py_ssize_t i, Py_ssize_t height, Py_ssize_t j, Py_ssize_t width, Py_ssize_t k,
                   Py_ssize_t depth, char *spare, Py_ssize_t *table) noexcept nogil:
    """Multiply a block of rows and one of columns, packed or where they lie, into the result."""
    cdef char *data[4]
    cdef Py_ssize_t[6] shape
    cdef Axes *across = &p.side[COLUMNS].free
    if p.table != NULL:
        table = p.table
    else:
        tabulate(p, i, height, j, width, k, depth, table)
    data[0], data[1], data[2], data[3] = rows, columns, result, spare
    shape[0], shape[1], shape[2], shape[3] = depth, table[0], k > 0, 2 * streams
    shape[4] = p.packed
    if p.side[COLUMNS].kind == DIRECT:
        shape[4] = across.stride[0][across.rank - 1]
    # streamed rows are read once: they meet all columns before the next ones
    shape[5] = p.side[ROWS].width if p.side[ROWS].kind == DIRECT else table[0]
    p.tiles(data, shape, table + 2, NULL, 0, table[1])


cdef Room room_at(Problem *p, char *memory, bint private) noexcept nogil:
    """Lay out one thread's scratch memory: its block, the shared one if it is private, tables."""
    cdef Room room
    cdef int own = 1 - p.shared
    room.block[own] = memory
    memory += block_bytes(p, own)
    room.block[p.shared] = NULL
    if private:
        room.block[p.shared] = memory
        memory += block_bytes(p, p.shared)
    room.spare = memory
    memory += up(p.side[ROWS].width * p.side[COLUMNS].width * p.itemsize + SLACK, LINE)
    room.table = <Py_ssize_t *>memory
    return room


cdef Py_ssize_t room_bytes(Problem *p, bint private) noexcept nogil:
    cdef Room room = room_at(p, NULL, private)
    return up(<Py_ssize_t>room.table + table_entries(p) * sizeof(Py_ssize_t), LINE) + LINE


cdef void multiply_blocks(Problem *p, char **operand, char *result, bint streams, Room *room,
                          Py_ssize_t shared, Py_ssize_t own, Py_ssize_t k,
                          Py_ssize_t depth) noexcept nogil:
    """Multiply the blocks that begin at elements `shared` and `own` of their sides."""
    cdef Py_ssize_t begin[2]
    cdef Py_ssize_t count[2]
    cdef int side
    begin[p.shared], begin[1 - p.shared] = shared, own
    cdef char *source[2]
    for side in range(2):
        count[side] = min(p.side[side].block, p.side[side].free.total - begin[side])
        source[side] = operand[side] if p.side[side].kind == DIRECT else room.block[side]
    multiply(p, result, streams, source[ROWS], source[COLUMNS], begin[ROWS], count[ROWS],
             begin[COLUMNS], count[COLUMNS], k, depth, room.spare, room.table)


# One thread alone


cdef void one_matrix(Problem *p, char **operand, char *result, bint streams,
                     Room *room) noexcept nogil:
    """Multiply one pair of matrices of the batch."""
    cdef int own = 1 - p.shared
    cdef Side *s = &p.side[p.shared]
    cdef Side *o = &p.side[own]
    cdef Py_ssize_t outer, inner, k, depth, count
    for outer from 0 <= outer < s.free.total by s.block:
        for k from 0 <= k < p.sums.total by p.depth:
            depth = min(p.depth, p.sums.total - k)
            count = min(s.block, s.free.total - outer)
            pack(p, p.shared, operand[p.shared], outer, count, k, depth, pitch_of(s, count),
                 room.block[p.shared], room.table)
            for inner from 0 <= inner < o.free.total by o.block:
                count = min(o.block, o.free.total - inner)
                pack(p, own, operand[own], inner, count, k, depth, pitch_of(o, count),
                     room.block[own], room.table)
                multiply_blocks(p, operand, result, streams, room, outer, inner, k, depth)


cdef void matrices(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                   Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Multiply some matrices of the batch; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
    cdef Problem *p = call.problem
    cdef long long slot = add(&call.ticket, 1)
    cdef Room room = room_at(p, call.rooms + slot * call.room_bytes, True)
    cdef char *operand[2]
    cdef Py_ssize_t b
    for b in range(begin, end):
        operand[ROWS] = call.operand[ROWS] + offset(&p.batch, ROWS, b)
        operand[COLUMNS] = call.operand[COLUMNS] + offset(&p.batch, COLUMNS, b)
        one_matrix(p, operand, call.result + offset(&p.batch, 2, b), call.streams, &room)
    if call.streams:
        fastein_fence()


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
    """Draw tickets until there are none; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
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
    cdef char *operand[2]
    while True:
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
        count = min(o.block, o.free.total - task * o.block)
        pack(p, own, operand[own], task * o.block, count, k, depth, pitch_of(o, count),
             room.block[own], room.table)
        wait_for(&call.packed[ring], packs * (stage // RING + 1))
        wait_for(&call.progress[task], stage)  # the parts of the sum are added in order
        multiply_blocks(p, operand, call.result + offset(&p.batch, 2, b), call.streams, &room,
                        outer, task * o.block, k, depth)
        add(&call.progress[task], 1)
        add(&call.done[ring], 1)
    if call.streams:
        fastein_fence()


# Scratch memory, kept between calls. The GIL guards it.


cdef Py_ssize_t MOST_KEPT = 64 << 20
cdef char *_kept = NULL
cdef Py_ssize_t _kept_bytes = 0


cdef char *take_scratch(Py_ssize_t *nbytes) except NULL:
    """Memory of at least `nbytes`, whose size is written there."""
    global _kept, _kept_bytes
    cdef char *memory = _kept
    if memory != NULL and _kept_bytes >= nbytes[0]:
        nbytes[0] = _kept_bytes
        _kept = NULL
        return memory
    memory = <char *>malloc(nbytes[0])
    if memory == NULL:
        raise MemoryError(f"no memory for {nbytes[0]} bytes of packed panels")
    return memory


cdef void give_scratch(char *memory, Py_ssize_t nbytes) noexcept:
    """Keep the larger of this and what is kept, unless it is too large to lie idle."""
    global _kept, _kept_bytes
    if nbytes <= MOST_KEPT and (_kept == NULL or _kept_bytes < nbytes):
        memory, _kept = _kept, memory
        _kept_bytes = nbytes
    free(memory)


# Problems and their steps


cdef void fill_axes(Axes *axes, group, operands) except *:
    """Copy a group of axes, with their strides in some operands."""
    cdef int a, k
    axes.rank = len(group)
    axes.total = 1
    for a in range(axes.rank):
        axes.size[a] = group[a].size
        axes.total *= axes.size[a]
        for k in range(len(operands)):
            axes.stride[k][a] = group[a].strides[operands[k]]


cdef class Runner:
    """A contraction with everything decided, ready to run on pointers.

    Parameters
    ----------
    nest : fastein._nest.LoopNest
    schedule : fastein.cpu.contraction.Contraction
    tiles : fastein.cpu.compiler.Kernel
    packs : (Kernel, Kernel)
        For the rows and for the columns.
    """

    def __cinit__(self):
        self.problem = <Problem *>malloc(sizeof(Problem))
        if self.problem == NULL:
            raise MemoryError()
        memset(self.problem, 0, sizeof(Problem))

    def __dealloc__(self):
        free(self.problem.table)
        free(self.problem)

    def __init__(self, LoopNest nest, schedule, tiles, packs):
        cdef Problem *p = self.problem
        cdef Side *side
        cdef int s
        tile, blocks = schedule.tile, schedule.blocks
        fill_axes(&p.batch, schedule.batch, (0, 1, 2))
        fill_axes(&p.sums, schedule.sums, (0, 1))
        for s in range(2):
            side = &p.side[s]
            fill_axes(&side.free, schedule.free[s], (s, 2))
            side.along = schedule.along[s]
            side.kind = PACK_KINDS[schedule.packing[s]]
            if packs[s] is not None:
                side.pack = <kernel_t><uintptr_t>packs[s].address
            side.block = blocks.free[s]
        p.side[ROWS].width = p.side[ROWS].pitch = tile.rows
        p.side[ROWS].grain = tile.vector_rows
        p.side[ROWS].has_narrow = tile.has_narrow
        p.side[COLUMNS].width = tile.columns
        p.side[COLUMNS].pitch = p.side[COLUMNS].grain = tile.column_pitch
        p.shared = schedule.shared
        p.depth = blocks.depth
        p.packed = tile.arithmetic.itemsize
        p.itemsize = nest.itemsize
        p.vector = tile.vector_rows * tile.result_bytes
        p.may_stream = schedule.streams
        p.tiles = <kernel_t><uintptr_t>tiles.address
        self.first, self.second = schedule.inputs
        self.by_matrix = schedule.by_matrix
        self.work = nest.work()
        self.nest = nest
        self.keepalive = (tiles, packs)
        self.remember_table()

    cdef int remember_table(self) except -1:
        """Have the tables ready if one block, not a large one, is all there is of a matrix."""
        cdef Problem *p = self.problem
        cdef Py_ssize_t rows = p.side[ROWS].free.total, columns = p.side[COLUMNS].free.total
        if rows > p.side[ROWS].block or columns > p.side[COLUMNS].block:
            return 0
        if p.sums.total > p.depth or table_entries(p) > FIXED_ENTRIES:
            return 0
        p.table = <Py_ssize_t *>malloc(table_entries(p) * sizeof(Py_ssize_t))
        if p.table == NULL:
            raise MemoryError()
        tabulate(p, 0, rows, 0, columns, 0, p.sums.total, p.table)
        return 0

    def __call__(self, ndarray first, ndarray second, ndarray result):
        """Run on arrays that have the nest's layout (nothing is checked)."""
        self.run(PyArray_BYTES(first), PyArray_BYTES(second), PyArray_BYTES(result))

    cdef int run(self, char *first, char *second, char *result) except -1:
        cdef Problem *p = self.problem
        cdef Call call
        cdef Py_ssize_t threads = 1, nbytes, shared_bytes = 0, progress_bytes = 0, k
        cdef char *memory
        cdef kernel_t function
        if self.work >= THREAD_WORK:
            threads = settings.num_threads
        memset(&call, 0, sizeof(Call))
        call.problem = p
        call.operand[0] = second if self.first else first
        call.operand[1] = first if self.first else second
        call.result = result
        call.streams = p.may_stream and <uintptr_t>result % <uintptr_t>p.vector == 0
        if threads == 1 or self.by_matrix:
            function = matrices
            threads = min(threads, p.batch.total)
        else:
            function = tickets
            shared_bytes = block_bytes(p, p.shared)
            progress_bytes = up(blocks_of(p) * sizeof(long long), LINE)
        call.room_bytes = room_bytes(p, function == matrices)
        nbytes = threads * call.room_bytes + 2 * shared_bytes + progress_bytes + LINE
        memory = take_scratch(&nbytes)
        try:
            call.rooms = memory + (LINE - <uintptr_t>memory % LINE) % LINE
            for k in range(2):
                call.shared[k] = call.rooms + threads * call.room_bytes + k * shared_bytes
            call.progress = <long long *>(call.shared[1] + shared_bytes)
            memset(call.progress, 0, progress_bytes)
            if threads > 1:
                share(function, NULL, self.nest, <char *>&call,
                      p.batch.total if function == matrices else threads, threads)
            elif self.work < GIL_WORK:
                function(NULL, NULL, NULL, <char *>&call, 0, p.batch.total)
            else:
                with nogil:
                    function(NULL, NULL, NULL, <char *>&call, 0, p.batch.total)
        finally:
            give_scratch(memory, nbytes)
        return 0


cdef double THREAD_WORK = 2e5
cdef double GIL_WORK = 2e4


cdef class ContractionStep(Step):
    """A contraction by packed panels, once its kernels are there; another step until then."""

    cdef int first
    cdef int second
    cdef int target
    cdef object schedule
    cdef object engine
    cdef Step substitute
    cdef Runner runner

    def __init__(self, slots, schedule, engine, Step substitute):
        self.first, self.second, self.target = slots
        self.schedule = schedule
        self.engine = engine
        self.substitute = substitute
        if engine.ready:
            self.runner = engine.runner(schedule)

    cdef int perform(self, char **slots) except -1:
        # a reference of this call's own: another thread may put its runner in the place of this
        cdef Runner runner = self.runner
        if runner is None:
            if not self.engine.ready:
                self.engine.spare(self.schedule.gain)
            if self.engine.ready:
                runner = self.runner = self.engine.runner(self.schedule)
        if runner is not None:
            try:
                return runner.run(slots[self.first], slots[self.second], slots[self.target])
            except MemoryError:  # nothing is written yet, and the substitute needs no panels
                return self.substitute.perform(slots)
        start = perf_counter()
        self.substitute.perform(slots)
        self.engine.spend(perf_counter() - start)
        return 0
