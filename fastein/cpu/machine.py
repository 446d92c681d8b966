"""What the cost model knows of this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates from which schedules estimate times, in seconds.

    The defaults are those of a 2023 server core (3.5 GHz, 256-bit vectors). They only need to be
    right within a factor of two: families differ by more than that where the choice matters.
    """

    vector_bytes: float = 32.0
    """Bytes of an operand that one iteration of a vectorised loop advances."""
    cycle: float = 0.3e-9
    run_overhead: float = 4e-9
    """Starting one innermost loop of the baseline nest."""
    strided_access: float = 0.7e-9
    """One element of a walk that does not use whole cache lines."""
    matmul_call: float = 4e-6
    """One call of NumPy's matmul, the views around it included."""
    matmul_each: float = 0.15e-6
    """One matrix of a stack of matrices."""
    matmul_flops: float = 5e10
    """Floating-point operations a second on float64."""
    copy_bytes: float = 2.5e9
    """Bytes a second of a transposing copy."""


MACHINE = Machine()
