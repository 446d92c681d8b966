# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False, cdivision=True
"""The call path: find the plan of a call, or make it; run it.

A call is known by its subscripts, its options and what kernels depend on of each operand: dtype,
alignment, shape and strides. These are gathered as machine words into a buffer on the stack,
hashed, and looked up in a table of `Entry`; a hit runs at once, without parsing anything.

All state is touched with the GIL held, and an entry in use is kept alive by its caller, so
threads may call, evict and clear at any time.
"""
from cpython.list cimport PyList_GET_ITEM
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
cimport numpy as cnp
from numpy cimport ndarray

import numpy as np

from ._parser import parse, parse_key, sublist_key
from .config import on_change, settings
from .cpu._runtime cimport Executable
from .errors import EinsumError
from .numpy_einsum import numpy_einsum

cnp.import_array()

cdef enum:
    NEAR_WORDS = 256          # words of a key that fit on the stack
    BUCKETS = 8192            # a power of two
    MOST_PLANS = 4096
    MOST_WORDS = 4_000_000    # of all keys together (32 MB)
    MOST_NAMES = 4096         # equations, option sets


cdef class Entry:
    """A plan in the cache, under the key of the calls that it answers."""

    cdef uint64_t hash
    cdef Py_ssize_t nwords
    cdef int64_t *words
    cdef object subscripts
    cdef object options
    cdef Executable executable
    cdef Entry next
    cdef uint64_t used

    def __dealloc__(self):
        free(self.words)


cdef list _buckets = [None] * BUCKETS
cdef Py_ssize_t _plans = 0
cdef Py_ssize_t _words = 0
cdef uint64_t _clock = 0
cdef dict _equations = {}
cdef dict _option_sets = {}
cdef object _defaults = object()  # the options of a call without keywords, until they are built
cdef object _default_options = None
cdef object _target = None


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
                options = _options(dtype, order, casting, optimize, strict)
            entry = find(operands[0], operands, 1, out, options)
            if entry is not None:
                if out is None:
                    return entry.executable.run(operands, 1, None)
                return into(entry, operands, 1, out)
            return _answer(operands[0], operands[1:], out, options)
    return _general(operands, out, dtype, order, casting, optimize, strict)


# --- the plan cache -------------------------------------------------------------------------

cdef inline Py_ssize_t words_of(ndarray array) noexcept:
    return 1 + 2 * cnp.PyArray_NDIM(array)


cdef inline Py_ssize_t describe(ndarray array, bint is_out, int64_t *words) noexcept:
    """Write what a plan depends on of one operand; the number of words written."""
    cdef int ndim = cnp.PyArray_NDIM(array)
    cdef cnp.dtype descr = array.descr
    cdef int flags = cnp.PyArray_FLAGS(array)
    cdef uint64_t head = <uint64_t>ndim
    head = head << 1 | ((flags & cnp.NPY_ARRAY_ALIGNED) != 0)
    head = head << 1 | (is_out and (flags & cnp.NPY_ARRAY_WRITEABLE) != 0)
    head = head << 1 | is_out
    head = head << 8 | <unsigned char>descr.byteorder
    head = head << 16 | <uint64_t>(<unsigned short>cnp.PyArray_TYPE(array))
    head = head << 24 | (<uint64_t>cnp.PyArray_ITEMSIZE(array) & 0xFFFFFF)
    words[0] = <int64_t>head
    memcpy(words + 1, cnp.PyArray_DIMS(array), ndim * sizeof(int64_t))
    memcpy(words + 1 + ndim, cnp.PyArray_STRIDES(array), ndim * sizeof(int64_t))
    return 1 + 2 * ndim


cdef inline uint64_t mixed(uint64_t hash, int64_t *words, Py_ssize_t count) noexcept:
    cdef Py_ssize_t k
    for k in range(count):
        hash = (hash ^ <uint64_t>words[k]) * <uint64_t>0x9E3779B97F4A7C15
        hash ^= hash >> 32
    return hash


