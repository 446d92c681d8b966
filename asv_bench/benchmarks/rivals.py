"""Who is compared: one table for every benchmark."""

from functools import partial

import numpy as np

import fastein

RIVALS = {
    "fastein": fastein.einsum,
    "numpy": np.einsum,
    "numpy optimize=True": partial(np.einsum, optimize=True),
}
