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
