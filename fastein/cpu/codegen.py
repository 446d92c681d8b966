"""The general CPU kernel: what its code depends on.

`form` keeps of a nest what the code depends on, `render` of :mod:`fastein.cpu.nest_source` writes
it. Both are pure: nests of the same form share one source, hence one compiled kernel, whatever
their sizes and strides.

The kernel takes the loops in the order in which the nest lists them:

* a trailing run of summed loops adds into a register (``total``), stored once: a dot product. If
  the loop around it re-reads an operand, several of its rows share every pass (``total1`` ...).
  Long sums are added up in parts, and what the additions of these lose is kept. Long rows from
  memory are read by blocks of vectors, with prefetches;
* otherwise the innermost loop runs along the output and stores every product: a map;
* summed loops further out make the stores additions, after a pass that zeroes what they add to,
  so that the old content of the output is never read. If the next loop around a map is summed,
  several of its rows go into every pass over the output, which then is read and written as much
  less often (column sums 18 to 28 GB/s, a 200x200 float32 matrix product 28 to 56 GFLOP/s).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..record import Record
from .nest_source import part_terms, render
from .rendering import ITEMSIZE, KernelForm

#: Goes into the key of every stored kernel: raise it when `render` or the primitives change.
VERSION = 10

# Strides of an input that are constants of the code: vectors are read whole and their elements
# picked, in place of gathered or read one by one. Dots of 8,000 pairs, every second element, us:
# int8 4.7 and 0.6, float16 9.1 and 1.4, float32 5.9 and 1.2, float64 6.0 and 1.7, complex64 7.0 and
# 2.6; every third or fourth float64 6.1 and 3.2 or 4.2. Every third complex128 loses.
MOST_STEP = 4  # elements
MOST_STEP_BYTES = 32

# Compiling takes 0.03 to 0.2 s in the usual cases, 0.9 s for 10 loops, 5 s for 20: beyond these
# bounds the baseline serves for ever.
MAX_RANK = 12
MAX_INPUTS = 32

# Rows in one pass over the output, or over another operand: 8 gain in column sums (28 to 32 GB/s)
# what they lose in products (57 to 52 GFLOP/s). With many inputs the copies only cost compile time.
ROWS = 4
STREAMED_ROWS = 8
JAM_INPUTS = 4

# What `_rows` goes by. A matrix of 200 columns times a vector: 32 GB/s, four rows at a time 12; of
# 6,000 columns: 20 GB/s, four rows at a time 28.
STREAM = 1 << 20  # bytes
REUSE = 4
LONG = 4096  # terms of a sum from where on it is added up in parts
DOT_ROW = 16 << 10
# Sums by blocks, with prefetches, pay past the last cache (float64: 128 MB in 3.4 ms in place of
# 4.2) and not within (3 MB in 46 us in place of 35), nor where elements are converted or split.
BLOCK_ROW = 4 << 10
BLOCKED = 16e6  # bytes
MAP_ROW = 4 << 10


class CannotCompile(Exception):  # noqa: N818 (a fact about the nest, not a fault)
    """This nest has no generated kernel; the ahead-of-time baseline runs it."""


class Form(KernelForm, Record):
    """The static key of a kernel: all that its source depends on.

    Attributes
    ----------
    dtype : str
        Name of the one dtype of all operands.
    summed : tuple of bool
        Per loop, outermost first: is it summed?
    access : tuple of str
        Per operand (inputs, then the output) one character per loop: ``"0"`` where the operand
        stands still, ``"1"`` where it moves by one element, ``"2"`` to ``"4"`` where an input moves
        by so many (told apart on the innermost loop only), ``"s"`` where it moves by any other
        stride.
    shared : int
        The loop of which the kernel does a share, from ``begin`` to ``end``.
    long : bool
        Whether the innermost loop is a sum that is added up in parts.
    wide : bool
        Whether the output is float32, for inputs of float16.
    rows : int
        How many rows share a pass (see `jammed`), where they can.
    streams : int
        Elements of a vector that is written past the caches; 0 if the output goes through them.
    block : int
        Elements of the innermost, contiguous sum that are read at once, while those to come are
        asked for; 0 if the loop is left to the compiler.
    """

    dtype: str
    summed: tuple[bool, ...]
    access: tuple[str, ...]
    shared: int = 0
    long: bool = False
    wide: bool = False
    rows: int = ROWS
    streams: int = 0
    block: int = 0

    @property
    def trailing(self) -> int:
        """Index of the first loop of the trailing run of summed loops (`rank` if there is none)."""
        depth = self.rank
        while depth and self.summed[depth - 1]:
            depth -= 1
        return depth

    @property
    def jammed(self) -> int | None:
        """The loop of which `rows` rows share one pass over an operand; or None.

        It is the summed loop right around a map, or the loop around a dot product along which one
        factor moves and another stands still.
        """
        depth = min(self.trailing, self.rank - 1) - 1
        if depth < 0 or self.nin > JAM_INPUTS or self.rows == 1:
            return None
        if self.trailing == self.rank:
            return depth if self.summed[depth] else None
        inner = [access[depth] for access in self.access[:-1] if access[-1] != "0"]
        return depth if self.trailing == self.rank - 1 and len(set(inner)) > 1 else None

    @property
    def accumulates(self) -> bool:
        """Whether a summed loop encloses an output loop, so that stores add to the output."""
        return any(self.summed[: self.trailing])

    @property
    def written(self) -> str:
        """The dtype of the output."""
        return "float32" if self.wide else self.dtype

    def source(self) -> str:
        """Return the source of the kernel."""
        return render(self)

    def __str__(self) -> str:
        how = ["loops " + "".join("+" if summed else "." for summed in self.summed)]
        if self.jammed is not None:
            how.append(f"{self.rows} rows a pass")
        if self.long:
            how.append(f"parts of {part_terms(self)}")
        if self.wide:
            how.append("summed in float32")
        if self.streams:
            how.append("streaming stores")
        if self.block:
            how.append(f"blocks of {self.block}, prefetched")
        return ", ".join(how)


def form(
    nest: Any,
    shared: int = 0,
    wide: bool = False,
    vector_bytes: int = 0,
    block_bytes: int = 0,
) -> Form:
    """Return the form of a `LoopNest`.

    Parameters
    ----------
    nest : LoopNest
        Its loops run in the order of its axes.
    shared : int
        The loop of which a kernel does a share.
    wide : bool
        Whether the output, whose strides the nest has, is float32 for inputs of float16.
    vector_bytes : int
        Bytes of a vector if the output is to be written past the caches, where that can be.
    block_bytes : int
        Bytes that are read at once of a sum that comes from memory.

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

    item, written = ITEMSIZE[name], ITEMSIZE["float32" if wide else name]
    most = min(MOST_STEP, MOST_STEP_BYTES // item)
    kinds = [{item * step: str(step) for step in range(1, most + 1)}] * nest.nin + [{written: "1"}]

    def access(strides: Sequence[int], steps: dict[int, str]) -> str:
        *outer, last = [*strides] or [0]
        inner = steps.get(last, "s") if last else "0"
        return ("".join("s" if step else "0" for step in outer) + inner)[:rank]

    summed = tuple(map(bool, nest.summed))
    rounds = nest.dtype.kind in "fc"
    long = rank > 0 and summed[-1] and rounds and nest.sizes[-1] > LONG
    accesses = tuple(map(access, nest.strides, kinds))
    found = Form(name, summed, accesses, shared, long, wide)
    if vector_bytes and _can_stream(found):
        return found.replace(streams=vector_bytes // ITEMSIZE[name])
    if found.jammed is not None:
        found = found.replace(rows=_rows(nest, ITEMSIZE[name]))
    if block_bytes and _has_blocks(nest, found):
        found = found.replace(block=block_bytes // ITEMSIZE[name])
    return found


def _can_stream(form: Form) -> bool:
    """Whether vectors are written whole: by a map that is contiguous and adds up nothing."""
    along = {access[-1:] for access in form.access[: form.nin]}
    contiguous = form.access[form.nin][-1:] == "1" and along <= {"0", "1"} and "1" in along
    return contiguous and not any(form.summed)


def _has_blocks(nest: Any, form: Form) -> bool:
    """Whether the innermost loop sums long rows from memory, one at a time."""
    if form.jammed is not None or form.summed[-1:] != (True,):
        return False
    along = {access[-1] for access in form.access[: form.nin]}
    item = ITEMSIZE[form.dtype]
    return (
        along <= {"0", "1"}
        and not (nest.is_half or nest.dtype.kind == "c")
        and nest.sizes[-1] * item >= BLOCK_ROW
        and _largest(nest) * item >= BLOCKED
    )


def _rows(nest: Any, itemsize: int) -> int:
    """Return how many rows are to share a pass, which costs as many streams from memory.

    It pays within the caches, where elements are used again and again, and where a row is too
    long for the first cache to hold what is met again in the next one.
    """
    largest = _largest(nest)
    if largest * itemsize < STREAM or prod(nest.sizes) >= REUSE * largest:
        return ROWS
    longest = DOT_ROW if nest.summed[-1] else MAP_ROW
    return STREAMED_ROWS if nest.sizes[-1] * itemsize > longest else 1


def _largest(nest: Any) -> int:
    """Return the elements of the largest input."""
    return max(_elements(nest.sizes, strides) for strides in nest.strides[: nest.nin])


def _elements(sizes: Sequence[int], strides: Sequence[int]) -> int:
    return prod([n for n, stride in zip(sizes, strides, strict=True) if stride])
