"""The register tile of a contraction, and the kernel that runs it over packed panels.

A tile is a few vectors of rows times a few columns of the result, held in registers while the
summed index runs: every step loads the vectors once, broadcasts one scalar per column and does
one fused multiply-add per accumulator. Both operands were packed into panels before
(:mod:`fastein.cpu.packing`), so that the tile reads memory from front to back.

The tile is explicit-vector LLVM IR: what LLVM's vectoriser makes of the same loops reaches half
of the processor's peak. The loops around it are generated source.

One kernel serves every contraction of a dtype: operands' and results' strides come in as tables
of offsets. After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008), and Van Zee and van de Geijn, "BLIS" (2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..record import Record
from .isa import Isa

if TYPE_CHECKING:
    from .compiler import Kernel

#: Goes into the key of every stored kernel: raise it when the source or the tile changes.
VERSION = 8


class Arithmetic(Record):
    """What the elements of a dtype are in packed panels and in registers.

    Attributes
    ----------
    packed : str
        Name of the packed elements' kind in `fastein.cpu.packing`.
    lane : str
        LLVM's type of one vector lane.
    itemsize : int
        Bytes of a packed element; one lane, or two for complex.
    steps : int
        Steps of the sum in one packed element, a *word*: `fastein.cpu.words`.
    """

    packed: str
    lane: str
    itemsize: int
    steps: int = 1

    @property
    def lanes(self) -> int:
        """Lanes of one element: complex numbers stay pairs of neighbouring lanes."""
        return self.itemsize // LANE_BYTES[self.lane]


LANE_BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}

# Integers wrap around: 8 bits are multiplied in 16, the narrowest product that processors have
# without dot products.
ARITHMETIC = {
    "float32": Arithmetic("raw4", "float", 4),
    "float64": Arithmetic("raw8", "double", 8),
    "complex64": Arithmetic("raw8", "float", 8),
    "complex128": Arithmetic("raw16", "double", 16),
    "float16": Arithmetic("float16", "float", 4),
    "bool": Arithmetic("bits1", "i32", 4, 32),
    "int8": Arithmetic("int8", "i16", 2),
    "uint8": Arithmetic("uint8", "i16", 2),
    **{f"{s}int16": Arithmetic("raw2", "i16", 2) for s in ("", "u")},
    **{f"{s}int32": Arithmetic("raw4", "i32", 4) for s in ("", "u")},
    **{f"{s}int64": Arithmetic("raw8", "i64", 8) for s in ("", "u")},
}


# The form of tiles whose vectors' lanes are of as many matrices: see `fastein.cpu.abreast`.
ABREAST = "abreast"

# Integers by dot products: words of 32 bits hold neighbouring steps of the sum, as signed numbers
# of 16 bits, or of 8 bits, unsigned in the rows. What wraps around in 32 bits does so in fewer.
DOTS = {"pairs": 2, "bytes": 4}


RESULT_BYTES = {
    "bool": 1,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
}


class Tile(Record):
    """A register tile: its element type and its extent.

    Attributes
    ----------
    dtype : str
        Of the operands and the result.
    vector_bytes : int
        Bytes of a vector register.
    vectors : int
        Vectors of rows.
    columns : int
        Columns; one accumulator for each vector and column, two for complex.
    form : str
        How integers are packed, if they are multiplied by dot products: a key of `DOTS`. Or
        `ABREAST`: an element is then a vector, with one lane for each of several matrices.
    """

    dtype: str
    vector_bytes: int
    vectors: int
    columns: int
    form: str = ""

    @property
    def arithmetic(self) -> Arithmetic:
        if self.is_abreast:
            lane = ARITHMETIC[self.dtype].lane
            return Arithmetic(f"lines{self.vector_bytes}", lane, self.vector_bytes)
        if self.form:
            return Arithmetic(f"{self.form}{self.result_bytes}", "i32", 4, DOTS[self.form])
        return ARITHMETIC[self.dtype]

    @property
    def is_abreast(self) -> bool:
        """Whether the lanes of a vector are of as many matrices."""
        return self.form == ABREAST

    @property
    def matrices(self) -> int:
        """How many matrices an element belongs to."""
        return self.vector_bytes // RESULT_BYTES[self.dtype] if self.is_abreast else 1

    @property
    def parts(self) -> int:
        """Lanes of a number: two if it is complex."""
        return ARITHMETIC[self.dtype].lanes

    @property
    def vector_rows(self) -> int:
        """Rows in one vector."""
        return self.vector_bytes // self.arithmetic.itemsize

    @property
    def rows(self) -> int:
        return self.vectors * self.vector_rows

    @property
    def has_narrow(self) -> bool:
        """Whether there is a tile of three half vectors: where half vectors are twice as fast."""
        return self.vector_bytes == 64 and not self.is_abreast

    @property
    def has_half(self) -> bool:
        """Whether there is a tile of half the columns: for a last one that is half empty."""
        return self.has_narrow and self.arithmetic.lane in ("float", "double") and self.parts == 1

    @property
    def joins(self) -> bool:
        """Whether tiles can be written by whole lines that they fill together."""
        lines, rest = divmod(self.vector_rows * self.result_bytes, LINE)
        return self.vector_bytes == LINE and not self.is_abreast and lines > 0 and rest == 0

    @property
    def kinds(self) -> tuple[int, ...]:
        """The tiles of a kernel, by their number of vectors."""
        kinds = (*range(self.vectors, 0, -1), *((NARROW,) if self.has_narrow else ()))
        return (*kinds, *[kind + HALF for kind in kinds if kind > 1 and self.has_half])

    @property
    def column_pitch(self) -> int:
        """Elements between steps of the sum in a panel of columns: what packing can transpose."""
        return max(1 << (self.columns - 1).bit_length(), 32 // self.arithmetic.itemsize)

    @property
    def result_bytes(self) -> int:
        """Bytes of one element of the result."""
        return self.vector_bytes if self.is_abreast else RESULT_BYTES[self.dtype]


# What a tile's number of vectors is in the kernel's tables if it is three half vectors: for rows
# that would leave half of a second vector empty.
NARROW = 4
# What is added to it if the tile has half of the columns. (Not to a single vector.)
HALF = 8

LINE = 64  # bytes
# How a tile is written whose lines are whole together with those of the tiles around it, and more,
# the bits of which say what there is around it: `fastein.cpu.tile_intrinsics`.
JOIN = 3

# Vectors by broadcast scalars (a complex column takes two). The accumulators, one column of
# vectors and a scalar must fit the registers, or they spill: 3 x 10 of AVX-512 falls to a fifth.
EXTENTS = {"avx512": (3, 8), "avx2": (2, 6), "neon": (3, 8), "plain": (2, 4)}


def tile_for(dtype: str, isa: Isa, form: str | None = None) -> Tile:
    """Return the tile of a dtype on a processor, in the form that serves all its values or another.

    Signed and unsigned integers have the same dot products.
    """
    vectors, scalars = EXTENTS[isa.name]
    if form is None:
        form = "bytes" if isa.dots and RESULT_BYTES[dtype] == 1 and dtype != "bool" else ""
    name = dtype.removeprefix("u") if form in DOTS else dtype
    return Tile(name, isa.vector_bytes, vectors, scalars // ARITHMETIC[dtype].lanes, form)


def kernel(tile: Tile) -> Kernel:
    """Return the kernel that runs `tile` over a block of rows and one of columns."""
    from .compiler import assemble

    return assemble(source(tile), lambda: _names(tile), VERSION, explicit=True)


def source(tile: Tile) -> str:
    """Return the source of that kernel.

    In its arguments, `data` holds the rows, the columns, the result and room for one tile.
    `shape` is (K, rows, adds, streams, stride, band, reach, asks, half): the steps of the sum (or
    words that hold several each), the rows, whether the result is added to, 2 if whole tiles bypass
    the caches, or `JOIN` if the whole lines of tiles do that follow each other, the bytes between a
    tile's columns, how many rows all columns meet before the next ones, how far tiles reach over
    the diagonal (those that begin `reach` rows behind their last column, or later, are left out),
    whether tiles ask for the lines of the result before the sum begins, and with which column of
    the last ones those begin that matter, if half a tile holds them, else -1. `begin` and `end`
    bound the columns. `scratch` has room for a line of each column, or of those of one tile where
    all rows meet these before the next ones. `strides` holds tables, one after the other:

    * for each row its offset in the result;
    * for each row how many, itself included, lie one after the other there;
    * for each column its offset in the result;
    * for each column of a tile its offset in the spare room;
    * for each row that a tile begins with: its offset in the rows, and the tile's vectors (or
      `NARROW`), and above these 3 bits how it is written if lines are: 0 or `JOIN` and more;
    * for each step of the sum its offset in the rows and in the columns;
    * for each column that a tile begins with its offset in the columns.

    Packed panels and operands read where they lie differ in these tables alone. While a tile is
    multiplied, the columns of the next one and, vector by vector, the rows of the next band are
    fetched into the second cache: operands that are streamed from memory are there in time.
    It is the last byte of a vector that is asked for, as vectors may straddle two lines.
    """
    t, size, panel = tile, tile.arithmetic.itemsize, tile.vectors * tile.vector_bytes
    narrow = t.vector_rows * 3 // 2
    multiply = _MULTIPLY_LINES if t.is_abreast else _MULTIPLY
    half = _HALF.format(half=HALF)
    multiply = multiply.format(columns=t.columns, join=JOIN, half=half if t.has_half else "")
    words = f" in words of {t.arithmetic.steps} steps" if t.arithmetic.steps > 1 else ""
    return f"""\