cdef Entry find(object subscripts, tuple operands, Py_ssize_t first, object out, object options):
    """The cached plan of a call, or None."""
    cdef int64_t near[NEAR_WORDS]
    cdef int64_t *words = near
    cdef Py_ssize_t nwords = 0
    cdef uint64_t hash
    cdef Entry entry
    words = gather(operands, first, out, near, &nwords)
    hash = mixed(<uint64_t><Py_hash_t>__builtins_hash(subscripts), words, nwords)
    try:
        entry = <Entry>PyList_GET_ITEM(_buckets, hash & (BUCKETS - 1))
        while entry is not None:
            if (entry.hash == hash and entry.nwords == nwords and entry.options is options
                    and memcmp(entry.words, words, nwords * sizeof(int64_t)) == 0
                    and (entry.subscripts is subscripts or entry.subscripts == subscripts)):
                entry.used = _tick()
                return entry
            entry = entry.next
    finally:
        if words != near:
            free(words)
    return None


cdef extern from "Python.h":
    Py_hash_t __builtins_hash "PyObject_Hash"(object) except? -1


cdef inline uint64_t _tick() noexcept:
    global _clock
    _clock += 1
    return _clock


cdef int64_t *gather(tuple operands, Py_ssize_t first, object out, int64_t *near,
                     Py_ssize_t *nwords) except NULL:
    """The words of a key, in `near` if they fit, else in memory that the caller frees."""
    cdef Py_ssize_t k, total = 0, count = PyTuple_GET_SIZE(operands)
    cdef int64_t *words = near
    for k in range(first, count):
        total += words_of(<ndarray>PyTuple_GET_ITEM(operands, k))
    if out is not None:
        total += words_of(<ndarray>out)
    if total > NEAR_WORDS:
        words = <int64_t *>malloc(total * sizeof(int64_t))
        if words == NULL:
            raise MemoryError()
    total = 0
    for k in range(first, count):
        total += describe(<ndarray>PyTuple_GET_ITEM(operands, k), False, words + total)
    if out is not None:
        total += describe(<ndarray>out, True, words + total)
    nwords[0] = total
    return words


cdef Entry remember(object subscripts, tuple operands, object out, object options,
                    Executable executable):
    """Put a plan into the cache, evicting the less recently used half when it is full."""
    global _plans, _words
    cdef int64_t near[NEAR_WORDS]
    cdef int64_t *words
    cdef Py_ssize_t nwords = 0
    cdef Entry entry = Entry()
    words = gather(operands, 0, out, near, &nwords)
    entry.words = words
    if words == near:
        entry.words = <int64_t *>malloc((nwords + 1) * sizeof(int64_t))
        if entry.words == NULL:
            raise MemoryError()
        memcpy(entry.words, near, nwords * sizeof(int64_t))
    entry.nwords = nwords
    entry.hash = mixed(<uint64_t><Py_hash_t>__builtins_hash(subscripts), entry.words, nwords)
    entry.subscripts = subscripts
    entry.options = options
    entry.executable = executable
    entry.used = _tick()
    if nwords > MOST_WORDS // 4:
        return entry  # larger than is worth keeping
    if _plans >= MOST_PLANS or _words + nwords > MOST_WORDS:
        evict()
    insert(entry)
    return entry


cdef void insert(Entry entry):
    global _plans, _words
    cdef Py_ssize_t bucket = entry.hash & (BUCKETS - 1)
    entry.next = _buckets[bucket]
    _buckets[bucket] = entry
    _plans += 1
    _words += entry.nwords


