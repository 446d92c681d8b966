"""einsum on device arrays: find the plan of a call or make it, and launch it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastein._dispatch import normalised_options
from fastein._operands import lies_on_device
from fastein._parser import parse, parse_key, sublist_key
from fastein.config import settings
from fastein.equation import expand
from fastein.errors import EinsumError
from fastein.plan import Layout, Options, Plan, View
from fastein.planner import make_plan

from .arrays import operand_of
from .device import Device
from .device_array import LEGACY_STREAM, dense_strides
from .kinds import Kind, Operand, reach_of
from .launch import Executable
from .target import CudaTarget

MOST_PLANS = 4096

_plans: dict[Any, Entry] = {}


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
    _check_places(arrays, out)
    found = [operand_of(x) for x in arrays]
    target = None if out is None else _writable(out)
    device = _one_device(found if target is None else [*found, target])
    kind = found[0].kind
    if kind.contiguous and order in ("K", "A"):
        order = "C"
    options = _options(dtype, order, casting, optimize, strict)
    with device.active():
        entry = _entry(subscripts, found, target, options, device)
        if not entry.is_view:
            return _run(entry, found, target, kind)
        if not kind.contiguous:
            return kind.view(found[0], entry.result.shape, entry.result.strides)
        target = _dense(entry.result, found[0])
        entry = _entry(subscripts, found, target, options, device)
        return kind.finished(_run(entry, found, target, kind))


def _writable(out: Any) -> Operand:
    target = operand_of(out)
    if target.readonly:
        raise EinsumError("out is read-only")
    return target


def _dense(result: Layout, like: Operand) -> Operand:
    """Return new memory for what would be a view, in C order."""
    strides = dense_strides(result.shape, result.dtype.itemsize)
    array, _ = like.kind.empty(result._replace(strides=strides), like, 0)
    return operand_of(array)


def _run(entry: Entry, found: list[Operand], target: Operand | None, kind: Kind) -> Any:
    """Run into `target` if there is one, by way of new memory if it overlaps an operand."""
    stream = kind.stream(found[0])
    others = _other_streams(found, target, stream)
    if others:
        for other in others:
            found[0].device.follow(stream, other)
        try:
            return _run_on(stream, entry, found, target, kind)
        finally:
            for other in others:  # which may give memory back that is still read
                found[0].device.follow(other, stream)
    return _run_on(stream, entry, found, target, kind)


def _other_streams(found: list[Operand], target: Operand | None, stream: int) -> set[int]:
    """Return the streams besides ours that compute an operand, or read `out`."""
    others: set[int] = set()
    ours, kind = stream or LEGACY_STREAM, found[0].kind
    for x in found if target is None else [*found, target]:
        if x.kind is not kind or not kind.one_stream:
            other = x.kind.awaited(x)
            if other is not None and (other or LEGACY_STREAM) != ours:
                others.add(other or LEGACY_STREAM)
    return others


def _run_on(
    stream: int, entry: Entry, found: list[Operand], target: Operand | None, kind: Kind
) -> Any:
    """Run on a stream, see `_run`."""
    addresses = [x.address for x in found]
    if target is not None and not _overlaps(entry, found, target):
        if entry.result.nbytes:
            entry.executable.run(addresses, target.address, stream)
        return target.array
    array, address = kind.empty(entry.result, found[0], stream)
    if entry.result.nbytes:
        entry.executable.run(addresses, address, stream)
    if target is None:
        return kind.finished(array)
    copy = _copy(operand_of(array), target)
    copy.executable.run([address], target.address, stream)
    return target.array


def _overlaps(entry: Entry, found: list[Operand], target: Operand) -> bool:
    """Whether `out` shares bytes with an operand."""
    low, high = entry.reaches[-1]
    low, high = low + target.address, high + target.address
    for operand, (first, end) in zip(found, entry.reaches, strict=False):
        if operand.address + first < high and low < operand.address + end:
            return True
    return False


def _copy(source: Operand, target: Operand) -> Entry:
    """Return what copies one array into another of the same shape and dtype."""
    axes = tuple(range(len(source.layout.shape)))
    options = _options(None, "K", "safe", "auto", False)
    return _entry(((axes,), axes), [source], target, options, source.device)


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


def _check_places(arrays: Sequence[Any], out: Any) -> None:
    """Raise if an operand or `out` is not on a device."""
    for x in arrays:
        if not lies_on_device(x):
            break
    else:
        if out is None or lies_on_device(out):
            return
    named = [(f"operand {n}", x) for n, x in enumerate(arrays)]
    if out is not None:
        named.append(("out", out))
    name, stranger = next((name, x) for name, x in named if not lies_on_device(x))
    others = [other for other, x in named if lies_on_device(x)]
    beside = f", but {others[0]} is on a GPU" if others else ""
    raise TypeError(
        f"{name} of einsum is a {type(stranger).__name__} in host memory{beside}: bring all "
        "operands to one place, with fastein_cuda.asarray(x) or fastein_cuda.to_host(x) for "
        "example"
    )


def _one_device(found: list[Operand]) -> Device:
    device = found[0].device
    for number, operand in enumerate(found):
        if operand.device is not device:
            raise TypeError(
                f"operand 0 of einsum is on {device.name} and operand {number} on "
                f"{operand.device.name}: bring all operands to one device"
            )
    return device


def _options(
    dtype: Any, order: str, casting: str, optimize: Any, strict: bool
) -> tuple[Any, Options]:
    """Return the keywords normalised, with a key that tells them apart."""
    usual = (
        dtype is None
        and order == "K"
        and casting == "safe"
        and strict is False
        and type(optimize) is str
        and optimize == "auto"
    )
    if usual:
        known = _usual.get(settings.memory_limit)
        if known is not None:
            return known
    options = normalised_options(dtype, order, casting, optimize, strict)
    if not usual:
        return (options, type(options.optimize)), options
    _usual[settings.memory_limit] = settings.memory_limit, options
    return _usual[settings.memory_limit]


_usual: dict[int | None, tuple[Any, Options]] = {}


# --- plans --------------------------------------------------------------------------------------


def plan_for(
    subscripts: Any,
    layouts: tuple[Layout, ...],
    out: Layout | None,
    options: Options,
    target: CudaTarget,
) -> Plan:
    """Return the plan of a call, given the layouts of its operands and of ``out``."""
    parsed = parse(subscripts) if isinstance(subscripts, str) else parse_key(subscripts)
    equation = expand(parsed, [layout.shape for layout in layouts])
    return make_plan(equation, layouts, out, options, target)


class Entry(NamedTuple):
    """What the plan of a call has become."""

    executable: Executable
    result: Layout
    is_view: bool
    reaches: tuple[tuple[int, int], ...]
    """How far the bytes of the operands, and of ``out`` if there is one, reach."""


def _entry(
    subscripts: Any,
    found: list[Operand],
    target: Operand | None,
    options: tuple[Any, Options],
    device: Device,
) -> Entry:
    """Return the plan of a call, made if there is none."""
    forms = [x.form for x in found]
    into = None if target is None else target.form
    key = (subscripts, *forms, into, options[0], settings.tf32, id(device))
    entry = _plans.get(key)
    if entry is None:
        layouts = tuple([x.layout for x in found])
        chosen = CudaTarget(device)
        given = None if target is None else target.layout
        plan = plan_for(subscripts, layouts, given, options[1], chosen)
        is_view = bool(plan.steps) and isinstance(plan.steps[0], View)
        reaches = [*map(reach_of, layouts), *([] if given is None else [reach_of(given)])]
        entry = Entry(chosen.executable(plan), plan.result, is_view, tuple(reaches))
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[key] = entry
    return entry
