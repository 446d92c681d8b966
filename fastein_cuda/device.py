"""What the GPU target needs of a device: `driver` has the real one, `simulator` one of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .forms import Form
from .machine import Machine


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel with all that it takes but the operands' addresses.

    Attributes
    ----------
    form : Form
        The kernel.
    scalars : tuple of int
        The arguments behind the pointers.
    grid : tuple of int
        Blocks along x and y.
    shared : int
        Bytes of shared memory of each block.
    """

    form: Form
    scalars: tuple[int, ...]
    grid: tuple[int, int]
    shared: int


class Device(Protocol):
    """Memory, and kernels that run on it."""

    @property
    def name(self) -> str: ...

    @property
    def ordinal(self) -> int: ...

    @property
    def machine(self) -> Machine: ...

    def allocate(self, nbytes: int, stream: int) -> int:
        """Return the address of new memory, in the order of a stream."""
        ...

    def release(self, address: int, stream: int) -> None:
        """Give memory back, in the order of a stream."""
        ...

    def to_device(self, address: int, host: np.ndarray, stream: int) -> None:
        """Copy a C-contiguous host array to device memory."""
        ...

    def to_host(self, host: np.ndarray, address: int, stream: int) -> None:
        """Copy device memory into a C-contiguous host array, and wait for it."""
        ...

    def trim(self) -> None:
        """Give memory that nobody has now back to the system."""
        ...

    def wait(self, stream: int) -> None:
        """Wait for what a stream has to do."""
        ...

    def follow(self, stream: int, other: int) -> None:
        """Have a stream wait for what another one has to do by now."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Have this thread's calls go to this device meanwhile."""
        ...

    def prepare(self, launch: Launch) -> Callable[[list[int], int], None]:
        """Return what runs a launch, given the operands' addresses and a stream."""
        ...
