"""What schedules are made for."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_CAPABILITY = (8, 0)  # from which on there are asynchronous copies

# Rates of a large GPU, to compare contraction paths by: their ratios matter, not their values.
LAUNCH_SECONDS = 4e-6
STREAM_BYTES = 2.5e12  # a second
FLOPS = 3e13  # a second


@dataclass(frozen=True, slots=True)
class Machine:
    """What a schedule needs to know of a GPU.

    Attributes
    ----------
    capability : tuple of int
        Compute capability, as (major, minor).
    processors : int
        Streaming multiprocessors.
    shared : int
        Bytes of shared memory that one block may have.
    tf32 : bool or '3x'
        Whether tensor cores may round float32 to 11 bits before they multiply, or cut it into two
        parts of 11 bits.
    """

    capability: tuple[int, int]
    processors: int
    shared: int
    tf32: bool | str = False

    @property
    def threads(self) -> int:
        """Threads that keep the machine busy."""
        return self.processors * 1024
