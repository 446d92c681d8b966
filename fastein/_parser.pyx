# cython: language_level=3
"""Subscripts: what the user wrote, read once and in linear time, without looking at an operand.

Both spellings of an equation end here: the string ``'ij,jk->ik'`` and the sublists
``A, [0, 1], B, [1, 2], [0, 2]``. What depends on shapes (ellipses, operand counts, sizes) is the
business of :mod:`fastein.equation`.
"""

from numbers import Number

cimport cython
from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.unicode cimport PyUnicode_FromObject

import numpy as np

from .errors import EinsumError, label_name, printable


@cython.final
cdef class Subscripts:
    """The terms of an einsum equation, one per operand, and its output.

    Made by `parse` and `parse_sublists`, and immutable. Two are equal when they mean the same,
    however they were spelled.

    Attributes
    ----------
    text : str
        What the user wrote; sublists are rendered as text.
    terms : tuple of tuple
        The labels of every operand; ``...`` stands where the ellipsis stood.
    output : tuple
        The labels of the output, worked out when it was implicit.
    explicit : bool
        Whether the user wrote the output.
    spans : tuple of (int, int)
        Where each term stands in `text`; where the output stands comes last when it is explicit.
    ellipses : tuple of int
        The position of the ellipsis in each term and, last, in the output; -1 without one.
    """

    cdef readonly str text
    cdef readonly tuple terms
    cdef readonly tuple output
    cdef readonly bint explicit
    cdef readonly tuple spans
    cdef readonly tuple ellipses

    def __init__(self):
        raise TypeError("Subscripts are made by parse and parse_sublists")

    def __eq__(self, other):
        if not isinstance(other, Subscripts):
            return NotImplemented
        return self.terms == other.terms and self.output == other.output

    def __hash__(self):
        return hash((self.terms, self.output))

    def __repr__(self):
        if self.text.startswith("["):
            return f"<Subscripts {printable(self.text, 80)}>"
        terms = ",".join([_spell(term) for term in self.terms])
        return f"Subscripts('{printable(terms + '->' + _spell(self.output), 80)}')"

    def __reduce__(self):
        fields = self.text, self.terms, self.output, self.explicit, self.spans, self.ellipses
        return _restore, fields


cdef object mistakes():
    """The messages about mistakes, imported with the first one."""
    from . import diagnose

    return diagnose


cpdef Subscripts _restore(
    str text, tuple terms, tuple output, bint explicit, tuple spans, tuple ellipses
):
    """Make Subscripts of their fields, as unpickling does."""
    cdef Subscripts made = Subscripts.__new__(Subscripts)
    made.text = text
    made.terms = terms
    made.output = output
    made.explicit = explicit
    made.spans = spans
    made.ellipses = ellipses
    return made


cdef str _spell(tuple term):
    return "".join(["..." if label is ... else label for label in term])


# The string form


def parse(text):
    """Read a subscripts string.

    Parameters
    ----------
    text : str or bytes
        Terms separated by commas, then optionally ``->`` and the output. A label is one
        character: an ASCII letter or digit, or anything beyond ASCII. Spaces between labels
        mean nothing. Bytes are read as UTF-8.

    Returns
    -------
    Subscripts

    Raises
    ------
    EinsumError
        When the string is no equation.
    TypeError
        When `text` is neither str nor bytes.

    Examples
    --------
    >>> parse('ij,jk').output
    ('i', 'k')
    >>> parse('b...a')
    Subscripts('b...a->...ab')
    """
    cdef str equation = _as_str(text)
    cdef Py_ssize_t length = len(equation), start = 0, comma
    cdef Py_ssize_t arrow = equation.find("->")
    cdef Py_ssize_t stop = length if arrow < 0 else arrow
    cdef list terms = [], spans = [], ellipses = []
    while True:
        comma = equation.find(",", start, stop)
        _read_term(equation, start, stop if comma < 0 else comma, terms, spans, ellipses)
        if comma < 0:
            break
        start = comma + 1
    if arrow < 0:
        return _implicit(equation, terms, spans, ellipses)
    _read_term(equation, arrow + 2, length, terms, spans, ellipses)
    return _explicit(equation, terms, spans, ellipses)


cdef str _as_str(object text):
    if isinstance(text, str):
        return PyUnicode_FromObject(text)
    if not isinstance(text, bytes):
        raise TypeError(f"subscripts must be a string, not {type(text).__name__}")
    try:
        return (<bytes>text).decode()
    except UnicodeDecodeError as error:
        raise mistakes().not_utf8(text, error.start) from None


