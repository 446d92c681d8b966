"""Real devices, through the CUDA driver (`cuda.bindings`, which numba-cuda brings along)."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import codegen
from .device import Launch
from .devices import CudaUnavailableError
from .forms import THREADS, Form
from .machine import LEAST_CAPABILITY, Machine

if TYPE_CHECKING:
    from .compiler import Cubin

WITHOUT_TIME = 2  # CU_EVENT_DISABLE_TIMING
STATIC_SHARED = 48 << 10  # bytes of shared memory that a kernel has without asking


#: What the driver says of images that it is too old for.
UNREADABLE = frozenset(
    f"CUDA_ERROR_{name}"
    for name in ("INVALID_IMAGE", "NO_BINARY_FOR_GPU", "UNSUPPORTED_PTX_VERSION", "INVALID_PTX",
                 "INVALID_SOURCE", "UNKNOWN")
)  # fmt: skip


class CudaError(RuntimeError):
    """The driver refused a call, or an earlier kernel failed.

    Attributes
    ----------
    status : str
        What it said, as ``'CUDA_ERROR_ILLEGAL_ADDRESS'``.
    """

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"{name}: {status}")
        self.status = status


@functools.cache
def _driver() -> Any:
    """Return the bindings, the driver being there and initialised.

    Raises
    ------
    CudaUnavailableError
        If something is missing.
    """
    try:
        from cuda.bindings import driver
    except ImportError as reason:
        raise CudaUnavailableError(
            "fastein's GPU target needs numba-cuda: pip install 'fastein[cuda]'"
        ) from reason
    try:
        (status,) = driver.cuInit(0)
    except RuntimeError as reason:  # libcuda is not there
        raise CudaUnavailableError(f"there is no CUDA driver here: {reason}") from reason
    if status != driver.CUresult.CUDA_SUCCESS:
        raise CudaUnavailableError(f"the CUDA driver does not start: {status.name}")
    return driver


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the driver; its result, or a tuple where it has several.

    Raises
    ------
    CudaError
        If it fails.
    """
    driver = _driver()
    status, *results = getattr(driver, name)(*arguments)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise CudaError(name, status.name)
    return results[0] if len(results) == 1 else tuple(results)


def device_count() -> int:
    """Return the number of devices."""
    return int(call("cuDeviceGetCount"))


def current_ordinal() -> int:
    """Return the number of the current context's device, 0 where there is no context."""
    if not device_count():
        raise CudaUnavailableError("the CUDA driver sees no device")
    return int(call("cuCtxGetDevice")) if int(call("cuCtxGetCurrent")) else 0


def ordinal_of(address: int) -> int:
    """Return the number of the device whose memory an address lies in."""
    attribute = _driver().CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(call("cuPointerGetAttribute", attribute, address)) if address else 0


@functools.cache
def cuda_device(ordinal: int) -> CudaDevice:
    """Return a device by its number: always the same object.

    Raises
    ------
    CudaUnavailableError
        If it is too old.
    """
    device = CudaDevice(ordinal)
    if device.machine.capability < LEAST_CAPABILITY:
        found, least = (
            ".".join(map(str, x)) for x in (device.machine.capability, LEAST_CAPABILITY)
        )
        raise CudaUnavailableError(
            f"{device.name} has compute capability {found}: fastein needs {least} or later"
        )
    return device


class _Here(threading.local):
    """What a thread has entered."""

    depth = 0
    pushed = False