cdef void evict():
    """Keep the more recently used half (as counted in words and in plans)."""
    cdef list entries = []
    cdef Entry entry
    cdef Py_ssize_t words = 0
    for first in _buckets:
        entry = first
        while entry is not None:
            entries.append(entry)
            entry = entry.next
    clear_plans()
    entries.sort(key=_used_last, reverse=True)
    for entry in entries[:MOST_PLANS // 2]:
        words += entry.nwords
        if words > MOST_WORDS // 2:
            break
        insert(entry)


def _used_last(Entry entry):
    return entry.used


def clear_plans():
    """Forget all plans (after a change of the settings, on which plans depend)."""
    global _buckets, _plans, _words
    cdef Entry entry
    for first in _buckets:
        entry = first
        while entry is not None:
            entry.next, entry = None, entry.next
    _buckets = [None] * BUCKETS
    _plans = _words = 0


def plan_count():
    """Number of plans in the cache."""
    return _plans


# --- running --------------------------------------------------------------------------------

cdef object into(Entry entry, tuple operands, Py_ssize_t first, object out):
    """Run into `out`, by way of new memory if `out` overlaps an operand."""
    cdef Py_ssize_t k
    for k in range(first, PyTuple_GET_SIZE(operands)):
        if overlap(<ndarray>PyTuple_GET_ITEM(operands, k), <ndarray>out):
            fresh = np.empty_like(out, subok=False)
            _answer(entry.subscripts, operands[first:], fresh, entry.options)
            np.copyto(out, fresh)
            return out
    return entry.executable.run(operands, first, out)


cdef bint overlap(ndarray a, ndarray b) noexcept:
    """Whether the address ranges of two arrays meet."""
    cdef uint64_t a_low, a_high, b_low, b_high
    bounds(a, &a_low, &a_high)
    bounds(b, &b_low, &b_high)
    return a_low < b_high and b_low < a_high


cdef void bounds(ndarray array, uint64_t *low, uint64_t *high) noexcept:
    cdef int k
    cdef Py_ssize_t reach
    low[0] = <uint64_t>cnp.PyArray_DATA(array)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(array)
    for k in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_DIM(array, k) == 0:
            high[0] = low[0]
            return
        reach = (cnp.PyArray_DIM(array, k) - 1) * cnp.PyArray_STRIDE(array, k)
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach


cdef object _answer(object subscripts, tuple operands, object out, object options):
    """Answer a call whose operands are arrays, making its plan if there is none."""
    cdef Entry entry = find(subscripts, operands, 0, out, options)
    if entry is None:
        entry = remember(subscripts, operands, out, options,
                         _planned(subscripts, operands, out, options))
    if out is None:
        return entry.executable.run(operands, 0, None)
    return into(entry, operands, 0, out)


cdef Executable _planned(object subscripts, tuple operands, object out, object options):
    """Make the plan of a call."""
    from .plan import Layout

    global _target
    if _target is None:
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
    from .plan import make_plan

    global _target
    if _target is None:
        from .cpu.target import CPU as _target
    return make_plan(_equation(subscripts, tuple([x.shape for x in layouts])), layouts, out,
                     _built(options), _target)


cdef object _equation(object subscripts, tuple shapes):
    """The equation of subscripts and operands' ranks, remembered."""
    from .equation import expand

    key = (subscripts, tuple([len(shape) for shape in shapes]))
    equation = _equations.get(key)
    if equation is None:
        parsed = parse(subscripts) if isinstance(subscripts, str) else parse_key(subscripts)
        equation = expand(parsed, shapes)
        if len(_equations) >= MOST_NAMES:
            _equations.clear()
        _equations[key] = equation
    return equation


# --- arguments ------------------------------------------------------------------------------

cdef object _general(tuple arguments, object out, object dtype, object order, object casting,
                     object optimize, object strict):
    """The call with any kind of argument."""
    cdef object subscripts
    cdef tuple operands
    if len(arguments) < 2:
        raise EinsumError("einsum needs the subscripts and at least one operand")
    if _is_foreign(arguments, out):
        return _by_their_owner(arguments, out, dtype, order, casting, optimize, strict)
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"out must be an array, not {type(out).__name__}")
    if isinstance(arguments[0], (str, bytes)):
        subscripts = _text(arguments[0])
        options = _options(dtype, order, casting, optimize, strict)
        given = arguments[1:]
        try:
            operands = tuple([np.asarray(x) for x in given])
            return _answer(subscripts, operands, out, options)
        except EinsumError:
            if not _is_list_of_operands(given):
                raise
        except ValueError:  # a ragged list is no array, but may be a list of operands
            if not _is_list_of_operands(given):
                raise
        return _answer(subscripts, tuple([np.asarray(x) for x in given[0]]), out, options)
    subscripts, given = sublist_key(arguments)
    options = _options(dtype, order, casting, optimize, strict)
    if optimize is False:
        _check_letters(subscripts)
    return _answer(subscripts, tuple([np.asarray(x) for x in given]), out, options)


