"""Generated source to machine code: Numba's front end and LLVM, without its Python wrappers.

A kernel is compiled as a bare native function plus a C entry point of ours. What is left out,
the wrapper for Python callers and the error path that takes the GIL, could never run: a nest
neither raises nor touches an object. LLVM's object file becomes an image (`fastein.cpu.linking`),
which is kept on disk, so that another process runs it without Numba and LLVM.

Numba is imported by the first compilation, never before.
"""

from __future__ import annotations

import functools
import linecache
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from fastein.config import settings
from fastein.cpu._machine_code import MachineCode
from fastein.cpu.image import Image, unpacked
from fastein.cpu.machine import processor
from fastein.forks import no_fork
from fastein.kernel_files import KernelFiles
from fastein.record import Record
from fastein.store import KernelStore, content_key

T = TypeVar("T")


class Kernel(Record):
    """Machine code of one generated source.

    Attributes
    ----------
    address : int
        Entry point: ``void kernel(char **data, intp *shape, intp *strides, char *scratch,
        intp begin, intp end)``.
    source : str
        The generated source.
    keepalive : object
        Owns the machine code; the address is valid as long as it lives.
    """

    address: int
    source: str
    keepalive: object


class NotStored(Exception):  # noqa: N818 (a fact about the kernel, not a fault)
    """A kernel would have to be compiled."""


_store: KernelStore[Kernel] = KernelStore()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_store.forget_builds)
_this_thread = threading.local()


def kernel(nest: Any) -> Kernel:
    """Return the kernel of a `LoopNest`, compiled if there is none of its form yet.

    Parameters
    ----------
    nest : LoopNest
        Scheduled: its loops run in the order of its axes. The output must not overlap an input.

    Raises
    ------
    CannotCompile
        If no kernel is generated for such a nest: the baseline runs it.
    """
    with no_fork:
        from fastein.cpu.codegen import form
    return kernel_of_form(form(nest))


def kernel_of_form(form: Any) -> Kernel:
    """Return the kernel of all nests of a form, such as `codegen.Form`."""
    with no_fork:
        from fastein.cpu.codegen import VERSION
    return assemble(_rendered(form), lambda: _primitives(form.dtype), VERSION)


@functools.cache
def _rendered(form: Any) -> str:
    source: str = form.source()
    return source


def assemble(
    source: str, names: Callable[[], dict[str, Any]], version: int, explicit: bool = False
) -> Kernel:
    """Return the kernel of a generated source, compiled if there is none of it yet.

    Parameters
    ----------
    source : str
        One function in the ABI's parameters. Together with `version` it must say everything
        that the machine code depends on.
    names : callable
        Makes the global names that the source uses; called if it has to be compiled.
    version : int
        Version of the generator and of what stands behind the names.
    explicit : bool
        Whether all vectors are explicit, which takes LLVM less time (`fastein.cpu.passes`).
    """
    key = content_key(version, source, *toolchain())

    def make() -> Kernel:
        found = _from_disk(key, source)
        if found is not None:
            return found
        if getattr(_this_thread, "only_stored", False):
            raise NotStored(key)
        return build(source, names(), key, explicit)

    return _store.get(key, make)


def stored(make: Callable[[], T]) -> T | None:
    """Return what `make` returns, None if any of the kernels it asks for is not stored."""
    _this_thread.only_stored = True
    try:
        return make()
    except NotStored:
        return None
    finally:
        _this_thread.only_stored = False


@functools.cache
def toolchain() -> tuple[str, ...]:
    """Return what else the machine code of a source depends on; imports neither Numba nor LLVM."""
    versions = [_version(package) for package in ("numba", "llvmlite")]
    return (*versions, processor(), *[os.environ.get(name, "") for name in _NUMBA_SETTINGS])


_NUMBA_SETTINGS = (
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "NUMBA_ENABLE_AVX",
    "NUMBA_OPT",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_SLP_VECTORIZE",
)


def _version(package: str) -> str:
    """Return a package's version: by the name of its metadata's folder, which takes 0.1 ms."""
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec(package)
    if spec is not None and spec.origin:
        site = os.path.dirname(os.path.dirname(spec.origin))
        found = [name for name in os.listdir(site) if name.startswith(f"{package}-")]
        if len(found) == 1 and found[0].endswith(".dist-info"):
            return found[0]
    with no_fork:
        from importlib.metadata import version
    return version(package)


def files() -> KernelFiles | None:
    """Return the `KernelFiles` of this user, None if none are to be kept."""
    if settings.cache_dir is None:
        return None
    return KernelFiles(os.path.join(settings.cache_dir, "kernels"))


def _from_disk(key: str, source: str) -> Kernel | None:
    own = files()
    data = own.read(key) if own is not None else None
    if data is None:
        return None
    try:
        return _loaded(unpacked(data), source)
    except (ValueError, OSError):
        return None