# out[i, j] = sum over k of a[i, k] * b[k, j]: a block of rows and one of columns
#     ({t.dtype}{words}; tiles of {t.vectors} x {t.vector_rows} rows and {t.columns} columns)
def tiles(data, shape, strides, scratch, begin, end):
    a, b = operand(data, 0, {t.dtype}), operand(data, 1, {t.dtype})
    out, spare = output(data, 2, {t.dtype}), output(data, 3, {t.dtype})
    K, ROWS, adding, streaming = shape[0], shape[1], shape[2], shape[3]
    stride, band, reach, asks, half = shape[4], shape[5], shape[6], shape[7], shape[8]
    runs, columns = ROWS, 2 * ROWS
    spare_columns = columns + end
    a_places = spare_columns + {t.columns}
    a_vectors, a_steps = a_places + ROWS, a_places + 2 * ROWS
    b_steps, b_places = a_steps + K, a_steps + 2 * K
    turn = 0 if stride == {size} else stride
    last = {(t.columns - 1) * size} if turn == 0 else 0

    i0, i = 0, 0
    while i < ROWS:
        i0 = i
        a_ahead = a + strides[a_places + (i0 + band if i0 + band < ROWS else i0)]
        ahead = {t.vector_bytes - 1}
        for j in range(begin, end, {t.columns}):
            b_j = b + strides[b_places + j]
            following = j + {t.columns} if j + {t.columns} < end else j
            b_ahead = b + (strides[b_places + following] + last)
            width = end - j if end - j < {t.columns} else {t.columns}
            behind = j + {t.columns} + reach
            i = i0
            while i < ROWS and i < i0 + band:
                a_i = a + strides[a_places + i]
                vectors = strides[a_vectors + i] & 7
                full = {narrow} if vectors == {NARROW} else vectors * {t.vector_rows}
                height = full if full < ROWS - i else ROWS - i
{multiply}\
                i += height
            ahead = ahead + {t.vector_bytes} if ahead < {panel - 1} else {t.vector_bytes - 1}
