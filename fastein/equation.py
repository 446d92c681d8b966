"""Equation: subscripts meet the operands' shapes.

`expand` spells the ellipses out and numbers the labels, which needs the operands' ranks; `bind`
gives every label its size; `check_out` fits the result to a given ``out``. All three stand on
the way of every call with a new shape, so the good case is straight loops over small tuples and
whatever an error message needs is worked out only once there is an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from fastein.record import Record

from ._parser import Subscripts
from .errors import label_name

__all__ = ["Equation", "bind", "check_out", "expand"]


class Equation(Record):
    """An einsum equation for operands of known ranks.

    Attributes
    ----------
    text : str
        The subscripts as the user wrote them.
    terms : tuple of tuple of int
        One label per axis for every operand; labels are 0, 1, ... in order of first appearance.
    output : tuple of int
        The labels of the output's axes.
    names : tuple of str
        What to call each label: 'i', or '...0' for the first of the axes behind the ellipses.
    spans : tuple of (int, int)
        Where each term stands in `text`; where the output stands comes last when it was written.
    ellipses : tuple of int
        Position of the ellipsis in each term as written, -1 without one; the output's last.
    batch : tuple of int
        The labels of the axes behind the ellipses.
    """

    text: str
    terms: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    ellipses: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()

    @property
    def summed(self) -> tuple[int, ...]:
        """The labels that the output lacks, by name as NumPy sorts them: numbers by value."""
        kept, names = set(self.output), self.names
        labels = [label for label in range(len(names)) if label not in kept]
        return tuple(sorted(labels, key=lambda label: (len(names[label]), names[label])))


def _misfits() -> Any:
    """Return what words errors; nobody else needs it."""
    from . import misfits

    return misfits


class _BatchAxis:
    """A label for one of the axes behind the ellipses, equal to no label that a user has."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __repr__(self) -> str:
        return f"...{self.position}"


def expand(subscripts: Subscripts, shapes: Sequence[tuple[int, ...]]) -> Equation:
    """Spell out the ellipses for operands of these shapes and number the labels.

    Ellipses are aligned on the right, as NumPy broadcasts. The axes behind them are summed when
    the output is written without an ellipsis.

    Parameters
    ----------
    subscripts : Subscripts
    shapes : sequence of tuple of int
        The operands' shapes. Only their lengths matter here.

    Returns
    -------
    Equation

    Raises
    ------
    EinsumError
        When the terms fit the operands neither in number nor in rank.

    Examples
    --------
    >>> from fastein._parser import parse
    >>> equation = expand(parse('...ij,jk'), [(5, 2, 3), (3, 4)])
    >>> equation.terms, equation.output, equation.names
    (((0, 1, 2), (2, 3)), (0, 1, 3), ('...0', 'i', 'j', 'k'))
    """
    terms, output = subscripts.terms, subscripts.output
    ellipses = subscripts.ellipses
    if len(terms) != len(shapes):
        raise _misfits().operand_count(subscripts, shapes)
    batch: tuple[_BatchAxis, ...] = ()
    if max(ellipses) >= 0:
        terms, output, batch = _spell_out(subscripts, shapes)
    numbers: dict[Hashable, int] = {}
    numbered: list[tuple[int, ...]] = []
    for term, shape in zip(terms, shapes):  # noqa: B905  (equal lengths; strict= costs 0.1 µs)
        if len(term) != len(shape):
            raise _misfits().operand_rank(subscripts, shapes, len(numbered))
        axes = []
        for label in term:
            number = numbers.get(label)
            if number is None:
                numbers[label] = number = len(numbers)
            axes.append(number)
        numbered.append(tuple(axes))
    text = subscripts.text
    plain = text.isascii() and not batch and text[:1] != "["
    return Equation(
        text,
        tuple(numbered),
        tuple([numbers[label] for label in output]),
        tuple(numbers) if plain else tuple(map(label_name, numbers)),  # type: ignore[arg-type]
        subscripts.spans,
        ellipses,
        tuple([numbers[axis] for axis in batch]) if batch else (),
    )


