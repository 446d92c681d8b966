"""Generated source to machine code: Numba's front end and LLVM, without its Python wrappers.

A kernel is compiled as a bare native function plus a C entry point of ours. What is left out,
the wrapper for Python callers and the error path that takes the GIL, could never run: a nest
neither raises nor touches an object.

Numba is imported by the first compilation, never before.
"""

from __future__ import annotations

import functools
import linecache
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastein.cpu import codegen
from fastein.store import KernelStore, content_key


@dataclass(frozen=True, slots=True)
class Kernel:
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
    keepalive: object = field(repr=False, compare=False)


_store: KernelStore[Kernel] = KernelStore()


def kernel(nest: Any) -> Kernel:
    """Return the kernel of a `LoopNest`, compiled if this process has none of its form yet.

    Parameters
    ----------
    nest : LoopNest
        Scheduled: its loops run in the order of its axes. The output must not overlap an input.

    Raises
    ------
    CannotCompile
        If no kernel is generated for such a nest: the baseline runs it.
    """
    return kernel_of_form(codegen.form(nest))


def kernel_of_form(form: Any) -> Kernel:
    """Return the kernel of all nests of a form (of `codegen`, `unrolled` or `crossed`)."""
    return assemble(_rendered(form), lambda: _primitives(form.dtype), codegen.VERSION)


@functools.cache
def _rendered(form: Any) -> str:
    source: str = form.source()
    return source


def assemble(source: str, names: Callable[[], dict[str, Any]], version: int) -> Kernel:
    """Return the kernel of a generated source, compiled if this process has none of it yet.

    Parameters
    ----------
    source : str
        One function in the ABI's parameters. Together with `version` it must say everything
        that the machine code depends on.
    names : callable
        Makes the global names that the source uses; called if it has to be compiled.
    version : int
        Version of the generator and of what stands behind the names.
    """
    key = content_key(version, source, *toolchain())
    return _store.get(key, lambda: build(source, names(), key))


@functools.cache
def toolchain() -> tuple[str, ...]:
    """Return what else the machine code of a source depends on; needs llvmlite, but no Numba."""
    from importlib.metadata import version

    from llvmlite import binding

    return (
        version("numba"),
        version("llvmlite"),
        os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name(),
        os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten(),
    )


def build(source: str, names: dict[str, Any], key: str) -> Kernel:
    """Compile `source`, in which `names` are global; `key` is its content key."""
    from numba.core.compiler_lock import global_compiler_lock

    # Numba's own lock: it also keeps other people's jitted functions out meanwhile.
    with global_compiler_lock:
        library, entry = _compile(_define(source, names, key))
        return Kernel(library.get_pointer_to_function(entry), source, library)


def _primitives(dtype: str) -> dict[str, Any]:
    """Return the names that the source of a nest uses."""
    from numba import types

    from fastein.cpu import primitives, vector_primitives

    names = ("gathered", "operand", "output", "wide", "zero")
    vectors = ("across", "column", "fence", "lead", "prefetch", "stream", "tile", "zeros")
    return {
        **{name: getattr(primitives, name) for name in names},
        **{name: getattr(vector_primitives, name) for name in vectors},
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


def _compile(function: Any) -> tuple[Any, str]:
    """Return the library with the machine code of `function`, and the name of its entry point."""
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
    result = compiler.compile_extra(
        cpu_target.typing_context,
        context,
        function,
        (types.CPointer(types.voidptr), sizes, sizes, types.voidptr, types.intp, types.intp),
        types.none,
        flags,
        {},
        pipeline_class=_pipeline(),
    )
    entry = _add_entry(context, result.library, result.fndesc)
    result.library.finalize()
    return result.library, entry


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
