"""Random einsum calls: `draw` makes one from a seeded generator, ill-formed ones included.

Labels are numbers while a call is drawn; its spelling (text, bytes, sublists, other alphabets)
comes last.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from .call import LETTERS, Call
from .operands import OperandMaker

__all__ = ["EVERYTHING", "LONGER", "REPEATING", "Profile", "draw"]

Term = list[Any]

# In the order of their code points, so that renaming keeps the order of an implicit output.
_WIDER = "0123456789" + LETTERS + "\u00aa\u00e9\u03b1\u03b2\u0416\u4e2d\ua000\U0001d538\U0001f600"
_STRAY = "!#$%&()*+-/:;<=>?@[]^_`{|}~.,> \t\n"
_NARROW = {"g": "d", "G": "D"}
_ORDERS = ("K", "C", "F", "A", "k", "c", "f", "a", None)
_CASTINGS = ("no", "equiv", "safe", "same_kind", "unsafe", "unsafe")
_OPTIMIZE = (False, True, None, "greedy", "optimal", ("greedy", 64), ("optimal", 4096))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run of the fuzzer draws from.

    Attributes
    ----------
    dtypes : tuple of str
        Element types of operands, repeated by weight.
    mixed : float
        Chance that every operand draws its own element type.
    sizes : tuple of int
        Sizes of labels, repeated by weight.
    work : int
        Most terms that a call may multiply out.
    equations : tuple of str
        Explicit equations to choose from; drawn at random where there are none.
    odd : float
        Chance of each oddity: a fault, a spelling that NumPy lacks, a layout, an `out`.
    """

    dtypes: tuple[str, ...]
    mixed: float
    sizes: tuple[int, ...]
    work: int
    equations: tuple[str, ...] = ()
    odd: float = 1.0


EVERYTHING = Profile(
    dtypes=("d",) * 12
    + ("f",) * 5
    + ("q",) * 4
    + ("D", "D", "D", "F", "F", "?", "?", "?", "e", "e", "e")
    + tuple("bBhHiIQlLgGO"),
    mixed=0.25,
    sizes=(0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 11, 13, 16, 17, 31, 33, 64),
    work=6000,
)

# Calls for which it pays to generate kernels.
LONGER = Profile(
    dtypes=EVERYTHING.dtypes,
    mixed=0.1,
    sizes=(1, 2, 3, 4, 6, 8, 13, 16, 17, 31, 33, 40, 64, 65, 70, 99, 128, 150, 300),
    work=100_000,
    odd=0.3,
)

# Few nests, met again and again: for runs in which every new kernel is compiled.
REPEATING = Profile(
    dtypes=("d", "d", "d", "f", "f", "q", "D", "?", "e", "b"),
    mixed=0.05,
    sizes=(2, 3, 4, 5, 7, 8, 16, 33),
    work=6000,
    equations=(
        "ij,jk->ik",
        "ij,jk->ki",
        "bij,bjk->bik",
        "ij,j->i",
        "i,i->",
        "i,j->ij",
        "ij,ij->ij",
        "ij,ij->",
        "ij->",
        "ij->j",
        "ii->",
        "ijk->ik",
        "i,ij,j->",
        "ij,jk,kl->il",
        "i,i,i->i",
        "ijk,jm,km->im",
    ),
    odd=0.15,
)


def draw(rng: random.Random, profile: Profile = EVERYTHING) -> Call:
    """Draw one call; the same state of the generator gives the same one.

    Parameters
    ----------
    rng : random.Random
        The source of every choice.
    profile : Profile
        What to draw from.
    """
    return _Drawing(rng, profile).call()


