# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Loop nests in canonical form, and the memory layout of results.

A step of a plan is a `LoopNest`: axes with one size and, for each operand, one stride.
No label survives here, so ``'bij,bjk->bik'`` and ``'abc,acd->abd'`` are the same nest, and
whatever the operands' layout allows to be one loop is one loop.

This is the part of planning that every new shape pays for, hence Cython: the arithmetic is on
C arrays, and the Python attributes exist for the code generator, `explain` and the tests.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from .errors import EinsumError

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX


cdef inline Py_ssize_t distance(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef class LoopNest:
    """``out[...] = sum over the summed axes of in0 * in1 * ...`` as bare loops.

    Attributes
    ----------
    dtype : numpy.dtype
        The native dtype of every operand and of the output.
    nin : int
        Number of inputs; operand ``nin`` is the output.
    rank : int
        Number of loops.
    sizes : tuple of int
        Iterations of each loop, outermost first.
    strides : tuple of tuple of int
        For each operand, bytes between iterations of each loop; 0 where it stands still.
    summed : tuple of bool
        For each loop, whether it is summed over.
    """

    def __cinit__(self, dtype, int nin, int rank):
        if nin < 0 or rank < 0 or rank > MAX_RANK:
            raise ValueError("a loop nest has 0 to 63 loops")
        cdef size_t cells = <size_t>rank * (<size_t>nin + 2)
        self.dtype = dtype
        self.itemsize = dtype.itemsize
        self.is_half = dtype.char == 'e'
        self.is_extended = dtype.char in 'gG'
        self.nin = nin
        self.rank = rank
        self.size = <Py_ssize_t *>malloc((cells + 1) * sizeof(Py_ssize_t) + rank + 1)
        if self.size == NULL:
            raise MemoryError()
        self.stride = self.size + rank
        self.is_summed = <unsigned char *>(self.size + cells + 1)

    def __dealloc__(self):
        free(self.size)

    @property
    def sizes(self):
        return tuple([self.size[a] for a in range(self.rank)])

    @property
    def strides(self):
        return tuple([
            tuple([self.stride[p * self.rank + a] for a in range(self.rank)])
            for p in range(self.nin + 1)
        ])

    @property
    def summed(self):
        return tuple([self.is_summed[a] != 0 for a in range(self.rank)])

    @property
    def iterations(self):
        """Number of times the innermost statement runs (an exact int)."""
        total = 1
        for a in range(self.rank):
            total *= self.size[a]
        return total

    @property
    def moved_bytes(self):
        """Bytes of all operands, each element counted once (an exact int)."""
        elements = 0
        for strides in self.strides:
            extent = 1
            for a in range(self.rank):
                if strides[a]:
                    extent *= self.size[a]
            elements += extent
        return self.itemsize * elements

    cdef double work(self) noexcept nogil:
        cdef double total = 1.0
        cdef int a
        for a in range(self.rank):
            total *= self.size[a]
        return total

    def is_sum(self, int axis):
        """Whether one loop is summed over."""
        if axis < 0 or axis >= self.rank:
            raise IndexError(axis)
        return self.is_summed[axis] != 0

    def ordered(self, tuple order):
        """The same nest with its loops in another order (a permutation of ``range(rank)``)."""
        cdef int[64] axes
        cdef int a, source
        cdef uint64_t seen = 0
        if len(order) != self.rank:
            raise ValueError(f"{order!r} does not order {self.rank} loops")
        for a in range(self.rank):
            source = order[a]
            if source < 0 or source >= self.rank or seen >> source & 1:
                raise ValueError(f"{order!r} is not a permutation of {self.rank} loops")
            seen |= <uint64_t>1 << source
            axes[a] = source
        return self.permuted(axes)

    cdef LoopNest permuted(self, int *order):
        cdef LoopNest nest = LoopNest.__new__(LoopNest, self.dtype, self.nin, self.rank)
        cdef int a, p, source
        for a in range(self.rank):
            source = order[a]
            nest.size[a] = self.size[source]
            nest.is_summed[a] = self.is_summed[source]
            for p in range(self.nin + 1):
                nest.stride[p * self.rank + a] = self.stride[p * self.rank + source]
        return nest

    def with_output(self, tuple strides):
        """The same nest with other strides of the output (one per loop)."""
        cdef LoopNest nest
        cdef int[64] order
        cdef int a
        if len(strides) != self.rank:
            raise ValueError(f"{strides!r} are not the strides of {self.rank} loops")
        for a in range(self.rank):
            order[a] = a
        nest = self.permuted(order)
        for a in range(self.rank):
            nest.stride[self.nin * self.rank + a] = strides[a]
        return nest

    def __eq__(self, other):
        if type(other) is not LoopNest:
            return NotImplemented
        return self._key() == (<LoopNest>other)._key()

    def __hash__(self):
        return hash(self._key())

    def _key(self):
        return (self.dtype, self.sizes, self.strides, self.summed)

    def __repr__(self):
        loops = ", ".join(
            f"{'sum' if self.is_summed[a] else 'out'} {self.size[a]}" for a in range(self.rank)
        )
        return f"LoopNest({self.dtype}, [{loops}], strides={self.strides})"


def build(dtype, tuple sizes, tuple inputs, tuple output, tuple output_strides):
    """The canonical loop nest of one step.

    Parameters
    ----------
    dtype : numpy.dtype
        Native dtype of all operands.
    sizes : tuple of int
        Size of every label; none is 0 (an empty sum needs no loops).
    inputs : tuple of (term, shape, strides)
        For each input its labels, and the size and stride of the axis each stands on.
        An axis of size 1 under a longer label stands still (broadcasting); a label that
        stands twice walks the diagonal.
    output : tuple of int
        Labels of the output; every other label is summed.
    output_strides : tuple of int
        Bytes between elements along each output label.

    Returns
    -------
    LoopNest
        Loops of size 1 dropped, loops that every operand allows to be one loop fused, loops
        in output order, then summed ones in order of appearance.
    """
    cdef int nin = len(inputs), rank = 0, a, p, k, label
    cdef Py_ssize_t nlabels = len(sizes)
    cdef LoopNest nest
    cdef int *axis_of = <int *>malloc((nlabels + 1) * sizeof(int))
    cdef Py_ssize_t[64] size
    cdef int noutput = 0
    cdef Py_ssize_t *row
    cdef tuple term, shape, strides
    if axis_of == NULL:
        raise MemoryError()
    try:
        memset(axis_of, 0xFF, (nlabels + 1) * sizeof(int))
        for label in output:
            rank = _claim(axis_of, size, rank, label, sizes)
        noutput = rank
        for p in range(nin):
            for label in inputs[p][0]:
                rank = _claim(axis_of, size, rank, label, sizes)
        nest = LoopNest(dtype, nin, rank)
        memcpy(nest.size, size, rank * sizeof(Py_ssize_t))
        memset(nest.stride, 0, <size_t>(nin + 1) * rank * sizeof(Py_ssize_t))
        for a in range(rank):
            nest.is_summed[a] = a >= noutput
        for p in range(nin):
            term, shape, strides = inputs[p]
            row = nest.stride + p * rank
            for k in range(len(term)):
                a = axis_of[<int>term[k]]
                if a >= 0 and <Py_ssize_t>shape[k] != 1:
                    row[a] += <Py_ssize_t>strides[k]
        row = nest.stride + nin * rank
        for k in range(len(output)):
            a = axis_of[<int>output[k]]
            if a >= 0:
                row[a] = <Py_ssize_t>output_strides[k]
    finally:
        free(axis_of)
    fuse(nest)
    return nest


cdef int _claim(int *axis_of, Py_ssize_t *size, int rank, int label, tuple sizes) except -1:
    """Give `label` the next loop unless it has one or needs none; the new number of loops."""
    cdef Py_ssize_t n
    if axis_of[label] >= 0:
        return rank
    n = sizes[label]
    if n == 1:
        return rank
    if rank == MAX_RANK:
        raise EinsumError(
            "the sum has more than 2**63 terms: 64 labels or more are longer than 1 in one step"
        )
    axis_of[label] = rank
    size[rank] = n
    return rank + 1


cdef void fuse(LoopNest nest) noexcept:
    """Merge pairs of loops that walk every operand as one loop would, until none is left."""
    cdef int outer = 0, inner
    while outer < nest.rank:
        for inner in range(nest.rank):
            if inner != outer and _one_walk(nest, outer, inner):
                nest.size[inner] *= nest.size[outer]
                _drop(nest, outer)
                outer = -1  # the merged loop may now merge with one already passed over
                break
        outer += 1


cdef bint _one_walk(LoopNest nest, int outer, int inner) noexcept:
    cdef int p
    cdef Py_ssize_t n = nest.size[inner]
    cdef Py_ssize_t *row
    if nest.is_summed[outer] != nest.is_summed[inner]:
        return False
    if nest.size[outer] > PY_SSIZE_T_MAX // n:  # giant broadcasts: their product has no name
        return False
    for p in range(nest.nin + 1):
        row = nest.stride + p * nest.rank
        if <size_t>row[outer] != <size_t>row[inner] * <size_t>n:
            return False
    return True


cdef void _drop(LoopNest nest, int axis) noexcept:
    """Take one loop out; rows of the stride table close up in place, front to back."""
    cdef int rank = nest.rank, a, p
    cdef Py_ssize_t *target = nest.stride
    for p in range(nest.nin + 1):
        for a in range(rank):
            if a != axis:
                target[0] = nest.stride[p * rank + a]
                target += 1
    for a in range(axis, rank - 1):
        nest.size[a] = nest.size[a + 1]
        nest.is_summed[a] = nest.is_summed[a + 1]
    nest.rank = rank - 1


def output_strides(str order, tuple sizes, tuple inputs, tuple output, tuple summed,
                   Py_ssize_t itemsize):
    """Strides of a newly allocated result, as NumPy's iterator would choose them.

    Parameters
    ----------
    order : {'C', 'F', 'K'}
        ``'K'`` follows the inputs: axes are sorted by stride, insertion by insertion, where
        operands disagree C order wins (``npyiter_find_best_axis_ordering`` in NumPy's
        ``nditer_constr.c`` is the specification).
    sizes : tuple of int
        Size of every label.
    inputs : tuple of (term, shape, strides)
        As in `build`.
    output, summed : tuple of int
        Labels of the output, and the remaining ones in the order in which NumPy iterates
        (sorted by name).
    itemsize : int
        Bytes per element of the result.

    Returns
    -------
    tuple of int
        Bytes between elements along each output label.
    """
    cdef int nout = len(output), naxes = 0, a, k, p, label
    cdef int nin = len(inputs)
    cdef Py_ssize_t nlabels = len(sizes)
    cdef list axes = [label for label in output]
    cdef list result
    cdef int *axis_of
    cdef int *perm
    cdef Py_ssize_t *table
    cdef Py_ssize_t step
    cdef tuple term, shape, strides
    if order != "K" or nout < 2:
        return _regular_strides(order, sizes, output, itemsize)
    for label in summed:
        if <Py_ssize_t>sizes[label] != 1:
            axes.append(label)
    naxes = len(axes)
    axis_of = <int *>malloc((nlabels + 1) * sizeof(int))
    perm = <int *>malloc((naxes + 1) * sizeof(int))
    table = <Py_ssize_t *>malloc((<size_t>naxes * nin + 1) * sizeof(Py_ssize_t))
    try:
        if axis_of == NULL or perm == NULL or table == NULL:
            raise MemoryError()
        memset(axis_of, 0xFF, (nlabels + 1) * sizeof(int))
        memset(table, 0, <size_t>naxes * nin * sizeof(Py_ssize_t))
        for a in range(naxes):
            axis_of[<int>axes[a]] = naxes - 1 - a  # innermost first, as the iterator keeps them
            perm[a] = a
        for p in range(nin):
            term, shape, strides = inputs[p]
            for k in range(len(term)):
                a = axis_of[<int>term[k]]
                if a >= 0 and <Py_ssize_t>shape[k] != 1:
                    table[a * nin + p] += <Py_ssize_t>strides[k]
        sort_by_stride(perm, table, naxes, nin)
        result = [0] * nout
        step = itemsize
        for k in range(naxes):
            a = naxes - 1 - perm[k]
            if a < nout:
                result[a] = step
                step *= <Py_ssize_t>sizes[<int>output[a]]
        return tuple(result)
    finally:
        free(axis_of)
        free(perm)
        free(table)


cdef tuple _regular_strides(str order, tuple sizes, tuple output, Py_ssize_t itemsize):
    cdef int nout = len(output), k
    cdef Py_ssize_t step = itemsize
    cdef list result = [0] * nout
    for k in (range(nout) if order == "F" else range(nout - 1, -1, -1)):
        result[k] = step
        step *= <Py_ssize_t>sizes[<int>output[k]]
    return tuple(result)


cdef void sort_by_stride(int *perm, Py_ssize_t *table, int naxes, int nin) noexcept:
    """Insertion sort of the axes, smallest stride first; not every pair is comparable."""
    cdef int moving, place, other, axis, p
    cdef bint comparable, before
    cdef Py_ssize_t *mine
    cdef Py_ssize_t *theirs
    for moving in range(1, naxes):
        axis = perm[moving]
        mine = table + <size_t>axis * nin
        place = moving
        for other in range(moving - 1, -1, -1):
            theirs = table + <size_t>perm[other] * nin
            comparable = before = False
            for p in range(nin):
                if mine[p] != 0 and theirs[p] != 0:
                    if distance(theirs[p]) <= distance(mine[p]):
                        before = False
                    elif not comparable:
                        before = True
                    comparable = True
            if comparable:
                if not before:
                    break
                place = other
        for other in range(moving, place, -1):
            perm[other] = perm[other - 1]
        perm[place] = axis
