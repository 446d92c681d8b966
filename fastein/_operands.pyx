# cython: language_level=3, boundscheck=False, wraparound=False
# cython: initializedcheck=False
"""Calls with any kind of argument: arrays, what becomes one, and what others answer for.

Loaded with the first call that has something else than NumPy's arrays.
"""
from cpython.object cimport PyObject
from numpy cimport ndarray

import numpy as np

from ._dispatch cimport answer, options_of
from ._parser import parse, sublist_key
from .config import numpy_einsum
from .errors import EinsumError, NoArrayError, compose

cdef extern from "Python.h":
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence) noexcept
    PyObject **PySequence_Fast_ITEMS(object sequence) noexcept
    bint PyFloat_CheckExact(PyObject *x) noexcept
    bint PyLong_CheckExact(PyObject *x) noexcept
    bint PyBool_Check(PyObject *x) noexcept
    bint PyComplex_CheckExact(PyObject *x) noexcept
    bint PyList_CheckExact(PyObject *x) noexcept
    bint PyTuple_CheckExact(PyObject *x) noexcept

cdef enum:
    MOST_DEPTH = 64  # of nested lists
    MOST_PLAIN = 1_000_000  # elements that are looked at

cdef frozenset _ALWAYS_ON_DEVICE = frozenset({"cupy", "fastein_cuda"})
cdef frozenset _CUDA_DEVICES = frozenset({2, 13})  # kDLCUDA and kDLCUDAManaged of DLPack
cdef frozenset _PLAIN = frozenset({list, tuple, str, bytes, int, float, complex, bool})


def general(tuple arguments, object out, object dtype, object order, object casting,
            object optimize, object strict):
    """The call with any kind of argument."""
    cdef object subscripts
    cdef tuple operands
    cdef Py_ssize_t terms
    if len(arguments) < 2:
        raise EinsumError("einsum needs the subscripts and at least one operand")
    if are_on_device(arguments, out):
        from fastein_cuda.dispatch import einsum as on_device

        return on_device(*arguments, out=out, dtype=dtype, order=order, casting=casting,
                         optimize=optimize, strict=strict)
    if are_foreign(arguments, out):
        return _by_their_owner(arguments, out, dtype, order, casting, optimize, strict)
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"out must be an array, not {type(out).__name__}")
    if isinstance(arguments[0], (str, bytes)):
        subscripts = _text(arguments[0])
        given = arguments[1:]
        if is_list_of_operands(given) and are_foreign(tuple(given[0]), out):
            return _by_their_owner((subscripts, *given[0]), out, dtype, order, casting, optimize,
                                   strict)
        options = options_of(dtype, order, casting, optimize, strict)
        try:
            operands = as_arrays(given, subscripts)
            return answer(subscripts, operands, out, options)
        except NoArrayError:  # a ragged list is no array, but may be a list of operands
            terms = subscripts.count(",") + 1
            if not is_list_of_operands(given) or (len(given[0]) != terms and terms == 1):
                raise
        except EinsumError:
            if not is_list_of_operands(given):
                raise
        return answer(subscripts, as_arrays(given[0], subscripts), out, options)
    subscripts, given = sublist_key(arguments)
    options = options_of(dtype, order, casting, optimize, strict)
    if optimize is False:
        _check_letters(subscripts)
    return answer(subscripts, as_arrays(given, None), out, options)


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
    return str.__str__(subscripts)  # of a subclass the characters, not what it shows itself as


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


# --- what there is ----------------------------------------------------------------------------

cpdef tuple as_arrays(object given, object text):
    """All operands as base-class arrays; `text` is the equation, for errors."""
    return tuple([as_array(x, k, text) for k, x in enumerate(tuple(given))])


cpdef object as_array(object given, Py_ssize_t number, object text):
    """The operand of this number as a base-class array; `text` is the equation, for errors."""
    cdef Py_ssize_t left = MOST_PLAIN
    if type(given) is list or type(given) is tuple:
        if not _holds_plain_numbers(given, MOST_DEPTH, &left):
            given = _settled(given, MOST_DEPTH, {})
    try:
        return np.asarray(given)
    except EinsumError:
        raise
    except ValueError as error:
        raise NoArrayError(compose(
            f"operand {number} cannot be made an array: {error}", text)) from error


cdef bint _holds_plain_numbers(object given, int depth, Py_ssize_t *left) except -1:
    """Whether nested lists hold numbers alone, whose conversion runs nobody's code."""
    cdef Py_ssize_t k, count = PySequence_Fast_GET_SIZE(given)
    cdef PyObject **items = PySequence_Fast_ITEMS(given)
    left[0] -= count
    if depth == 0 or left[0] < 0:
        return False
    for k in range(count):  # of a list that nobody changes meanwhile: nothing here runs Python
        if is_number(items[k]):
            continue
        if not (PyList_CheckExact(items[k]) or PyTuple_CheckExact(items[k])):
            return False
        if not _holds_plain_numbers(<object>items[k], depth - 1, left):
            return False
    return True


cdef inline bint is_number(PyObject *x) noexcept:
    return (PyFloat_CheckExact(x) or PyLong_CheckExact(x) or PyBool_Check(x)
            or PyComplex_CheckExact(x))


cdef object _settled(object given, int depth, dict seen):
    """Nested lists as tuples: NumPy crashes if an element's conversion shortens a list."""
    if depth == 0:
        return given  # deeper than arrays go, as NumPy will say
    if id(given) in seen:
        if seen[id(given)] is None:
            raise EinsumError("an operand is a list that contains itself")
        return seen[id(given)]
    seen[id(given)] = None
    settled = tuple([
        _settled(x, depth - 1, seen) if type(x) is list or type(x) is tuple else x
        for x in tuple(given)
    ])
    seen[id(given)] = settled
    return settled


cpdef bint is_list_of_operands(tuple given) except -1:
    """Whether the only operand may be the list of all operands, as torch takes it."""
    return len(given) == 1 and isinstance(given[0], (list, tuple)) and len(given[0]) > 0


cpdef bint are_on_device(tuple arguments, object out) except -1:
    """Whether some operand lies on a GPU."""
    for x in arguments:
        if type(x) is list or type(x) is tuple:  # a list of operands; all of them do, or none
            x = x[0] if len(x) > 0 else None
        if lies_on_device(x):
            return True
    return lies_on_device(out)


cpdef bint lies_on_device(object x) except -1:
    """Whether an object is an array on a CUDA device."""
    cdef object kind = type(x)
    if x is None or kind in _PLAIN or isinstance(x, ndarray):
        return False
    if kind.__module__.partition(".")[0] in _ALWAYS_ON_DEVICE:
        return hasattr(kind, "__cuda_array_interface__")  # to ask the array costs a microsecond
    if has_cuda_interface(x):
        return True
    where = getattr(x, "__dlpack_device__", None)
    return where is not None and not isinstance(x, type) and where()[0] in _CUDA_DEVICES


cpdef bint has_cuda_interface(object x) except -1:
    """Whether an object describes itself by ``__cuda_array_interface__``.

    JAX raises RuntimeError for its bfloat16, torch for tensors that require gradients; `hasattr`
    would pass that on.
    """
    try:
        x.__cuda_array_interface__
    except Exception:
        return False
    return True


cpdef bint are_foreign(tuple arguments, object out) except -1:
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
