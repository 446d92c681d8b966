# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""Small calls planned in C: one nest, no conversion.

A known equation that meets a new shape must not cost more than NumPy needs for the whole call.
Where the plan could only be one nest (or one view) this module comes to the same executable as
`fastein.planner` and `fastein.cpu.target` do, in a microsecond: it fills the C arrays that they
fill and shares what decides, the order of axes and loops and their fusion. Whatever is not simple
(a mistake included) it leaves to them. A test holds the two ways together.
"""
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_WRITEABLE, PyArray_DIM, PyArray_FLAGS, PyArray_ISNOTSWAPPED,
    PyArray_NDIM, PyArray_STRIDE, PyArray_TYPE, ndarray, npy_intp,
)

from .._nest cimport LoopNest, fuse, sort_by_stride
from ._inner_loops cimport loops_for
from ._loop_order cimport Rates, order_loops, rates_of
from ._runtime cimport (
    Executable, NestStep, loops_executable, plans_can_wait, view_executable,
)

from ..forks import no_fork

cdef Rates _rates  # the machine's, from the first recipe on
cdef bint _has_rates = False

cdef enum:
    SIMPLE_WORK = 20000  # iterations of the one nest that a plan could only be
    MATRIX_WORK = 3000   # of a product of matrices, from where on packing pays
    UNPLANNED_WORK = 15_000_000  # of a call for which planning is not loaded (some ms)
    STAND_IN_WORK = 200_000  # of all calls of one kind before they get a plan, which takes as long


cdef class Recipe:
    """An equation as C arrays, its labels renumbered: the output's in order, then the summed ones.

    Parameters
    ----------
    equation : fastein.equation.Equation
    """

    def __init__(self, equation):
        global _rates, _has_rates
        cdef int p, k, label
        if not _has_rates:
            with no_fork:
                from .machine import MACHINE  # not before there is something to plan
            _rates = rates_of(MACHINE)
            _has_rates = True
        order = (*equation.output, *equation.summed)
        self.nlabels = len(order)
        self.nout = len(equation.output)
        self.nin = len(equation.terms)
        self.usable = (
            self.nlabels <= MOST_LABELS
            and self.nin <= MOST_INPUTS
            and all(len(term) <= MOST_LABELS for term in equation.terms)
        )
        if not self.usable:
            return
        number = {label: k for k, label in enumerate(order)}
        self.is_view = self.nin == 1 and not equation.summed
        self.most_work = _most_work(equation)
        self.can_wait = self.nin <= 2  # of more operands a plan finds the order, and regroups
        for p in range(self.nin):
            term = equation.terms[p]
            self.rank[p] = len(term)
            self.repeats[p] = len(set(term)) < len(term)
            for k in range(len(term)):
                self.term[p][k] = number[term[k]]


def _most_work(equation):
    """Iterations up to which the plan can only be one nest."""
    if _has_one_plan(equation):
        return SIMPLE_WORK
    if len(equation.terms) == 2:
        return MATRIX_WORK
    with no_fork:
        from ..path import SMALL_WORK
    return SMALL_WORK


def _has_one_plan(equation):
    """Whether one nest is the plan at any size: no product of matrices, nothing to sum before."""
    if len(equation.terms) > 2:
        return False
    if len(equation.terms) == 1:
        return True
    first, second = map(set, equation.terms)
    summed = set(equation.summed)
    if not summed <= first & second:
        return False
    rows, columns = first - second, second - first
    return not (rows and columns and summed)


cdef Executable simple(Recipe recipe, tuple operands, object out, char order, bint no_plans):
    """The executable of a call that converts nothing, or None if it takes real planning.

    `order` is that of a new result: 'K', 'C' or 'F'.

    With `no_plans` what would take real planning is one nest as well, for the time being, if it
    does not take long.
    """
    cdef Py_ssize_t most = recipe.most_work
    if no_plans and plans_can_wait():
        most = max(most, <Py_ssize_t>UNPLANNED_WORK)
    return within(recipe, operands, out, order, most)


cdef Executable stand_in(Recipe recipe, tuple operands, object out, char order,
                         Py_ssize_t sights):
    """One nest in the place of a plan, or None once the calls seen would have paid for a plan."""
    return within(recipe, operands, out, order, STAND_IN_WORK // sights)


cdef Executable within(Recipe recipe, tuple operands, object out, char order, Py_ssize_t most):
    """The executable of a call that converts nothing, as one nest of at most so many iterations."""
    cdef npy_intp size[MOST_LABELS]
    cdef Py_ssize_t table[MOST_LABELS * MOST_INPUTS]
    cdef npy_intp strides[MOST_LABELS]
    cdef int p, k, label, type_num
    cdef Py_ssize_t work = 1
    cdef ndarray array = operands[0]
    cdef NestStep step
    if not recipe.usable:
        return None
    if not bound(recipe, operands, size):
        return None
    tabulate(recipe, operands, size, table)
    if recipe.is_view and out is None:
        for k in range(recipe.nout):
            strides[k] = 0
        for k in range(recipe.rank[0]):
            strides[recipe.term[0][k]] += PyArray_STRIDE(array, k)
        return view_executable(array.dtype, recipe.nout, size, strides)
    type_num = PyArray_TYPE(array)
    if loops_for(type_num).dot == NULL:
        return None
    for p in range(recipe.nin):
        if not suits(<ndarray>operands[p], type_num, NPY_ARRAY_ALIGNED):
            return None
    for label in range(recipe.nlabels):
        if size[label] == 0 or size[label] > most:
            return None
        work *= size[label]
        if work > most:
            return None
    if out is None:
        if order == c'K':
            result_strides(recipe, size, table, array.itemsize, strides)
        else:
            contiguous_strides(recipe, size, order == c'F', array.itemsize, strides)
    elif not fits(recipe, <ndarray>out, type_num, size, strides):
        return None
    step = NestStep.__new__(NestStep, nest_of(recipe, array.dtype, size, table, strides))
    if work > recipe.most_work:
        step.wait_for_plan()
    return loops_executable(array.dtype, recipe.nin, recipe.nout, size, strides, step)


cdef bint suits(ndarray array, int type_num, int flags) noexcept:
    """Whether kernels can work on an array where it lies."""
    return (PyArray_TYPE(array) == type_num and PyArray_FLAGS(array) & flags == flags
            and PyArray_ISNOTSWAPPED(array))


cdef bint bound(Recipe recipe, tuple operands, npy_intp *size) noexcept:
    """Write the labels' sizes; False if they do not fit."""
    cdef int p, k, j, label
    cdef npy_intp n
    cdef ndarray array
    for label in range(recipe.nlabels):
        size[label] = -1
    for p in range(recipe.nin):
        array = <ndarray>operands[p]
        if PyArray_NDIM(array) != recipe.rank[p]:
            return False
        for k in range(recipe.rank[p]):
            n = PyArray_DIM(array, k)
            label = recipe.term[p][k]
            if recipe.repeats[p]:
                for j in range(k):
                    if recipe.term[p][j] == label and PyArray_DIM(array, j) != n:
                        return False
            if size[label] != n:
                if size[label] != -1 and size[label] != 1 and n != 1:
                    return False
                if n != 1 or size[label] == -1:
                    size[label] = n
    return True


