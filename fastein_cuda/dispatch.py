"""einsum on device arrays: find the plan of a call or make it, and launch it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastein._dispatch import lies_on_device, normalised_options
from fastein._parser import parse, parse_key, sublist_key
from fastein.equation import expand
from fastein.errors import EinsumError
from fastein.plan import Options, View
from fastein.planner import make_plan

from .arrays import operand_of
from .device import Device
from .device_array import dense_strides
from .kinds import Kind, Operand
from .launch import Executable
from .target import CudaTarget

MOST_PLANS = 4096

_plans: dict[Any, Executable] = {}


def einsum(
    *operands: Any,
    out: Any = None,
    dtype: Any = None,
    order: str = "K",
    casting: str = "safe",
    optimize: Any = "auto",
    strict: bool = False,
) -> Any:
    """Evaluate the Einstein summation convention on arrays that lie on a GPU.

    `fastein.einsum` calls this for such arrays; arguments and meaning are the same.

    Parameters
    ----------
    *operands
        As for `fastein.einsum`; all arrays lie on one device, whatever libraries they are of.
    out : array on the device, optional
        Receives the result; may overlap the operands.
    dtype, order, casting, optimize, strict : optional
        As for `fastein.einsum`.

    Returns
    -------
    array
        On the device, of the kind of the first operand; of no axes where NumPy gives a scalar; a
        view where NumPy gives one. The work is queued on the stream that is current in the first
        operand's library.

    Raises
    ------
    EinsumError
        (a ValueError) If the subscripts are malformed or do not fit the operands.
    TypeError
        If an operand is not on the device, or a dtype cannot be cast or has no kernels.
    CudaUnavailableError
        If there is no device.
    """
    subscripts, arrays = _arguments(operands)
    found = [operand_of(x) for x in _checked(subscripts, arrays, out)]
    target = operand_of(out) if out is not None else None
    if target is not None and target.readonly:
        raise EinsumError("out is read-only")
    device = _one_device(found if target is None else [*found, target])
    kind = found[0].kind
    if kind.contiguous and order in ("K", "A"):
        order = "C"
    options = normalised_options(dtype, order, casting, optimize, strict)
    executable = _executable(subscripts, found, target, options, device)
    steps = executable.plan.steps
    result = executable.plan.result
    if steps and isinstance(steps[0], View):
        if not kind.contiguous:
            return kind.view(found[0], result.shape, steps[0].strides)
        strides = dense_strides(result.shape, result.dtype.itemsize)
        target = operand_of(kind.empty(result._replace(strides=strides), found[0]))
        executable = _executable(subscripts, found, target, options, device)
        return kind.finished(_run(executable, found, target, kind))
    return _run(executable, found, target, kind)


def _run(executable: Executable, found: list[Operand], target: Operand | None, kind: Kind) -> Any:
    """Run into `target` if there is one, by way of new memory if it overlaps an operand."""
    stream = kind.stream(found[0])
    layout = executable.plan.result
    into = target
    if target is None or any(_overlap(target, x) for x in found):
        into = operand_of(kind.empty(layout, found[0]))
    assert into is not None
    if into.layout.nbytes:
        executable.run([x.address for x in found], into.address, stream)
    if target is not None and into is not target:
        _executable_copy(into, target).run([into.address], target.address, stream)
    return kind.finished(into.array) if target is None else target.array


def _overlap(a: Operand, b: Operand) -> bool:
    (a_low, a_high), (b_low, b_high) = a.range, b.range
    return a_low < b_high and b_low < a_high


def _executable_copy(source: Operand, target: Operand) -> Executable:
    """Return what copies one array into another of the same shape and dtype."""
    axes = tuple(range(len(source.layout.shape)))
    key = ((axes,), axes)
    options = normalised_options()
    return _executable(key, [source], target, options, source.device)


# --- arguments ----------------------------------------------------------------------------------


def _arguments(given: tuple[Any, ...]) -> tuple[Any, Sequence[Any]]:
    """Return what tells the subscripts (a text, or the key of sublists), and the operands."""
    if len(given) < 2:
        raise EinsumError("einsum needs the subscripts and at least one operand")
    if not isinstance(given[0], (str, bytes)):
        return sublist_key(given)
    text = parse(given[0]).text if isinstance(given[0], bytes) else str(given[0])
    rest = given[1:]
    if len(rest) == 1 and isinstance(rest[0], (list, tuple)):
        rest = tuple(rest[0])
    return text, rest


def _checked(subscripts: Any, arrays: Sequence[Any], out: Any) -> Sequence[Any]:
    """Return the operands if all of them and `out` are on a device."""
    named = [(f"operand {n}", x) for n, x in enumerate(arrays)]
    if out is not None:
        named.append(("out", out))
    at_home = [(name, x) for name, x in named if not lies_on_device(x)]
    if at_home:
        name, stranger = at_home[0]
        others = [other for other, x in named if lies_on_device(x)]
        beside = f", but {others[0]} is on a GPU" if others else ""
        raise TypeError(
            f"{name} of einsum is a {type(stranger).__name__} in host memory{beside}: bring all "
            "operands to one place, with fastein_cuda.asarray(x) or fastein_cuda.to_host(x) for "
            "example"
        )
    return arrays


def _one_device(found: list[Operand]) -> Device:
    device = found[0].device
    for number, operand in enumerate(found):
        if operand.device is not device:
            raise TypeError(
                f"operand 0 of einsum is on {device.name} and operand {number} on "
                f"{operand.device.name}: bring all operands to one device"
            )
    return device


# --- plans --------------------------------------------------------------------------------------


def _executable(
    subscripts: Any,
    found: list[Operand],
    target: Operand | None,
    options: Options,
    device: Device,
) -> Executable:
    """Return the plan of a call, made if there is none."""
    layouts = tuple([x.layout for x in found])
    into = None if target is None else target.layout
    key = (subscripts, layouts, into, options, type(options.optimize), id(device))
    executable = _plans.get(key)
    if executable is None:
        parsed = parse(subscripts) if isinstance(subscripts, str) else parse_key(subscripts)
        equation = expand(parsed, [layout.shape for layout in layouts])
        chosen = CudaTarget(device)
        executable = chosen.executable(make_plan(equation, layouts, into, options, chosen))
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[key] = executable
    return executable
