"""A GPU made of NumPy: what every test without a GPU runs on.

It takes the place of :class:`fastein_cuda.driver.CudaDevice`; `DeviceArray` can live in its
memory as in that of a device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from . import codegen
from .device import Launch
from .devices import stand_in
from .elements import ELEMENTS
from .forms import THREADS, ContractionForm, Form, TinyForm
from .machine import Machine
from .primitives_sim import Lockstep, Memory, Pointer
from .tile_primitives_sim import tile_primitives
from .tiny_primitives_sim import tiny_primitives

AT_ONCE = 1 << 18  # threads that are simulated together
SHARED_AT_ONCE = 1 << 24  # bytes of shared memory that they have

#: A small machine, so that small operands already are shared among threads and blocks.
SMALL = Machine(capability=(9, 0), processors=2, shared=227 << 10)


class SimulatedDevice:
    """A device whose kernels run on NumPy, thread by thread in step (see `Device`).

    Parameters
    ----------
    machine : Machine
        What schedules are made for.
    edit : callable, optional
        Changes a kernel's source before it runs: mutation tests.
    """

    name = "simulator"
    ordinal = 0

    def __init__(self, machine: Machine = SMALL, edit: Callable[[str], str] | None = None) -> None:
        self.machine = machine
        self.memory = Memory()
        self.edit = edit
        self.launched: list[Form] = []
        self.followed: list[tuple[int, int]] = []

    def allocate(self, nbytes: int, stream: int) -> int:
        return self.memory.allocate(nbytes)

    def release(self, address: int, stream: int) -> None:
        self.memory.release(address)

    def to_device(self, address: int, host: np.ndarray, stream: int) -> None:
        buffer, offset = self.memory.bytes_at(address)
        buffer[offset : offset + host.nbytes] = host.reshape(-1).view(np.uint8)

    def to_host(self, host: np.ndarray, address: int, stream: int) -> None:
        buffer, offset = self.memory.bytes_at(address)
        host.reshape(-1).view(np.uint8)[...] = buffer[offset : offset + host.nbytes]

    def trim(self) -> None:
        pass

    def wait(self, stream: int) -> None:
        pass

    def follow(self, stream: int, other: int) -> None:
        self.followed.append((stream, other))

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, launch: Launch) -> Callable[[list[int], int], None]:
        """Return what runs a launch, given the operands' addresses and a stream."""

        def run(addresses: list[int], stream: int) -> None:
            self.launched.append(launch.form)
            with np.errstate(all="ignore"):
                self._run(launch, addresses)

        return run

    def _run(self, launch: Launch, addresses: list[int]) -> None:
        form = launch.form
        source = _rendered(form)
        code = compile(self.edit(source) if self.edit else source, "<simulated kernel>", "exec")
        arguments: list[Any] = [
            Pointer(
                np.int64(address),
                ELEMENTS[form.stored[op]],
                ELEMENTS[form.arithmetic],
                form.lanes_of(op),
                form.alignment[op],
                2 ** (62 if form.wide else 31),
            )
            for op, address in enumerate(addresses)
        ]
        columns, rows = launch.grid
        blocks = np.array([(x, y) for y in range(rows) for x in range(columns)])
        step = max(min(AT_ONCE // THREADS, SHARED_AT_ONCE // max(launch.shared, 1)), 1)
        for first in range(0, len(blocks), step):
            lockstep = Lockstep(self.memory, blocks[first : first + step], THREADS, launch.shared)
            names: dict[str, Any] = lockstep.names(codegen.PRIMITIVES)
            if isinstance(form, ContractionForm):
                names.update(tile_primitives(lockstep, form.tile))
            elif isinstance(form, TinyForm):
                names.update(tiny_primitives(lockstep, form))
            exec(code, names)
            names["kernel"](*arguments, *launch.scalars)


@contextmanager
def simulated(
    machine: Machine = SMALL, edit: Callable[[str], str] | None = None
) -> Iterator[SimulatedDevice]:
    """Have a simulated device be the current one meanwhile."""
    device = SimulatedDevice(machine, edit)
    token = stand_in.set(device)
    try:
        yield device
    finally:
        stand_in.reset(token)


_rendered = functools.cache(codegen.render)
