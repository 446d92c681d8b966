"""The order in which operands are contracted.

The search itself is opt_einsum's; this module says what may be asked for, turns every answer
into one form, and decides when no order is better than a single nest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

from .errors import EinsumError
from .forks import no_fork

Term = tuple[int, ...]
Path = tuple[tuple[int, ...], ...]

# Below this many multiplications a single nest beats any order: a step costs more than it saves.
SMALL_WORK = 4096


class UnknownOptimizeError(EinsumError, KeyError):
    """No strategy has this name (a KeyError too, which is what NumPy raises)."""

    def __str__(self) -> str:
        return str(self.args[0])


class IncompletePathError(EinsumError, RuntimeError):
    """A path leaves operands over (a RuntimeError too, which is what NumPy raises)."""


def contraction_path(
    terms: Sequence[Term],
    output: Term,
    sizes: Sequence[int],
    optimize: Any = "auto",
    memory_limit: int | None = None,
) -> Path:
    """Positions contracted at each step, each result appended at the end.

    Parameters
    ----------
    terms, output : labels of the operands and of the result
    sizes : size of every label
    optimize : bool, str, tuple, list, callable or None
        False or None: everything in one step. ``'auto'`` or True: opt_einsum's choice, unless
        one step costs no more. The name of an opt_einsum strategy, ``(name, memory limit)``,
        an explicit path with or without NumPy's leading ``'einsum_path'``, or any callable
        with the signature of opt_einsum's path functions.
    memory_limit : int or None
        Largest intermediate, in elements.

    Raises
    ------
    EinsumError
        If the strategy is unknown (then also a KeyError), or the path does not fit (also a
        RuntimeError where it leaves operands over).
    TypeError
        If `optimize` is of another kind.
    """
    everything = (tuple(range(len(terms))),)
    if optimize is False or optimize is None:
        return everything
    if isinstance(optimize, (tuple, list)):
        if len(optimize) == 2 and isinstance(optimize[0], str) and optimize[0] != "einsum_path":
            if not isinstance(optimize[1], (int, float)):
                raise TypeError(f"the memory limit must be a number, not {optimize[1]!r}")
            if not optimize[1] > -inf:
                raise EinsumError(f"the memory limit must be a number, not {optimize[1]!r}")
            memory_limit = int(min(optimize[1], 2**63 - 1))
            optimize = optimize[0]
        else:
            return _explicit(optimize, len(terms))
    if optimize is True:
        optimize = "auto"
    if not isinstance(optimize, str) and not callable(optimize):
        raise TypeError(
            "optimize must be a bool, a strategy's name, (name, limit), a path or a path "
            f"function, not {optimize!r}"
        )
    if len(terms) <= 2:
        if isinstance(optimize, str) and optimize not in {"auto", "greedy", "optimal"}:
            _strategy(optimize)
        return everything
    if optimize == "auto":
        alone = loop_cost(terms, output, sizes)
        if alone <= SMALL_WORK * len(terms):
            return everything
        path = _search(terms, output, sizes, "auto", memory_limit)
        return path if path_cost(terms, output, sizes, path) < alone else everything
    return _search(terms, output, sizes, optimize, memory_limit)


def loop_cost(terms: Sequence[Term], output: Term, sizes: Sequence[int]) -> int:
    """Multiplications and additions of one nest over all labels."""
    labels = {label for term in terms for label in term}.union(output)
    return prod(sizes[label] for label in labels) * len(terms)


def path_cost(terms: Sequence[Term], output: Term, sizes: Sequence[int], path: Path) -> int:
    """Multiplications and additions of all steps of a path."""
    return sum(loop_cost(inputs, kept, sizes) for _, inputs, kept in walk(terms, output, path))


def walk(
    terms: Sequence[Term], output: Term, path: Path
) -> list[tuple[tuple[int, ...], tuple[Term, ...], Term]]:
    """For each step: the positions taken, their terms, and the term of the result.

    Labels of an intermediate stand in the order of the first operand, then of the second, so
    that a product of matrices is written row by row. The last step has the output itself.
    """
    left = list(terms)
    # how often each label is still needed by the operands that are left or by the output
    need: dict[int, int] = {}
    for term in [*terms, output]:
        for label in set(term):
            need[label] = need.get(label, 0) + 1
    steps = []
    for number, positions in enumerate(path):
        taken = tuple(left[p] for p in positions)
        for p in sorted(positions, reverse=True):
            del left[p]
        for term in taken:
            for label in set(term):
                need[label] -= 1
        if number == len(path) - 1:
            kept = output
        else:
            kept = tuple(dict.fromkeys(x for term in taken for x in term if need[x] > 0))
            for label in kept:
                need[label] += 1
        left.append(kept)
        steps.append((positions, taken, kept))
    return steps


def _explicit(path: Sequence[Any], count: int) -> Path:
    """Check that a path takes operands that are there, each once, and leaves one."""
    steps = list(path[1:] if path and path[0] == "einsum_path" else path)
    left = count
    checked: list[tuple[int, ...]] = []
    for step in steps:
        if not isinstance(step, (tuple, list)) or not step:
            raise TypeError(f"a contraction path is a list of tuples of positions, not {path!r}")
        positions = tuple([_position(p, left) for p in step])
        if len(set(positions)) != len(positions) or not all(0 <= p < left for p in positions):
            raise EinsumError(
                f"step {len(checked)} of the contraction path takes operands {tuple(step)}, "
                f"but {left} operands are left, numbered from 0"
            )
        checked.append(positions)
        left -= len(positions) - 1
    if left > 1:
        raise IncompletePathError(
            f"the contraction path leaves {left} operands uncontracted: {tuple(path)!r}"
        )
    return tuple(checked) or ((0,),)


def _position(given: Any, left: int) -> int:
    """A position among the operands left (negative ones count from the end), -1 if it is none."""
    if not hasattr(given, "__index__"):
        return -1
    position: int = given.__index__()
    return position + left if position < 0 else position


def _strategy(name: str) -> Any:
    with no_fork:
        from opt_einsum import paths

    try:
        return paths.get_path_fn(name)
    except KeyError:
        known = ", ".join(sorted(paths._PATH_OPTIONS))
        raise UnknownOptimizeError(
            f"no path strategy is called {name!r}; there are: {known}"
        ) from None


def _search(
    terms: Sequence[Term],
    output: Term,
    sizes: Sequence[int],
    optimize: Any,
    memory_limit: int | None,
) -> Path:
    with no_fork:
        from opt_einsum import get_symbol

    finder = _strategy(optimize) if isinstance(optimize, str) else optimize
    symbols = [get_symbol(label) for label in range(len(sizes))]
    inputs = [frozenset(symbols[x] for x in term) for term in terms]
    kept = frozenset(symbols[x] for x in output)
    try:
        found = finder(inputs, kept, dict(zip(symbols, sizes, strict=True)), memory_limit)
    except RuntimeError as reason:
        if memory_limit is None:
            raise
        raise EinsumError(
            f"{optimize!r} finds no path with intermediates of at most {memory_limit} elements"
        ) from reason
    return _explicit([tuple(sorted(step)) for step in found], len(terms))