class _Drawing:
    """The state of drawing one call."""

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng, self.profile = rng, profile
        self.make = OperandMaker(rng, profile.odd)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def odd(self, p: float) -> bool:
        return self.rng.random() < p * self.profile.odd

    def call(self) -> Call:
        terms, output = self.structure()
        sizes = self.sizes(terms)
        batch = self.batch_shape(terms)
        alike = self.odd(0.12)
        if alike:
            sizes = dict.fromkeys(sizes, self.rng.choice((2, 3, 5)))
        shapes = [self.shape(term, sizes, batch) for term in terms]
        if self.odd(0.07):
            self.break_structure(terms, output, shapes, sizes)
        operands = self.operands(shapes, reuse=alike)
        if operands and isinstance(operands[0], (str, bytes)):
            operands[0] = np.asarray(operands[0])  # before sublists it would be the subscripts
        kwargs = self.keywords(terms, output, sizes, batch, operands)
        subscripts, spelling, listed = self.spell(terms, output, len(operands))
        if kwargs.get("optimize") is False and isinstance(subscripts, tuple):
            # Then numbers beyond NumPy's raise as they do there; names are still fine.
            spelling = spelling if _has_names(subscripts) else None
        return Call(
            subscripts=subscripts,
            operands=tuple(operands),
            kwargs=kwargs,
            buffers=tuple(self.make.buffers),
            terms=tuple(map(tuple, terms)),
            output=None if output is None else tuple(output),
            numpy_subscripts=spelling,
            ordered=not _has_names(subscripts),
            listed=listed,
        )

    # Subscripts, as lists of numbers (and Ellipsis)

    def structure(self) -> tuple[list[Term], Term | None]:
        if self.profile.equations:
            inputs, _, named = self.rng.choice(self.profile.equations).partition("->")
            return [_numbers(term) for term in inputs.split(",")], _numbers(named)
        rng = self.rng
        count = rng.choices((0, 1, 2, 3, 4, 5, 6), _cumulative((1, 34, 36, 17, 6, 4, 2)))[0]
        labels = rng.sample(range(52), rng.choice((1, 2, 2, 3, 3, 4, 5, 6)))
        terms = [self.term(labels) for _ in range(count)]
        if self.chance(0.18):
            for term in terms:
                if self.chance(0.75):
                    term.insert(rng.randrange(len(term) + 1), ...)
        return terms, self.output(terms)

    def term(self, labels: list[int]) -> Term:
        most = min(len(labels), 5)
        term: Term = self.rng.sample(
            labels, min(self.rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4)), most)
        )
        if term and self.chance(0.12):
            term.insert(self.rng.randrange(len(term) + 1), self.rng.choice(term))
        return term

    def output(self, terms: list[Term]) -> Term | None:
        if self.chance(0.35):
            return None
        present = list(dict.fromkeys(label for term in terms for label in term if label is not ...))
        output: Term = self.rng.sample(present, self.rng.randrange(len(present) + 1))
        if self.chance(0.9 if any(... in term for term in terms) else 0.02):
            output.insert(self.rng.randrange(len(output) + 1), ...)
        return output

    def sizes(self, terms: list[Term]) -> dict[int, int]:
        labels = {label for term in terms for label in term if label is not ...}
        sizes = {label: self.rng.choice(self.profile.sizes) for label in sorted(labels)}
        work = 1
        for label, size in sizes.items():
            if work * size > self.profile.work:
                sizes[label] = size = 2
            work *= max(size, 1)
        return sizes

    def batch_shape(self, terms: list[Term]) -> tuple[int, ...]:
        if not any(... in term for term in terms):
            return ()
        return tuple(self.rng.choice((1, 2, 2, 3, 4)) for _ in range(self.rng.choice((0, 1, 1, 2))))

    def shape(self, term: Term, sizes: dict[int, int], batch: tuple[int, ...]) -> list[int]:
        shape: list[int] = []
        for label in term:
            if label is ...:
                shape += batch[self.rng.randrange(len(batch) + 1) :]
            else:
                shape.append(sizes[label])
        if self.odd(0.12):
            shape = [1 if self.chance(0.3) else size for size in shape]
        return shape

    def break_structure(
        self, terms: list[Term], output: Term | None, shapes: list[list[int]], sizes: dict[int, int]
    ) -> None:
        """Make one mistake of meaning; mistakes of spelling come later."""
        rng = self.rng
        kind = rng.choice(("size", "drop", "add", "fewer", "more", "unknown", "twice"))
        position = rng.randrange(len(terms)) if terms else 0
        if kind == "unknown" and output is not None:
            output.append(next(label for label in range(52) if label not in sizes))
        elif kind == "twice" and output:
            output.append(rng.choice(output))
        elif kind == "more" or not terms:
            shapes.append([2, 3])
        elif kind == "fewer":
            shapes.pop()
        elif kind == "size" and shapes[position]:
            shapes[position][rng.randrange(len(shapes[position]))] += 1
        elif kind == "drop" and shapes[position]:
            shapes[position].pop()
        else:
            shapes[position].append(2)

    # Operands and keyword arguments

    def operands(self, shapes: list[list[int]], reuse: bool) -> list[Any]:
        rng = self.rng
        self.make.choose_values()
        made: list[Any] = []
        for shape, dtype in zip(shapes, self.dtypes(shapes), strict=True):
            same = [a for a in made if isinstance(a, np.ndarray) and list(a.shape) == shape]
            if reuse and same and self.chance(0.6):
                twin = rng.choice(same)
                flip = twin.ndim == 2 and twin.shape[0] == twin.shape[1] and self.chance(0.5)
                made.append(twin.T if flip else twin)
            else:
                made.append(self.make.operand(tuple(shape), dtype))
        return made

    def dtypes(self, shapes: list[list[int]]) -> list[str]:
        rng, choices = self.rng, self.profile.dtypes
        if len(shapes) == 1 and self.odd(0.04):
            return [rng.choice(("U3", "S2", "M8[s]", "m8[s]", "i4,f8"))]
        if self.chance(self.profile.mixed):
            drawn = [rng.choice(choices) for _ in shapes]
        else:
            drawn = [rng.choice(choices)] * len(shapes)
        # What a Python object times a long double is depends on which of them comes first, and
        # NumPy 2.4 writes an element into some results that have none, beyond their memory where
        # it is as large as a clongdouble.
        if "O" in drawn or any(0 in shape for shape in shapes):
            return [_NARROW.get(dtype, dtype) for dtype in drawn]
        return drawn

    def dtype_keyword(self, operands: list[Any]) -> Any:
        dtype = self.rng.choice(("f", "d", "D", "q", "e", "g", "?", "O", float, "int32", None))
        long = any(np.asarray(operand).dtype.char in "gG" for operand in operands)
        empty = any(0 in np.shape(operand) for operand in operands)
        return "d" if (dtype == "O" and long) or (dtype == "g" and empty) else dtype

    def keywords(
        self,
        terms: list[Term],
        output: Term | None,
        sizes: dict[int, int],
        batch: tuple[int, ...],
        operands: list[Any],
    ) -> dict[str, Any]:
        rng = self.rng
        kwargs: dict[str, Any] = {}
        if self.chance(0.18):
            kwargs["order"] = "X" if self.odd(0.02) else rng.choice(_ORDERS)
        if self.odd(0.12):
            kwargs["dtype"] = self.dtype_keyword(operands)
        if self.odd(0.15):
            kwargs["casting"] = "none" if self.odd(0.02) else rng.choice(_CASTINGS)
        if self.chance(0.3):
            kwargs["optimize"] = rng.choice(_OPTIMIZE)
        if self.chance(0.18):
            shape = _result_shape(terms, output, sizes, batch)
            kwargs["out"] = self.make.out(shape, operands)
        return kwargs

    # Spelling

    def spell(self, terms: list[Term], output: Term | None, count: int) -> tuple[Any, Any, bool]:
        """Return the subscripts, NumPy's spelling if that is another, and whether to list."""
        if terms and count >= len(terms) and self.chance(0.15):
            return self.spell_sublists(terms, output, count)
        if self.odd(0.05):
            renaming, original = self.renaming(terms, output)
            return _text(terms, output, renaming), _text(terms, output, original), False
        text = _text(terms, output, {})
        if self.odd(0.12):
            text = self.spaced(text)
        if self.odd(0.05):
            text = self.mistyped(text)
        if self.odd(0.03):
            return text.encode(), None, False
        return text, None, len(terms) == count > 1 and self.odd(0.02)

    def renaming(
        self, terms: list[Term], output: Term | None
    ) -> tuple[dict[int, str], dict[int, str]]:
        labels = sorted({label for term in [*terms, output or []] for label in term} - {...})
        wider = sorted(self.rng.sample(_WIDER, len(labels)))
        return dict(zip(labels, wider, strict=True)), {label: LETTERS[label] for label in labels}

    def spaced(self, text: str) -> str:
        kept = text.replace("...", "\1").replace("->", "\2")
        kept = "".join(c + " " * self.rng.choice((0, 0, 1, 2)) for c in kept)
        return kept.replace("\1", "...").replace("\2", "->")

    def mistyped(self, text: str) -> str:
        position = self.rng.randrange(len(text) + 1)
        if self.chance(0.5):
            return text[:position] + self.rng.choice(_STRAY) + text[position:]
        return text[:position] + text[position + 1 :]

    def spell_sublists(
        self, terms: list[Term], output: Term | None, count: int
    ) -> tuple[Any, Any, bool]:
        sublists: list[Any] = [list(term) for term in terms]
        sublists += [[] for _ in range(count - len(terms))]
        if output is not None:
            sublists.append(list(output))
        if self.odd(0.06):
            shift = {label: label + 40 for term in sublists for label in term if label is not ...}
            moved = [[shift.get(label, label) for label in term] for term in sublists]
            beyond = any(label is not ... and label >= 52 for term in moved for label in term)
            return tuple(moved), tuple(sublists) if beyond else None, False
        if output is not None and self.odd(0.04):
            named = [[_named(label) for label in term] for term in sublists]
            return tuple(named), tuple(sublists), False
        if self.odd(0.1):
            sublists = [self.other_sequence(term) for term in sublists]
        elif self.odd(0.05):
            self.rng.choice(sublists).append(self.rng.choice((-1, True, 0.5)))
        return tuple(sublists), None, False

    def other_sequence(self, term: list[Any]) -> Any:
        if term and ... not in term and self.chance(0.5):
            return np.array(term)
        return tuple(label if label is ... else np.int64(label) for label in term)


