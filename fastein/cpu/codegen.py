"""Source of the general CPU kernel: a loop nest as readable Python over typed primitives.

`form` keeps of a nest what its code depends on, `render` writes the code. Both are pure: nests of
the same form share one source, hence one compiled kernel, whatever their sizes and strides.

The kernel takes the loops in the order in which the nest lists them:

* a trailing run of summed loops adds into a register (``total``), stored once: a dot product;
* otherwise the innermost loop runs along the output and stores every product: a map;
* summed loops further out make the stores additions, after a pass that zeroes what they add to,
  so that the old content of the output is never read. If the next loop around a map is summed,
  four of its rows go into every pass over the output, which then is read and written a quarter
  as often (column sums 18 to 28 GB/s, a 200x200 float32 matrix product 28 to 56 GFLOP/s).

An address moves outwards as far as it can: ``a_i`` is where ``a`` stands in iteration ``i``, and
an operand that the inner loops do not move is read before them. In the rendered source a pointer
counts in bytes: ``a_i[j * step_aj]`` is the element ``j * step_aj`` bytes behind ``a_i``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from ..record import Record

#: Goes into the key of every stored kernel: raise it when `render` or the primitives change.
VERSION = 1

ITEMSIZE = {
    "bool": 1,
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
    **{f"complex{bits}": bits // 8 for bits in (64, 128)},
}
# Compiling takes 0.03 to 0.2 s in the usual cases, 0.9 s for 10 loops, 5 s for 20: beyond these
# bounds the baseline serves for ever.
MAX_RANK = 12
MAX_INPUTS = 32

# Rows of a summed loop in one pass over the output. 8 gain in column sums (28 to 32 GB/s) what
# they lose in products (57 to 52 GFLOP/s). With many inputs the copies only cost compile time.
ROWS = 4
JAM_INPUTS = 4

#: Dtypes that processors gather. A dot product over a strided operand of these is vectorised by
#: ``gathered`` (44 to 18 us for 'ij,ji->' of 200x200 float64); maps and the others lose by it.
GATHERED = frozenset({"int32", "uint32", "int64", "uint64", "float32", "float64"})

_WIDTH = 96
_REMARKS = {"bool": "bool: OR of AND", "float16": "float16, summed in float32"}


class CannotCompile(Exception):  # noqa: N818 (a fact about the nest, not a fault)
    """This nest has no generated kernel; the ahead-of-time baseline runs it."""


class Form(Record):
    """The static key of a kernel: all that its source depends on.

    Attributes
    ----------
    dtype : str
        Name of the one dtype of all operands.
    summed : tuple of bool
        Per loop, outermost first: is it summed?
    access : tuple of str
        Per operand (inputs, then the output) one character per loop: ``"0"`` where the operand
        stands still, ``"1"`` where it moves by one element (told apart on the innermost loop
        only), ``"s"`` where it moves by any other stride.
    """

    dtype: str
    summed: tuple[bool, ...]
    access: tuple[str, ...]

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.access) - 1

    @property
    def rank(self) -> int:
        """Number of loops."""
        return len(self.summed)

    @property
    def trailing(self) -> int:
        """Index of the first loop of the trailing run of summed loops (`rank` if there is none)."""
        depth = self.rank
        while depth and self.summed[depth - 1]:
            depth -= 1
        return depth

    @property
    def jammed(self) -> int | None:
        """The summed loop right around a map, `ROWS` of whose rows share one pass; or None."""
        depth = self.rank - 2
        around_map = depth >= 0 and self.trailing == self.rank and self.summed[depth]
        return depth if around_map and self.nin <= JAM_INPUTS else None

    @property
    def accumulates(self) -> bool:
        """Whether a summed loop encloses an output loop, so that stores add to the output."""
        return any(self.summed[: self.trailing])


def form(nest: Any) -> Form:
    """Return the form of a `LoopNest`.

    Raises
    ------
    CannotCompile
        If no kernel is generated for the nest's dtype, rank or number of inputs.
    """
    name, rank = nest.dtype.name, len(nest.sizes)
    if name not in ITEMSIZE:
        raise CannotCompile(f"no generated kernels for dtype {name}")
    if rank > MAX_RANK:
        raise CannotCompile(f"{rank} loops; generated kernels have at most {MAX_RANK}")
    if nest.nin > MAX_INPUTS:
        raise CannotCompile(f"{nest.nin} inputs; generated kernels take at most {MAX_INPUTS}")

    def access(strides: tuple[int, ...]) -> str:
        units = (ITEMSIZE[name] if loop == rank - 1 else None for loop in range(rank))
        return "".join(
            "0" if stride == 0 else "1" if stride == unit else "s"
            for stride, unit in zip(strides, units, strict=True)
        )

    return Form(name, tuple(map(bool, nest.summed)), tuple(map(access, nest.strides)))


def render(form: Form) -> str:
    """Return the source of the kernel: one function, ``nest``, in the ABI's parameters."""
    assert not (form.dtype == "float16" and form.accumulates), (
        "float16 rounds once: its summed loops must be innermost"
    )
    body = [*_prologue(form), *([""] if form.rank else []), *_level(form, 0)]
    lines = [
        *_header(form),
        "def nest(data, shape, strides, scratch, begin, end):",
        *_indent(body),
    ]
    return "\n".join(lines) + "\n"


