"""``python -m fastein``: what can be done ahead of time."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from . import __version__
from .config import config
from .errors import EinsumError

if TYPE_CHECKING:
    from ._parser import Subscripts

DTYPES = ("float64", "float32", "complex128", "complex64")

Step = tuple[str, Callable[[], object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except EinsumError as reason:
        print(f"fastein: {reason}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastein", description="Prepare fastein on this machine."
    )
    parser.add_argument("--version", action="version", version=f"fastein {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    warmup = commands.add_parser(
        "warmup",
        help="compile kernels into the store, so that no process has to",
        description="Compile the kernels that contractions of these dtypes need, and those of "
        "the equations in a file, into the store.",
    )
    warmup.add_argument(
        "--dtypes",
        nargs="+",
        metavar="DTYPE",
        default=list(DTYPES),
        help=f"element types (by default {' '.join(DTYPES)})",
    )
    warmup.add_argument(
        "equations",
        nargs="?",
        metavar="FILE",
        help="a file with one equation and the shapes of its operands on each line, such as "
        "'ij,jk->ik 300x200 200x400'; '#' begins a comment; - reads from standard input",
    )
    warmup.set_defaults(run=_warmup)

    cache = commands.add_parser("cache", help="show or empty the store of kernels and rates")
    cache.add_argument("--clear", action="store_true", help="remove all")
    cache.set_defaults(run=_cache)
    return parser


def _warmup(options: argparse.Namespace) -> int:
    from .cpu.compiler import files

    own = files()
    if own is None or not own.is_writable():
        where = "cache_dir is None" if own is None else f"{own.folder} cannot be written to"
        raise EinsumError(f"there is no store to fill: {where}")
    names, equations = options.dtypes, options.equations
    if equations is None and len(names) > 1 and os.path.isfile(names[-1]):
        *names, equations = names  # --dtypes takes all that follows
    dtypes = [_dtype(name) for name in names]
    steps = [
        ("rates of this machine", _measure),
        *_dtype_steps(dtypes),
        *_equation_steps(_lines(equations), dtypes),
    ]
    start = time.perf_counter()
    with config(jit="always"), _progress(len(steps)) as advance:
        for name, build in steps:
            advance(name)
            build()
    seconds = time.perf_counter() - start
    sizes = own.sizes().values()
    print(f"{len(sizes)} kernels, {sum(sizes) / 1e3:.0f} kB, in {own.folder}   ({seconds:.1f} s)")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from .cpu import rates
    from .cpu.compiler import files

    own, measured = files(), rates.files()
    if own is None or measured is None:
        print("kernels are not stored: cache_dir is None")
        return 0
    if options.clear:
        own.clear()
        measured.clear()
    sizes = own.sizes().values()
    print(f"{own.folder}\n{len(sizes)} kernels, {sum(sizes) / 1e3:.0f} kB")
    machine = rates.kept()
    print("rates:", "not measured" if machine is None else rates.described(machine))
    return 0


def _lines(name: str | None) -> list[str]:
    if name is None:
        return []
    try:
        with sys.stdin if name == "-" else open(name, encoding="utf-8") as file:
            return list(file)
    except (OSError, UnicodeError) as reason:
        raise EinsumError(f"{name} cannot be read: {reason}") from None


def _dtype(name: str) -> str:
    import numpy as np

    try:
        return str(np.dtype(name).name)
    except TypeError:
        raise EinsumError(f"{name!r} is no dtype") from None


def _measure() -> None:
    from .cpu.calibration import ensure

    ensure()


def _dtype_steps(dtypes: Iterable[str]) -> Iterator[Step]:
    from .cpu.engine import engines_of
    from .cpu.tile import ARITHMETIC

    for dtype in dtypes:
        if dtype in ARITHMETIC:
            for engine in engines_of(dtype):
                yield f"contractions of {engine.what}", engine.build


def _equation_steps(lines: Iterable[str], dtypes: Iterable[str]) -> Iterator[Step]:
    """Yield what prepares the call on each line for each dtype; each line must make sense."""
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        with _mistakes_in(number):
            shapes = _shapes(words[0], words[1:])
        for dtype in dtypes:
            yield f"{words[0]} of {dtype}", _planning(number, words[0], shapes, dtype)


@contextmanager
def _mistakes_in(line: int) -> Iterator[None]:
    try:
        yield
    except (EinsumError, TypeError) as reason:
        raise EinsumError(f"line {line}: {reason}") from None


def _shapes(equation: str, words: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the operands' shapes, from the words behind their equation."""
    from ._parser import parse
    from .equation import bind, expand

    subscripts = parse(equation)
    try:
        shapes = [() if word == "()" else tuple(map(int, word.split("x"))) for word in words]
    except ValueError:
        shapes = []
    if len(shapes) != len(subscripts.terms):
        raise EinsumError(
            f"behind {equation!r} belongs the shape of each operand, and nothing else: sizes with "
            f"an x between, () for a scalar; such as\n    {_example(subscripts)}"
        )
    bind(expand(subscripts, shapes), shapes)
    return shapes


def _example(subscripts: Subscripts) -> str:
    """Return a line as it should be: the equation, and shapes that fit it."""
    sizes: dict[Hashable, str] = {}
    shapes = [
        "x".join([sizes.setdefault(x, f"{len(sizes) + 2}0") for x in term if x is not ...])
        for term in subscripts.terms
    ]
    return " ".join([subscripts.text, *[shape or "()" for shape in shapes]])


def _planning(
    line: int, equation: str, shapes: Iterable[tuple[int, ...]], dtype: str
) -> Callable[[], object]:
    """Return what makes the executable of a call, and so its kernels, without an array."""

    def build() -> object:
        import numpy as np

        from ._dispatch import normalised_options, plan_for
        from .cpu.target import CPU
        from .explanation import c_ordered

        with _mistakes_in(line):
            layouts = tuple([c_ordered(shape, np.dtype(dtype)) for shape in shapes])
            plan = plan_for(equation, layouts, None, normalised_options())
        return CPU.executable(plan)

    return build


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], None]]:
    """Show how far a number of steps is: a bar, if rich is there, else a line for each step."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        yield _line_by_line(count, sys.stderr)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count)
        begun = False

        def advance(name: str) -> None:
            nonlocal begun
            progress.update(task, description=name, advance=int(begun))
            begun = True

        yield advance


def _line_by_line(count: int, stream: TextIO) -> Callable[[str], None]:
    done = iter(range(1, count + 1))

    def advance(name: str) -> None:
        print(f"[{next(done)}/{count}] {name}", file=stream, flush=True)

    return advance


if __name__ == "__main__":
    sys.exit(main())
