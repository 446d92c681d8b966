"""Instruction sets: how wide the explicit vectors of generated kernels are.

Every width is correct on every processor, because LLVM splits vectors that the processor lacks.
The choice is one of speed alone.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from ..record import Record

SMALL = 8  # iterations of the longest loop that is written out, in values that registers hold


class Isa(Record):
    """An instruction set, as far as kernels depend on it.

    Attributes
    ----------
    name : {'avx512', 'avx2', 'neon', 'plain'}
        ``'plain'`` is what any processor has, such as SSE2.
    vector_bytes : int
        Width of a vector register.
    registers : int
        Number of vector registers.
    half_conversion : bool
        Whether it converts between float16 and float32.
    dots : bool
        Whether it multiplies integers of 8 and 16 bits and sums neighbouring products.
    picks_bytes : bool
        Whether it picks bytes from two vectors by numbers that are known at run time only.
    """

    name: str
    vector_bytes: int
    registers: int
    half_conversion: bool
    dots: bool = False
    picks_bytes: bool = False


AVX512_VBMI = Isa("avx512", 64, 32, half_conversion=True, dots=True, picks_bytes=True)
AVX512_VNNI = Isa("avx512", 64, 32, half_conversion=True, dots=True)
AVX512 = Isa("avx512", 64, 32, half_conversion=True)
AVX2 = Isa("avx2", 32, 16, half_conversion=True)
NEON = Isa("neon", 16, 32, half_conversion=True)
PLAIN = Isa("plain", 16, 16, half_conversion=False)

# Widest first, with the features that LLVM must have been told of.
_AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma", "f16c"}
_REQUIRED = {
    AVX512_VBMI: {*_AVX512, "avx512vnni", "avx512vbmi"},
    AVX512_VNNI: {*_AVX512, "avx512vnni"},
    AVX512: _AVX512,
    AVX2: {"avx2", "fma", "f16c"},
    NEON: {"neon"},
    PLAIN: set[str](),
}

_NUMPY_NAMES = {
    **dict.fromkeys(("avx512f", "avx512dq", "avx512bw", "avx512vl"), "AVX512_SKX"),
    "avx512vnni": "AVX512VNNI",
    "avx512vbmi": "AVX512VBMI",
    "avx2": "AVX2",
    "fma": "FMA3",
    "f16c": "F16C",
    "neon": "ASIMD",
}


@functools.cache
def host() -> Isa:
    """Return the widest instruction set of the processor that kernels are compiled for.

    ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` in the environment decide what that is, as for
    all compiled kernels. ``FASTEIN_ISA`` names a narrower one to be used instead.
    """
    features = _features()
    sets = [isa for isa, required in _REQUIRED.items() if required <= features]
    wanted = os.environ.get("FASTEIN_ISA", "").strip().lower()
    return next((isa for isa in sets if isa.name == wanted), sets[0])


def power_of_two(count: int) -> int:
    """Return the least power of two that is not less: lanes that LLVM has no trouble with.

    It takes minutes over shuffles between vectors of some other lengths, and widens the elements
    of int8 vectors that it multiplies.
    """
    return 1 << (count - 1).bit_length()


def _features() -> set[str]:
    """Return the names of the processor features that LLVM may use."""
    text = os.environ.get("NUMBA_CPU_FEATURES")
    if text is None and os.environ.get("NUMBA_CPU_NAME", "").lower() == "generic":
        text = ""  # Numba's rule
    if text is None and "NUMBA_CPU_NAME" not in os.environ:
        # NumPy has looked, too, and is there without an import of 50 ms
        umath = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
        seen = getattr(umath, "__cpu_features__", {})
        found = {name for name, numpys in _NUMPY_NAMES.items() if seen.get(numpys)}
        if found:
            return found
    if text is None:
        from llvmlite import binding

        text = binding.get_host_cpu_features().flatten()
    return {name[1:] for name in text.split(",") if name.startswith("+")}
