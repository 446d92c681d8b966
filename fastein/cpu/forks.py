"""Moments at which the process must not be forked.

A forked child has only the thread that forked it. Locks that another thread held stay locked in
the child for ever: those of modules being imported, Numba's, LLVM's. So a fork waits while one of
fastein's threads holds `no_fork`.
"""

from __future__ import annotations

import os
import threading

no_fork = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release
    )
