# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""A contraction as a step of a plan: its problem in C, its scratch memory, its threads."""
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from numpy cimport PyArray_BYTES, import_array, ndarray

from .._nest cimport LoopNest
from ._axes cimport Axes
from ._baseline cimport kernel_t
from ._panels cimport block_bytes, packing_entries
from ._problem cimport (
    BITS, COLUMNS, DIRECT, DOUBLES, FLOATS, GATHERED, IN_RUNS, INTEGERS, JOIN, LINE, LINES, ROWS,
    STREAM, TRANSPOSED, Problem, Side, up,
)
from ._runtime cimport Step
from ._splits cimport add_parts, split, split_bytes, splits
from ._stacks cimport stack, stack_bytes, stacks, stacks_of
from ._threads cimport begin_watch, end_watch, goes_on, run_alone, share, stays_alone
from ._tickets cimport Call, blocks_of, matrices, mirrors, room_bytes, tickets
from ._tile_tables cimport tabulate, tile_entries

from time import perf_counter

from ..config import settings

import_array()

cdef enum:
    FIXED_ENTRIES = 8192    # of a table that is kept
    WORD = 4                # bytes to which lines that tiles fill together must be aligned

PACK_KINDS = {
    "rows": IN_RUNS, "transposed": TRANSPOSED, "gathered": GATHERED, "direct": DIRECT,
    "lines": LINES,
}
SUM_KINDS = {
    "float32": FLOATS, "complex64": FLOATS, "float64": DOUBLES, "complex128": DOUBLES, "bool": BITS,
}


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

    def __dealloc__(self):
        free(self.problem.table)

    def __init__(self, LoopNest nest, schedule, tiles, packs):
        cdef Problem *p = &self.problem
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
        p.packed, p.word = tile.arithmetic.itemsize, tile.arithmetic.steps
        p.together = schedule.together
        p.itemsize = tile.result_bytes
        p.vector = tile.vector_rows * tile.result_bytes
        p.is_far = schedule.is_far
        p.may_stream = schedule.streams
        p.may_join = schedule.joins
        p.symmetric = schedule.symmetric and schedule.shared == COLUMNS
        p.tiles = <kernel_t><uintptr_t>tiles.address
        if schedule.lanes is not None:
            stack(p, schedule.lanes, schedule.staged)
        p.parts = 1
        if schedule.parts > 1:
            split(p, schedule.parts, SUM_KINDS.get(tile.dtype, INTEGERS))
        for s in range(2):
            p.side[s].bytes = block_bytes(p, s)
        p.entries = max(packing_entries(p), tile_entries(p)) + 8
        self.first, self.second = schedule.inputs
        self.by_matrix = schedule.by_matrix
        self.work = nest.work()
        self.pace.estimate = self.work * PRODUCT_SECONDS
        self.nest = nest
        self.keepalive = (tiles, packs)
        if schedule.rest is not None:
            self.shift, rest = schedule.rest
            self.rest = Runner(nest, rest, tiles, packs)
        self.remember_table()

    cdef int remember_table(self) except -1:
        """Have the tables ready if one block, not a large one, is all there is of a matrix."""
        cdef Problem *p = &self.problem
        cdef Py_ssize_t rows = p.side[ROWS].free.total, columns = p.side[COLUMNS].free.total
        if rows > p.side[ROWS].block or columns > p.side[COLUMNS].block:
            return 0
        if p.sums.total > p.depth or p.entries > FIXED_ENTRIES:
            return 0
        p.table = <Py_ssize_t *>malloc(p.entries * sizeof(Py_ssize_t))
        if p.table == NULL:
            raise MemoryError()
        tabulate(p, 0, rows, 0, columns, 0, p.sums.total, p.table)
        return 0

    def __call__(self, ndarray first, ndarray second, ndarray result):
        """Run on arrays that have the nest's layout (nothing is checked)."""
        self.run(PyArray_BYTES(first), PyArray_BYTES(second), PyArray_BYTES(result))

    cdef Way way_of(self) noexcept:
        """Decide which threads do what."""
        cdef Problem *p = &self.problem
        cdef Way way
        memset(&way, 0, sizeof(Way))
        way.threads = settings.num_threads if self.work >= THREAD_WORK else 1
        way.alone = way.threads > 1 and stays_alone(&self.pace)
        if way.alone:
            way.threads = 1
        way.shares = p.batch.total
        if p.lanes:
            way.function = stacks
            way.shares = stacks_of(p)
        elif p.parts > 1:
            way.function = splits
            way.shares = way.threads = min(way.threads, p.batch.total * p.parts)
            way.stage_bytes = split_bytes(p)
        elif way.threads == 1 or self.by_matrix:
            way.function = matrices
        else:
            way.function = tickets
            way.shares = way.threads
            way.shared_bytes = p.side[p.shared].bytes
            way.progress_bytes = up(blocks_of(p) * sizeof(long long), LINE)
        way.threads = min(way.threads, way.shares)
        way.room_bytes = room_bytes(p, way.function != tickets) + stack_bytes(p)
        return way

    cdef int run(self, char *first, char *second, char *result) except -1:
        cdef Problem *p = &self.problem
        cdef Call call
        cdef Way way = self.way_of()
        cdef Py_ssize_t k, nbytes = (way.threads * way.room_bytes + 2 * way.shared_bytes
                                     + way.progress_bytes + way.stage_bytes + LINE)
        cdef char *memory
        memset(&call, 0, sizeof(Call))
        call.problem = p
        call.operand[0] = second if self.first else first
        call.operand[1] = first if self.first else second
        call.result = result
        call.halved = p.symmetric and first == second
        if p.may_stream and <uintptr_t>result % <uintptr_t>p.vector == 0:
            call.past = STREAM
        elif p.may_join and not call.halved and <uintptr_t>result % WORD == 0:
            call.past = JOIN
        call.room_bytes = way.room_bytes
        memory = take_scratch(&nbytes)
        try:
            call.rooms = memory + (LINE - <uintptr_t>memory % LINE) % LINE
            for k in range(2):
                call.shared[k] = call.rooms + way.threads * way.room_bytes + k * way.shared_bytes
            call.progress = <long long *>(call.shared[1] + way.shared_bytes)
            call.stages = <char *>call.progress + way.progress_bytes
            memset(call.progress, 0, way.progress_bytes)
            if self.work >= WATCH_WORK:
                begin_watch(&call.watch)
            self.work_off(&call, &way)
        finally:
            give_scratch(memory, nbytes)
        end_watch(&call.watch)
        if self.rest is not None:
            self.rest.run(first + self.shift, second + self.shift, result + self.shift)
        return 0

    cdef int work_off(self, Call *call, Way *way) except -1:
        if way.threads > 1:
            share(way.function, NULL, self.nest, <char *>call, way.shares, way.threads,
                  1 if way.function == tickets else way.threads, way.threads, 1, &self.pace)
            if call.halved and way.function == tickets and goes_on(&call.watch):
                call.ticket = 0
                share(mirrors, NULL, self.nest, <char *>call, way.threads, way.threads,
                      way.threads, way.threads, 1, &self.mirror_pace)
        elif way.alone:
            with nogil:
                run_alone(way.function, <char *>call, way.shares, &self.pace)
        elif self.work < GIL_WORK:
            way.function(NULL, NULL, NULL, <char *>call, 0, way.shares)
        else:
            with nogil:
                way.function(NULL, NULL, NULL, <char *>call, 0, way.shares)
        if way.function == splits:
            with nogil:
                add_parts(call)
        return 0


cdef double PRODUCT_SECONDS = 3e-11  # about what a product takes
cdef double THREAD_WORK = 2e5
cdef double WATCH_WORK = 1e9  # 10 ms and more
cdef double GIL_WORK = 2e4


cdef class ContractionStep(Step):
    """A contraction by packed panels, once its kernels are there; another step until then."""

    cdef int first
    cdef int second
    cdef int target
    cdef object schedule
    cdef object engine
    cdef Step substitute
    cdef bint waits     # for kernels that are not there, however little it would gain
    cdef Runner runner

    def __init__(self, slots, schedule, engine, Step substitute, waits):
        self.first, self.second, self.target = slots
        self.waits = waits
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
                if self.waits:
                    self.engine.have()
                else:
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
