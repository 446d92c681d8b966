# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Running a plan: steps over raw pointers, threads, scratch.

An `Executable` is a plan turned into C arrays. Its slots are pointers: the operands', the
buffers' in one arena allocated per call, the result's. A step reads and writes slots; only steps
that go through NumPy (matmul, conversions) put an array object around one.
"""
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
cimport numpy as cnp
from numpy cimport ndarray, npy_intp

from time import perf_counter

import numpy as np

from ..config import settings
from .._nest cimport LoopNest
from ._baseline cimport NEAR, Header, dot_for, kernel_t, map_for
from ._baseline cimport run as baseline

cnp.import_array()

cdef extern from *:
    """
    #define fastein_wrap(dtype, ndim, shape, strides, data, flags) \\
        PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)(dtype), ndim, shape, strides, data, \\
                             flags, NULL)
    #define fastein_scalar(data, dtype) PyArray_Scalar(data, (PyArray_Descr *)(dtype), NULL)
    """
    object fastein_wrap(object dtype, int ndim, npy_intp *shape, npy_intp *strides, void *data,
                        int flags)  # steals a reference to dtype
    object fastein_scalar(void *data, object dtype)

cdef enum Kind:
    VIEW
    LOOPS
    PYTHON

# Iterations above which a kernel runs with the GIL released, is timed for its promotion to a
# compiled kernel, and is shared among threads. Below the first, releasing costs more than it
# lets others do; below the last, so does waking a thread.
cdef double RELEASE_WORK = 2e4
cdef double SHARE_WORK = 5e5

cdef Py_ssize_t ALIGNMENT = 64
_quiet = np.errstate
RELEASE_ITERATIONS = int(RELEASE_WORK)


cdef class Placed:
    """The layout of an array whose memory is known only when it runs."""

    cdef int ndim
    cdef npy_intp *shape
    cdef npy_intp *strides
    cdef object dtype

    def __cinit__(self, shape, strides, dtype):
        cdef int k
        self.ndim = len(shape)
        self.dtype = dtype
        self.shape = <npy_intp *>malloc((2 * self.ndim + 1) * sizeof(npy_intp))
        if self.shape == NULL:
            raise MemoryError()
        self.strides = self.shape + self.ndim
        for k in range(self.ndim):
            self.shape[k] = shape[k]
            self.strides[k] = strides[k]

    def __dealloc__(self):
        free(self.shape)

    cdef ndarray at(self, char *data):
        """An array over `data`, which must outlive it."""
        Py_INCREF(self.dtype)  # the call steals it
        return fastein_wrap(self.dtype, self.ndim, self.shape, self.strides, data,
                            cnp.NPY_ARRAY_WRITEABLE)


cdef class Step:
    """One step of a plan over pointers."""

    cdef int perform(self, char **slots) except -1:
        raise NotImplementedError


cdef class ClearStep(Step):
    cdef int target
    cdef Placed layout

    def __init__(self, int target, Placed layout):
        self.target = target
        self.layout = layout

    cdef int perform(self, char **slots) except -1:
        cnp.PyArray_FillWithScalar(self.layout.at(slots[self.target]), False)
        return 0


cdef class ConvertStep(Step):
    cdef int source
    cdef int target
    cdef Placed read
    cdef Placed written

    def __init__(self, int source, int target, Placed read, Placed written):
        self.source = source
        self.target = target
        self.read = read
        self.written = written

    cdef int perform(self, char **slots) except -1:
        cnp.PyArray_CopyInto(self.written.at(slots[self.target]), self.read.at(slots[self.source]))
        return 0


cdef class MatmulStep(Step):
    """A product of matrices by NumPy's matmul; `multiply` gets the operands as N-d arrays."""

    cdef int first
    cdef int second
    cdef int target
    cdef Placed a
    cdef Placed b
    cdef Placed c
    cdef object multiply

    def __init__(self, slots, Placed a, Placed b, Placed c, multiply):
        self.first, self.second, self.target = slots
        self.a = a
        self.b = b
        self.c = c
        self.multiply = multiply

    cdef int perform(self, char **slots) except -1:
        self.multiply(self.a.at(slots[self.first]), self.b.at(slots[self.second]),
                      self.c.at(slots[self.target]))
        return 0


