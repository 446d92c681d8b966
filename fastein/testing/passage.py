"""The same call before, while and after kernels are built for it.

What answers first is the baseline nest or NumPy; once the calls have earned them, kernels are built
in the background, and taken into use in the midst of other calls. Here one call earns them, and
every answer on the way is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import fastein
from fastein._plan_cache import clear_plans
from fastein.cpu import background, engine, tiers

from .call import Call
from .compare import Verdict, judge

EARNING = 8  # calls: the first have no plan, and nothing is booked of the next
MOST_CALLS = 50  # that are made before and while kernels are built
MOST_SECONDS = 300  # that building the kernels of one call may take


@contextmanager
def earned_at_once() -> Iterator[None]:
    """Have any call earn kernels, which are built in the background all the same."""
    saved = engine.COMPILE_SECONDS, tiers.COMPILE_SECONDS, tiers.LOOK_SECONDS
    engine.COMPILE_SECONDS = tiers.COMPILE_SECONDS = 1e-9
    tiers.LOOK_SECONDS = float("inf")  # or a call that gains so much would wait for them
    try:
        with fastein.config(jit="tiered"):
            yield
    finally:
        engine.COMPILE_SECONDS, tiers.COMPILE_SECONDS, tiers.LOOK_SECONDS = saved
        forget()


def forget() -> None:
    """Have no kernel in use: every call begins without."""
    background.wait(MOST_SECONDS)
    for accounts in (tiers._tiers, engine._engines, engine._transposers):
        accounts.clear()
    clear_plans()


def kernels_in_use() -> int:
    """Return how many accounts have had their kernels built."""
    return sum(account.ready for account in _accounts())


def judge_passage(call: Call, einsum: Callable[..., Any] | None = None) -> Verdict:
    """Judge a call's answers on its way from the baseline to compiled kernels.

    Parameters
    ----------
    call : Call
        The call; the memory of its operands is the same afterwards as before.
    einsum : callable, optional
        The einsum under test; `fastein.einsum` if not given.

    Returns
    -------
    Verdict
        The first with a fault, or the last.
    """
    forget()
    turn = 0
    while True:
        is_over = turn >= EARNING and (background.wait(0) or turn == MOST_CALLS)
        if is_over and not background.wait(MOST_SECONDS):
            return Verdict("kernels are not built")
        verdict = judge(call, einsum)
        if verdict.fault is not None:
            return Verdict(f"call {turn}, {kernels_in_use()} kernels in use: {verdict.fault}")
        if is_over:
            break
        turn += 1
    if not background.wait(MOST_SECONDS):  # for what the last call has ordered
        return Verdict("kernels are not built")
    if any(account.is_ordered and not account.ready for account in _accounts()):
        return Verdict("kernels cannot be built")
    return verdict


def _accounts() -> Iterator[tiers.Account]:
    return chain(tiers._tiers.values(), engine._engines.values(), engine._transposers.values())
