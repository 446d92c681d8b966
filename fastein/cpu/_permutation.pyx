# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""A permutation as a step of a plan: its problem in C, its scratch memory, its threads."""
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from numpy cimport PyArray_BYTES, import_array, ndarray

from .._nest cimport LoopNest
from ._baseline cimport kernel_t
from ._moves cimport moving
from ._pace cimport Pace
from ._permutation_problem cimport (
    ALIGNED, IMAGE, IMAGE_WAY, LINES_ROOM, MOST_ROWS, PLAIN, SHIFTED, WINDOWS_ROOM, Loop,
    Problem,
)
from ._permutation_units cimport Call, tickets
from ._runtime cimport Step
from ._streams cimport LINE, to_line
from ._threads cimport run_alone, share, stays_alone

from time import perf_counter

from ..config import settings
from .isa import host
from .permutation_kernel import carries_lines

import_array()

cdef enum:
    ENTRIES = 4096          # of a table, where an axis is not joined with others
    RUNS_ROW = 512          # bytes of a column in a block of runs, so that most lines are whole
    LINES = 2               # of a column in a block that is written from registers
    PADDING = 64            # entries behind the rows that repeat the last one
    IMAGE_COLUMN = 512      # bytes of a column in an image, at most
    IMAGE_COLUMNS = 32      # at least
    MOST_IMAGE_COLUMNS = 512
    SHIFTED_COLUMNS = 1024  # whose last lines are kept in the second cache
    SHIFTED_LINES = 64      # of a column that one thread writes, at least, if there are as many
    SHIFTED_UNITS = 4       # for each thread, if columns are long enough
    FEWEST_LINES = 8        # of a column that it is worth while for
    AHEAD = 512             # bytes of a row between what is read and what is asked for
    SETS = 64               # of the first cache: lines that are so many apart share one ...
    WAYS = 8                # ... which holds so many
    WINDOW_ROWS = 128       # of a block that are read by windows
    STAGE_LINES = 8         # of a column that are collected, at most
    TASKS = 8               # for each thread: one that is held up leaves its work to the others
    MOVED_RUN = 64 << 10    # bytes of a run that are copied at once
    NEAR_ROOM = LINES_ROOM + IMAGE + LINE   # for the blocks of one thread

cdef double BYTE_SECONDS = 1e-10  # about what moving a byte takes
cdef double SHARE_BYTES = 1e6   # read and written, from where on threads share the work
cdef double GIL_BYTES = 3e4     # ... and others may run


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


cdef bint begin_alike(Py_ssize_t *rows, Py_ssize_t count) noexcept:
    """Whether all rows begin at the same place of a line."""
    cdef Py_ssize_t r
    for r in range(count):
        if rows[r] % LINE:
            return False
    return True


