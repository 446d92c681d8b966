"""Moments at which the process must not be forked.

A forked child has only the thread that forked it. Locks that another thread held stay locked in
the child for ever: those of modules being imported, Numba's, LLVM's. So a fork waits while a thread
holds `no_fork`, as all do that import something in the middle of a call, or compile.
"""

from __future__ import annotations

import os
from _thread import RLock

no_fork = RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release
    )