cdef int _read_term(
    str equation, Py_ssize_t start, Py_ssize_t stop, list terms, list spans, list ellipses
) except -1:
    """Read equation[start:stop], a term or the output, and append it to the lists."""
    cdef list labels = []
    cdef Py_ssize_t position = start, first = -1, last = -1, ellipsis = -1
    cdef Py_UCS4 character
    while position < stop:
        character = equation[position]
        if character == u" ":
            position += 1
            continue
        if first < 0:
            first = position
        if _is_label(character):
            labels.append(chr(character))
            position += 1
        elif ellipsis < 0 and _is_ellipsis(equation, position, stop):
            ellipsis = len(labels)
            labels.append(...)
            position += 3
        else:
            raise mistakes().character(equation, position, ellipsis >= 0)
        last = position
    terms.append(tuple(labels))
    spans.append((start, start) if first < 0 else (first, last))
    ellipses.append(ellipsis)
    return 0


cdef inline bint _is_label(Py_UCS4 character) noexcept:
    return (
        character >= 128
        or u"a" <= character <= u"z"
        or u"A" <= character <= u"Z"
        or u"0" <= character <= u"9"
    )


cdef bint _is_ellipsis(str equation, Py_ssize_t position, Py_ssize_t stop) except -1:
    return (
        position + 2 < stop
        and equation[position] == u"."
        and equation[position + 1] == u"."
        and equation[position + 2] == u"."
    )


# The output


cdef Subscripts _implicit(str text, list terms, list spans, list ellipses):
    """Work out the output: the ellipsis, then the labels that occur once, in order."""
    cdef dict times = _count(terms)
    cdef bint batched = max(ellipses) >= 0
    once = [label for label, count in times.items() if count == 1]
    try:
        once.sort()
    except Exception as error:
        raise mistakes().unordered_output(text, once) from error
    ellipses.append(0 if batched else -1)
    output = (..., *once) if batched else tuple(once)
    return _restore(text, tuple(terms), output, False, tuple(spans), tuple(ellipses))


cdef Subscripts _explicit(str text, list terms, list spans, list ellipses):
    """Split off the output, the last of the terms, and check its labels."""
    cdef tuple output = terms.pop()
    cdef dict times = _count(terms)
    cdef set seen = set()
    cdef Py_ssize_t axis
    for axis, label in enumerate(output):
        if label is ...:
            continue
        if label in seen:
            raise mistakes().repeated_output(text, spans[-1], output, axis)
        if label not in times:
            raise mistakes().unknown_output(text, spans[-1], output, axis, times)
        seen.add(label)
    return _restore(text, tuple(terms), output, True, tuple(spans), tuple(ellipses))


cdef dict _count(list terms):
    """Count how often each label occurs, in order of first appearance."""
    cdef dict times = {}
    for term in terms:
        for label in <tuple>term:
            if label is not ...:
                times[label] = times.get(label, 0) + 1
    return times


# The sublist form


def sublist_key(tuple args):
    """Validate the sublists of a call and make a hashable key of them.

    Equal keys mean equal subscripts: labels are checked and integers made exact, so that
    ``1``, ``True`` and ``1.0`` cannot pass for one another. Iterators among the sublists are
    used up: `parse_key` goes on from the key.

    Parameters
    ----------
    args : tuple
        ``(operand, labels, operand, labels, ..., [output labels])``.

    Returns
    -------
    key : tuple
        The terms and the output's labels, None when implicit.
    operands : list

    Raises
    ------
    EinsumError
        Nothing to work on, a negative label, a second ellipsis in a sublist.
    TypeError
        A sublist is no collection of labels, or a label is a bool, a float or unhashable.

    Examples
    --------
    >>> sublist_key((2.5, [], 4, range(0), []))
    ((((), ()), ()), [2.5, 4])
    """
    cdef Py_ssize_t pairs = len(args) // 2, pair
    cdef list terms = [], operands = []
    if pairs == 0:
        raise mistakes().no_operands()
    for pair in range(pairs):
        operands.append(args[2 * pair])
        terms.append(_read_sublist(args[2 * pair + 1], pair))
    output = None if len(args) == 2 * pairs else _read_sublist(args[2 * pairs], -1)
    return (tuple(terms), output), operands


