# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The order of a nest's loops, by a cost model of the innermost one.

Every new shape asks for it, hence Cython.
"""
from libc.math cimport INFINITY

from .._nest cimport LoopNest
from ._loop_pairs cimport may_pair

cdef double IN_CACHE = 1e6  # iterations up to which strides between rows do not matter
# Of the time of a strided access, in maps, and in sums of three inputs and more, where all stays in
# cache: what the next ones find there.
cdef double NEAR = 0.5
cdef double NEARBY = 128  # bytes of a stride up to which that holds for more than the first cache
cdef double FIRST_CACHE = 1 << 17  # bytes that operands span, up to which it holds for all strides
# Of the overhead of a run, where two loops go together over an output: each row, and each pair.
cdef double ROW = 0.2
cdef double PAIR = 2.0


def loop_order(LoopNest nest, machine, bint streams=False):
    """The order of the loops, outermost first, and the estimated time on one core.

    The innermost loop is the one that costs least by the strides that it walks; the others
    follow by stride, the longest outermost, but small nests have their sums inside. A summed
    innermost loop keeps its accumulator in a register, so there, too, all summed loops go inside
    all output loops. float16 has no choice: its sum is
    kept in float32 and rounded once. Nor has long double, which the x87 is slow to store.

    Parameters
    ----------
    nest : LoopNest
    machine : fastein.cpu.machine.Machine
        The rates to estimate with.
    streams : bool
        Whether all but the innermost loop follow by stride, sums or not, float16 like the others.

    Returns
    -------
    order : tuple of int
    seconds : float
        Of operands that come from anywhere: in maps within the caches strides cost less, by which
        the order is chosen.
    """
    cdef int[64] order
    cdef Rates rates = rates_of(machine)
    cdef double seconds = order_loops(nest, &rates, order, streams)
    return tuple([order[a] for a in range(nest.rank)]), seconds


cdef Rates rates_of(machine) except *:
    return Rates(machine.cycle, machine.strided_access, machine.run_overhead, machine.vector_bytes)


cdef double order_loops(LoopNest nest, Rates *rates, int *order,
                        bint streams=False) noexcept:
    """Write the order of the loops; the estimated time."""
    cdef double contiguous = rates.cycle * nest.itemsize / rates.vector_bytes
    cdef double total = nest.work(), each, seconds, best_seconds = -1.0, estimate = 0.0
    cdef double far = rates.strided_access, near = max(contiguous, NEAR * far)
    cdef int rank = nest.rank, nop = nest.nin + 1, a, p, strides, best = 0
    cdef double within = NEARBY if span(nest) > FIRST_CACHE else INFINITY
    cdef double access
    cdef bint near_ones, sums_only = False
    cdef Py_ssize_t step
    if rank == 0:
        return rates.run_overhead
    if (nest.is_half or nest.is_extended) and not streams:
        for a in range(rank):
            sums_only = sums_only or nest.is_summed[a] != 0
    for a in range(rank):
        if sums_only and not nest.is_summed[a]:
            continue
        each = rates.cycle
        strides = 0
        access = 0.0
        near_ones = total < IN_CACHE and (nest.nin > 2 or not nest.is_summed[a])
        for p in range(nop):
            step = nest.stride[p * rank + a]
            if step == nest.itemsize or step == -nest.itemsize:
                each += contiguous
            elif step:
                strides += 1
                access += near if near_ones and abs(step) <= within else far
        if not nest.is_summed[a]:
            each += contiguous  # the output is read as well
            if nest.nin > 2 and strides:
                access += near  # element by element
        around(nest, a, order, streams)
        seconds = each + access + overhead(nest, order, rates)
        if best_seconds < 0 or seconds < best_seconds:
            best, best_seconds = a, seconds
            estimate = total * (each + strides * far + rates.run_overhead / nest.size[a])
    around(nest, best, order, streams)
    return estimate


cdef inline double span(LoopNest nest) noexcept:
    """Bytes between the first and the last of all operands."""
    cdef int p, a
    cdef double total = 0.0
    for p in range(nest.nin + 1):
        for a in range(nest.rank):
            total += abs(<double>nest.stride[p * nest.rank + a]) * (nest.size[a] - 1)
    return total


cdef inline double overhead(LoopNest nest, int *order, Rates *rates) noexcept:
    """What starting the innermost loop costs each of its steps."""
    cdef int rank = nest.rank
    cdef double run = rates.run_overhead / nest.size[order[rank - 1]]
    if may_pair(nest) and not nest.is_summed[order[rank - 1]]:
        return run * (ROW + PAIR / nest.size[order[rank - 2]])
    return run


cdef void around(LoopNest nest, int innermost, int *order, bint streams) noexcept:
    """Write the order with `innermost` last, the others by reach.

    Sums go inside where the innermost is one, and where everything stays in cache: next to the
    innermost, their loop adds up several rows while the output is in registers.
    """
    cdef int rank = nest.rank, nop = nest.nin + 1, a, p, k, count = 0
    cdef double[64] reach
    cdef bint sums_last = not streams and (nest.is_summed[innermost] != 0
                                           or nest.work() < IN_CACHE)
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


cdef bint goes_before(LoopNest nest, double *reach, bint sums_last, int a, int b) noexcept:
    if sums_last and nest.is_summed[a] != nest.is_summed[b]:
        return nest.is_summed[b] != 0
    return reach[a] > reach[b]
