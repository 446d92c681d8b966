# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Running a plan: steps over raw pointers, and their scratch memory.

An `Executable` is a plan turned into C arrays. Its slots are pointers: the operands', the
buffers' in one arena allocated per call, the result's. A step reads and writes slots; only those of
`fastein.cpu._numpy_steps` put an array object around one.
"""
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
cimport numpy as cnp
from numpy cimport ndarray, npy_intp

from time import perf_counter

from ..config import changed, settings
from ..forks import no_fork
from .._nest cimport LoopNest
from ._baseline cimport NEAR, Header, prepare
from ._baseline cimport run as baseline
from ._baseline cimport run_in_turn
from ._result_memory cimport (
    ALIGNMENT, LARGE, fastein_wrap, give_back, large_array, take,
)
from ._threads cimport SHARE_WORK, share, tasks, watched_shares

cnp.import_array()

cdef extern from *:
    """
    #define fastein_scalar(data, dtype) PyArray_Scalar(data, (PyArray_Descr *)(dtype), NULL)
    """
    object fastein_scalar(void *data, object dtype)

cdef enum Kind:
    VIEW
    LOOPS
    PYTHON

# Iterations from which a kernel is timed for its promotion to a compiled one and runs with the
# GIL released: below, reading the clock costs more than it brings.
cdef double PROMOTE_WORK = 4096.0
cdef double LOOP_SECONDS = 2e-10  # that an iteration of the baseline nest loses, at the least

# Seconds that are left to nests in the place of plans (`NestStep.wait_for_plan`).
cdef double _unplanned = 0.01

PROMOTE_ITERATIONS = int(PROMOTE_WORK)


cdef class Step:
    """One step of a plan over pointers."""

    cdef int perform(self, char **slots) except -1:
        raise NotImplementedError


cdef class Run:
    """What runs one nest by a kernel (see `fastein.cpu._kernel_run`)."""

    cdef int perform(self, char **data) except -1:
        raise NotImplementedError


cdef class NestStep(Step):
    """A loop nest, run by the baseline nest or by a generated kernel.

    Attributes
    ----------
    traversal : fastein.cpu.traversal.Traversal or None
    tier : fastein.cpu.tiers.Tier or None
        The account of the traversal's form; None for small nests, and where nothing is promoted.
    kernel : object or None
        The generated kernel in use; None while the baseline nest runs.
    """

    def __cinit__(self, LoopNest nest, tuple slots=None, bint parallel=False, traversal=None):
        cdef int k
        self.nest = nest
        self.parallel = parallel
        self.work = nest.work()
        self.pace.estimate = self.work * LOOP_SECONDS
        self.may_promote = self.work >= PROMOTE_WORK and settings.jit == "tiered"
        self.slots = <int *>malloc((nest.nin + 1) * sizeof(int))
        if self.slots == NULL:
            raise MemoryError()
        for k in range(nest.nin + 1):
            self.slots[k] = k if slots is None else slots[k]
        prepare(&self.header, nest)
        self._traversal = traversal
        self.may_generate = True

    def __dealloc__(self):
        free(self.slots)

    @property
    def traversal(self):
        """How a generated kernel goes through the nest; None if there can be no such kernel."""
        if self._traversal is None and self.may_generate:
            from .codegen import CannotCompile
            from .traversal import traversal

            try:
                self._traversal = traversal(self.nest)
            except CannotCompile:
                self.may_generate = self.may_promote = False
        return self._traversal

    @property
    def tier(self):
        if self._tier is None and self.may_promote and self.traversal is not None:
            with no_fork:
                from .tiers import tier_of
            self._tier = tier_of(self.traversal.form)
            self.may_promote = self._tier is not None
        return self._tier

    @property
    def kernel(self):
        return None if self.generated is None else self.generated.kernel

    cdef void wait_for_plan(self) noexcept:
        """Stand in for a plan until its making is worth its time.

        The first plan of a process takes 10 ms, for its modules are loaded. Calls that are soon
        over run as one nest instead until that has cost as much; then all are planned.
        """
        self.provisional = True
        self.may_promote = False
        self.work = max(self.work, PROMOTE_WORK)

    def use(self, kernel):
        """Run a generated kernel, that of the step's traversal, from now on."""
        self.generated = kernel_run(self.traversal, kernel)

    cdef int perform(self, char **slots) except -1:
        cdef char *near[NEAR]
        cdef int k, nop = self.nest.nin + 1
        if nop > NEAR:
            return self.perform_many(slots)
        for k in range(nop):
            near[k] = slots[self.slots[k]]
        if self.work < PROMOTE_WORK and self.generated is None:
            baseline(near, self.nest.size, self.nest.stride, <char *>&self.header,
                     0, self.nest.size[0] if self.nest.rank else 1)
            return 0
        return self.perform_large(near, &self.header)

    cdef int perform_many(self, char **slots) except -1:
        """More operands than fit on the stack: room for their pointers, also in the kernel."""
        cdef int k, nop = self.nest.nin + 1
        cdef Header header = self.header
        cdef char **room = <char **>malloc(nop * (2 * sizeof(char *) + sizeof(Py_ssize_t)))
        if room == NULL:
            raise MemoryError()
        header.pointers = room + nop
        header.steps = <Py_ssize_t *>(room + 2 * nop)
        for k in range(nop):
            room[k] = slots[self.slots[k]]
        try:
            self.perform_large(room, &header)
        finally:
            free(room)
        return 0

    cdef int perform_large(self, char **data, Header *header) except -1:
        tier = self.account()
        if self.generated is not None:
            return self.generated.perform(data)
        start = perf_counter() if tier is not None or self.provisional else None
        self.perform_baseline(data, header)
        if self.provisional:
            book_unplanned(perf_counter() - start)
        if tier is not None:
            tier.spend(perf_counter() - start)
        return 0

    cdef object account(self):
        """The account to book the next call on, if it is to be; the generated kernel, if earned."""
        tier = None
        if self.generated is None and self.may_promote:
            # accounts are for what is called again, or long: a first call is not kept waiting
            if self.called or self.work >= SHARE_WORK:
                tier = self.tier
            self.called = True
            if tier is not None:
                tier.spare(self.work * LOOP_SECONDS)
                if tier.ready:
                    self.use(tier.kernel)
                    tier = None
        return tier

    cdef int perform_baseline(self, char **data, Header *header) except -1:
        cdef Py_ssize_t n = self.nest.size[0] if self.nest.rank else 1
        if not self.parallel and self.work >= SHARE_WORK and header.pointers == NULL:
            if self.sums_in_parts():
                return self.in_parts.perform(data)
        # the pointers in the header are one kernel call's room: no sharing where there are any
        cdef bint parallel = self.parallel and header.pointers == NULL
        cdef Py_ssize_t threads = 1
        if parallel and self.work >= SHARE_WORK:
            threads = settings.num_threads if self._tier is None else self._tier.threads()
            threads = min(threads, n)
        cdef Py_ssize_t shares = min(watched_shares(self.work), n)
        cdef Header own
        if shares > 1 and self.nest.is_summed[0]:
            own = header[0]
            return share(run_in_turn, data, self.nest, <char *>&own, n, 1, shares, shares, 1,
                         &self.pace)
        return share(baseline, data, self.nest, <char *>header, n, threads, max(shares, 1),
                     max(shares, min(tasks(threads, self.work), n)), 1, &self.pace)

    cdef bint sums_in_parts(self) except -1:
        """Whether the baseline nest, too, adds up partial results: in parallel, and exactly."""
        if self.in_parts is None and self.traversal is not None:
            if self.traversal.parts and self.traversal.is_loops and not self.nest.is_half:
                self.in_parts = kernel_run(self.traversal, None, self._tier)
        return self.in_parts is not None


