"""The GPU target of fastein: the same equations on arrays that lie on a CUDA device.

`fastein.einsum` calls it for such arrays (of CuPy, PyTorch, Numba, JAX, or anything that has
``__cuda_array_interface__`` or DLPack); :func:`einsum` is the direct entry. Kernels are generated
for numba.cuda and compiled when they are first needed, which takes numba-cuda
(``pip install 'fastein[cuda]'``). ``import fastein`` never imports this package, and this package
never imports numba before a kernel is compiled.
"""

from .arrays import asarray, to_host
from .device_array import DeviceArray
from .devices import CudaUnavailableError
from .dispatch import einsum

__all__ = [
    "CudaUnavailableError",
    "DeviceArray",
    "asarray",
    "einsum",
    "is_available",
    "to_host",
]


def is_available() -> bool:
    """Whether fastein can run on a GPU here: a driver, a device that is not too old, numba-cuda.

    Returns
    -------
    bool

    Examples
    --------
    >>> import fastein_cuda
    >>> fastein_cuda.is_available() in (True, False)
    True
    """
    from importlib.util import find_spec

    from .devices import current_device

    try:
        return find_spec("numba_cuda") is not None and bool(current_device())
    except (CudaUnavailableError, RuntimeError):
        return False