def bind(
    equation: Equation, shapes: Sequence[tuple[int, ...]], strict: bool = False
) -> tuple[int, ...]:
    """Give every label its size.

    A size of 1 broadcasts against that of another operand, but not against another axis of the
    same operand.

    Parameters
    ----------
    equation : Equation
    shapes : sequence of tuple of int
        The operands' shapes, of the ranks that `equation` was expanded for.
    strict : bool
        Whether to forbid broadcasting for the labels. The axes behind an ellipsis are there to
        broadcast, and still do.

    Returns
    -------
    tuple of int
        The size of each label.

    Raises
    ------
    EinsumError
        When a label is found with sizes that do not fit.

    Examples
    --------
    >>> from fastein._parser import parse
    >>> shapes = [(2, 1), (3, 4)]
    >>> bind(expand(parse('ij,jk'), shapes), shapes)
    (2, 3, 4)
    """
    sizes = [-1] * len(equation.names)
    for operand, term in enumerate(equation.terms):
        for label, size in zip(term, shapes[operand]):  # noqa: B905  (as in expand)
            known = sizes[label]
            if known != size:
                if known >= 0:
                    size = _broadcast(equation, shapes, (operand, label, size, known), strict)
                sizes[label] = size
    return tuple(sizes)


def check_out(
    equation: Equation,
    sizes: tuple[int, ...],
    out_shape: tuple[int, ...],
    strict: bool = False,
) -> tuple[int, ...]:
    """Fit the labels' sizes to the shape of a given ``out``.

    Labels of size 1 broadcast to the size that they have in ``out``, as NumPy has it, unless
    `strict` forbids it to written ones.

    Parameters
    ----------
    equation : Equation
    sizes : tuple of int
        The size of each label, as `bind` gives them.
    out_shape : tuple of int

    Returns
    -------
    tuple of int
        The size of each label, grown where ``out`` asks for it.

    Raises
    ------
    EinsumError
        When ``out`` has another rank or a size that the result does not broadcast to.
    """
    output = equation.output
    if len(output) != len(out_shape):
        raise _misfits().out_rank(equation, sizes, out_shape)
    grown = list(sizes)
    for axis, label in enumerate(output):
        if sizes[label] == 1 and not (strict and label not in equation.batch):
            grown[label] = out_shape[axis]
        elif sizes[label] != out_shape[axis]:
            raise _misfits().out_size(equation, sizes, out_shape, axis)
    return tuple(grown)


def _spell_out(
    subscripts: Subscripts, shapes: Sequence[tuple[int, ...]]
) -> tuple[tuple[tuple[Hashable, ...], ...], tuple[Hashable, ...], tuple[_BatchAxis, ...]]:
    """Replace the ellipsis in the terms and the output by one label per axis behind it."""
    ranks = []
    for operand, (term, shape) in enumerate(zip(subscripts.terms, shapes, strict=True)):
        ranks.append(len(shape) - len(term) + 1 if subscripts.ellipses[operand] >= 0 else 0)
        if ranks[-1] < 0:
            raise _misfits().operand_rank(subscripts, shapes, operand)
    batch = tuple([_BatchAxis(position) for position in range(max(ranks))])
    *positions, at = subscripts.ellipses
    terms = tuple(
        [
            term if at < 0 else (*term[:at], *batch[len(batch) - rank :], *term[at + 1 :])
            for term, at, rank in zip(subscripts.terms, positions, ranks, strict=True)
        ]
    )
    output = subscripts.output
    if at >= 0:
        output = (*output[:at], *batch, *output[at + 1 :])
    return terms, output, batch


def _broadcast(
    equation: Equation,
    shapes: Sequence[tuple[int, ...]],
    clash: tuple[int, int, int, int],
    strict: bool,
) -> int:
    """Settle on one size for a label found with `size` in an operand, but `known` before."""
    operand, label, size, known = clash
    # An operand that disagrees with itself always comes through here: one of its two sizes
    # differs from what was known.
    axes = [axis for axis, other in enumerate(equation.terms[operand]) if other == label]
    own = [shapes[operand][axis] for axis in axes]
    if min(own) != max(own):
        raise _misfits().diagonal(equation, shapes, operand, axes)
    if (known == 1 or size == 1) and (not strict or label in equation.batch):
        return known * size  # 0 against 1 is 0
    raise _misfits().label_sizes(equation, shapes, clash)