cdef Run kernel_run(traversal, kernel, account=None):
    with no_fork:
        from ._kernel_run import KernelRun
    return KernelRun(traversal, kernel, account)


cdef int book_unplanned(double seconds) except -1:
    """Book a call that ran without a plan; in the end have all calls planned."""
    global _unplanned
    if _unplanned > 0:
        _unplanned -= seconds
        if _unplanned <= 0:
            changed()
    return 0


cdef bint plans_can_wait() noexcept:
    return _unplanned > 0


cdef class Executable:
    """A plan that can be run.

    Parameters
    ----------
    plan : fastein.plan.Plan
        None where the call was simple enough to need none (see `fastein.cpu._simple`).
    kind : {'view', 'loops', 'python'}
    steps : tuple of Step, or callable
        For ``'python'`` a callable of (operands, out) that does everything.
    """

    def __init__(self, plan, str kind, steps):
        cdef int k
        result = plan.result
        buffers = plan.buffers
        self.plan = plan
        self.kind = VIEW if kind == "view" else LOOPS if kind == "loops" else PYTHON
        self.steps = (steps,) if self.kind == PYTHON else tuple(steps)
        self.scratch = plan.scratch
        self.lay_out(result.dtype, len(plan.operands), len(buffers), len(result.shape))
        for k in range(self.ndim):
            self.shape[k] = result.shape[k]
            self.strides[k] = result.strides[k]
        for k in range(len(buffers)):
            self.offsets[k] = buffers[k].offset
        self.weigh()

    cdef int lay_out(self, object dtype, int nin, int nbuffers, int ndim) except -1:
        """Have room for the layout of the result and for the buffers' places."""
        if self.shape != NULL:
            raise RuntimeError("an executable is initialised once")
        self.dtype = dtype
        self.nin = nin
        self.nslots = nin + nbuffers + 1
        self.ndim = ndim
        self.shape = <npy_intp *>malloc((2 * ndim + nbuffers + 1) * sizeof(npy_intp))
        if self.shape == NULL:
            raise MemoryError()
        self.strides = self.shape + ndim
        self.offsets = self.strides + ndim
        return 0

    cdef void weigh(self) noexcept:
        """Note whether the result is large, once its shape is known."""
        cdef Py_ssize_t nbytes = (<cnp.dtype>self.dtype).itemsize
        cdef int k
        for k in range(self.ndim):
            nbytes *= self.shape[k]
        self.is_large = nbytes >= LARGE

    def __dealloc__(self):
        free(self.shape)

    def __call__(self, *operands, out=None):
        """Run on arrays that have the plan's layouts (nothing is checked)."""
        return self.run(operands, 0, out)

    cdef object run(self, tuple operands, Py_ssize_t first, object out):
        cdef char *near[NEAR]
        cdef char scalar[32 + ALIGNMENT]
        cdef char *arena = NULL
        cdef char **slots = near
        cdef int k
        cdef bint is_scalar = out is None and self.ndim == 0
        if self.kind == VIEW:
            return self.view(operands[first])
        if self.kind == PYTHON:
            return self.steps[0](operands[first:], out)
        if out is None and not is_scalar:
            out = self.allocated()
        if self.nslots > NEAR:
            slots = <char **>malloc(self.nslots * sizeof(char *))
        if self.scratch > 0:
            arena = <char *>take(self.scratch)
        try:
            if slots == NULL or (self.scratch > 0 and arena == NULL):
                raise MemoryError(f"no memory for {self.scratch} bytes of intermediates")
            for k in range(self.nin):
                slots[k] = cnp.PyArray_BYTES(<ndarray>operands[first + k])
            for k in range(self.nslots - self.nin - 1):
                slots[self.nin + k] = arena + self.offsets[k]
            slots[self.nslots - 1] = (
                _aligned(scalar) if is_scalar else cnp.PyArray_BYTES(<ndarray>out))
            self.perform(slots)
            if is_scalar:
                return fastein_scalar(slots[self.nslots - 1], self.dtype)
        finally:
            if slots != near:
                free(slots)
            give_back(arena)
        return out

    cdef bint is_view(self) noexcept:
        return self.kind == VIEW

    cdef int perform(self, char **slots) except -1:
        for step in self.steps:
            (<Step>step).perform(slots)
        return 0

    cdef object allocated(self):
        """Memory for the result, its content undefined."""
        if self.is_large:
            return large_array(self.dtype, self.ndim, self.shape, self.strides)
        Py_INCREF(self.dtype)  # the call steals it
        return fastein_wrap(self.dtype, self.ndim, self.shape, self.strides, NULL, 0)

    cdef object view(self, object operand):
        cdef ndarray array = operand
        cdef object dtype = array.dtype
        cdef ndarray result
        Py_INCREF(dtype)  # the call steals it
        result = fastein_wrap(dtype, self.ndim, self.shape, self.strides,
                              cnp.PyArray_DATA(array),
                              cnp.PyArray_FLAGS(array) & cnp.NPY_ARRAY_WRITEABLE)
        cnp.set_array_base(result, operand)
        return result[()] if self.ndim == 0 else result


cdef Executable laid_out(int kind, object dtype, int nin, int ndim, npy_intp *shape,
                         npy_intp *strides, tuple steps):
    cdef Executable executable = Executable.__new__(Executable)
    executable.kind = kind
    executable.steps = steps
    executable.lay_out(dtype, nin, 0, ndim)
    memcpy(executable.shape, shape, ndim * sizeof(npy_intp))
    memcpy(executable.strides, strides, ndim * sizeof(npy_intp))
    executable.weigh()
    return executable


cdef Executable view_executable(object dtype, int ndim, npy_intp *shape, npy_intp *strides):
    """An executable for a view, without a plan."""
    return laid_out(VIEW, dtype, 1, ndim, shape, strides, ())


cdef Executable loops_executable(object dtype, int nin, int ndim, npy_intp *shape,
                                 npy_intp *strides, NestStep step):
    """An executable for one nest, without a plan."""
    return laid_out(LOOPS, dtype, nin, ndim, shape, strides, (step,))


cdef inline char *_aligned(char *address) noexcept:
    return address + (-<uintptr_t>address) % ALIGNMENT
