"""Text of generated source: names of loops and operands, lines that are wrapped and indented.

Names are made here from numbers; none of the user's labels reaches generated source.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

WIDTH = 96

ITEMSIZE = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
    **{f"complex{bits}": bits // 8 for bits in (64, 128)},
}

REMARKS = {"bool": "bool: OR of AND", "float16": "float16, summed in float32"}


class KernelForm:
    """What the code of a kernel depends on, and the names in it.

    Forms are records with fields `dtype`, `summed` (per loop) and `access` (per operand,
    the output last, and loop; ``"0"`` or 0 where the operand stands still).
    """

    __slots__ = ()

    dtype: str
    summed: tuple[bool, ...]
    access: tuple[Any, ...]

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.access) - 1

    @property
    def rank(self) -> int:
        """Number of loops."""
        return len(self.summed)

    def source(self) -> str:
        """Return the source of the kernel."""
        raise NotImplementedError

    def loop(self, depth: int) -> str:
        """Return the name of a loop's counter."""
        return loop_name(self.rank, depth)

    def operand(self, op: int) -> str:
        """Return the name of an operand."""
        return operand_name(self.nin, op)

    def step(self, op: int, depth: int) -> str:
        """Return the name of an operand's stride."""
        return f"step_{self.operand(op)}{self.loop(depth)}"

    def moves(self, op: int) -> list[int]:
        """Return the loops that move an operand, outermost first."""
        return [depth for depth, kind in enumerate(self.access[op]) if kind not in ("0", 0)]

    def heading(self, notes: list[str]) -> list[str]:
        """Say what the kernel computes, in comments, and what else there is to know."""
        moves = [[self.loop(depth) for depth in self.moves(op)] for op in range(self.nin + 1)]
        sums = [self.loop(depth) for depth, summed in enumerate(self.summed) if summed]
        return heading(moves, sums, "; ".join([REMARKS.get(self.dtype, self.dtype), *notes]))


def loop_name(rank: int, depth: int) -> str:
    """Return the counter of loop `depth` among `rank` loops."""
    letters = "ijklmnpqrstuvwxyz"
    return letters[depth] if rank <= len(letters) else f"i{depth}"


def operand_name(nin: int, op: int) -> str:
    """Return the name of operand `op` where there are `nin` inputs, the output being the last."""
    if op == nin:
        return "out"
    return "abcdefgh"[op] if nin <= 8 else f"a{op}"


def listing(names: list[str]) -> str:
    """Return ``x``, ``x and y``, ``x, y and z``, or ``x ... z``."""
    if len(names) > 4:
        return f"{names[0]} ... {names[-1]}"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def heading(access: list[list[str]], sums: list[str], notes: str) -> list[str]:
    """Say what a kernel computes, in comments.

    Parameters
    ----------
    access : list of list of str
        For each operand the loops that move it, the output last.
    sums : list of str
        The loops that are summed.
    notes : str
        What comes in brackets.
    """

    def element(op: int) -> str:
        name = operand_name(len(access) - 1, op)
        return f"{name}[{f',{chr(0)}'.join(access[op])}]" if access[op] else name

    *inputs, output = map(element, range(len(access)))
    summing = f"sum over {', '.join(sums)} of " if sums else ""
    return lines(f"{output} = {summing}{' * '.join(inputs)}   ({notes})", WIDTH, "# ", "#     ")


def wrap(target: str, factors: list[str]) -> list[str]:
    """Return ``target product`` on one line, or bracketed over several when it is long."""
    product = " * ".join(factors)
    if len(target) + len(product) <= WIDTH // 2 or len(factors) == 1:
        return [f"{target} {product}"]
    return [f"{target} (", *indent(joined(factors, " * ")), ")"]


def joined(terms: list[str], operator: str) -> list[str]:
    """Return ``term operator term ...`` in lines of moderate width, broken between terms only."""
    return lines(operator.join(term.replace(" ", "\0") for term in terms), WIDTH // 2)


def lines(text: str, width: int, initial: str = "", hanging: str = "") -> list[str]:
    """Wrap `text` at its spaces; NUL characters become spaces that it is not broken at."""
    wrapped = textwrap.wrap(
        text,
        width,
        initial_indent=initial,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in wrapped]


def assign(values: dict[str, str]) -> list[str]:
    """Return ``x, y = p, q``, a few names a line."""
    names = list(values)
    groups = [names[start : start + 4] for start in range(0, len(names), 4)]
    return [f"{', '.join(g)} = {', '.join(values[name] for name in g)}" for g in groups]


def indent(body: Iterable[str]) -> list[str]:
    """Indent lines by one level."""
    return [f"    {line}" if line else "" for line in body]


def function(header: list[str], body: list[str]) -> str:
    """Return the source of a kernel, in the ABI's parameters."""
    head = "def nest(data, shape, strides, scratch, begin, end):"
    return "\n".join([*header, head, *indent(body)]) + "\n"
