"""Other libraries' einsum, where they are installed, and clocks to time them with."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fastein

from .device import Device
from .device_array import DeviceArray

Call = Callable[[], Any]


class WallClock:
    """Seconds between two waits for the device: for the simulator, and for streams of their own."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def seconds(self, call: Call, repeats: int) -> float:
        """Return the time of one of some calls in a row, up to the last one's result."""
        return self.both(call, repeats)[1]

    def both(self, call: Call, repeats: int) -> tuple[float, float]:
        """Return what one of some calls takes the host, and the same up to the last's result."""
        self.device.wait(0)
        begin = time.perf_counter()
        for _ in range(repeats):
            result = call()
        returned = time.perf_counter()
        if hasattr(result, "block_until_ready"):
            result.block_until_ready()
        self.device.wait(0)
        return (returned - begin) / repeats, (time.perf_counter() - begin) / repeats


class EventClock:
    """Seconds between two events of the default stream, on which all libraries work."""

    def __init__(self) -> None:
        from .driver import call

        self._call = call
        self._begin, self._end = (call("cuEventCreate", 0) for _ in range(2))

    def seconds(self, call: Call, repeats: int) -> float:
        """Return the time of one of some calls in a row."""
        self._call("cuEventRecord", self._begin, 0)
        for _ in range(repeats):
            call()
        self._call("cuEventRecord", self._end, 0)
        self._call("cuEventSynchronize", self._end)
        return float(self._call("cuEventElapsedTime", self._begin, self._end)) / 1e3 / repeats


@functools.cache
def installed(name: str) -> Any:
    """Return a library that has a device here, None where it is not installed."""
    try:
        module = importlib.import_module(name)
        usable: dict[str, Callable[[], bool]] = {
            "torch": lambda: module.cuda.is_available(),
            "cupy": lambda: module.cuda.runtime.getDeviceCount() > 0,
            "jax": lambda: module.default_backend() == "gpu",
        }
        return module if usable.get(name, lambda: True)() else None
    except Exception:  # whatever a broken installation raises
        return None


def operands_of(library: str, arrays: list[Any]) -> list[Any]:
    """Return device arrays of ours as those of a library, without a copy where it can."""
    module = installed(library)
    if library == "jax":
        return [module.dlpack.from_dlpack(x) for x in arrays]
    if library in ("torch", "cupy"):
        return [module.from_dlpack(x) if type(x) is DeviceArray else x for x in arrays]
    return arrays


def home_library() -> str:
    """Return the library of the arrays that fastein is given: the first of those that are here."""
    return next((name for name in ("torch", "cupy") if installed(name)), "fastein")


def calls(equation: str, arrays: list[Any], fresh: Call | None = None) -> dict[str, Call]:
    """Return who computes an equation: fastein first, on arrays of the first library there is.

    Parameters
    ----------
    equation : str
    arrays : list of DeviceArray
    fresh : callable, optional
        Makes an array of ours to write the result into, for everybody another one.
    """
    home = home_library()
    own = operands_of(home, arrays)
    into = operands_of(home, [fresh()])[0] if fresh else None
    found: dict[str, Call] = {"fastein": partial(fastein.einsum, equation, *own, out=into)}
    for name, (needs, make) in RIVALS.items():
        try:
            if all(installed(package) for package in needs):
                call = make(equation, operands_of(needs[0], arrays))
                found[name] = written(needs[0], call, fresh) if fresh else call
        except Exception as reason:  # a rival that cannot is left out
            print(f"    {name}: {reason}", file=sys.stderr)
    return found


def written(library: str, call: Call, fresh: Call) -> Call:
    """Return a call whose result is copied into an array of the library.

    Arrays of JAX cannot be written to, but what it compiles never answers with a view.
    """
    if library == "jax":
        return call
    (target,) = operands_of(library, [fresh()])

    def run() -> Any:
        if library == "torch":
            return target.copy_(call())
        target[...] = call()
        return target

    return run


def _of_torch(equation: str, arrays: list[Any]) -> Call:
    return partial(installed("torch").einsum, equation, *arrays)


def _of_cupy(equation: str, arrays: list[Any]) -> Call:
    return partial(installed("cupy").einsum, equation, *arrays, optimize=True)


def _of_opt_einsum(equation: str, arrays: list[Any]) -> Call:
    return partial(installed("opt_einsum").contract, equation, *arrays)


def _of_jax(equation: str, arrays: list[Any]) -> Call:
    jax = installed("jax")
    return partial(jax.jit(partial(jax.numpy.einsum, equation)), *arrays)


RIVALS: dict[str, tuple[tuple[str, ...], Callable[[str, list[Any]], Call]]] = {
    "torch": (("torch",), _of_torch),
    "cupy": (("cupy",), _of_cupy),
    "opt_einsum on cupy": (("cupy", "opt_einsum"), _of_opt_einsum),
    "jax": (("jax",), _of_jax),
}
"""Packages that a rival needs, the one of its arrays first, and what makes its call."""


def rivals() -> list[str]:
    """Return the names of those who take part beside fastein."""
    return [name for name, (needs, _) in RIVALS.items() if all(map(installed, needs))]


def let_go(device: Device) -> None:
    """Have all libraries give back the memory that they keep for later."""
    gc.collect()
    if torch := installed("torch"):
        torch.cuda.empty_cache()
    if cupy := installed("cupy"):
        cupy.get_default_memory_pool().free_all_blocks()
    device.trim()
