"""Kinds of elements as packing sees them: bytes that are copied, or numbers that are widened."""

from __future__ import annotations

from ..record import Record


class Element(Record):
    """What an element is in an operand, and what it becomes in a panel.

    Attributes
    ----------
    source, packed : int
        Its bytes before and after.
    widen : {None, 'signed', 'unsigned', 'float', 'truth'}
        How it is widened, if it is, or made 0 or 1.
    note : str
        The same in words.
    """

    source: int
    packed: int
    widen: str | None = None
    note: str = "copied as they are"


ELEMENTS = {
    **{f"raw{size}": Element(size, size) for size in (1, 2, 4, 8, 16)},
    "bool": Element(1, 1, "truth", "made 0 or 1"),
    "int8": Element(1, 2, "signed", "widened to int16"),
    "uint8": Element(1, 2, "unsigned", "widened to int16"),
    "float16": Element(2, 4, "float", "widened to float32"),
}


class Words(Record):
    """Words of 32 bits that hold several neighbouring elements, narrowed.

    Attributes
    ----------
    source : int
        Bytes of an element in the operand.
    bits : int
        Of an element in a word: its lowest, or 1 for whether it is not 0.
    """

    source: int
    bits: int

    @property
    def steps(self) -> int:
        """Elements of a word."""
        return 32 // self.bits


WORDS = {
    "bits1": Words(1, 1),
    **{f"bytes{size}": Words(size, 8) for size in (1, 2, 4, 8)},
    **{f"pairs{size}": Words(size, 16) for size in (2, 4, 8)},
}
