"""LLVM's passes for kernels whose vectors are explicit.

Tiles and the moves of packing say which vectors there are and which loops are unrolled. There is
nothing for LLVM's vectorisers and unroller to find, and little for its scalar passes. Numba runs
these three times: over each function, and twice over the module. Once, at a low level, makes code
that is as fast, in two thirds of the time that compiling takes.

Importing this module imports Numba; only a compilation does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding
from numba.core.codegen import JITCodeLibrary


class ExplicitLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A library of such kernels.

    Where a version of Numba names its steps differently, it runs its own passes.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        options = binding.create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = options.slp_vectorization = False
        options.loop_interleaving = options.loop_unrolling = False
        builder = binding.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)