# Names. They are generated, never the user's labels.


def _loop(form: Form, depth: int) -> str:
    letters = "ijklmnpqrstuvwxyz"
    return letters[depth] if form.rank <= len(letters) else f"i{depth}"


def _operand(form: Form, op: int) -> str:
    if op == form.nin:
        return "out"
    return "abcdefgh"[op] if form.nin <= 8 else f"a{op}"


def _step(form: Form, op: int, depth: int) -> str:
    return f"step_{_operand(form, op)}{_loop(form, depth)}"


def _moves(form: Form, op: int) -> list[int]:
    """Return the loops that move operand `op`, outermost first."""
    return [depth for depth, kind in enumerate(form.access[op]) if kind != "0"]


def _at(form: Form, op: int, loops: list[int], row: int = 0) -> str:
    """Name operand `op` within `loops`: a pointer, or its element once all its loops are in."""
    subscripts = [_loop(form, depth) for depth in loops]
    glue = "" if all(len(name) == 1 for name in subscripts) else "_"
    name = "_".join([_operand(form, op), *([glue.join(subscripts)] if subscripts else [])])
    return f"{name}{row}" if row and form.jammed in loops else name


def _offset(form: Form, op: int, depth: int, row: int = 0) -> str:
    unit = form.access[op][depth] == "1"
    step = str(ITEMSIZE[form.dtype]) if unit else _step(form, op, depth)
    index = f"({_loop(form, depth)} + {row})" if row else _loop(form, depth)
    return index if step == "1" else f"{index} * {step}"


def _cell(form: Form, op: int, row: int = 0) -> str:
    """Return the subscript expression of the element that all loops of operand `op` lead to."""
    *outer, last = _moves(form, op) or [-1]
    offset = _offset(form, op, last) if last >= 0 else "0"
    return f"{_at(form, op, outer, row)}[{offset}]"


# Pieces of the source, as lists of lines that their callers indent.


def _header(form: Form) -> list[str]:
    """Say what the kernel computes and how the innermost loop meets the operands."""

    def element(op: int) -> str:
        loops = ",\0".join(_loop(form, depth) for depth in _moves(form, op))
        return f"{_operand(form, op)}[{loops}]" if loops else _operand(form, op)

    sums = ", ".join(_loop(form, depth) for depth in range(form.rank) if form.summed[depth])
    product = " * ".join(element(op) for op in range(form.nin))
    meaning = f"{element(form.nin)} = {f'sum over {sums} of ' if sums else ''}{product}"
    notes = "; ".join([_REMARKS.get(form.dtype, form.dtype), *_strides(form)])
    return _lines(f"{meaning}   ({notes})", _WIDTH, "# ", "#     ")


def _strides(form: Form) -> list[str]:
    """Say which operands the innermost loop reads contiguously and which by strides."""
    if not form.rank:
        return []
    groups = [
        f"{_listing(names)} {word}"
        for kind, word in (("1", "contiguous"), ("s", "strided"))
        if (names := [_operand(form, op) for op, way in enumerate(form.access) if way[-1] == kind])
    ]
    return [f"along {_loop(form, form.rank - 1)}: {', '.join(groups)}"] if groups else []


def _listing(names: list[str]) -> str:
    """Return ``x``, ``x and y``, ``x, y and z``, or ``x ... z``."""
    if len(names) > 4:
        return f"{names[0]} ... {names[-1]}"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _prologue(form: Form) -> list[str]:
    """Name the arguments: operands, sizes, steps."""
    lines = []
    for op in range(form.nin):
        # An operand that no loop moves is one number.
        element = "" if _moves(form, op) else "[0]"
        lines.append(f"{_operand(form, op)} = operand(data, {op}, {form.dtype}){element}")
    lines.append(f"out = output(data, {form.nin}, {form.dtype})")
    sizes = {_loop(form, depth).upper(): f"shape[{depth}]" for depth in range(1, form.rank)}
    lines += _assign(sizes)
    for op, access in enumerate(form.access):
        steps = {
            _step(form, op, depth): _stride(form, op, depth)
            for depth, kind in enumerate(access)
            if kind == "s"
        }
        lines += _assign(steps)
    return lines


def _stride(form: Form, op: int, depth: int) -> str:
    stride = f"strides[{op * form.rank + depth}]"
    along = form.dtype in GATHERED and depth == form.rank - 1 and form.summed[depth]
    return f"gathered({stride})" if along else stride


