# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The call path: find the plan of a call, or make it; run it.

A call whose operands are arrays and whose plan is cached runs at once, without parsing anything.
Every other kind of argument comes to the same through `_operands.general`.
"""
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
cimport numpy as cnp
from numpy cimport ndarray

import numpy as np

from ._overlap cimport overlap
from ._parser import parse, parse_key
from ._plan_cache cimport Entry, find, generation, outdate, remember, sights
from ._plan_cache import clear_plans
from .config import on_change, settings
from .cpu._runtime cimport Executable
from .cpu._simple cimport Recipe, simple, stand_in
from .errors import EinsumError
from .forks import no_fork

cnp.import_array()

cdef enum:
    MOST_NAMES = 4096  # equations, option sets
    MOST_THREAD_COUNTS = 16  # for which plans are kept
    MOST_CONVERTED = 10_000  # elements that are converted without a plan
    MOST_UNPLANNED = 8       # times that this is done to operands of one kind


cdef frozenset _NO_PATHS = frozenset({"auto", "greedy", "optimal"})  # for two operands
cdef frozenset _CONVERTIBLE = frozenset("?bBhHiIlLqQfdgFDG")
cdef dict _known_names = {}
cdef dict _option_sets
cdef Unbuilt _defaults
cdef dict _by_threads = {}  # these two, for each number of threads
cdef Py_ssize_t _threads = 0
cdef tuple _other_settings = None
cdef object _target = None
cdef object _general = None  # what answers other arguments than arrays, once it is needed
cdef bint _may_be_simple = settings.jit != "always"


def einsum(*operands, out=None, dtype=None, order='K', casting='safe', optimize='auto',
           strict=False):
    """
    einsum(subscripts, *operands, out=None, dtype=None, order='K', casting='safe', \
optimize='auto', strict=False)

    Evaluate the Einstein summation convention on the operands.

    The same as `numpy.einsum`, in every respect that its documentation promises, and faster.

    Parameters
    ----------
    subscripts : str
        Comma-separated terms, one per operand, and after ``->`` the output. Labels are ASCII
        letters, digits and any non-ASCII character; ``...`` stands for axes that broadcast.
        Without ``->`` the output has the labels that appear once, sorted. Instead of the
        string, operands may alternate with lists of labels, an output list coming last.
    *operands : array_like
        Arrays of any dtype and layout. A label's axes have one size, or size 1, which
        broadcasts. The list of operands itself is accepted where NumPy would reject it.
    out : ndarray, optional
        Receives the result; may overlap the operands. Its dtype takes part in promotion.
    dtype : data-type, optional
        Dtype of the calculation; by default the promotion of all operands' dtypes.
    order : {'K', 'C', 'F', 'A'}, optional
        Memory layout of a new result; ``'K'`` follows the operands.
    casting : {'no', 'equiv', 'safe', 'same_kind', 'unsafe'}, optional
        Which conversions of operands and to `out` are allowed.
    optimize : optional
        The contraction order: ``'auto'`` or True, False for one nest over all labels, the name
        of an opt_einsum strategy, ``(name, memory_limit)``, a path as `einsum_path` gives it,
        or a path function. It changes speed and rounding, never meaning.
    strict : bool, optional
        Forbid broadcasting of size-1 axes between operands with the same label.

    Returns
    -------
    ndarray or scalar
        The result: `out` if given; a scalar if the output has no labels; a writeable view of
        the operand if there is one operand, nothing is summed and `out` is not given.

    Raises
    ------
    EinsumError
        (a ValueError) If the subscripts are malformed or do not fit the operands.
    TypeError
        If a dtype cannot be cast or summed, or an argument has the wrong type.

    See Also
    --------
    einsum_path, explain

    Notes
    -----
    Contraction paths come from opt_einsum [1]_. The first call of an equation with new shapes
    makes a plan; later calls look it up.

    References
    ----------
    .. [1] D. G. A. Smith and J. Gray, "opt_einsum - A Python package for optimizing contraction
       order for einsum-like expressions", Journal of Open Source Software 3(26), 753 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from fastein import einsum
    >>> a = np.arange(6.0).reshape(2, 3)
    >>> einsum('ij,kj->ik', a, a)
    array([[ 5., 14.],
           [14., 50.]])
    >>> einsum('ii->i', np.eye(2))[...] = 3  # a view of the diagonal
    >>> einsum(a, ['row', 'col'], ['col', 'row']).shape
    (3, 2)
    """
    cdef Py_ssize_t count = PyTuple_GET_SIZE(operands) - 1
    cdef Py_ssize_t k
    cdef Entry entry
    cdef bint exact
    cdef object options
    global _general
    if count >= 1 and type(operands[0]) is str:
        exact = out is None or type(out) is ndarray
        for k in range(1, count + 1):
            if type(<object>PyTuple_GET_ITEM(operands, k)) is not ndarray:
                exact = False
                break
        if exact:
            if (dtype is None and order is 'K' and casting is 'safe' and optimize is 'auto'
                    and strict is False):
                options = _defaults
            else:
                options = options_of(dtype, order, casting, optimize, strict)
            entry = find(operands[0], operands, 1, out, options)
            if entry is not None:
                if out is None:
                    return entry.executable.run(operands, 1, None)
                return into(entry, operands, 1, out)
            return answer(operands[0], operands[1:], out, options)
    if _general is None:
        with no_fork:
            from ._operands import general as _general
    return _general(operands, out, dtype, order, casting, optimize, strict)


# --- answering --------------------------------------------------------------------------------

cdef object into(Entry entry, tuple operands, Py_ssize_t first, object out):
    """Run into `out`, by way of new memory if `out` overlaps an operand."""
    cdef Py_ssize_t k
    for k in range(first, PyTuple_GET_SIZE(operands)):
        if overlap(<ndarray>PyTuple_GET_ITEM(operands, k), <ndarray>out):
            fresh = np.empty_like(out, subok=False)
            answer(entry.subscripts, operands[first:], fresh, entry.options)
            np.copyto(out, fresh)
            return out
    return entry.executable.run(operands, first, out)


cdef object answer(object subscripts, tuple operands, object out, object options):
    """Answer a call whose operands are arrays, making its plan if there is none."""
    cdef Entry entry = find(subscripts, operands, 0, out, options)
    cdef Executable executable = None
    cdef uint64_t made_in = generation()
    cdef Recipe recipe
    cdef char order = c'K'
    cdef bint lasts = True, plain = type(options) is Unbuilt
    if entry is None:
        if _may_be_simple:
            recipe = _names(subscripts, operands).recipe
            if not plain and not (recipe.is_view and out is None):
                order = _simple_order(options, operands)
            if order and (recipe.can_wait or plain or options.optimize == "auto"):
                executable = simple(recipe, operands, out, order, _target is None)
            if executable is None and order and recipe.can_wait:
                executable = stand_in(recipe, operands, out, order,
                                      sights(subscripts, operands, out))
                lasts = executable is None
            if executable is None and not recipe.is_view:
                converted = _converted(subscripts, operands, out, options)
                if converted is not None:
                    return answer(subscripts, converted, out, options)
        if executable is None:
            executable = _planned(subscripts, operands, out, options)
        if lasts:
            entry = remember(subscripts, operands, out, options, executable, made_in)
        else:
            entry = Entry.__new__(Entry)
            entry.subscripts, entry.options, entry.executable = subscripts, options, executable
    if out is None:
        return entry.executable.run(operands, 0, None)
    return into(entry, operands, 0, out)


cdef tuple _converted(object subscripts, tuple operands, object out, object options):
    """Small operands in the dtype of the arithmetic, where that loses nothing.

    None if nothing needs conversion, and where the call is made so often that a plan is worth
    its time. Copies of contiguous arrays lie as these do, which decides on the result's layout.
    """
    cdef Py_ssize_t elements = 0
    cdef ndarray array
    cdef bint plain = type(options) is Unbuilt
    cdef object dtype = None if plain else options.dtype
    for array in operands:
        elements += cnp.PyArray_SIZE(array)
        if cnp.PyArray_SIZE(array) == 0:
            return None  # which is contiguous whatever its strides
        if not cnp.PyArray_FLAGS(array) & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
            return None
    if elements > MOST_CONVERTED or sights(subscripts, operands, out) > MOST_UNPLANNED:
        return None
    if not plain and options.casting in ("no", "equiv"):
        return None
    if dtype is None:
        dtype = np.result_type(*[x.dtype for x in operands])
    if dtype.char not in _CONVERTIBLE or (out is not None and out.dtype is not dtype):
        return None
    if all([x.dtype is dtype for x in operands]):
        return None
    if not all([np.can_cast(x.dtype, dtype) for x in operands]):
        return None
    if all([x.dtype.kind in "iub" or x.dtype is dtype for x in operands]):
        return tuple([x.astype(dtype, copy=False) for x in operands])
    with np.errstate(all="ignore"):  # a signalling NaN would be reported
        return tuple([x.astype(dtype, copy=False) for x in operands])


cdef char _simple_order(object options, tuple operands) except? 0:
    """The order of a new result, if all other options leave one or two operands as they are."""
    cdef object dtype = options.dtype, optimize = options.optimize
    if options.strict:
        return 0
    if type(optimize) is not bool and not (type(optimize) is str and optimize in _NO_PATHS):
        return 0
    if dtype is not None and (dtype is not (<ndarray>operands[0]).descr or options.order == "A"):
        return 0
    return <char>ord(options.order) if options.order in ("K", "C", "F") else 0


cdef Executable _planned(object subscripts, tuple operands, object out, object options):
    """Make the plan of a call."""
    global _target
    with no_fork:
        from .plan import Layout
        from .cpu.target import CPU as _target
    layouts = tuple([Layout(x.shape, x.strides, x.dtype, x.flags.aligned) for x in operands])
    out_layout = None
    if out is not None:
        if not out.flags.writeable:
            raise EinsumError("out is read-only")
        out_layout = Layout(out.shape, out.strides, out.dtype, out.flags.aligned)
    return _target.executable(plan_for(subscripts, layouts, out_layout, options))


def plan_for(subscripts, tuple layouts, out, options):
    """The plan of a call, given the layouts of its operands and of ``out``.

    Parameters
    ----------
    subscripts : str or tuple
        The text, or the key of sublists as `fastein._parser.sublist_key` makes it.
    layouts : tuple of fastein.plan.Layout
    out : fastein.plan.Layout or None
    options : fastein.plan.Options
    """
    global _target
    with no_fork:
        from .planner import make_plan
        from .cpu.target import CPU as _target
    return make_plan(_names(subscripts, layouts).equation, layouts, out, _built(options), _target)


cdef class Names:
    """What subscripts mean for operands of given ranks."""

    cdef object equation
    cdef Recipe recipe


cdef Names _names(object subscripts, tuple operands):
    """The meaning of subscripts for these operands (arrays or layouts), remembered."""
    cdef Names names
    key = (subscripts, tuple([len(x.shape) for x in operands]))
    names = _known_names.get(key)
    if names is None:
        with no_fork:
            from .equation import expand
        parsed = parse(subscripts) if isinstance(subscripts, str) else parse_key(subscripts)
        names = Names()
        names.equation = expand(parsed, [x.shape for x in operands])
        names.recipe = Recipe(names.equation)
        if len(_known_names) >= MOST_NAMES:
            _known_names.clear()
        _known_names[key] = names
    return names


# --- keywords -------------------------------------------------------------------------------

cdef object options_of(object dtype, object order, object casting, object optimize, object strict):
    """The one object that stands for these keywords in cache keys."""
    key = (dtype, order, casting, _kinds(optimize, 2), optimize, strict)
    try:
        found = _option_sets.get(key)
    except TypeError:  # a path as a list, or a structured dtype
        dtype = None if dtype is None else np.dtype(dtype)
        optimize = _hashable(optimize, 2)
        key = (dtype, order, casting, _kinds(optimize, 2), optimize, strict)
        found = _option_sets.get(key)
    if found is not None:
        return found
    cdef uint64_t made_in = generation()
    options = normalised_options(dtype, order, casting, optimize, strict)
    if options.dtype is None and options == _built(_defaults):  # numpy.dtype(float) == None
        options = _defaults
    if len(_option_sets) >= MOST_NAMES:
        _option_sets.clear()
    if made_in == generation():
        _option_sets[key] = options
    return options


def normalised_options(dtype=None, order='K', casting='safe', optimize='auto', strict=False):
    """The keywords of a call as `fastein.plan.Options`.

    Raises
    ------
    ValueError, TypeError
        As NumPy does for a keyword's bad value.
    """
    from .plan import Options

    if isinstance(order, bytes):
        order = order.decode("latin-1")
    if isinstance(casting, bytes):
        casting = casting.decode("latin-1")
    if order is None:
        order = "K"
    elif not isinstance(order, str):
        raise TypeError(f"order must be a str, not {type(order).__name__}")
    elif order.upper() not in ("C", "F", "A", "K"):
        raise EinsumError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    if not isinstance(casting, str):
        raise TypeError(f"casting must be a str, not {type(casting).__name__}")
    if casting not in ("no", "equiv", "safe", "same_kind", "unsafe"):
        raise EinsumError("casting must be one of 'no', 'equiv', 'safe', 'same_kind', 'unsafe' "
                          f"(got {casting!r})")
    return Options(
        dtype=None if dtype is None else np.dtype(dtype),
        order=order.upper(),
        casting=casting,
        optimize=False if optimize is None else _hashable(optimize, 2),
        strict=bool(strict),
        memory_limit=settings.memory_limit,
    )


cdef object _kinds(object value, int depth):
    """The types within a path: 0.0 and False equal 0, but are no positions."""
    if depth and isinstance(value, (list, tuple)):
        return tuple([_kinds(x, depth - 1) for x in value])
    return type(value)


cdef object _hashable(object value, int depth):
    """A path of lists as one of tuples."""
    if isinstance(value, (list, tuple)):
        if depth == 0:
            raise TypeError("a contraction path is a list of tuples of positions, no deeper")
        return tuple([_hashable(x, depth - 1) for x in value])
    hash(value)
    return value


cdef class Unbuilt:
    """The options of a call without keywords, built where they are needed."""

    cdef object options


cdef object _built(object options):
    """The `Options` behind what stands for a call without keywords."""
    cdef Unbuilt unbuilt
    if type(options) is not Unbuilt:
        return options
    unbuilt = options
    if unbuilt.options is None:
        unbuilt.options = normalised_options()
    return unbuilt.options


def _settings_changed():
    """Forget what was made under other settings.

    Plans for other numbers of threads are kept, under options of their own: `threadpoolctl` sets
    the number back and forth around single calls.
    """
    global _may_be_simple, _threads, _other_settings, _defaults, _option_sets
    cdef Py_ssize_t threads = settings.num_threads
    others = tuple([x for name, x in settings.as_dict().items() if name != "num_threads"])
    if others == _other_settings and threads != _threads and len(_by_threads) < MOST_THREAD_COUNTS:
        outdate()
    else:
        clear_plans()
        _by_threads.clear()
    _threads, _other_settings = threads, others
    _may_be_simple = settings.jit != "always"
    if threads not in _by_threads:
        _by_threads[threads] = Unbuilt(), {}
    _defaults, _option_sets = _by_threads[threads]


_settings_changed()
on_change(_settings_changed)