class _Active:
    """A context that is current within a ``with`` block; what is inside another costs nothing."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._number = int(context)
        self._current = _driver().cuCtxGetCurrent
        self._here = _Here()

    def __enter__(self) -> None:
        here = self._here
        here.depth += 1
        if here.depth == 1:
            current = int(self._current()[1])
            here.pushed = False
            if not current:  # it stays, as the CUDA runtime leaves it
                call("cuCtxSetCurrent", self._context)
            elif current != self._number:
                here.pushed = True
                call("cuCtxPushCurrent", self._context)

    def __exit__(self, *reason: object) -> None:
        here = self._here
        here.depth -= 1
        if here.depth == 0 and here.pushed:
            call("cuCtxPopCurrent")


class CudaDevice:
    """One GPU: its primary context, a pool of memory, and the kernels loaded so far."""

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        self._handle = call("cuDeviceGet", ordinal)
        self._context = call("cuDevicePrimaryCtxRetain", self._handle)
        name = call("cuDeviceGetName", 200, self._handle)
        self.name = f"{name.split(bytes(1))[0].decode()} (device {ordinal})"
        self.machine = Machine(
            (
                self._attribute("COMPUTE_CAPABILITY_MAJOR"),
                self._attribute("COMPUTE_CAPABILITY_MINOR"),
            ),
            self._attribute("MULTIPROCESSOR_COUNT"),
            self._attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        )
        has_pools = self._attribute("MEMORY_POOLS_SUPPORTED")  # some virtual GPUs have none
        self._pool = self._new_pool(ordinal) if has_pools else None
        self._functions: dict[Form, Any] = {}
        self._active = _Active(self._context)
        self._allocate = _driver().cuMemAllocFromPoolAsync
        self._release = _driver().cuMemFreeAsync

    def _attribute(self, name: str) -> int:
        attribute = getattr(_driver().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call("cuDeviceGetAttribute", attribute, self._handle))

    def _new_pool(self, ordinal: int) -> Any:
        """Return a pool that keeps what was given back to it."""
        driver = _driver()
        properties = driver.CUmemPoolProps()
        properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = ordinal
        pool = call("cuMemPoolCreate", properties)
        threshold = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        call("cuMemPoolSetAttribute", pool, threshold, driver.cuuint64_t(2**64 - 1))
        return pool

    def active(self) -> _Active:
        """Have this thread's calls go to this device meanwhile."""
        return self._active

    def allocate(self, nbytes: int, stream: int) -> int:
        with self._active:
            if self._pool is None:
                status, address = _driver().cuMemAlloc(nbytes)
            else:
                status, address = self._allocate(nbytes, self._pool, stream)
        if status:
            raise MemoryError(f"{self.name} has no {nbytes} bytes left: {status.name}")
        return int(address)

    def release(self, address: int, stream: int) -> None:
        with self._active:
            if self._pool is None:
                _driver().cuMemFree(address)  # once the device is done with everything
            else:
                self._release(address, stream)

    def to_device(self, address: int, host: np.ndarray, stream: int) -> None:
        with self._active:
            call("cuMemcpyHtoDAsync", address, host.ctypes.data, host.nbytes, stream)
            call("cuStreamSynchronize", stream)

    def to_host(self, host: np.ndarray, address: int, stream: int) -> None:
        with self._active:
            call("cuMemcpyDtoHAsync", host.ctypes.data, address, host.nbytes, stream)
            call("cuStreamSynchronize", stream)

    def trim(self) -> None:
        if self._pool is not None:
            with self._active:
                call("cuMemPoolTrimTo", self._pool, 0)

    def wait(self, stream: int) -> None:
        with self._active:
            call("cuStreamSynchronize", stream)

    def follow(self, stream: int, other: int) -> None:
        with self._active:
            event = call("cuEventCreate", WITHOUT_TIME)
            try:
                call("cuEventRecord", event, other)
                call("cuStreamWaitEvent", stream, event, 0)
            finally:
                call("cuEventDestroy", event)  # once it has happened

    def prepare(self, launch: Launch) -> Callable[[list[int], int], None]:
        """Return what runs a launch, given the operands' addresses and a stream."""
        function = self._function(launch)
        kinds = codegen.parameters(launch.form)
        pointers = len(kinds) - len(launch.scalars)
        # every argument has eight bytes; of the narrower ones the kernel reads the lower four
        values: Any = (ctypes.c_int64 * len(kinds))(*[0] * pointers, *launch.scalars)
        places = (ctypes.c_void_p * len(kinds))(
            *[ctypes.addressof(values) + 8 * n for n in range(len(kinds))]
        )
        arguments = ctypes.addressof(places)
        (columns, rows), shared = launch.grid, launch.shared
        busy = threading.Lock()
        start = _driver().cuLaunchKernel
        success = _driver().CUresult.CUDA_SUCCESS

        def run(addresses: list[int], stream: int) -> None:
            with busy:  # the driver copies the arguments before it returns
                values[:pointers] = addresses
                (status,) = start(
                    function, columns, rows, 1, THREADS, 1, 1, shared, stream, arguments, 0
                )
            if status != success:
                raise CudaError("cuLaunchKernel", status.name)

        run.keepalive = places  # type: ignore[attr-defined]
        return run

    def _function(self, launch: Launch) -> Any:
        """Return a loaded kernel that may have as much shared memory as the launch wants."""
        from .compiler import cubin

        compiled = cubin(launch.form, self.machine.capability)
        # not by its entry: a process that compiled another kernel may have called it the same
        function = self._functions.get(launch.form)
        with self._active:
            if function is None:
                function = self._loaded(compiled, launch.form)
                self._functions[launch.form] = function
            if launch.shared > STATIC_SHARED:
                attribute = (
                    _driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                )
                call("cuFuncSetAttribute", function, attribute, launch.shared)
        return function

    def _loaded(self, compiled: Cubin, form: Form) -> Any:
        """Load machine code; if the driver cannot read it, PTX that it compiles itself.

        Raises
        ------
        CudaUnavailableError
            If the driver reads neither, being older than the compiler.
        """
        from .compiler import portable, toolchain

        try:
            module = call("cuModuleLoadData", compiled.image)
        except CudaError as reason:
            if reason.status not in UNREADABLE:
                raise
            compiled = portable(form, self.machine.capability)
            try:
                module = call("cuModuleLoadData", compiled.image)
            except CudaError as still:
                version = int(call("cuDriverGetVersion"))
                raise CudaUnavailableError(
                    f"the driver of CUDA {version // 1000}.{version % 1000 // 10} cannot load "
                    f"kernels made by {', '.join(toolchain())} ({reason.status}, {still.status}): "
                    "install a compiler of the driver's age, see fastein's page on GPUs"
                ) from reason
        return call("cuModuleGetFunction", module, compiled.entry.encode())