def _cumulative(weights: tuple[int, ...]) -> list[int]:
    return list(accumulate(weights))


def _numbers(letters: str) -> Term:
    return [LETTERS.index(letter) for letter in letters]


def _has_names(subscripts: Any) -> bool:
    return isinstance(subscripts, tuple) and any(
        isinstance(label, str | tuple) for term in subscripts for label in term
    )


def _named(label: Any) -> Any:
    """Turn a number into one of the other hashable labels that fastein takes."""
    return label if label is ... else (f"axis {label}", (label, "x"))[label % 2]


def _text(terms: list[Term], output: Term | None, names: dict[int, str]) -> str:
    def one(term: Term) -> str:
        return "".join(
            "..." if label is ... else names.get(label, LETTERS[label]) for label in term
        )

    text = ",".join(map(one, terms))
    return text if output is None else f"{text}->{one(output)}"


def _result_shape(
    terms: list[Term], output: Term | None, sizes: dict[int, int], batch: tuple[int, ...]
) -> tuple[int, ...]:
    if output is None:
        labels = [label for term in terms for label in term if label is not ...]
        output = [..., *sorted(label for label in set(labels) if labels.count(label) == 1)]
        if not any(... in term for term in terms):
            output = output[1:]
    shape: list[int] = []
    for label in output:
        shape += batch if label is ... else (sizes.get(label, 2),)
    return tuple(shape)