cdef bint crowded(Py_ssize_t *rows, Py_ssize_t count) noexcept:
    """Whether rows evict each other's lines before the next tile.

    Of rows that begin anywhere most lines belong to two tiles, and would be fetched twice.
    """
    cdef uint64_t sets = 0
    cdef Py_ssize_t used = 0, r
    for r in range(count):
        sets |= <uint64_t>1 << (rows[r] // LINE & SETS - 1)
    while sets:
        sets &= sets - 1
        used += 1
    return count >= WAYS * used


cdef Py_ssize_t part(Py_ssize_t extent, Py_ssize_t parts, Py_ssize_t grain) noexcept:
    """The size of the parts of an extent, all but the last one multiples of a grain."""
    return (extent + parts * grain - 1) // (parts * grain) * grain


cdef class Runner:
    """A permutation with everything decided, ready to run on pointers.

    Parameters
    ----------
    nest : fastein._nest.LoopNest
    schedule : fastein.cpu.permutation.Permutation
    kernel : Kernel or None
        What transposes blocks, if it is there.
    isa : fastein.cpu.isa.Isa or None
        What the kernel is made for.
    account : fastein.cpu.tiers.Account or None
        That of a kernel which is to come.
    """

    cdef Problem *problem
    cdef LoopNest nest
    cdef object keepalive
    cdef object account
    cdef Py_ssize_t read_origin
    cdef Py_ssize_t write_origin
    cdef Py_ssize_t units
    cdef double nbytes
    cdef Pace pace
    cdef bint writes_lines  # whether vectors are as long as lines
    cdef bint carries_lines  # whether those of rows are, by the kernel

    def __cinit__(self):
        self.problem = <Problem *>malloc(sizeof(Problem))
        if self.problem == NULL:
            raise MemoryError()
        memset(self.problem, 0, sizeof(Problem))

    def __dealloc__(self):
        if self.problem != NULL:
            free(self.problem.table)
        free(self.problem)

    def __init__(self, LoopNest nest, schedule, kernel=None, isa=None, account=None):
        cdef Problem *p = self.problem
        self.account = account
        self.writes_lines = isa is None or isa.vector_bytes == LINE
        self.carries_lines = (isa is not None and schedule.is_transposed
                              and carries_lines(schedule.size, isa))
        self.nest = nest
        self.read_origin, self.write_origin = schedule.origin
        p.size = schedule.size
        p.streams = schedule.streams
        loops = [(axis.size, axis.read, axis.written, "") for axis in schedule.outer]
        self.nbytes = 2.0 * p.size
        for axis in (*schedule.outer, *schedule.rows, *schedule.columns):
            self.nbytes *= axis.size
        self.pace.estimate = self.nbytes * BYTE_SECONDS
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
        cdef Py_ssize_t k, slots = 0
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
        if not schedule.is_transposed:
            p.row_block = max(p.row_block, RUNS_ROW // p.size)
        self.choose_way(schedule)
        p.row_entries = min(p.rows, ENTRIES) + PADDING
        p.column_entries = min(p.columns, ENTRIES)
        if p.way == SHIFTED:
            slots = p.side + p.column_block
        p.targets = 2 * p.row_entries + MOST_ROWS
        p.stages = p.targets + p.column_entries + p.image_columns
        p.table = <Py_ssize_t *>malloc((p.stages + slots) * sizeof(Py_ssize_t))
        if p.table == NULL:
            raise MemoryError()
        k = fill(p.table, rows, 1, p.row_entries)
        self.ask_ahead(k, schedule.outer)
        self.choose_windows(k)
        while k < p.row_entries:
            p.table[k] = p.table[k - 1]
            k += 1
        table = p.table + p.targets
        fill(table, columns, 2, p.column_entries)
        table += p.column_entries
        for k in range(p.image_columns):
            table[k] = k * p.pitch
        table = p.table + p.stages
        for k in range(slots):  # the lines of a tile's columns, then one of each column
            table[k] = k * (p.stage_lines + 1) * LINE if k < p.side else (k - p.side) * LINE
        return 0

    cdef void ask_ahead(self, Py_ssize_t count, outer):
        """Fill the table of rows that are asked for, given that of so many rows.

        Behind the last one come those of the next iteration of the loop around.
        """
        cdef Problem *p = self.problem
        cdef Py_ssize_t *table = p.table + p.row_entries
        cdef Py_ssize_t beyond = 0, k
        for axis in outer:
            beyond = axis.read  # of the innermost
        if count < p.rows:
            beyond = count * p.row_read
        for k in range(count):
            table[k] = p.table[k] + AHEAD
        for k in range(count, p.row_entries + MOST_ROWS):
            table[k] = table[k - count] + beyond

    cdef void choose_windows(self, Py_ssize_t count) noexcept:
        """Have rows, of which the table knows so many, read by windows where that pays."""
        cdef Problem *p = self.problem
        cdef Py_ssize_t lines = min(<Py_ssize_t>STAGE_LINES, WINDOW_ROWS // p.side)
        cdef Py_ssize_t rows = p.row_block
        if p.way == SHIFTED:
            rows = p.stage_lines * p.side
        elif p.way != ALIGNED:
            return
        rows = min(rows, count)
        if begin_alike(p.table, rows):
            return
        p.window = LINE
        if not self.carries_lines:
            if not crowded(p.table, rows):
                return
            p.window = 2 * LINE
            if p.way == SHIFTED:
                p.stage_lines = min(p.stage_lines, lines)
            else:
                p.row_block = lines * p.side
        p.windows = p.room
        p.room += WINDOWS_ROOM

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
        elif schedule.is_aligned and (self.writes_lines or p.size > 1):
            p.way = ALIGNED
        else:
            p.way = SHIFTED
            p.column_block = part(p.columns, self.blocks(p.columns, SHIFTED_COLUMNS), p.side)
            self.part_rows(schedule.outer)
            p.stage_lines = min(<Py_ssize_t>STAGE_LINES, IMAGE // (p.side * LINE) - 1)
            p.room = LINES_ROOM + IMAGE + p.column_block * LINE
        # tiles have a whole line of rows, written at once where vectors are that long
        p.overruns = p.transpose != NULL and (p.pitch >= LINE or self.writes_lines)
        return 0

    cdef void part_rows(self, outer):
        """Have columns that are shifted written in parts: few of them, as they begin and end apart.
        """
        cdef Problem *p = self.problem
        cdef Py_ssize_t units = self.blocks(p.columns, p.column_block), parts, wanted = 1
        if settings.num_threads > 1:
            wanted = SHIFTED_UNITS * settings.num_threads
        for axis in outer:
            units *= axis.size
        parts = self.blocks(p.rows, ENTRIES)
        while units * parts < wanted and p.rows >= 2 * parts * SHIFTED_LINES * p.side:
            parts *= 2
        p.row_block = part(p.rows, parts, p.side)

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

    @property
    def has_windows(self):
        """Whether rows are read by windows."""
        return self.problem.windows != 0

    def __call__(self, ndarray operand, ndarray result):
        """Run on arrays that have the nest's layout (nothing is checked)."""
        self.run(PyArray_BYTES(operand), PyArray_BYTES(result))

    cdef int run(self, char *operand, char *result) except -1:
        cdef Call call
        cdef Py_ssize_t threads = 1
        cdef char near[NEAR_ROOM + LINE]
        cdef char *memory = NULL
        cdef bint alone = False
        if self.nbytes >= SHARE_BYTES:
            threads = settings.num_threads if self.account is None else self.account.threads()
            threads = min(threads, self.units)
            alone = threads > 1 and stays_alone(&self.pace)
            if alone:
                threads = 1
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
                share(tickets, NULL, self.nest, <char *>&call, threads, threads, threads, threads,
                      1, &self.pace)
            elif alone:
                with nogil:
                    run_alone(tickets, <char *>&call, 1, &self.pace)
            elif self.nbytes < GIL_BYTES:
                tickets(NULL, NULL, NULL, <char *>&call, 0, 1)
            else:
                with nogil:
                    tickets(NULL, NULL, NULL, <char *>&call, 0, 1)
        finally:
            free(memory)
        return 0


cdef inline char *line_up(char *address) noexcept nogil:
    return address + to_line(address)


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
        self.runner = Runner(self.schedule.nest, plan, kernel, host(),
                             self.engine if self.waits else None)
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
