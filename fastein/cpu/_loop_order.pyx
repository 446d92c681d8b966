# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The order of a nest's loops, by a cost model of the innermost one.

Every new shape asks for it, hence Cython.
"""
from .._nest cimport LoopNest


def loop_order(LoopNest nest, machine):
    """The order of the loops, outermost first, and the estimated time on one core.

    The innermost loop is the one that costs least by the strides that it walks; the others
    follow by stride, the longest outermost. A summed innermost loop keeps its accumulator in a
    register, so all summed loops go inside all output loops. float16 has no choice: its sum is
    kept in float32 and rounded once.

    Parameters
    ----------
    nest : LoopNest
    machine : fastein.cpu.machine.Machine
        The rates to estimate with.

    Returns
    -------
    order : tuple of int
    seconds : float
    """
    cdef double cycle = machine.cycle, strided = machine.strided_access
    cdef double overhead = machine.run_overhead, vector_bytes = machine.vector_bytes
    cdef double contiguous = cycle * nest.itemsize / vector_bytes
    cdef double each, seconds, best_seconds = -1.0, total = nest.work()
    cdef int rank = nest.rank, nop = nest.nin + 1, a, p, best = 0
    cdef bint sums_only = False
    cdef Py_ssize_t step
    if rank == 0:
        return (), overhead
    if nest.dtype.char == "e":
        for a in range(rank):
            sums_only = sums_only or nest.is_summed[a] != 0
    for a in range(rank):
        if sums_only and not nest.is_summed[a]:
            continue
        each = cycle
        for p in range(nop):
            step = nest.stride[p * rank + a]
            if step == nest.itemsize or step == -nest.itemsize:
                each += contiguous
            elif step:
                each += strided
        if not nest.is_summed[a]:
            each += contiguous  # the output is read as well
        seconds = total * (each + overhead / nest.size[a])
        if best_seconds < 0 or seconds < best_seconds:
            best, best_seconds = a, seconds
    return around(nest, best), best_seconds


cdef tuple around(LoopNest nest, int innermost):
    """All loops with `innermost` last: by reach, and sums inside if the innermost is one."""
    cdef int rank = nest.rank, nop = nest.nin + 1, a, p, k, count = 0
    cdef int[64] order
    cdef double[64] reach
    cdef bint sums_last = nest.is_summed[innermost] != 0
    for a in range(rank):
        if a == innermost:
            continue
        reach[a] = 0.0
        for p in range(nop):
            reach[a] += abs(<double>nest.stride[p * rank + a])
        k = count
        while k > 0 and goes_before(nest, reach, sums_last, a, order[k - 1]):
            order[k] = order[k - 1]
            k -= 1
        order[k] = a
        count += 1
    order[count] = innermost
    return tuple([order[k] for k in range(rank)])


cdef bint goes_before(LoopNest nest, double *reach, bint sums_last, int a, int b) noexcept:
    if sums_last and nest.is_summed[a] != nest.is_summed[b]:
        return nest.is_summed[b] != 0
    return reach[a] > reach[b]
