# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Running a kernel: shares of one loop, and partial results that are added up.

How, the `Traversal` says (see `fastein.cpu.traversal`). The kernel is a generated one or, until
there is one, the baseline nest.
"""
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy
cimport numpy as cnp

from math import prod

import numpy as np

from ..config import settings
from ._baseline cimport kernel_t, prepare
from ._baseline cimport run as baseline
from ._placed cimport Placed
from ._runtime cimport Run
from ._result_memory cimport give_back, take
from ._threads cimport SHARE_KERNEL_WORK, SHARE_WORK, share, tasks, watched_shares

cnp.import_array()

cdef enum:
    MOST_OPERANDS = 40

cdef double LOOP_SECONDS = 2e-10  # about what an iteration takes

cdef struct Parts:
    # What `in_parts` gets as `scratch`.
    kernel_t function
    char *scratch
    int nin
    Py_ssize_t n            # iterations of the summed loop
    Py_ssize_t grain        # of which all parts but the last are a multiple
    Py_ssize_t parts
    Py_ssize_t step         # bytes of a partial result


cdef void in_parts(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
                   Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """A kernel that runs another one on parts of its outermost loop, each with its own output."""
    cdef Parts *all = <Parts *>scratch
    cdef char *own[MOST_OPERANDS]
    cdef Py_ssize_t part, units = (all.n + all.grain - 1) // all.grain
    cdef int k
    for k in range(all.nin):
        own[k] = data[k]
    for part in range(begin, end):
        own[all.nin] = data[all.nin] + part * all.step
        all.function(own, size, stride, all.scratch, units * part // all.parts * all.grain,
                     min(all.n, units * (part + 1) // all.parts * all.grain))


ctypedef fused real:
    float
    double


cdef void add_exactly(real *parts, Py_ssize_t n, Py_ssize_t step, char *total) noexcept nogil:
    """Add up partial results and what each addition rounds off (Knuth's two-sum).

    It needs a module that is compiled without regrouping (see `setup.py`).
    """
    cdef real found = parts[0], lost = 0, before, seen
    cdef Py_ssize_t k
    for k in range(1, n):
        before = found
        found += parts[k * step]
        seen = found - before
        lost += (before - (found - seen)) + (parts[k * step] - seen)
    # what is lost of an infinite sum is NaN
    if lost == lost:
        found += lost
    memcpy(total, &found, sizeof(real))


cdef class KernelRun(Run):
    """A kernel on the loops of one nest.

    Parameters
    ----------
    traversal : fastein.cpu.traversal.Traversal
    kernel : fastein.cpu.compiler.Kernel or None
        That of the traversal's form; None for the baseline nest.
    account : fastein.cpu.tiers.Account or None
        That of a kernel which is to take the place of the baseline nest.
    """

    def __init__(self, traversal, kernel, account=None):
        self.traversal = traversal
        self.account = account
        self.kernel = kernel
        self.nest = traversal.nest
        self.pace.estimate = self.nest.work() * LOOP_SECONDS
        if kernel is None:
            prepare(&self.own, self.nest)
            self.function, self.scratch = baseline, <char *>&self.own
        else:
            self.function, self.scratch = <kernel_t><uintptr_t>kernel.address, NULL
        self.shared = traversal.form.shared
        self.parallel = traversal.parallel
        self.grain = traversal.grain
        self.block = traversal.block
        self.parts = traversal.parts
        self.worth = traversal.worth
        self.least = SHARE_WORK if kernel is None else SHARE_KERNEL_WORK
        if self.nest.nin >= MOST_OPERANDS:
            raise ValueError(f"generated kernels take at most {MOST_OPERANDS - 1} inputs")
        if traversal.result:
            self.go_by_way(traversal)

    def go_by_way(self, traversal):
        """Prepare what follows where the kernel does not write the result itself."""
        from .._nest import build
        from ._loop_order import loop_order
        from .machine import MACHINE

        nest = self.nest
        outputs = [axis for axis in range(nest.rank) if not nest.is_sum(axis)]
        shape = tuple([nest.sizes[axis] for axis in outputs])
        partial = tuple([nest.strides[nest.nin][axis] for axis in outputs])
        result = tuple([traversal.result[axis] for axis in outputs])
        dtype = np.dtype(np.float32) if nest.is_half else nest.dtype
        self.part_bytes = prod(shape) * dtype.itemsize
        if nest.is_half:
            self.narrowed = Placed(shape, partial, dtype), Placed(shape, result, nest.dtype)
        if not self.parts:
            return
        labels = tuple(range(1, len(shape) + 1))
        sums = build(
            dtype, (self.parts, *shape),
            (((0, *labels), (self.parts, *shape), (self.part_bytes, *partial)),),
            labels, partial if nest.is_half else result)
        if sums.rank == 1 and dtype.kind in "fc":
            self.rounded = dtype
        order, _ = loop_order(sums, MACHINE)
        self.sums = sums.ordered(order)
        prepare(&self.header, self.sums)

    cdef int perform(self, char **data) except -1:
        cdef Py_ssize_t threads = 1
        if self.worth >= self.least:
            threads = settings.num_threads if self.account is None else self.account.threads()
        if self.part_bytes:
            return self.perform_by_way(data, threads)
        return self.run(data, threads)

    cdef int run(self, char **data, Py_ssize_t threads) except -1:
        """Run the kernel in shares."""
        cdef Py_ssize_t n = self.nest.size[self.shared] if self.nest.rank else 1
        cdef Py_ssize_t shares = (n + self.block - 1) // self.block if self.block else 1
        if not self.parallel:
            threads = 1
        else:
            shares = max(shares, min(watched_shares(self.nest.work()), n))
        share(self.function, data, self.nest, self.scratch, n, threads, shares,
              max(shares, tasks(threads, self.worth)), self.grain, &self.pace)
        return 0

    cdef int perform_by_way(self, char **data, Py_ssize_t threads) except -1:
        """Write partial or wide results, then the result."""
        cdef Parts all = Parts(self.function, self.scratch, self.nest.nin, self.nest.size[0],
                               self.grain, self.parts, self.part_bytes)
        cdef char *own[MOST_OPERANDS]
        cdef char *end
        cdef int k
        # behind the partial results, room for their sum where it is not yet the result
        cdef char *room = <char *>take((self.parts + 1) * self.part_bytes)
        if room == NULL:
            raise MemoryError("no memory for partial results")
        try:
            for k in range(self.nest.nin):
                own[k] = data[k]
            own[self.nest.nin] = room
            end = data[self.nest.nin]
            if self.narrowed is not None:
                end = room + self.parts * self.part_bytes
            if self.parts:
                share(in_parts, own, self.nest, <char *>&all, self.parts, threads, self.parts,
                      self.parts, 1, &self.pace)
                self.add_up(room, end)
            else:
                self.run(own, threads)
            if self.narrowed is not None:
                wide, narrow = self.narrowed
                with np.errstate(all="ignore"):
                    cnp.PyArray_CopyInto((<Placed>narrow).at(data[self.nest.nin]),
                                         (<Placed>wide).at(end))
        finally:
            give_back(room)
        return 0

    cdef void add_up(self, char *partial, char *result) noexcept:
        """Add up partial results, in order."""
        cdef char *ends[2]
        cdef int k, components
        ends[0], ends[1] = partial, result
        if self.rounded is None:
            with nogil:
                baseline(ends, self.sums.size, self.sums.stride, <char *>&self.header,
                         0, self.sums.size[0] if self.sums.rank else 1)
            return
        components = 2 if self.rounded.kind == "c" else 1
        for k in range(components):
            if self.rounded.itemsize == 4 * components:
                add_exactly[float](<float *>partial + k, self.parts, components,
                                   result + k * sizeof(float))
            else:
                add_exactly[double](<double *>partial + k, self.parts, components,
                                    result + k * sizeof(double))
