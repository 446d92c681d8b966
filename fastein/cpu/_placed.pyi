from typing import Any

import numpy as np

from ..plan import Layout

class Placed:
    def __init__(
        self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None: ...

def place(layout: Layout) -> Placed: ...
