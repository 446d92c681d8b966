"""The GPU target of fastein: in this version a name, and nothing behind it.

No part of it is there yet: no kernels, no launcher, no array support. The package exists so that
code can ask :func:`is_available` today and get the truth, and so that :func:`einsum` fails with
a sentence instead of an ``ImportError``. ``import fastein`` never imports it.
"""

from typing import Any, NoReturn

__all__ = ["CudaUnavailableError", "einsum", "is_available"]


class CudaUnavailableError(RuntimeError):
    """Raised by whatever would need the GPU target."""


def is_available() -> bool:
    """Whether fastein can run on a GPU here.

    Returns
    -------
    bool
        Always ``False`` in this version, whatever devices and drivers are present.

    Examples
    --------
    >>> import fastein_cuda
    >>> fastein_cuda.is_available()
    False
    """
    return False


def einsum(*operands: Any, **kwargs: Any) -> NoReturn:
    """Raise :class:`CudaUnavailableError`: this version has no GPU target.

    Parameters
    ----------
    *operands, **kwargs
        What :func:`fastein.einsum` takes. They are not looked at.

    Raises
    ------
    CudaUnavailableError
        Always, saying what to do instead.
    """
    raise CudaUnavailableError(
        "this version of fastein has no GPU target, and installing numba-cuda (the extra "
        "fastein[cuda]) or a driver does not change that. Bring the arrays to the host as NumPy "
        "arrays (cupy.asnumpy(x), x.cpu().numpy(), ...) and call fastein.einsum; "
        "fastein_cuda.is_available() says when there is more"
    )
