# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Running a permutation: blocks of the operand, moved into the result.

The schedule (`fastein.cpu.permutation`) names rows, columns and the loops around them. What moves a
block is a kernel that transposes it in registers (`fastein.cpu.permutation_kernel`), or until it
is there, and for what it does not do, loops compiled ahead of time, in the same signature.

A result that streams is written in whole lines, past the caches. If all columns begin at the same
place of a line, blocks begin where lines do, and are written from registers. If not, and columns
are long, what a block leaves of a line is kept for the next block. If they are short, a block
becomes an *image* in the first cache, from which columns are written, as one where they follow each
other.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from numpy cimport PyArray_BYTES, import_array, ndarray

from .._nest cimport LoopNest
from ._atomics cimport add
from ._baseline cimport kernel_t
from ._runtime cimport Step
from ._threads cimport share

from time import perf_counter

from ..config import settings
from .isa import host

import_array()

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #define fastein_fence() _mm_sfence()
    static inline void fastein_stream_line(char *to, const char *from)
    {
        __m128i a = _mm_loadu_si128((const __m128i *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(from + 48));
        _mm_stream_si128((__m128i *)to, a);
        _mm_stream_si128((__m128i *)(to + 16), b);
        _mm_stream_si128((__m128i *)(to + 32), c);
        _mm_stream_si128((__m128i *)(to + 48), d);
    }
    #else
    #include <string.h>
    #define fastein_fence() ((void)0)
    #define fastein_stream_line(to, from) memcpy(to, from, 64)
    #endif
    """
    void fastein_fence() noexcept nogil
    void stream_line "fastein_stream_line" (char *to, const char *source) noexcept nogil

cdef enum:
    LINE = 64
    MOST_LOOPS = 66
    ENTRIES = 4096          # of a table, where an axis is not joined with others
    PADDING = 64            # entries behind the rows that repeat the last one
    LINES = 2               # of a column in a block that is written from registers
    IMAGE = 20 << 10        # bytes of an image
    IMAGE_COLUMN = 512      # ... of a column in it, at most
    IMAGE_COLUMNS = 32      # at least
    MOST_IMAGE_COLUMNS = 512
    SHIFTED_COLUMNS = 1024  # whose last lines are kept in the second cache
    SHIFTED_LINES = 64      # of a column that one thread writes, at most
    FEWEST_LINES = 8        # of a column that it is worth while for
    AHEAD = 512             # bytes of a row between what is read and what is asked for
    TASKS = 8               # for each thread: one that is held up leaves its work to the others
    MOVED_RUN = 64 << 10    # bytes of a run that are copied at once
    LINES_ROOM = LINE * LINE    # room that a kernel needs
    NEAR_ROOM = LINES_ROOM + IMAGE + LINE   # for blocks, a thread

cdef enum Way:              # how the result is written
    PLAIN
    ALIGNED                 # past the caches, columns that begin at the same place of a line
    SHIFTED                 # ... anywhere, whole lines from two blocks
    IMAGE_WAY               # ... from images

cdef enum:                  # see fastein.cpu.permutation_kernel
    STORE = 0
    STREAM = 1
    SHIFT = 2

cdef double SHARE_BYTES = 1e6
cdef double GIL_BYTES = 3e4

ctypedef struct two_words:
    uint64_t low
    uint64_t high

ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    two_words

cdef struct Loop:
    Py_ssize_t count
    Py_ssize_t read         # bytes from one iteration to the next, in the operand
    Py_ssize_t written      # ... and in the result

cdef struct Problem:
    kernel_t transpose      # NULL while there is none
    kernel_t move           # ahead of time
    Py_ssize_t size         # bytes of what is moved as one
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t row_block
    Py_ssize_t column_block
    Py_ssize_t row_read     # bytes between rows in the operand, if they are one axis
    Py_ssize_t column_written
    Py_ssize_t row_written  # bytes between rows in the result
    Py_ssize_t column_read
    Py_ssize_t side         # rows and columns of a tile
    Py_ssize_t row_entries  # of the table: rows, rows asked for ahead, columns, image, lines
    Py_ssize_t column_entries
    Py_ssize_t image_columns
    Py_ssize_t image_rows
    Py_ssize_t pitch        # bytes between columns of an image
    Py_ssize_t room
    Py_ssize_t *table
    Way way
    bint streams
    bint aligned            # whether all columns begin at the same place in a line
    bint overruns           # whether tiles may have more rows than the image
    int rank
    int row_loop            # which loop runs over blocks of rows, and of columns
    int column_loop
    Loop[MOST_LOOPS] loop

cdef struct Call:
    Problem *problem
    char *operand
    char *result
    char *rooms
    Py_ssize_t units
    Py_ssize_t share        # units of a ticket
    long long slot
    long long ticket


# Moving blocks ahead of time


cdef void move_words(char **data, Py_ssize_t *shape, Py_ssize_t *table, Problem *p,
                     word *kind) noexcept nogil:
    """Move a block of words."""
    cdef Py_ssize_t columns = shape[0], rows = shape[1], r, c, begin, end
    cdef Py_ssize_t *targets = table + shape[2]
    cdef Py_ssize_t read = p.column_read, written = p.row_written
    cdef Py_ssize_t near = LINE // p.size
    cdef char *source
    cdef char *to
    for begin from 0 <= begin < columns by near:
        end = min(begin + near, columns)
        for c in range(begin, end):
            source = data[0] + c * read
            to = data[1] + targets[c]
            if written == sizeof(word):
                for r in range(rows):
                    (<word *>to)[r] = (<word *>(source + table[r]))[0]
            else:
                for r in range(rows):
                    (<word *>(to + r * written))[0] = (<word *>(source + table[r]))[0]


cdef void move1(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    move_words[uint8_t](data, shape, table, <Problem *>problem, NULL)


cdef void move2(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    move_words[uint16_t](data, shape, table, <Problem *>problem, NULL)


cdef void move4(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    move_words[uint32_t](data, shape, table, <Problem *>problem, NULL)


cdef void move8(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    move_words[uint64_t](data, shape, table, <Problem *>problem, NULL)


cdef void move16(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                 Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    move_words[two_words](data, shape, table, <Problem *>problem, NULL)


cdef void move_truths(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                      Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Move a block of bool, whose bytes become 0 or 1."""
    cdef Problem *p = <Problem *>problem
    cdef Py_ssize_t r, c
    cdef char *source
    cdef char *to
    for c in range(shape[0]):
        source = data[0] + c * p.column_read
        to = data[1] + table[shape[2] + c]
        for r in range(shape[1]):
            to[r * p.row_written] = source[table[r]] != 0


cdef void move_runs(char **data, Py_ssize_t *shape, Py_ssize_t *table, char *problem,
                    Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Move a block of short runs."""
    cdef Problem *p = <Problem *>problem
    cdef Py_ssize_t r, c
    cdef char *source
    cdef char *to
    for c in range(shape[0]):
        source = data[0] + c * p.column_read
        to = data[1] + table[shape[2] + c]
        for r in range(shape[1]):
            memcpy(to + r * p.row_written, source + table[r], p.size)


cdef kernel_t moving(str element) noexcept:
    if element == "raw1":
        return move1
    if element == "raw2":
        return move2
    if element == "raw4":
        return move4
    if element == "raw8":
        return move8
    if element == "raw16":
        return move16
    return move_truths if element == "bool" else move_runs


cdef void stream(char *to, const char *source, Py_ssize_t count) noexcept nogil:
    """Copy bytes, whole lines past the caches."""
    cdef Py_ssize_t head = min(to_line(to), count)
    memcpy(to, source, head)
    to, source, count = to + head, source + head, count - head
    while count >= LINE:
        stream_line(to, source)
        to, source, count = to + LINE, source + LINE, count - LINE
    memcpy(to, source, count)


# Units of work: a block of rows with a block of columns


cdef void block(Problem *p, char *source, char *to, char *result, Py_ssize_t row, Py_ssize_t rows,
                Py_ssize_t column, Py_ssize_t columns, Py_ssize_t targets, int way,
                char *room) noexcept nogil:
    """Move rows and columns from numbers `row` and `column` of their tables on.

    The entries of the table from `targets` on say where in `to` columns go.
    """
    cdef char *data[3]
    cdef Py_ssize_t shape[6]
    data[0], data[1], data[2] = source + column * p.column_read, to, result
    shape[0], shape[1], shape[2], shape[4] = columns, rows, targets - row, way
    shape[3] = 2 * p.row_entries + column - row
    shape[5] = p.row_entries if p.streams else 0
    if p.transpose != NULL and rows >= p.side and columns >= p.side:
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
    block(p, source, result, NULL, row, rows, column, columns, 2 * p.row_entries + column, STORE,
          room)


cdef void image_unit(Problem *p, char *source, char *result, Py_ssize_t row, Py_ssize_t rows,
                     Py_ssize_t column, Py_ssize_t columns, char *room) noexcept nogil:
    """Move a block by way of an image of it, from which its columns are streamed."""
    cdef Py_ssize_t length = rows * p.size, done = 0, count, first, c
    cdef Py_ssize_t *targets = p.table + 2 * p.row_entries + column
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
              2 * p.row_entries + p.column_entries, STORE, room)
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
    cdef Py_ssize_t targets = 2 * p.row_entries + column
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

    Each column has two lines: what is left of it from before, and what is new.
    """
    cdef char *lines = room + LINES_ROOM
    cdef Py_ssize_t slots = 2 * p.row_entries + p.column_entries + p.image_columns
    cdef Py_ssize_t *targets = p.table + 2 * p.row_entries + column
    cdef Py_ssize_t done = p.side, count, c, part
    cdef char *place
    if rows < 2 * p.side or columns < p.side:
        while rows > 0:
            count = min(rows, p.image_rows)
            image_unit(p, source, result, row, count, column, columns, room)
            result, row, rows = result + count * p.size, row + count, rows - count
        return
    block(p, source, lines + LINE, NULL, row, p.side, column, columns, slots, STORE, room)
    for c in range(columns):
        place = result + targets[c]
        memcpy(place, lines + LINE, LINE - <Py_ssize_t>(<uintptr_t>place % LINE))
        memcpy(lines, lines + LINE, LINE)
        lines += 2 * LINE
    while rows - done >= p.side:
        count = min((rows - done) // p.side, <Py_ssize_t>LINES) * p.side
        block(p, source, room + LINES_ROOM + LINE, result + done * p.size, row + done, count,
              column, columns, slots, SHIFT, room)
        done += count
    lines = room + LINES_ROOM + LINE
    for c in range(columns):
        place = result + targets[c] + done * p.size
        part = <Py_ssize_t>(<uintptr_t>place % LINE)
        memcpy(place - part, lines - part, part)
        lines += 2 * LINE
    if done < rows:
        image_unit(p, source, result + done * p.size, row + done, rows - done, column, columns,
                   room)


cdef inline Py_ssize_t to_line(char *address) noexcept nogil:
    """Bytes to where the next line begins."""
    return <Py_ssize_t>(-<uintptr_t>address % LINE)


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
        fastein_fence()


# Problems and their steps


cdef Py_ssize_t fill(Py_ssize_t *table, axes, int which, Py_ssize_t most) except -1:
    """Write where the elements of a joint index lie, `most` of them at most; how many."""
    cdef Py_ssize_t count = 1, known, k, n, stride
    cdef Py_ssize_t total = 1
    for axis in axes:
        total *= axis.size
    table[0] = 0
    for axis in reversed(axes):
        stride = axis[which]
        known = count
        n = 1
        while n < axis.size and count < most:
            for k in range(min(known, most - count)):
                table[count + k] = table[k] + n * stride
            count += min(known, most - count)
            n += 1
    return count


cdef class Runner:
    """A permutation with everything decided, ready to run on pointers.

    Parameters
    ----------
    nest : fastein._nest.LoopNest
    schedule : fastein.cpu.permutation.Permutation
    kernel : Kernel or None
        What transposes blocks, if it is there.
    vector_bytes : int
        Of the vectors in which it writes.
    """

    cdef Problem *problem
    cdef LoopNest nest
    cdef object keepalive
    cdef Py_ssize_t read_origin
    cdef Py_ssize_t write_origin
    cdef Py_ssize_t units
    cdef double nbytes
    cdef bint writes_lines  # whether vectors are as long as lines

    def __cinit__(self):
        self.problem = <Problem *>malloc(sizeof(Problem))
        if self.problem == NULL:
            raise MemoryError()
        memset(self.problem, 0, sizeof(Problem))

    def __dealloc__(self):
        free(self.problem.table)
        free(self.problem)

    def __init__(self, LoopNest nest, schedule, kernel=None, vector_bytes=LINE):
        cdef Problem *p = self.problem
        self.writes_lines = vector_bytes == LINE
        self.nest = nest
        self.read_origin, self.write_origin = schedule.origin
        p.size = schedule.size
        p.streams = schedule.streams
        loops = [(axis.size, axis.read, axis.written, "") for axis in schedule.outer]
        self.nbytes = 2.0 * p.size
        for axis in (*schedule.outer, *schedule.rows, *schedule.columns):
            self.nbytes *= axis.size
        if schedule.rows:
            self.lay_out_blocks(schedule, kernel)
            loops.append((self.blocks(p.rows, p.row_block) + (p.way == ALIGNED),
                          p.row_block * p.row_read, 0, "rows"))
            loops.append((self.blocks(p.columns, p.column_block),
                          p.column_block * p.column_read, 0, "columns"))
        else:
            p.rows, p.row_block = p.size, MOVED_RUN
            p.room = 0
            loops.append((self.blocks(p.rows, p.row_block), MOVED_RUN, 0, "rows"))
        self.lay_out_loops(loops)

    @staticmethod
    def blocks(extent, size):
        return -(-extent // size)

    cdef int lay_out_blocks(self, schedule, kernel) except -1:
        """Decide on blocks and fill the table."""
        cdef Problem *p = self.problem
        cdef Py_ssize_t k, slots
        cdef Py_ssize_t *table
        rows, columns = schedule.rows, schedule.columns
        p.move = moving(schedule.element)
        p.rows = p.columns = 1
        for axis in rows:
            p.rows *= axis.size
        for axis in columns:
            p.columns *= axis.size
        *_, row = rows
        *_, column = columns
        p.row_read, p.row_written = row.read, row.written
        p.column_read, p.column_written = column.read, column.written
        p.side = max(1, LINE // p.size)
        p.streams = p.streams and schedule.is_transposed
        if kernel is not None and schedule.is_transposed:
            self.keepalive = kernel
            p.transpose = <kernel_t><uintptr_t>kernel.address
        p.column_block = ENTRIES
        p.row_block = LINES * p.side
        self.choose_way(schedule)
        p.row_entries = min(p.rows, ENTRIES) + PADDING
        p.column_entries = min(p.columns, ENTRIES)
        slots = p.column_block if p.way == SHIFTED else 0
        p.table = <Py_ssize_t *>malloc(
            (2 * p.row_entries + p.column_entries + p.image_columns + slots) * sizeof(Py_ssize_t))
        if p.table == NULL:
            raise MemoryError()
        k = fill(p.table, rows, 1, p.row_entries)
        while k < p.row_entries:
            p.table[k] = p.table[k - 1]
            k += 1
        for k in range(p.row_entries):
            p.table[p.row_entries + k] = p.table[k] + AHEAD
        table = p.table + 2 * p.row_entries
        fill(table, columns, 2, p.column_entries)
        table += p.column_entries
        for k in range(p.image_columns):
            table[k] = k * p.pitch
        for k in range(slots):
            table[p.image_columns + k] = k * 2 * LINE
        return 0

    cdef int choose_way(self, schedule) except -1:
        """Decide how the result is written, and on the sizes of blocks that go with it."""
        cdef Problem *p = self.problem
        cdef Py_ssize_t length = p.rows * p.size
        p.way = PLAIN
        p.room = NEAR_ROOM
        p.image_columns = max(<Py_ssize_t>IMAGE_COLUMNS, p.side)
        p.pitch = IMAGE // p.image_columns // LINE * LINE
        # a pitch of a power of two would have columns evict each other
        p.image_rows = min(p.pitch - LINE, <Py_ssize_t>IMAGE_COLUMN) // p.size
        if not p.streams:
            return 0
        p.way = IMAGE_WAY
        if p.rows <= p.image_rows and p.column_written == length:  # columns follow each other
            p.pitch = length
            p.image_columns = max(p.side, min(<Py_ssize_t>MOST_IMAGE_COLUMNS, IMAGE // length))
            p.image_columns = p.image_columns // p.side * p.side
            p.row_block = p.rows
        elif p.transpose == NULL or length < FEWEST_LINES * LINE:
            p.row_block = min(p.rows, p.image_rows)
        elif schedule.is_aligned:
            p.way = ALIGNED
        else:
            p.way = SHIFTED
            p.column_block = SHIFTED_COLUMNS
            p.row_block = SHIFTED_LINES * p.side
            p.room = LINES_ROOM + max(<Py_ssize_t>IMAGE, p.column_block * 2 * LINE) + LINE
        # tiles have a whole line of rows, written at once where vectors are that long
        p.overruns = p.transpose != NULL and (p.pitch >= LINE or self.writes_lines)
        return 0

    cdef int lay_out_loops(self, loops) except -1:
        """Order the loops by what they read, the longest strides outermost."""
        cdef Problem *p = self.problem
        cdef int k
        loops = sorted(loops, key=lambda loop: -abs(loop[1]))
        p.rank = len(loops)
        p.row_loop = p.column_loop = -1
        self.units = 1
        for k, (count, read, written, name) in enumerate(loops):
            p.loop[k] = Loop(count, read, written)
            self.units *= count
            if name:  # blocks know themselves where they are
                p.loop[k].read = 0
            if name == "rows":
                p.row_loop = k
            elif name == "columns":
                p.column_loop = k
        return 0

    def __call__(self, ndarray operand, ndarray result):
        """Run on arrays that have the nest's layout (nothing is checked)."""
        self.run(PyArray_BYTES(operand), PyArray_BYTES(result))

    cdef int run(self, char *operand, char *result) except -1:
        cdef Call call
        cdef Py_ssize_t threads = 1
        cdef char near[NEAR_ROOM + LINE]
        cdef char *memory = NULL
        if self.nbytes >= SHARE_BYTES:
            threads = min(<Py_ssize_t>settings.num_threads, self.units)
        call.problem = self.problem
        call.operand, call.result = operand + self.read_origin, result + self.write_origin
        call.slot = call.ticket = 0
        call.units = self.units
        call.share = self.units if threads <= 1 else max(1, self.units // (threads * TASKS))
        if threads > 1 or self.problem.room > NEAR_ROOM:
            memory = <char *>malloc(max(threads, 1) * self.problem.room + LINE)
            if memory == NULL:
                raise MemoryError("no memory for the images of a permutation")
        call.rooms = line_up(memory) if memory != NULL else line_up(near)
        try:
            if threads > 1:
                share(tickets, NULL, self.nest, <char *>&call, threads, threads)
            elif self.nbytes < GIL_BYTES:
                tickets(NULL, NULL, NULL, <char *>&call, 0, 1)
            else:
                with nogil:
                    tickets(NULL, NULL, NULL, <char *>&call, 0, 1)
        finally:
            free(memory)
        return 0


cdef inline char *line_up(char *address) noexcept nogil:
    return address + (-<uintptr_t>address) % LINE


cdef class PermutationStep(Step):
    """A permutation, by the loops compiled ahead of time until there is a kernel."""

    cdef int source
    cdef int target
    cdef object schedule
    cdef object engine
    cdef Runner runner
    cdef bint waits         # for a kernel

    def __init__(self, slots, schedule, engine):
        self.source, self.target = slots
        self.schedule, self.engine = schedule, engine
        self.settle()

    cdef int settle(self) except -1:
        """Take the kernel if it is there."""
        plan = self.schedule.permutation
        kernel = self.engine.kernel if self.engine is not None else None
        self.waits = self.engine is not None and kernel is None
        self.runner = Runner(self.schedule.nest, plan, kernel, host().vector_bytes)
        return 0

    cdef int perform(self, char **slots) except -1:
        # a reference of this call's own: another thread may put its runner in the place of this
        cdef Runner runner = self.runner
        if not self.waits:
            return runner.run(slots[self.source], slots[self.target])
        if self.engine.ready:
            self.settle()
            return self.runner.run(slots[self.source], slots[self.target])
        start = perf_counter()
        runner.run(slots[self.source], slots[self.target])
        self.engine.spend(perf_counter() - start)
        return 0