def parse_key(tuple key):
    """Make the Subscripts that a key of `sublist_key` stands for."""
    cdef list terms = list(key[0])
    cdef list spans = [], ellipses = [], pieces = []
    cdef Py_ssize_t position = 0
    cdef str piece
    if key[1] is not None:
        terms.append(key[1])
    for term in terms:
        if pieces:
            piece = " -> " if len(pieces) == 2 * len(key[0]) - 1 else ", "
            pieces.append(piece)
            position += len(piece)
        piece = f"[{', '.join(mistakes().item_texts(term))}]"
        pieces.append(piece)
        spans.append((position, position + len(piece)))
        ellipses.append(_ellipsis_of(term))
        position += len(piece)
    text = "".join(pieces)
    if key[1] is None:
        return _implicit(text, terms, spans, ellipses)
    return _explicit(text, terms, spans, ellipses)


def parse_sublists(tuple args):
    """Read the sublist form of a call.

    Parameters
    ----------
    args : tuple
        ``(operand, labels, operand, labels, ..., [output labels])``. A label is an integer
        >= 0 or anything hashable that is no other number; ``...`` is the ellipsis.

    Returns
    -------
    subscripts : Subscripts
    operands : list

    Raises
    ------
    EinsumError, TypeError
        As `sublist_key` does; EinsumError also for an output that the operands do not give.

    Examples
    --------
    >>> parse_sublists((2.5, [7, 'row'], 4, [7], ['row']))
    (<Subscripts [7, row], [7] -> [row]>, [2.5, 4])
    """
    key, operands = sublist_key(args)
    return parse_key(key), operands


cdef tuple _read_sublist(object sublist, Py_ssize_t operand):
    """Check the labels of one sublist (operand -1 is the output), integers made exact."""
    cdef tuple labels = _collect(sublist, operand)
    cdef list exact = None
    cdef bint ellipsis = False
    cdef Py_ssize_t axis
    for axis, label in enumerate(labels):
        if type(label) is int:
            if <object>label >= 0:
                continue
        elif label is ...:
            if ellipsis:
                problem = "a sublist can have only one ellipsis"
                raise EinsumError(mistakes().sublist_label(problem, labels, operand, axis))
            ellipsis = True
            continue
        if exact is None:
            exact = list(labels)
        exact[axis] = _read_label(labels, operand, axis)
    return labels if exact is None else tuple(exact)


cdef tuple _collect(object sublist, Py_ssize_t operand):
    """Make a tuple of a sublist, unless it is clearly something else."""
    if isinstance(sublist, bytes):
        # A sequence of integers, too, but never meant as one. NumPy finds them out of range.
        raise EinsumError(mistakes().not_a_sublist(sublist, operand))
    if isinstance(sublist, str) or _is_operand(sublist):
        raise TypeError(mistakes().not_a_sublist(sublist, operand))
    try:
        return tuple(sublist)
    except TypeError as error:
        raise TypeError(mistakes().not_a_sublist(sublist, operand)) from error


cdef bint _is_operand(object sublist) except -1:
    """Tell an operand in the wrong place from an array of labels, without walking through it."""
    if not isinstance(sublist, np.ndarray) or sublist.ndim == 0 or len(sublist) == 0:
        return False
    return sublist.ndim > 1 or sublist.dtype.kind not in "iuOU"


cdef object _read_label(tuple labels, Py_ssize_t operand, Py_ssize_t axis):
    """Check one label that is no plain integer >= 0."""
    label = labels[axis]
    if isinstance(label, str):
        return label
    if PyIndex_Check(label) and not isinstance(label, (bool, np.bool_)):
        try:
            label = int(PyNumber_Index(label))
        except TypeError:
            pass  # arrays and timedeltas have the method, and say no
        else:
            if label >= 0:
                return label
            problem = f"label {label_name(label)} is negative"
            raise EinsumError(mistakes().sublist_label(problem, labels, operand, axis))
    if isinstance(label, (Number, bool, np.bool_)):
        problem = f"a label cannot be of type {type(label).__name__}"
        raise TypeError(mistakes().sublist_label(problem, labels, operand, axis))
    try:
        hash(label)
    except TypeError as error:
        problem = f"a label must be hashable, unlike {type(label).__name__}"
        raise TypeError(mistakes().sublist_label(problem, labels, operand, axis)) from error
    return label


cdef Py_ssize_t _ellipsis_of(tuple term) except -2:
    cdef Py_ssize_t position
    for position, label in enumerate(term):
        if label is ...:
            return position
    return -1
