"""Other libraries' einsum, where they are installed, and clocks to time them with."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fastein

from .device import Device

Call = Callable[[], Any]


class WallClock:
    """Seconds between two waits for the device: for the simulator, and for streams of their own."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def seconds(self, call: Call, repeats: int) -> float:
        """Return the time of one of some calls in a row."""
        self.device.wait(0)
        begin = time.perf_counter()
        for _ in range(repeats):
            result = call()
        if hasattr(result, "block_until_ready"):
            result.block_until_ready()
        self.device.wait(0)
        return (time.perf_counter() - begin) / repeats


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
    if library == "torch":
        return [module.as_tensor(x, device="cuda") for x in arrays]
    if library == "cupy":
        return [module.asarray(x) for x in arrays]
    if library == "jax":
        return [module.numpy.asarray(x) for x in arrays]
    return arrays


def calls(equation: str, arrays: list[Any]) -> dict[str, Call]:
    """Return who computes an equation: fastein first, on arrays of the first library there is."""
    home = next((name for name in ("torch", "cupy") if installed(name)), "fastein")
    own = operands_of(home, arrays)
    found: dict[str, Call] = {"fastein": lambda: fastein.einsum(equation, *own)}
    if torch := installed("torch"):
        tensors = operands_of("torch", arrays)
        found["torch"] = lambda: torch.einsum(equation, *tensors)
    if cupy := installed("cupy"):
        on_cupy = operands_of("cupy", arrays)
        found["cupy"] = lambda: cupy.einsum(equation, *on_cupy, optimize=True)
        if opt_einsum := installed("opt_einsum"):
            found["opt_einsum on cupy"] = lambda: opt_einsum.contract(equation, *on_cupy)
    if jax := installed("jax"):
        on_jax = operands_of("jax", arrays)
        compiled = jax.jit(partial(jax.numpy.einsum, equation))
        found["jax"] = lambda: compiled(*on_jax)
    return found
