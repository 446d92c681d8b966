"""The twin of :mod:`fastein_cuda.tiny_primitives`."""

from __future__ import annotations

from typing import Any

from .forms import TinyForm
from .lanes_sim import Lanes
from .primitives_sim import Lockstep, Shelf
from .unrolled import evaluate


def tiny_primitives(lockstep: Lockstep, form: TinyForm) -> dict[str, Any]:
    """Return the primitives of a form by their names."""
    ops = Lanes(lockstep, form.element, form.arithmetic)

    def compute(slots: Shelf, item: Any, part: Any) -> None:
        for slot, value, row in evaluate(ops, form, item, part):
            exists = True if row is None else row < form.sizes[form.split]
            lockstep.put(slots, slot, value[:, None], exists)

    return {"compute": compute}
