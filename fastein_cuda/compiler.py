"""Generated source to a cubin, through numba-cuda, NVVM and nvJitLink. No device is needed.

numba-cuda is imported by the first compilation, never before; a cubin that an earlier process has
compiled is read from the user's cache.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fastein.config import settings
from fastein.kernel_files import KernelFiles
from fastein.store import KernelStore, content_key

from . import codegen
from .devices import CudaUnavailableError
from .forms import THREADS, ContractionForm, Form, TinyForm

Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code of one kernel.

    Attributes
    ----------
    entry : str
        The kernel's name in it.
    image : bytes
        The ELF file, or the PTX that ends in a zero, which the driver loads.
    source : str
        The generated source.
    """

    entry: str
    image: bytes
    source: str


_store: KernelStore[Cubin] = KernelStore()


def cubin(form: Form, capability: Capability) -> Cubin:
    """Return the machine code of a form's kernel for a compute capability."""
    source = _rendered(form)
    key = content_key(codegen.VERSION, source, form, capability, *toolchain())
    return _store.get(key, lambda: _from_disk(key, source) or _built(key, form, capability))


def files() -> KernelFiles | None:
    """Return where this user's cubins are kept, None if none are to be."""
    if settings.cache_dir is None:
        return None
    return KernelFiles(os.path.join(settings.cache_dir, "cubins"))


def _from_disk(key: str, source: str) -> Cubin | None:
    kept = files()
    content = kept.read(key) if kept is not None else None
    if content is None:
        return None
    entry, _, image = content.partition(b"\n")
    return Cubin(entry.decode(), image, source)


def _built(key: str, form: Form, capability: Capability) -> Cubin:
    """Compile a form's kernel, and keep it."""
    compiled = build(form, capability)
    kept = files()
    if kept is not None:
        kept.write(key, compiled.entry.encode() + b"\n" + compiled.image)
    return compiled


_rendered = functools.cache(codegen.render)


@functools.cache
def toolchain() -> tuple[str, ...]:
    """Return what else the machine code of a source depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # it comes with a CUDA toolkit then
            found.append(f"{package} of the system")
    return tuple(found)


def build(form: Form, capability: Capability) -> Cubin:
    """Compile a form's kernel.

    The way is numba-cuda's own from a function to a cubin, which is not part of its interface and
    needs nvJitLink; where it fails, PTX does, which the driver compiles.
    """
    try:
        library = lower(form, capability)
        image = bytes(library.get_cubin(cc=architecture(capability)).code)
        return Cubin(library._entry_name, image, _rendered(form))
    except CudaUnavailableError:
        raise
    except Exception as reason:
        try:
            return portable(form, capability)
        except Exception:
            raise reason from None


def portable(form: Form, capability: Capability) -> Cubin:
    """Compile a form's kernel to PTX, by numba-cuda's public function, for the driver to finish."""
    from numba import cuda

    text, _ = cuda.compile(
        _define(form, capability),
        cuda.types.void(*_signature(form)),
        device=False,
        abi="numba",
        output="ptx",
        cc=architecture(capability),
        launch_bounds=(THREADS, form.resident),
    )
    (entry,) = re.findall(r"\.entry\s+([\w$]+)", text)
    return Cubin(entry, text.encode() + bytes(1), _rendered(form))


def lower(form: Form, capability: Capability) -> Any:
    """Return numba-cuda's library of a form's kernel, from which it gives PTX, SASS and cubin.

    Raises
    ------
    CudaUnavailableError
        If numba-cuda is not installed.
    """
    if find_spec("numba_cuda") is None:
        raise CudaUnavailableError(
            "compiling a kernel for the GPU needs numba-cuda: pip install 'fastein[cuda]'"
        )
    check_numba()
    from numba.cuda import types
    from numba.cuda.compiler import _compile_pyfunc_with_fixup
    from numba.cuda.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        library, _ = _compile_pyfunc_with_fixup(
            _define(form, capability),
            types.void(*_signature(form)),
            device=False,
            cc=architecture(capability),
            abi="numba",
            launch_bounds=(THREADS, form.resident),
        )
    return library


def check_numba() -> None:
    """See that `numba.cuda` is numba-cuda's.

    Raises
    ------
    CudaUnavailableError
        If it is the one that numba itself still has, which lacks what kernels need.
    """
    from numba import cuda

    if "numba_cuda" not in str(cuda.__file__):
        raise CudaUnavailableError(
            f"numba.cuda comes from {cuda.__file__}, not from numba-cuda: its file "
            "_numba_cuda_redirector.pth is not read in this environment; install numba-cuda and "
            "numba in the same site-packages"
        )


def architecture(capability: Capability) -> tuple[int, int, str]:
    """Return the architecture, with the instructions that only this generation has."""
    return (*capability, "a" if capability >= (9, 0) else "")


def _signature(form: Form) -> list[Any]:
    """Return the types of a kernel's parameters."""
    from numba.cuda import types

    from .values import Index, Pointer

    integers = {
        "index": Index(64 if form.vast else 32),
        "offset": Index(64 if form.wide else 32),
        "count": types.int64,
    }
    kinds = []
    operand = 0
    for _, kind in codegen.parameters(form):
        if kind == "pointer":
            kinds.append(
                Pointer(
                    form.stored[operand],
                    form.arithmetic,
                    form.lanes_of(operand),
                    form.alignment[operand],
                )
            )
            operand += 1
        else:
            kinds.append(integers[kind])
    return kinds


def _define(form: Form, capability: Capability) -> Any:
    """Execute a source among the primitives, where tracebacks and Numba find its lines."""
    from . import primitives

    source = _rendered(form)
    names = {name: getattr(primitives, name) for name in codegen.PRIMITIVES}
    if isinstance(form, ContractionForm):
        from .tile_primitives import tile_primitives

        names.update(tile_primitives(form.tile, capability))
    elif isinstance(form, TinyForm):
        from .tiny_primitives import tiny_primitives

        names.update(tiny_primitives(form))
    filename = f"<fastein_cuda kernel {content_key(source)[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)
    return names["kernel"]