def _loaded(image: Image, source: str) -> Kernel:
    code = MachineCode(image)
    return Kernel(code.address, source, code)


def build(source: str, names: dict[str, Any], key: str, explicit: bool = False) -> Kernel:
    """Compile `source`, in which `names` are global; `key` is its content key.

    `explicit` says that there is nothing in it to vectorise.
    """
    with no_fork:
        from numba.core.compiler_lock import global_compiler_lock

        # Numba's own lock: it also keeps other people's jitted functions out meanwhile.
        with global_compiler_lock:
            library, entry = _compile(_define(source, names, key), explicit)
            image = _image(library, entry)
            if image is None:
                library.finalize()
                return Kernel(library.get_pointer_to_function(entry), source, library)
    own = files()
    if own is not None:
        own.write(key, image.packed())
    return _loaded(image, source)


def _image(library: Any, entry: str) -> Image | None:
    """Return the image of a library, None if there can be none."""
    from llvmlite import binding

    from fastein.cpu.linking import CannotLink, link

    library._optimize_final_module()
    library._final_module.verify()
    triple, cpu, features = library.codegen.magic_tuple()
    machine = binding.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )
    try:
        return link(machine.emit_object(library._final_module), entry)
    except CannotLink:
        return None


def _primitives(dtype: str) -> dict[str, Any]:
    """Return the names that the source of a nest uses."""
    from numba import types

    from fastein.cpu import primitives, vector_primitives

    names = ("exact_sum", "gathered", "operand", "output", "whole_sum", "wide", "zero")
    whole = ("across", "column", "every", "exact_across", "laced", "picked", "resized", "tile")
    memory = ("fence", "lead", "prefetch", "prefetch_rows", "stream")
    return {
        **{name: getattr(primitives, name) for name in names},
        **{name: getattr(vector_primitives, name) for name in (*whole, "zeros", *memory)},
        "float32": types.float32,  # of sums of float16
        dtype: getattr(types, "boolean" if dtype == "bool" else dtype),
    }


def _define(source: str, names: dict[str, Any], key: str) -> Any:
    """Execute `source` among `names`, where tracebacks and Numba find its lines."""
    filename = f"<fastein kernel {key[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    before = set(names)
    exec(compile(source, filename, "exec"), names)
    (function,) = [names[name] for name in names.keys() - before if name != "__builtins__"]
    return function


def _compile(function: Any, explicit: bool) -> tuple[Any, str]:
    """Return the library with the LLVM IR of `function`, and the name of its entry point."""
    from numba.core import compiler, types
    from numba.core.registry import cpu_target

    context = cpu_target.target_context
    flags = compiler.Flags()
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.no_compile = True  # not before our entry point is in the library as well
    flags.error_model = "numpy"
    flags.enable_ssa = False  # the source never gives a name two types
    sizes = types.CPointer(types.intp)
    library = None
    if explicit:
        from fastein.cpu.passes import ExplicitLibrary

        library = ExplicitLibrary(context.codegen(), function.__name__)
    result = compiler.compile_extra(
        cpu_target.typing_context,
        context,
        function,
        (types.CPointer(types.voidptr), sizes, sizes, types.voidptr, types.intp, types.intp),
        types.none,
        flags,
        {},
        library=library,
        pipeline_class=_pipeline(),
    )
    return result.library, _add_entry(context, result.library, result.fndesc)


@functools.cache
def _pipeline() -> type:
    """Return Numba's pipeline without the passes that plain loops over primitives do not need."""
    from numba.core import compiler, typed_passes, untyped_passes
    from numba.core.compiler_machinery import PassManager

    class Pipeline(compiler.CompilerBase):  # type: ignore[misc]
        def define_pipelines(self) -> list[Any]:
            passes = PassManager("fastein")
            for step in (
                untyped_passes.TranslateByteCode,
                untyped_passes.FixupArgs,
                untyped_passes.IRProcessing,
                typed_passes.NopythonTypeInference,
                typed_passes.NativeLowering,
                typed_passes.NoPythonBackend,
            ):
                passes.add_pass(step, step.__name__)
            passes.finalize()
            return [passes]

    return Pipeline


def _add_entry(context: Any, library: Any, native: Any) -> str:
    """Add the C entry point, which drops the status that Numba's own convention returns."""
    from llvmlite import ir

    module = context.create_module("fastein_entry")
    callee = ir.Function(
        module,
        context.call_conv.get_function_type(native.restype, native.argtypes),
        native.llvm_func_name,
    )
    arguments = [context.get_value_type(kind) for kind in native.argtypes]
    name = f"fastein.{native.llvm_func_name}"
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    context.call_conv.call_function(
        builder, callee, native.restype, native.argtypes, entry.args, attrs=("noinline",)
    )
    builder.ret_void()
    library.add_ir_module(module)
    return name
