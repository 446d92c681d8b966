"""Have `threadpoolctl` see and limit fastein's threads.

``threadpoolctl.threadpool_limits`` is how scikit-learn, joblib and others keep the threads of
libraries from multiplying. It knows libraries by the shared objects that a process has loaded.
"""

from __future__ import annotations

import sys

from threadpoolctl import LibController, register

from .config import config, settings


class FasteinController(LibController):  # type: ignore[misc]
    """fastein, as a library that threadpoolctl controls."""

    user_api = "fastein"
    internal_api = "fastein"
    filename_prefixes = ("_threads.",)
    check_symbols = ("fastein_threads",)

    def get_num_threads(self) -> int:
        return settings.num_threads

    def set_num_threads(self, num_threads: int) -> None:
        config(num_threads=num_threads)

    def get_version(self) -> str:
        return str(sys.modules["fastein"].__version__)


register(FasteinController)
