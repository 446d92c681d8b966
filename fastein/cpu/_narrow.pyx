# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Contractions of integers whose values need fewer bits than their dtype has.

Narrow integers are multiplied by dot products, many times as fast as wide ones
(`fastein.cpu.narrow`). Whether an operand's values allow that is seen at the call: looking at each
once is nothing beside the work that it may save, and the first that is too wide ends the search.
"""
from libc.stdint cimport int16_t, int32_t, int64_t
from libc.string cimport memset

from .._nest cimport LoopNest
from ._atomics cimport add, get
from ._axes cimport Axes, offset
from ._elements cimport hot
from ._runtime cimport Step
from ._pace cimport Pace
from ._threads cimport share

from ..config import settings

cdef enum:
    CHUNK = 4096            # elements between two looks at what has been found
    WIDTHS = 65             # numbers of bits, from 0

cdef double BYTE_SECONDS = 5e-11  # about what looking at a byte takes
cdef Py_ssize_t SHARE_BYTES = 1 << 18

ctypedef fused integer:
    int16_t
    int32_t
    int64_t


cdef struct Search:
    Axes axes               # of the operand, the innermost of stride `step`
    char *data
    int itemsize
    int most                # bits that are of use
    Pace pace
    long long seen[WIDTHS]  # chunks whose widest value has so many bits, its sign apart
    long long negative      # chunks with a negative value


cdef hot widest(integer *first, Py_ssize_t step, Py_ssize_t n, int64_t *found) noexcept nogil:
    """Set the bits that any of `n` values has set, or clear if it is negative, and the sign's."""
    cdef integer bits = 0, signs = 0, x
    cdef Py_ssize_t i
    if step == <Py_ssize_t>sizeof(integer):
        for i in range(n):
            x = first[i]
            signs |= x
            bits |= x ^ (x >> (8 * sizeof(integer) - 1))
    else:
        for i in range(n):
            x = (<integer *>(<char *>first + i * step))[0]
            signs |= x
            bits |= x ^ (x >> (8 * sizeof(integer) - 1))
    found[0], found[1] = bits, signs


cdef inline Py_ssize_t chunks_of(Search *search) noexcept nogil:
    """Chunks of one run along the innermost axis."""
    return (search.axes.size[search.axes.rank - 1] + CHUNK - 1) // CHUNK


cdef void look(char **data, Py_ssize_t *size, Py_ssize_t *stride, char *scratch,
               Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Look at some chunks of an operand; in the kernels' signature, for `share`."""
    cdef Search *search = <Search *>scratch
    cdef Axes *axes = &search.axes
    cdef int last = axes.rank - 1, bits
    cdef Py_ssize_t run = axes.size[last], step = axes.stride[0][last]
    cdef Py_ssize_t chunks = chunks_of(search), chunk, first, n
    cdef int64_t[2] found
    cdef char *here
    for chunk in range(begin, end):
        if get(&search.seen[WIDTHS - 1]):
            return
        first = chunk % chunks * CHUNK
        n = min(run - first, <Py_ssize_t>CHUNK)
        here = search.data + offset(axes, 0, chunk // chunks * run + first)
        if search.itemsize == 2:
            widest[int16_t](<int16_t *>here, step, n, found)
        elif search.itemsize == 4:
            widest[int32_t](<int32_t *>here, step, n, found)
        else:
            widest[int64_t](<int64_t *>here, step, n, found)
        bits = 0
        while found[0] and bits < WIDTHS - 1:
            found[0] >>= 1
            bits += 1
        add(&search.seen[bits if bits <= search.most else WIDTHS - 1], 1)
        if found[1] < 0:
            add(&search.negative, 1)


cdef class NarrowStep(Step):
    """A contraction of integers by the narrowest of some forms that hold its operands' values.

    Parameters
    ----------
    slots : tuple of int
    nest : fastein._nest.LoopNest
    forms : sequence of (fastein.cpu.narrow.Bound, Step)
        The narrowest first.
    whole : Step
        What serves all values.
    """

    cdef Py_ssize_t slots[2]
    cdef Search search[2]
    cdef LoopNest nest
    cdef readonly tuple forms
    cdef readonly Step whole

    def __init__(self, slots, LoopNest nest, axes, forms, Step whole):
        cdef Axes *mine
        cdef int k, a
        self.nest = nest
        self.forms = tuple(forms)
        self.whole = whole
        for k in range(2):
            self.slots[k] = slots[k]
            memset(&self.search[k], 0, sizeof(Search))
            self.search[k].itemsize = nest.itemsize
            self.search[k].most = max([max(bound.bits) for bound, _ in self.forms])
            mine = &self.search[k].axes
            mine.rank, mine.total = len(axes[k]), 1
            for a, (size, stride) in enumerate(axes[k]):
                mine.size[a], mine.stride[0][a] = size, stride
                mine.total *= size
            self.search[k].pace.estimate = mine.total * nest.itemsize * BYTE_SECONDS

    cdef int perform(self, char **slots) except -1:
        cdef int[2] bits
        cdef bint[2] negative
        cdef int k
        for k in range(2):
            bits[k] = self.width(k, slots[self.slots[k]], &negative[k])
            if bits[k] == WIDTHS - 1:
                return self.whole.perform(slots)
        for bound, step in self.forms:
            if bound.holds((bits[0], bits[1]), (negative[0], negative[1])):
                return (<Step>step).perform(slots)
        return self.whole.perform(slots)

    cdef int width(self, int k, char *data, bint *negative) except -1:
        """Bits of an operand's widest value, its sign apart; the most there are if too many."""
        cdef Search search = self.search[k]
        cdef Py_ssize_t threads = 1, n
        cdef int bits
        search.data = data
        n = search.axes.total // search.axes.size[search.axes.rank - 1] * chunks_of(&search)
        if search.axes.total * search.itemsize >= SHARE_BYTES:
            threads = settings.num_threads
        look(NULL, NULL, NULL, <char *>&search, 0, 1)
        if not search.seen[WIDTHS - 1]:
            share(look, NULL, self.nest, <char *>&search, n, threads, threads, threads, 1,
                  &self.search[k].pace)
        negative[0] = search.negative > 0
        for bits in range(WIDTHS - 1, 0, -1):
            if search.seen[bits]:
                return bits
        return 0
