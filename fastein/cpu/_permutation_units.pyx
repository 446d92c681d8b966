# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The units of a permutation: blocks of the operand, moved into the result.

The schedule (`fastein.cpu.permutation`) names rows, columns and the loops around them. What moves a
block is a kernel that transposes it in registers (`fastein.cpu.permutation_kernel`), or until it
is there, and for what it does not do, loops compiled ahead of time, in the same signature.

A result that streams is written in whole lines, past the caches. If all columns begin at the same
place of a line, blocks begin where lines do, and are written from registers. If not, and columns
are long, some lines of each are collected in the first cache, from where whole lines are written;
what a block leaves of a line is kept for the next block. If they are short, a block
becomes an *image* in the first cache, from which columns are written, as one where they follow each
other.
"""
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

from ._atomics cimport add
from ._permutation_problem cimport (
    ALIGNED, IMAGE, LINES_ROOM, MOST_LOOPS, MOST_ROWS, PLAIN, SHIFTED, Problem,
)
from ._streams cimport LINE, fence, stream, to_line

cdef enum:                  # see fastein.cpu.permutation_kernel
    STORE = 0
    STREAM = 1
    SHIFT = 2


cdef char *opened(Problem *p, char *source, Py_ssize_t row, Py_ssize_t rows,
                  char *windows) noexcept nogil:
    """Open the windows of some rows, given those of a room.

    Tables say where lines begin in the operand, and the elements of a tile in the windows.
    """
    cdef Py_ssize_t *lines = <Py_ssize_t *>windows
    cdef Py_ssize_t *places = lines + MOST_ROWS
    cdef Py_ssize_t place = 2 * MOST_ROWS * sizeof(Py_ssize_t), rest, r
    for r in range(rows):
        place += p.window
        rest = to_line(source + p.table[row + r])
        lines[r] = p.table[row + r] + rest
        places[r] = place - LINE - rest
        # A constant number of bytes is copied without a call; the next row writes over the others.
        memcpy(windows + place - rest, source + p.table[row + r], LINE)
    return windows


cdef void block(Problem *p, char *source, char *to, char *result, Py_ssize_t row, Py_ssize_t rows,
                Py_ssize_t column, Py_ssize_t columns, Py_ssize_t targets, int way,
                char *room) noexcept nogil:
    """Move rows and columns from numbers `row` and `column` of their tables on.

    The entries of the table from `targets` on say where in `to` columns go.
    """
    cdef char *data[4]
    cdef Py_ssize_t shape[7]
    data[0], data[1], data[2] = source + column * p.column_read, to, result
    shape[0], shape[1], shape[2], shape[5] = columns, rows, targets - row, way
    shape[3], shape[4] = p.targets + column - row, p.stages - row
    shape[6] = p.row_entries if p.streams else 0
    if p.transpose != NULL and rows >= p.side and columns >= p.side:
        data[3] = NULL
        if p.windows and way != STORE:
            data[3] = opened(p, data[0], row, rows, room + p.windows)
        p.transpose(data, shape, p.table + row, room, 0, 0)
    else:
        p.move(data, shape, p.table + row, <char *>p, 0, 0)


cdef void plain_unit(Problem *p, char *source, char *result, Py_ssize_t row, Py_ssize_t rows,
                     Py_ssize_t column, Py_ssize_t columns, char *room) noexcept nogil:
    """Move a block; if it is less than a tile, with what comes before it."""
    cdef Py_ssize_t back = p.side - rows
    if 0 < back <= row:
        row, rows, result = row - back, rows + back, result - back * p.row_written
    back = p.side - columns
    if 0 < back <= column:
        column, columns = column - back, columns + back
    block(p, source, result, NULL, row, rows, column, columns, p.targets + column, STORE, room)


cdef void image_unit(Problem *p, char *source, char *result, Py_ssize_t row, Py_ssize_t rows,
                     Py_ssize_t column, Py_ssize_t columns, char *room) noexcept nogil:
    """Move a block by way of an image of it, from which its columns are streamed."""
    cdef Py_ssize_t length = rows * p.size, done = 0, count, first, c
    cdef Py_ssize_t *targets = p.table + p.targets + column
    cdef Py_ssize_t before = 0      # rows and ...
    cdef char *image = room + LINES_ROOM
    cdef char *begin
    if rows < p.side and p.overruns:  # more rows do no harm to the image
        before = max(0, row + p.side - p.row_entries)
        row, rows = row - before, p.side
    while done < columns:
        count = min(columns - done, p.image_columns)
        first = min(max(p.side - count, 0), column + done)  # ... columns before, to make a tile
        block(p, source, image, NULL, row, rows, column + done - first, count + first,
              p.targets + p.column_entries, STORE, room)
        begin = image + before * p.size + first * p.pitch
        done += count
        while count:
            c = 1
            if p.pitch == length:
                while c < count and targets[c] == targets[c - 1] + length:
                    c += 1
            stream(result + targets[0], begin, c * length)
            begin, targets, count = begin + c * p.pitch, targets + c, count - c


cdef void aligned_unit(Problem *p, char *source, char *result, Py_ssize_t row, Py_ssize_t rows,
                       Py_ssize_t column, Py_ssize_t columns, char *room) noexcept nogil:
    """Move a block of columns that all begin at the same place of a line."""
    cdef Py_ssize_t targets = p.targets + column
    cdef Py_ssize_t start = to_line(result + p.table[targets])
    cdef Py_ssize_t head = min(start // p.size, rows), whole
    if start % p.size:  # elements straddle lines
        head = rows
    if head:
        image_unit(p, source, result, row, head, column, columns, room)
    result, row, rows = result + head * p.size, row + head, rows - head
    whole = rows // p.side * p.side
    if whole:
        block(p, source, result, NULL, row, whole, column, columns, targets, STREAM, room)
    if rows > whole:
        image_unit(p, source, result + whole * p.size, row + whole, rows - whole, column, columns,
                   room)


cdef void shifted_unit(Problem *p, char *source, char *result, Py_ssize_t row, Py_ssize_t rows,
                       Py_ssize_t column, Py_ssize_t columns, char *room) noexcept nogil:
    """Move a block of long columns that begin anywhere in a line.

    Each column has a line that is kept from one block to the next.
    """
    cdef char *lines = room + LINES_ROOM + IMAGE
    cdef Py_ssize_t slots = p.stages + p.side
    cdef Py_ssize_t *targets = p.table + p.targets + column
    cdef Py_ssize_t done = p.side, count, c, part
    cdef char *place
    if rows < 2 * p.side or columns < p.side:
        while rows > 0:
            count = min(rows, p.image_rows)
            image_unit(p, source, result, row, count, column, columns, room)
            result, row, rows = result + count * p.size, row + count, rows - count
        return
    block(p, source, lines, NULL, row, p.side, column, columns, slots, STORE, room)
    for c in range(columns):
        place = result + targets[c]
        memcpy(place, lines + c * LINE, LINE - <Py_ssize_t>(<uintptr_t>place % LINE))
    while rows - done >= p.side:
        count = min((rows - done) // p.side, p.stage_lines) * p.side
        block(p, source, lines, result + done * p.size, row + done, count, column, columns, slots,
              SHIFT, room)
        done += count
    for c in range(columns):
        place = result + targets[c] + done * p.size
        part = <Py_ssize_t>(<uintptr_t>place % LINE)
        memcpy(place - part, lines + (c + 1) * LINE - part, part)
    if done < rows:
        image_unit(p, source, result + done * p.size, row + done, rows - done, column, columns,
                   room)


cdef inline Py_ssize_t first_row(Problem *p, char *result, Py_ssize_t number) noexcept nogil:
    """The row at which a block begins: where a line does, if all columns are alike."""
    cdef Py_ssize_t ahead = 0
    if number == 0:
        return 0
    if p.way == ALIGNED:
        ahead = to_line(result) // p.size
        number -= ahead > 0
    return min(number * p.row_block + ahead, p.rows)


cdef void unit(Problem *p, char *source, char *result, Py_ssize_t row_number,
               Py_ssize_t column_number, char *room) noexcept nogil:
    cdef Py_ssize_t column = column_number * p.column_block
    cdef Py_ssize_t columns = min(p.columns - column, p.column_block)
    cdef Py_ssize_t row, rows, beyond
    if p.columns > p.column_entries:  # the table begins somewhere along the axis
        beyond = min(column, p.columns - p.column_entries)
        source += beyond * p.column_read
        result += beyond * p.column_written
        column -= beyond
    row = first_row(p, result, row_number)
    rows = first_row(p, result, row_number + 1) - row
    if rows <= 0:
        return
    result += row * p.row_written
    if p.rows > p.row_entries:
        beyond = min(row, p.rows - p.row_entries)
        source += beyond * p.row_read
        row -= beyond
    if p.way == PLAIN:
        plain_unit(p, source, result, row, rows, column, columns, room)
    elif p.way == ALIGNED:
        aligned_unit(p, source, result, row, rows, column, columns, room)
    elif p.way == SHIFTED:
        shifted_unit(p, source, result, row, rows, column, columns, room)
    else:
        image_unit(p, source, result, row, rows, column, columns, room)


cdef void run_unit(Problem *p, char *source, char *result, Py_ssize_t number) noexcept nogil:
    """Copy a part of a run."""
    cdef Py_ssize_t begin = number * p.row_block
    cdef Py_ssize_t count = min(p.rows - begin, p.row_block)
    if p.streams:
        stream(result + begin, source + begin, count)
    else:
        memcpy(result + begin, source + begin, count)


cdef void units(Call *call, Py_ssize_t begin, Py_ssize_t end, char *room) noexcept nogil:
    """Do the units `begin` to `end`, in the order of the loops."""
    cdef Problem *p = call.problem
    cdef Py_ssize_t at[MOST_LOOPS]
    cdef Py_ssize_t left = begin
    cdef char *source = call.operand
    cdef char *result = call.result
    cdef int k
    for k in range(p.rank - 1, -1, -1):
        at[k] = left % p.loop[k].count
        left //= p.loop[k].count
        source += at[k] * p.loop[k].read
        result += at[k] * p.loop[k].written
    while begin < end:
        if p.columns:
            unit(p, source, result, at[p.row_loop], at[p.column_loop], room)
        else:
            run_unit(p, source, result, at[p.row_loop])
        begin += 1
        k = p.rank - 1
        while k >= 0:
            at[k] += 1
            source += p.loop[k].read
            result += p.loop[k].written
            if at[k] < p.loop[k].count:
                break
            source -= at[k] * p.loop[k].read
            result -= at[k] * p.loop[k].written
            at[k] = 0
            k -= 1


cdef void tickets(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                  Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Draw tickets until there are none; in the kernels' signature, for `share`."""
    cdef Call *call = <Call *>scratch
    cdef char *room = call.rooms + add(&call.slot, 1) * call.problem.room
    cdef Py_ssize_t first
    while True:
        first = <Py_ssize_t>add(&call.ticket, 1) * call.share
        if first >= call.units:
            break
        units(call, first, min(first + call.share, call.units), room)
    if call.problem.streams:
        fence()
