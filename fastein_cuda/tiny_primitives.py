"""The primitive of kernels of small loops, made for one form: all its products, unrolled."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from numba.cuda import types
from numba.cuda.extending import intrinsic

from .conversions import I32
from .emitter import Emitter, Word
from .forms import TinyForm
from .primitives import slot_at
from .unrolled import evaluate


def tiny_primitives(form: TinyForm) -> dict[str, Any]:
    """Return the primitives of a form by their names."""

    def compute(typingctx: Any, slots: Any, item: Any, part: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            ops = Emitter(builder, form.element, form.arithmetic)
            numbers = [Word(ops, builder.trunc(x, I32)) for x in args[1:]]
            results = list(evaluate(ops, form, *numbers))
            for slot, value, row in results:
                exists = nullcontext()
                if row is not None:
                    last = I32(form.sizes[form.split])
                    exists = builder.if_then(builder.icmp_unsigned("<", row.value, last))
                with exists:
                    builder.store(value, slot_at(builder, slots, args[0], slot.value))
            return context.get_dummy_value()

        return types.void(slots, item, part), lower

    return {"compute": intrinsic(compute)}
