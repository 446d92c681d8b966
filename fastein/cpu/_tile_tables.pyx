# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Tables of offsets: where the elements of an operand, and the tiles of a block, lie.

Kernels that pack and multiply find their places in tables, so that operands of any number of axes
cost them no more than matrices do. The tables are written here, for each block.
"""
from ._axes cimport offset, offsets
from ._problem cimport (
    COLUMNS, DIRECT, GOES_BEFORE, GOES_ON, JOIN, JOIN_SHIFT, LINE, ROWS, Side, is_narrow,
    next_width, panel_bytes, pitch_of, up, words_of,
)

cdef enum:
    NARROW = 4      # see fastein.cpu.tile


cdef Py_ssize_t tile_entries(Problem *p) noexcept nogil:
    """Room for the offsets that `tabulate` writes."""
    cdef Py_ssize_t pitch = max(p.side[ROWS].pitch, p.side[COLUMNS].pitch)
    return 4 * most_places(p, ROWS) + 2 * most_places(p, COLUMNS) + 2 * p.depth + pitch + 3


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
        width = next_width(p, s, left)
        if is_narrow(s, width) and size >= s.grain // 2 * 3:
            width = s.grain // 2 * 3
        else:
            width = min(up(width, s.grain), size // s.grain * s.grain)
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

    Before them stand the numbers of their rows and columns, and what `half_of` says.
    """
    cdef Py_ssize_t rows = places_in(p, ROWS, i, height)
    cdef Py_ssize_t columns = places_in(p, COLUMNS, j, width)
    cdef Py_ssize_t *out = table + 3
    cdef Py_ssize_t *runs = out + rows
    cdef Py_ssize_t *out_columns = runs + rows
    cdef Py_ssize_t *spare = out_columns + columns
    cdef Py_ssize_t *places = spare + p.side[COLUMNS].width
    cdef Py_ssize_t *vectors = places + rows
    cdef Py_ssize_t *steps = vectors + rows
    cdef Py_ssize_t words = words_of(p, depth), r
    table[0], table[1], table[2] = rows, columns, half_of(p, j, width)
    tabulate_rows(p, i, height, k, depth, out, places, vectors, steps)
    runs[rows - 1] = 1
    for r in range(rows - 2, -1, -1):
        runs[r] = runs[r + 1] + 1 if out[r + 1] - out[r] == p.itemsize else 1
    if p.may_join:
        join_tiles(p, rows, out, runs, vectors)
    for r in range(p.side[COLUMNS].width):
        spare[r] = r * p.side[ROWS].width * p.itemsize
    tabulate_columns(p, j, width, k, depth, out_columns, steps + words, steps + 2 * words)


cdef Py_ssize_t half_of(Problem *p, Py_ssize_t begin, Py_ssize_t count) noexcept nogil:
    """The column of the last tile with which half a tile begins, -1 if it takes a whole one.

    The last columns of a packed side are the first ones of its last panel; where tiles overlap
    they are the last ones of the last tile.
    """
    cdef Side *s = &p.side[COLUMNS]
    cdef Py_ssize_t end = begin + count, at, left
    if s.kind == DIRECT:
        begin = max(begin, end - 1 - (end - 1) % s.free.size[s.free.rank - 1])
    left = (end - begin) % s.width
    if left == 0 or 2 * left > s.width:
        return -1
    if s.kind != DIRECT:
        return 0
    if p.may_join:  # with tiles of other kinds
        return -1
    at = (end - left) % s.free.size[s.free.rank - 1]  # no tile crosses an end of the axis
    return s.width // 2 if at + left >= s.width else -1


cdef Py_ssize_t rooms_of(Problem *p) noexcept nogil:
    """Bytes of the lines that are kept for the next tiles.

    Where operands are read where they lie, rows meet all columns before the next ones.
    """
    cdef Py_ssize_t columns = p.side[COLUMNS].width
    if p.side[ROWS].kind == DIRECT:
        columns += most_places(p, COLUMNS)
    return columns * LINE if p.may_join else 0


cdef void join_tiles(Problem *p, Py_ssize_t rows, Py_ssize_t *out, Py_ssize_t *runs,
                     Py_ssize_t *vectors) noexcept nogil:
    """Mark the tiles that follow each other in the result, and lack nothing."""
    cdef Py_ssize_t r = 0, before = -1, end = 0, height
    cdef Side *s = &p.side[ROWS]
    while r < rows:
        if vectors[r] == NARROW:
            height, before = s.grain // 2 * 3, -1
        else:
            height = vectors[r] * s.grain
            if height > rows - r or runs[r] < height:
                before = -1
            else:
                vectors[r] |= JOIN << JOIN_SHIFT
                if before >= 0 and out[r] == end:
                    vectors[r] += GOES_BEFORE << JOIN_SHIFT
                    vectors[before] += GOES_ON << JOIN_SHIFT
                before, end = r, out[r] + height * p.itemsize
        r += height


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
            vectors[r] = NARROW if panel % s.grain else panel // s.grain
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
    for r in range(words_of(p, depth)):
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
    for c in range(words_of(p, depth)):
        steps[c] = c * pitch * p.packed
