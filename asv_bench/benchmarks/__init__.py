"""Benchmarks of fastein, each beside NumPy. NumPy's BLAS gets as many threads as fastein."""

import os

if "FASTEIN_NUM_THREADS" in os.environ:
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, os.environ["FASTEIN_NUM_THREADS"])
