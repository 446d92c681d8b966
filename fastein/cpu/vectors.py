"""Explicit vectors: the LLVM IR that loads, shuffles, widens and stores elements of one kind.

The vectors have exactly the widths asked for, and the optimiser keeps them. Addresses are byte
addresses, moved by ``getelementptr`` alone. As in :mod:`fastein.cpu.primitives`, what is written
never overlaps what is read, and the IR says so.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastein.cpu import primitives
from fastein.cpu.elements import Element
from fastein.cpu.halves import converts_half, half_to_float
from fastein.cpu.isa import Isa

LINE = 64
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def intrinsic(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return one of LLVM's own functions, declared in the module that is being built."""
    module = builder.module
    kind = ir.FunctionType(result, arguments)
    return module.globals.get(name) or ir.Function(module, kind, name)


def prefetch(builder: Any, address: Any, write: bool = False) -> None:
    """Ask for a line: to write in the first cache, to read in the second.

    Into the first, what is read later would push out what is in use.
    """
    place = builder.bitcast(address, I8.as_pointer())
    function = intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [place.type, I32, I32, I32])
    hints = (1, 3) if write else (0, 2)
    builder.call(function, [place, *map(I32, hints), I32(1)])


def as_it_is(builder: Any, latch: Any) -> None:
    """Have LLVM neither unroll nor vectorise the loop that a branch closes."""
    module = builder.module

    def hint(*parts: Any) -> Any:
        return module.add_metadata([ir.MetaDataString(module, parts[0]), *parts[1:]])

    hints = [
        hint("llvm.loop.unroll.disable"),
        hint("llvm.loop.vectorize.enable", ir.IntType(1)(0)),
    ]
    loop = module.add_metadata(hints)
    # LLVM knows the description of a loop by its first operand: itself.
    loop.operands = (loop, *hints)
    latch.set_metadata("llvm.loop", loop)