cdef void tabulate(Recipe recipe, tuple operands, npy_intp *size, Py_ssize_t *table) noexcept:
    """Write each label's stride in each input; labels from the last to the first."""
    cdef int p, k
    cdef ndarray array
    for k in range(recipe.nlabels * recipe.nin):
        table[k] = 0
    for p in range(recipe.nin):
        array = <ndarray>operands[p]
        for k in range(recipe.rank[p]):
            if PyArray_DIM(array, k) != 1:
                table[(recipe.nlabels - 1 - recipe.term[p][k]) * recipe.nin + p] += (
                    PyArray_STRIDE(array, k))


cdef void result_strides(Recipe recipe, npy_intp *size, Py_ssize_t *table, Py_ssize_t itemsize,
                         npy_intp *strides) noexcept:
    """Lay a new result out under ``order='K'`` (see `fastein._nest.output_strides`)."""
    cdef int perm[MOST_LABELS]
    cdef int k, label
    for k in range(recipe.nlabels):
        perm[k] = k
    if recipe.nout > 1:
        sort_by_stride(perm, table, recipe.nlabels, recipe.nin)
    for k in range(recipe.nlabels):
        label = recipe.nlabels - 1 - perm[k]
        if label < recipe.nout:
            strides[label] = itemsize
            itemsize *= size[label]


cdef void contiguous_strides(Recipe recipe, npy_intp *size, bint first_fastest,
                             Py_ssize_t itemsize, npy_intp *strides) noexcept:
    """Lay a new result out under ``order='C'`` or ``'F'``."""
    cdef int k, label
    for k in range(recipe.nout):
        label = k if first_fastest else recipe.nout - 1 - k
        strides[label] = itemsize
        itemsize *= size[label]


cdef bint fits(Recipe recipe, ndarray out, int type_num, npy_intp *size,
               npy_intp *strides) noexcept:
    """Take the result's layout from `out`, if it can be written as it is."""
    cdef int k
    if not suits(out, type_num, NPY_ARRAY_ALIGNED | NPY_ARRAY_WRITEABLE):
        return False
    if PyArray_NDIM(out) != recipe.nout:
        return False
    for k in range(recipe.nout):
        if PyArray_DIM(out, k) != size[k]:
            return False
        strides[k] = PyArray_STRIDE(out, k)
    return True


cdef LoopNest nest_of(Recipe recipe, object dtype, npy_intp *size, Py_ssize_t *table,
                      npy_intp *strides):
    """The nest with its loops in the order in which they run."""
    cdef int rank = 0, p, label
    cdef int order[64]
    cdef LoopNest nest
    for label in range(recipe.nlabels):
        rank += size[label] != 1
    nest = LoopNest.__new__(LoopNest, dtype, recipe.nin, rank)
    rank = 0
    for label in range(recipe.nlabels):
        if size[label] == 1:
            continue
        nest.size[rank] = size[label]
        nest.is_summed[rank] = label >= recipe.nout
        for p in range(recipe.nin):
            nest.stride[p * nest.rank + rank] = table[(recipe.nlabels - 1 - label) * recipe.nin + p]
        nest.stride[recipe.nin * nest.rank + rank] = strides[label] if label < recipe.nout else 0
        rank += 1
    fuse(nest)
    order_loops(nest, &_rates, order)
    return nest.permuted(order)
