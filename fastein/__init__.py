"""fastein: NumPy's einsum, compiled.

`einsum` takes what `numpy.einsum` takes and gives what it gives, sooner. Equations become loop
nests: a nest compiled ahead of time answers small and first calls, generated kernels take over
where they have earned it.
"""

import sys

from .api import (
    EinsumError,
    config,
    einsum,
    einsum_path,
    explain,
    get_num_threads,
    set_num_threads,
)

__version__ = "0.1.0"

if "threadpoolctl" in sys.modules:
    from . import threadpools as threadpools

__all__ = [
    "EinsumError",
    "__version__",
    "config",
    "einsum",
    "einsum_path",
    "explain",
    "get_num_threads",
    "set_num_threads",
]