def _level(form: Form, depth: int) -> list[str]:
    """Return the loops from `depth` inwards, with what goes before and after them."""
    store = "+=" if form.accumulates else "="
    if depth == form.rank:
        reduces = form.trailing < form.rank
        return _wrap("total +=" if reduces else f"{_cell(form, form.nin)} {store}", _product(form))
    loops = _jam(form, depth) if depth == form.jammed else _around(form, depth)
    if depth == form.trailing:
        return [f"total = zero({form.dtype})", *loops, f"{_cell(form, form.nin)} {store} total"]
    if form.accumulates and depth == form.summed.index(True):
        return [*_fill(form, depth + 1), *loops]
    return loops


def _around(form: Form, depth: int, span: str = "") -> list[str]:
    """Return loop `depth` around everything inside it."""
    body = [*_enter(form, depth, range(form.nin + 1)), *_level(form, depth + 1)]
    return _for(form, depth, body, span)


def _jam(form: Form, depth: int) -> list[str]:
    """Return the summed loop `depth` around a map: several rows a pass, then the rows left."""
    start, stop = ("0", _loop(form, depth).upper()) if depth else ("begin", "end")
    whole = f"{stop} // {ROWS} * {ROWS}" if depth else f"begin + (end - begin) // {ROWS} * {ROWS}"
    rows = range(ROWS)
    products = [" * ".join(_product(form, row)) for row in rows]
    sums = [f"{_cell(form, form.nin)} += (", *_indent(_joined(products, " + ")), ")"]
    body = [line for row in rows for line in _enter(form, depth, range(form.nin), row)]
    body += _for(form, depth + 1, sums)
    return [
        f"whole = {whole}",
        *_for(form, depth, body, f"range({start}, whole, {ROWS})"),
        *_around(form, depth, f"range(whole, {stop})"),
    ]


def _fill(form: Form, depth: int) -> list[str]:
    """Return the loops that zero the part of the output under loop `depth`."""
    if depth >= form.trailing:
        return [f"{_cell(form, form.nin)} = zero({form.dtype})"]
    if form.summed[depth]:
        return _fill(form, depth + 1)
    body = [*_enter(form, depth, [form.nin]), *_fill(form, depth + 1)]
    return _for(form, depth, body)


def _for(form: Form, depth: int, body: list[str], span: str = "") -> list[str]:
    loop = _loop(form, depth)
    span = span or (f"range({loop.upper()})" if depth else "range(begin, end)")
    return [f"for {loop} in {span}:", *_indent(body)]


def _enter(form: Form, depth: int, operands: Iterable[int], row: int = 0) -> list[str]:
    """Return what loop `depth` fixes for the loops inside it: addresses and finished elements."""
    lines = []
    for op in operands:
        loops = _moves(form, op)
        if depth not in loops:
            continue
        inner, here = loops[: loops.index(depth)], loops[: loops.index(depth) + 1]
        before, offset = _at(form, op, inner), _offset(form, op, depth, row)
        name = _at(form, op, here, row)
        if here == loops:
            if op < form.nin and depth < form.rank - 1:
                lines.append(f"{name} = {before}[{offset}]")
        elif row:
            lines.append(f"{name} = {_at(form, op, here, row - 1)} + {_step(form, op, depth)}")
        else:
            lines.append(f"{name} = {before} + {offset}")
    return lines


def _product(form: Form, row: int = 0) -> list[str]:
    """Return the factors in order: an element read already, or the subscript that reads it."""

    def factor(op: int) -> str:
        loops = _moves(form, op)
        inner = bool(loops) and loops[-1] == form.rank - 1
        return _cell(form, op, row) if inner else _at(form, op, loops, row)

    return [factor(op) for op in range(form.nin)]


def _wrap(target: str, factors: list[str]) -> list[str]:
    """Return ``target product`` on one line, or bracketed over several when it is long."""
    product = " * ".join(factors)
    if len(target) + len(product) <= _WIDTH // 2 or len(factors) == 1:
        return [f"{target} {product}"]
    return [f"{target} (", *_indent(_joined(factors, " * ")), ")"]


def _joined(terms: list[str], operator: str) -> list[str]:
    """Return ``term operator term ...`` in lines of moderate width, broken between terms only."""
    return _lines(operator.join(term.replace(" ", "\0") for term in terms), _WIDTH // 2)


def _lines(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    """Wrap `text` at its spaces; NUL characters become spaces that it is not broken at."""
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _assign(values: dict[str, str]) -> list[str]:
    """Return ``x, y = p, q``, a few names a line."""
    names = list(values)
    groups = [names[start : start + 4] for start in range(0, len(names), 4)]
    return [f"{', '.join(g)} = {', '.join(values[name] for name in g)}" for g in groups]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
