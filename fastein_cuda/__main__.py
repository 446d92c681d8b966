"""Say what there is for a GPU, and whether kernels of every family give the right answers.

::

    python -m fastein_cuda             # on the current device
    python -m fastein_cuda --simulate  # the same without one
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

import fastein

from .arrays import asarray, to_host
from .compiler import toolchain
from .devices import CudaUnavailableError, default_device
from .simulator import SMALL, simulated

#: What each family is checked with: name, equation, shapes, dtype, and how far it may be off.
CHECKS = (
    ("nest", "ij,ij->ij", ((300, 200),) * 2, "float32", 1e-6),
    ("long sum", "i,i->", ((200_000,),) * 2, "float64", 1e-12),
    ("transposition", "ij,ji->ij", ((301, 203), (203, 301)), "float32", 1e-6),
    ("tiny", "eij,ejk,ekl->eil", ((20_000, 3, 3),) * 3, "float64", 1e-12),
    ("tiny, innermost", "ije,jke->ike", ((4, 4, 20_000),) * 2, "float32", 1e-5),
    ("float64", "ij,jk->ik", ((200, 150), (150, 180)), "float64", 1e-12),
    ("split sums", "ij,jk->ik", ((64, 3000), (3000, 64)), "float64", 1e-12),
    ("float32", "ij,jk->ik", ((200, 150), (150, 180)), "float32", 1e-5),
    ("float16", "ij,jk->ik", ((200, 160), (160, 184)), "float16", 5e-3),
    ("float16 in steps", "ij,jk,kl->il", ((200, 160), (160, 184), (184, 90)), "float16", 5e-3),
    ("complex128", "aib,bja->ij", ((9, 70, 11), (11, 50, 9)), "complex128", 1e-12),
    ("complex64", "ij,jk->ik", ((100, 150), (150, 90)), "complex64", 1e-5),
    ("int32", "ij,jk->ik", ((100, 150), (150, 90)), "int32", 0.0),
    ("bool", "ij,jk->ik", ((100, 150), (150, 90)), "bool", 0.0),
)
REDUCED = ((True, 5e-3), ("3x", 1e-5))  # precisions of float32 products, and how far they are off


def check(equation: str, shapes: tuple[tuple[int, ...], ...], dtype: str, bound: float) -> str:
    """Return what is wrong with an equation's answer on the current device, empty if nothing is."""
    rng = np.random.default_rng(0)
    given = [_numbers(rng, shape, dtype) for shape in shapes]
    wide = "float32" if dtype == "float16" else dtype
    expected = fastein.einsum(equation, *[x.astype(wide) for x in given])
    found = to_host(fastein.einsum(equation, *map(asarray, given))).astype(expected.dtype)
    if bound == 0.0:
        wrong = int((found != expected).sum())
        return f"{wrong} of {expected.size} values are wrong" if wrong else ""
    off = float(np.abs(found - expected).max() / np.abs(expected).max())
    return "" if off <= bound else f"off by {off:.1e} of the largest value"


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind in "ib":
        return rng.integers(0, 2 if dtype == "bool" else 9, shape).astype(dtype)
    real, imaginary = rng.standard_normal((2, *shape))
    found: np.ndarray = real + 1j * imaginary if dtype.startswith("c") else real
    return found.astype(dtype)


def report(name: str, equation: str, shapes: tuple[tuple[int, ...], ...], dtype: str,
           bound: float) -> bool:  # fmt: skip
    """Check an equation and print one line; whether its answer is right."""
    begin = time.perf_counter()
    try:
        fault = check(equation, shapes, dtype, bound)
    except Exception as reason:
        fault = f"{type(reason).__name__}: {reason}"
    seconds = time.perf_counter() - begin
    print(f"  {name:16} {equation:18} {seconds:6.2f} s  {fault or 'ok'}", flush=True)
    return not fault


def environment() -> list[str]:
    """Return lines about what compiles and what runs kernels."""
    lines = [
        f"fastein {fastein.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}"
    ]
    lines += [", ".join(toolchain())]
    try:
        from .driver import call

        version = int(call("cuDriverGetVersion"))
        lines.append(f"driver of CUDA {version // 1000}.{version % 1000 // 10}")
    except CudaUnavailableError as reason:
        lines.append(str(reason))
    lines.append(nvvm())
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return [*lines, *([f"CUDA_HOME {home}"] if home else [])]


def nvvm() -> str:
    """Say where the library is that makes PTX."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return f"NVVM {load_nvidia_dynamic_lib('nvvm').abs_path}"
    except Exception as reason:  # whatever kind of installation this is
        return f"NVVM is not found: {type(reason).__name__}"


def main(arguments: list[str] | None = None) -> int:
    """Check all families; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastein_cuda")
    parser.add_argument("--simulate", action="store_true")
    given = parser.parse_args(arguments)
    print("\n".join(environment()))
    machine = replace(SMALL, processors=132)
    with simulated(machine) if given.simulate else nullcontext():
        try:
            device = default_device()
        except CudaUnavailableError as reason:
            print(reason)
            return 1
        print(f"{device.name}: {device.machine}")
        right = [report(*item) for item in CHECKS]
        for tf32, bound in REDUCED:
            with fastein.config(tf32=tf32):
                shapes = ((200, 150), (150, 180))
                right.append(report(f"tf32={tf32}", "ij,jk->ik", shapes, "float32", bound))
    print("all is well" if all(right) else f"{right.count(False)} of {len(right)} are wrong")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