cdef class NestStep(Step):
    """A loop nest, run by the baseline nest or by a generated kernel.

    Attributes
    ----------
    tier : object or None
        The record of the nest's kind, with ``spend(seconds)`` that returns a generated kernel
        once the time spent has earned one.
    kernel : object or None
        The generated kernel in use; None while the baseline nest runs.
    """

    cdef readonly LoopNest nest
    cdef readonly object tier
    cdef readonly object kernel
    cdef kernel_t function
    cdef Header header
    cdef int *slots
    cdef double work
    cdef bint parallel

    def __cinit__(self, LoopNest nest, tuple slots, bint parallel, tier):
        cdef int k
        self.nest = nest
        self.tier = tier
        self.parallel = parallel
        self.work = nest.work()
        self.slots = <int *>malloc((nest.nin + 1) * sizeof(int))
        if self.slots == NULL:
            raise MemoryError()
        for k in range(nest.nin + 1):
            self.slots[k] = slots[k]
        self.header.rank = nest.rank
        self.header.nin = nest.nin
        self.header.is_summed = nest.is_summed
        self.header.pointers = NULL
        self.header.steps = NULL
        cdef int type_num = nest.dtype.num
        cdef bint summed = nest.rank > 0 and nest.is_summed[nest.rank - 1]
        self.header.inner = dot_for(type_num) if summed else map_for(type_num)
        self.function = baseline
        if self.header.inner == NULL:
            raise TypeError(f"no loop nest for {nest.dtype}")

    def __dealloc__(self):
        free(self.slots)

    def use(self, kernel):
        """Run a generated kernel from now on."""
        self.kernel = kernel
        self.function = <kernel_t><uintptr_t>kernel.address

    cdef int perform(self, char **slots) except -1:
        cdef char *near[NEAR]
        cdef int k, nop = self.nest.nin + 1
        if nop > NEAR:
            return self.perform_many(slots)
        for k in range(nop):
            near[k] = slots[self.slots[k]]
        if self.work < RELEASE_WORK:
            self.function(near, self.nest.size, self.nest.stride, <char *>&self.header,
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
        cdef Py_ssize_t n = self.nest.size[0] if self.nest.rank else 1
        with nogil:
            self.function(room, self.nest.size, self.nest.stride, <char *>&header, 0, n)
        free(room)
        return 0

    cdef int perform_large(self, char **data, Header *header) except -1:
        cdef Py_ssize_t n = self.nest.size[0] if self.nest.rank else 1
        cdef int threads = 1
        cdef kernel_t function = self.function
        tier = self.tier if self.kernel is None else None
        start = perf_counter() if tier is not None else None
        if self.parallel and self.work >= SHARE_WORK:
            threads = min(<Py_ssize_t>settings.num_threads, n)
        if threads > 1:
            share(self, data, header, n, threads)
        else:
            with nogil:
                function(data, self.nest.size, self.nest.stride, <char *>header, 0, n)
        if tier is not None:
            kernel = tier.spend(perf_counter() - start)
            if kernel is not None:
                self.use(kernel)
        return 0


# --- threads --------------------------------------------------------------------------------

cdef class Share:
    """One thread's share of the outermost loop."""

    cdef NestStep step
    cdef char **data
    cdef Header *header
    cdef Py_ssize_t begin
    cdef Py_ssize_t end
    cdef object done      # a queue on which the end of the work is announced

    cdef void work(self) noexcept:
        cdef kernel_t function = self.step.function
        with nogil:
            function(self.data, self.step.nest.size, self.step.nest.stride,
                     <char *>self.header, self.begin, self.end)


def _serve(queue):
    """A pool thread: shares of work, for ever."""
    cdef Share part
    while True:
        part = queue.get()
        part.work()
        part.done.put(None)
        part = None  # keep nothing alive while waiting


cdef object _queue = None
cdef int _threads = 0


def _forget_threads():
    """A forked child has the queue but not the threads that serve it."""
    global _queue, _threads
    _queue = None
    _threads = 0


cdef int _start_threads(int wanted) except -1:
    """Have `wanted` pool threads if possible; how many there are."""
    global _queue, _threads
    if _threads >= wanted:
        return _threads
    import os
    import queue
    import threading

    if _queue is None:
        _queue = queue.SimpleQueue()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_threads)
    try:
        while _threads < wanted:
            threading.Thread(target=_serve, args=(_queue,), name="fastein", daemon=True).start()
            _threads += 1
    except RuntimeError:
        pass  # the system gives no more threads, or the interpreter is ending
    return _threads