def repeated(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return a vector with a number in all lanes."""
    kind = ir.VectorType(scalar.type, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    everywhere = ir.Constant(ir.VectorType(I32, lanes), None)
    return builder.shuffle_vector(single, single, everywhere)


class Emitter:
    """Emits code that moves elements of one kind by the vectors of one instruction set.

    Attributes
    ----------
    size, packed_size : int
        Bytes of an element where it is read and where it is written.
    width : int
        Elements of a vector as it is written.
    converts : bool
        Whether elements become floating-point numbers of another width.
    masks : bool
        Whether the processor reads a part of a vector by a mask.
    """

    def __init__(self, element: Element, isa: Isa, context: Any, builder: Any) -> None:
        self.size = element.source
        self.packed_size = element.packed
        self.width = isa.vector_bytes // element.packed
        self.masks = isa.name == "avx512" or (isa.name == "avx2" and element.source >= 4)
        self.builder = builder
        self.converts = element.widen == "float"
        self._widen = element.widen
        self._converts_half = isa.half_conversion and converts_half(context)
        # LLVM has no wider integers that it shuffles well: 16 bytes are two words.
        self._word = ir.IntType(8 * min(element.source, 8))
        self._words = max(1, element.source // 8)

    # Addresses

    def move(self, address: Any, offset: Any) -> Any:
        """Return the address `offset` bytes further."""
        return self.builder.gep(address, [offset], inbounds=True, source_etype=I8)

    def source(self, address: Any, count: Any) -> Any:
        """Return the address `count` elements further in what is read."""
        return self.move(address, self.times(count, self.size))

    def packed(self, address: Any, count: Any) -> Any:
        """Return the address `count` elements further in what is written."""
        return self.move(address, self.times(count, self.packed_size))

    def times(self, count: Any, factor: int) -> Any:
        """Return the product of a number, here or at run time, and a constant."""
        if isinstance(count, int):
            return I64(count * factor)
        return self.builder.mul(count, I64(factor))

    def entry(self, table: Any, index: Any) -> Any:
        """Return ``table[index]``, a word."""
        cell = self.builder.gep(table, [index], inbounds=True, source_etype=I64)
        value = self.builder.load(cell, typ=I64)
        value.set_metadata("noalias", primitives.output_scope(self.builder))
        return value

    # Control

    @contextmanager
    def loop(
        self, stop: Any, step: int = 1, start: Any = None, plain: bool = True
    ) -> Iterator[Any]:
        """Enclose the body of a loop; the body gets its counter.

        A `plain` loop stays as it is. Others LLVM unrolls, eight times where they are innermost:
        too much for short loops, and for the time that it takes.
        """
        builder = self.builder
        before = builder.block
        head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(I64)
        builder.cbranch(builder.icmp_signed("<", counter, stop), body, end)
        builder.position_at_end(body)
        yield counter
        counter.add_incoming(I64(0) if start is None else start, before)
        counter.add_incoming(builder.add(counter, I64(step), flags=["nsw"]), builder.block)
        latch = builder.branch(head)
        if plain:
            as_it_is(builder, latch)
        builder.position_at_end(end)

    def either(
        self,
        left: Any,
        comparison: str,
        right: int,
        then: Callable[[], None],
        otherwise: Callable[[], None],
    ) -> None:
        """Emit two alternatives, the first for when a comparison with a constant holds."""
        condition = self.builder.icmp_signed(comparison, left, I64(right))
        with self.builder.if_else(condition) as branches:
            for branch, emit in zip(branches, (then, otherwise), strict=True):
                with branch:
                    emit()

    def where(self, left: Any, comparison: str, right: int) -> Any:
        """Enclose code that runs if a comparison with a constant holds."""
        return self.builder.if_then(self.builder.icmp_signed(comparison, left, I64(right)))

    def variable(self) -> Any:
        """Return the place of a word that loops may change, 0 at first."""
        place = cgutils.alloca_once(self.builder, I64)
        self.builder.store(I64(0), place)
        return place

    # Numbers

    def least(self, left: Any, right: Any) -> Any:
        """Return the smaller of two words."""
        return self.builder.select(self.builder.icmp_signed("<", left, right), left, right)

    def most(self, left: Any, right: Any) -> Any:
        """Return the larger of two words."""
        return self.builder.select(self.builder.icmp_signed(">", left, right), left, right)

    def misalignment(self, address: Any, count: int) -> Any:
        """Return by how many elements an address is beyond a multiple of `count` of them."""
        low = self.builder.and_(self.builder.ptrtoint(address, I64), I64(count * self.size - 1))
        return self.builder.udiv(low, I64(self.size))

    # Vectors

    def load(self, address: Any, count: int) -> Any:
        """Read `count` contiguous elements."""
        vector = ir.VectorType(self._word, count * self._words)
        value = self.builder.load(address, align=1, typ=vector)
        value.set_metadata("noalias", primitives.output_scope(self.builder))
        return value

    def load_apart(self, addresses: Sequence[Any]) -> Any:
        """Read single elements, each one word, into one vector."""
        value = ir.Constant(ir.VectorType(self._word, len(addresses)), ir.Undefined)
        for lane, address in enumerate(addresses):
            word = self.builder.extract_element(self.load(address, 1), I32(0))
            value = self.builder.insert_element(value, word, I32(lane))
        return value

    def load_first(self, address: Any, count: Any, most: int) -> Any:
        """Read the first `count` of `most` elements and nothing behind them; the rest is zero."""
        lanes = most * self._words
        vector, bits = ir.VectorType(self._word, lanes), ir.VectorType(ir.IntType(1), lanes)
        count = self.builder.trunc(count, I32)
        numbers = ir.VectorType(I32, lanes)([lane // self._words for lane in range(lanes)])
        mask = self.builder.icmp_signed("<", numbers, repeated(self.builder, count, lanes))
        # By name: llvmlite's declare_intrinsic fails on vectors.
        name = f"llvm.masked.load.v{lanes}i{self._word.width}.p0"
        arguments = [vector.as_pointer(), I32, bits, vector]
        function = intrinsic(self.builder, name, vector, arguments)
        place = self.builder.bitcast(address, vector.as_pointer())
        return self.builder.call(function, [place, I32(1), mask, ir.Constant(vector, None)])

    def shuffle(self, a: Any, b: Any, elements: Sequence[int]) -> Any:
        """Return the chosen elements of `a` and `b` laid end to end."""
        chosen = [self._words * e + word for e in elements for word in range(self._words)]
        return self.builder.shuffle_vector(a, b, ir.VectorType(I32, len(chosen))(chosen))

    def load_line(self, address: Any) -> Any:
        """Read the 64 bytes of a line."""
        return self.builder.load(address, align=LINE, typ=ir.VectorType(I8, LINE))

    def pick_line(self, first: Any, second: Any, begin: Any) -> Any:
        """Return the bytes of two lines, laid end to end, that follow number `begin`.

        For processors that pick bytes by numbers known at run time (`Isa.picks_bytes`).
        """
        line = ir.VectorType(I8, LINE)
        numbers = self.builder.add(
            line(list(range(LINE))), repeated(self.builder, self.builder.trunc(begin, I8), LINE)
        )
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        function = intrinsic(self.builder, name, line, [line] * 3)
        return self.builder.call(function, [first, numbers, second])

    def store(self, address: Any, value: Any) -> None:
        """Write elements as they are read, widened on the way."""
        value = self._packed(value)
        place = self.builder.bitcast(address, value.type.as_pointer())
        store = self.builder.store(value, place, align=1)
        store.set_metadata("alias.scope", primitives.output_scope(self.builder))

    def stream(self, address: Any, value: Any) -> None:
        """Write elements past the caches, a whole vector at an aligned address."""
        value = self._packed(value)
        place = self.builder.bitcast(address, value.type.as_pointer())
        store = self.builder.store(value, place, align=value.type.count * self.packed_size)
        store.set_metadata("alias.scope", primitives.output_scope(self.builder))
        self.bypass(store)

    def bypass(self, store: Any) -> None:
        """Have a store of a whole vector, which is aligned, go past the caches."""
        store.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))

    def prefetch(self, address: Any) -> None:
        """Ask for a line, to be read from the second cache."""
        prefetch(self.builder, address)

    def _packed(self, value: Any) -> Any:
        lanes = value.type.count
        wide = ir.VectorType(ir.IntType(8 * self.packed_size), lanes)
        if self._widen == "signed":
            return self.builder.sext(value, wide)
        if self._widen == "unsigned":
            return self.builder.zext(value, wide)
        if self._widen == "truth":
            truth = self.builder.icmp_unsigned("!=", value, ir.Constant(value.type, None))
            return self.builder.zext(truth, wide)
        if self._widen == "float" and self._converts_half:
            halves = self.builder.bitcast(value, ir.VectorType(ir.HalfType(), lanes))
            return self.builder.fpext(halves, ir.VectorType(ir.FloatType(), lanes))
        if self._widen == "float":
            return half_to_float(self.builder, value)
        return value

    # Copies

    def copy(self, to: Any, source: Any, count: int) -> None:
        """Copy a constant number of contiguous elements."""
        for start in range(0, count, self.width):
            value = self.load(self.source(source, start), min(self.width, count - start))
            self.store(self.packed(to, start), value)

    def copy_run(self, to: Any, source: Any, count: Any) -> None:
        """Copy contiguous elements; up to a vector behind them may be overwritten."""
        whole = self.builder.and_(count, I64(-self.width))
        with self.loop(whole, self.width) as i:
            self.copy(self.packed(to, i), self.source(source, i), self.width)
        rest = self.builder.sub(count, whole)
        to, source = self.packed(to, whole), self.source(source, whole)
        if self.masks:
            with self.where(rest, ">", 0):
                self.store(to, self.load_first(source, rest, self.width))
        else:
            self._copy_pieces(to, source, rest)

    def _copy_pieces(self, to: Any, source: Any, count: Any) -> None:
        """Copy less than a vector, by powers of two."""
        piece = self.width // 2
        while piece:
            before = self.builder.and_(count, I64(-2 * piece))
            with self.where(self.builder.and_(count, I64(piece)), ">", 0):
                self.copy(self.packed(to, before), self.source(source, before), piece)
            piece //= 2
