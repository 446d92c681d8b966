# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Packing blocks of an operand into panels, by the kernels of `fastein.cpu.packing`."""
from libc.stdint cimport uint64_t
from libc.stdlib cimport llabs
from libc.string cimport memcpy

from ._axes cimport offsets
from ._problem cimport (
    DIRECT, IN_RUNS, LINE, LINES, SLACK, TRANSPOSED, Side, next_width, panel_bytes, up,
)
from ._streams cimport ask
from ._words cimport HalfLine, Line, Pair, line, word

cdef enum:
    AHEAD = 64       # bytes by which lines are asked for before they are packed
    STEPS = 256      # of the sum that are packed at a time where rows lie in runs

cdef enum WordWay:   # see fastein.cpu.words
    SINGLES
    RUNS
    ALONG


cdef Py_ssize_t block_bytes(Problem *p, int side) noexcept nogil:
    """Room for a packed block of one side."""
    cdef Side *s = &p.side[side]
    if s.kind == DIRECT:
        return 0
    return up((s.block // s.width + 1) * panel_bytes(p, s.pitch, p.depth) + SLACK, LINE)


cdef Py_ssize_t packing_entries(Problem *p) noexcept nogil:
    """Room for the offsets that `pack_block` writes."""
    cdef Py_ssize_t entries = 0
    cdef Side *side
    cdef int s
    for s in range(2):
        side = &p.side[s]
        entries = max(entries, p.depth + side.pitch + side.block
                      + (side.block // side.width + 1) * stretch_of(p, side))
    return entries


cdef void pack_block(Problem *p, int side, char *source, Py_ssize_t begin, Py_ssize_t count,
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
    offsets(&p.sums, side, k, depth, steps)
    offsets(&s.free, 0, begin, count, places)
    if p.word > 1:
        pack_words(p, s, source, steps, depth, places, count, pitch, target, panel)
        return
    if s.kind == IN_RUNS:
        pack_runs(p, s, source, steps, depth, places, count, pitch, target, rest)
        return
    first = 0
    while first < count:
        width = next_width(p, s, count - first)
        if s.kind == LINES:
            pack_lines(p, source, steps, depth, places + first, width, pitch, target)
        elif s.kind == TRANSPOSED:
            pack_transposed(p, s, source, steps, k, depth, places + first, width, pitch, target,
                            panel)
        else:
            pack_gathered(s, source, steps, depth, places + first, width, pitch, target, panel)
        target += panel_bytes(p, pitch, depth)
        first += width


cdef void pack_words(Problem *p, Side *s, char *source, Py_ssize_t *steps, Py_ssize_t depth,
                     Py_ssize_t *places, Py_ssize_t count, Py_ssize_t pitch, char *target,
                     Py_ssize_t *segments) noexcept nogil:
    """Pack panels of words, which hold some neighbouring steps of the sum each."""
    cdef char *data[2]
    cdef Py_ssize_t[4] shape
    cdef Py_ssize_t first = 0, panel, start, end, r
    cdef bint along = s.kind == TRANSPOSED and are_along(p, steps, depth)
    data[0] = source
    shape[0], shape[1] = depth, pitch
    while first < count:
        panel = start = first
        first += next_width(p, s, count - first)
        while start < first:
            end = start + 1
            while end < first and (along or places[end] - places[end - 1] == p.itemsize):
                end += 1
            for r in range(start, end):
                segments[r - start] = places[r]
            shape[2] = end - start
            shape[3] = ALONG if along else RUNS if end - start >= p.together else SINGLES
            data[1] = target + (start - panel) * p.packed
            s.pack(data, shape, steps, NULL, 0, 1)
            start = end
        target += panel_bytes(p, pitch, depth)


cdef bint are_along(Problem *p, Py_ssize_t *steps, Py_ssize_t depth) noexcept nogil:
    """Whether the steps of every whole word are contiguous."""
    cdef Py_ssize_t k
    for k in range(1, depth // p.word * p.word):
        if k % p.word and steps[k] - steps[k - 1] != p.itemsize:
            return False
    return True


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
    cdef Py_ssize_t r = 0, start, end, n, at = 0, k, panels = 0, short_run
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
    short_run = short_runs(p, table, most, stretch, panels)
    if short_run:
        for n in range(panels):
            pack_short(p, source, steps, depth, table + n * stretch, most, short_run, pitch,
                       target + n * panel_bytes(p, pitch, depth))
        return
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


cdef Py_ssize_t short_runs(Problem *p, Py_ssize_t *table, Py_ssize_t most, Py_ssize_t stretch,
                           Py_ssize_t panels) noexcept nogil:
    """Bytes of all runs in a table of `pack_runs` if they are one word each or two, else 0."""
    cdef Py_ssize_t *runs
    cdef Py_ssize_t run = table[1 + most + 1], n, r
    cdef Py_ssize_t nbytes = run * p.itemsize
    if p.packed != p.itemsize or (nbytes != sizeof(uint64_t) and nbytes != sizeof(Pair)):
        return 0
    for n in range(panels):
        runs = table + n * stretch + 1 + most
        for r in range(table[n * stretch]):
            if runs[2 * r + 1] != run:
                return 0
    return nbytes


cdef void pack_short(Problem *p, char *source, Py_ssize_t *steps, Py_ssize_t depth,
                     Py_ssize_t *table, Py_ssize_t most, Py_ssize_t nbytes, Py_ssize_t pitch,
                     char *target) noexcept nogil:
    """Pack a panel of short runs, for which the kernel's loop over runs would take too long."""
    if nbytes == sizeof(uint64_t):
        move_short[uint64_t](source, steps, depth, table + 1 + most, table[0],
                             pitch * p.packed, <uint64_t *>target)
    else:
        move_short[Pair](source, steps, depth, table + 1 + most, table[0],
                         pitch * p.packed, <Pair *>target)


cdef void move_short(char *source, Py_ssize_t *steps, Py_ssize_t depth, Py_ssize_t *runs,
                     Py_ssize_t count, Py_ssize_t step, word *target) noexcept nogil:
    cdef Py_ssize_t k, r
    cdef char *row
    for k in range(depth):
        row = source + steps[k]
        for r in range(count):
            memcpy(target + r, row + runs[2 * r], sizeof(word))
        target = <word *>(<char *>target + step)


cdef void pack_lines(Problem *p, char *source, Py_ssize_t *steps, Py_ssize_t depth,
                     Py_ssize_t *places, Py_ssize_t width, Py_ssize_t pitch,
                     char *target) noexcept nogil:
    """Pack a panel of whole vectors."""
    if p.packed == sizeof(Line):
        move_lines[Line](source, steps, depth, places, width, pitch, <Line *>target)
    elif p.packed == sizeof(HalfLine):
        move_lines[HalfLine](source, steps, depth, places, width, pitch, <HalfLine *>target)
    else:
        move_lines[Pair](source, steps, depth, places, width, pitch, <Pair *>target)


cdef void move_lines(char *source, Py_ssize_t *steps, Py_ssize_t depth, Py_ssize_t *places,
                     Py_ssize_t width, Py_ssize_t pitch, line *target) noexcept nogil:
    """Move vectors in the operand's order, and ask for those of the matrices that come next."""
    cdef Py_ssize_t k, r
    cdef char *row
    if width > 1 and depth > 1 and llabs(steps[1] - steps[0]) < llabs(places[1] - places[0]):
        for r in range(width):
            row = source + places[r]
            for k in range(depth):
                ask(row + steps[k] + AHEAD)
                memcpy(target + k * pitch + r, row + steps[k], sizeof(line))
        return
    for k in range(depth):
        row = source + steps[k]
        for r in range(width):
            ask(row + places[r] + AHEAD)
            memcpy(target + k * pitch + r, row + places[r], sizeof(line))


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