"""


_MULTIPLY = """\
                if i < behind:
                    c, w, kind = j, width, vectors
{half}\
                    whole = w == {columns} and height == full
                    inside = whole and strides[runs + i] >= height
                    if inside:
                        target, first, adds = out + strides[i], columns + c, adding + streaming
                        if streaming == {join}:
                            adds = strides[a_vectors + i] >> 3
                    else:
                        target, first, adds = spare, spare_columns, 0
                        if asks:
                            expect(out, strides, i, height, columns + c, w)
                    tile(
                        kind, a_i, b_j + (c - j) * stride, K, a_steps, b_steps, stride, turn,
                        a_ahead + ahead, b_ahead, target, strides, first, adds, i, w,
                        asks, scratch, j if band < ROWS else 0,
                    )
                    if not inside:
                        scatter(out, spare, strides, i, height, columns + c, w, runs + i, adding)
"""

_HALF = """\
                    if half >= 0 and following == j and vectors > 1:
                        c, w, kind = j + half, width - half, vectors + {half}
"""

# Whole vectors are written wherever they belong.
_MULTIPLY_LINES = """\
                tile(
                    vectors, a_i, b_j, K, a_steps, b_steps, stride, turn,
                    a_ahead + ahead, b_ahead, out, strides, columns + j, adding + streaming,
                    i, width, asks, scratch, 0,
                )
"""


def _names(tile: Tile) -> dict[str, Any]:
    from numba import types

    from . import primitives, tile_intrinsics, tile_scatter

    return {
        "operand": primitives.operand,
        "output": primitives.output,
        "tile": tile_intrinsics.tile(tile),
        "expect": tile_scatter.expect(tile),
        "scatter": tile_scatter.scatter(tile),
        tile.dtype: getattr(types, "boolean" if tile.dtype == "bool" else tile.dtype),
    }