cdef int _check_letters(tuple key) except -1:
    """``optimize=False`` asks for NumPy to the letter: its sublists have 52 labels."""
    terms, output = key
    for term in (*terms, output or ()):
        for label in term:
            if type(label) is int and label > 51:
                raise EinsumError(
                    f"label {label} is not in 0 to 51, which is all that sublists may have with "
                    "optimize=False (as in NumPy)")
    return 0


cdef str _text(object subscripts):
    """Subscripts as an exact str."""
    if isinstance(subscripts, bytes):
        return parse(subscripts).text
    return str(subscripts) if type(subscripts) is not str else subscripts


cdef bint _is_list_of_operands(tuple given):
    return len(given) == 1 and isinstance(given[0], (list, tuple)) and len(given[0]) > 0


cdef bint _is_foreign(tuple arguments, object out) except -1:
    """Whether some operand's own library wants to answer (NEP 18)."""
    for x in arguments:
        if _has_own_function(x):
            return True
    return out is not None and _has_own_function(out)


cdef bint _has_own_function(object x) except -1:
    kind = type(x)
    if kind is ndarray or kind in _PLAIN:
        return False
    own = getattr(kind, "__array_function__", None)
    return own is not None and own is not ndarray.__array_function__


_PLAIN = frozenset({list, tuple, str, bytes, int, float, complex, bool})


cdef object _by_their_owner(tuple arguments, object out, object dtype, object order,
                            object casting, object optimize, object strict):
    """Let NumPy's dispatch find who answers, with the keywords that the caller gave."""
    given = {"out": out, "dtype": dtype, "order": order, "casting": casting, "optimize": optimize,
             "strict": strict}
    usual = {"out": None, "dtype": None, "order": "K", "casting": "safe", "optimize": "auto",
             "strict": False}
    return numpy_einsum(*arguments, **{
        name: value for name, value in given.items()
        if value is not usual[name] and not (type(value) is str and value == usual[name])
    })


cdef object _options(object dtype, object order, object casting, object optimize, object strict):
    """The one object that stands for these keywords in cache keys."""
    key = (dtype, order, casting, type(optimize), optimize, strict)
    try:
        found = _option_sets.get(key)
    except TypeError:  # a list, as einsum_path returns it
        optimize = _hashable(optimize)
        key = (dtype, order, casting, type(optimize), optimize, strict)
        found = _option_sets.get(key)
    if found is not None:
        return found
    options = normalised_options(dtype, order, casting, optimize, strict)
    if options.dtype is None and options == _built(_defaults):  # numpy.dtype(float) == None
        options = _defaults
    if len(_option_sets) >= MOST_NAMES:
        _option_sets.clear()
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
        optimize=False if optimize is None else _hashable(optimize),
        strict=bool(strict),
        memory_limit=settings.memory_limit,
    )


cdef object _hashable(object value):
    if isinstance(value, (list, tuple)):
        return tuple([_hashable(x) for x in value])
    return value


cdef object _built(object options):
    """The `Options` behind the token that stands for a call without keywords."""
    global _default_options
    if options is not _defaults:
        return options
    if _default_options is None:
        _default_options = normalised_options()
    return _default_options


def _settings_changed():
    global _default_options
    clear_plans()
    _option_sets.clear()
    _default_options = None


on_change(_settings_changed)