cdef int share(NestStep step, char **data, Header *header, Py_ssize_t n, int threads) except -1:
    """Run a kernel's outermost loop in equal shares; the caller takes the first one."""
    import queue

    cdef Share part
    cdef Share own = None
    cdef int k, handed = 0
    cdef object done = queue.SimpleQueue()
    threads = 1 + _start_threads(threads - 1) if _threads < threads - 1 else threads
    for k in range(threads):
        part = Share()
        part.step = step
        part.data = data
        part.header = header
        part.begin = n * k // threads
        part.end = n * (k + 1) // threads
        part.done = done
        if k == 0:
            own = part
        else:
            _queue.put(part)
            handed += 1
    own.work()
    # `data` is on this call's stack: nothing may leave it before the last share is done.
    interrupt = None
    while handed > 0:
        try:
            done.get()
            handed -= 1
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
    return 0


# --- executables ----------------------------------------------------------------------------

cdef class Executable:
    """A plan that can be run.

    Parameters
    ----------
    plan : fastein.plan.Plan
    kind : {'view', 'loops', 'python'}
    steps : tuple of Step, or callable
        For ``'python'`` a callable of (operands, out) that does everything.
    quiet : bool
        Whether steps may raise NumPy's floating-point warnings, which einsum never does.
    """

    def __cinit__(self, plan, str kind, steps, bint quiet=False):
        cdef int k
        result = plan.result
        buffers = plan.buffers
        self.plan = plan
        self.quiet = quiet
        self.kind = VIEW if kind == "view" else LOOPS if kind == "loops" else PYTHON
        self.steps = (steps,) if self.kind == PYTHON else tuple(steps)
        self.nin = len(plan.operands)
        self.nslots = self.nin + len(buffers) + 1
        self.ndim = len(result.shape)
        self.dtype = result.dtype
        self.scratch = plan.scratch
        self.shape = <npy_intp *>malloc((2 * self.ndim + len(buffers) + 1) * sizeof(npy_intp))
        if self.shape == NULL:
            raise MemoryError()
        self.strides = self.shape + self.ndim
        self.offsets = self.strides + self.ndim
        for k in range(self.ndim):
            self.shape[k] = result.shape[k]
            self.strides[k] = result.strides[k]
        for k in range(len(buffers)):
            self.offsets[k] = buffers[k].offset

    def __dealloc__(self):
        free(self.shape)

    def __call__(self, *operands, out=None):
        """Run on arrays that have the plan's layouts (nothing is checked)."""
        return self.run(operands, 0, out)

    cdef object run(self, tuple operands, Py_ssize_t first, object out):
        cdef char *near[NEAR]
        cdef char scalar[64]
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
            arena = <char *>malloc(self.scratch + ALIGNMENT)
        try:
            if slots == NULL or (self.scratch > 0 and arena == NULL):
                raise MemoryError(f"no memory for intermediates of {self.scratch} bytes")
            for k in range(self.nin):
                slots[k] = cnp.PyArray_BYTES(<ndarray>operands[first + k])
            for k in range(self.nslots - self.nin - 1):
                slots[self.nin + k] = _aligned(arena) + self.offsets[k]
            slots[self.nslots - 1] = (
                _aligned(scalar) if is_scalar else cnp.PyArray_BYTES(<ndarray>out))
            if self.quiet:
                with _quiet(all="ignore"):
                    self.perform(slots)
            else:
                self.perform(slots)
            if is_scalar:
                return fastein_scalar(slots[self.nslots - 1], self.dtype)
        finally:
            if slots != near:
                free(slots)
            free(arena)
        return out

    cdef int perform(self, char **slots) except -1:
        for step in self.steps:
            (<Step>step).perform(slots)
        return 0

    cdef object allocated(self):
        """Memory for the result, its content undefined."""
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


cdef inline char *_aligned(char *address) noexcept:
    return address + (-<uintptr_t>address) % 32


def place(layout):
    """The C arrays of a `Layout`."""
    return Placed(layout.shape, layout.strides, layout.dtype)
