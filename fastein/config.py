"""Process-wide settings: read once from the environment, changed by `config`.

What else is taken over from the process when fastein is imported: NumPy's own einsum, before
anything can replace it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .errors import EinsumError

numpy_einsum = np.einsum

MOST_THREADS = 4096
JIT_MODES = ("always", "tiered", "never")
MOST_BYTES = sys.maxsize
BUFFER_POOL = 2**30  # bytes, on a machine that has at least eight times as much


class Settings:
    """The settings in force (one instance, `settings`); change them with `config`.

    Attributes
    ----------
    jit : {'tiered', 'always', 'never'}
        Which kernels answer: ``'tiered'`` starts with the ahead-of-time nest and NumPy's matmul
        and compiles once an equation's calls have earned it, ``'always'`` compiles at once,
        ``'never'`` does not compile.
    num_threads : int
        Most threads that one call uses.
    memory_limit : int or None
        Largest intermediate that a contraction path may create, in elements; None for no limit.
    buffer_pool : int
        Most bytes that wait to be used again once large results are gone.
    cache_dir : str or None
        Where compiled kernels are kept for other processes; None for nowhere.
    tf32 : bool or '3x'
        Whether a GPU may round float32 operands of products to 11 bits; ``'3x'``: as two parts of
        11 bits.
    """

    __slots__ = ("buffer_pool", "cache_dir", "jit", "memory_limit", "num_threads", "tf32")

    def __init__(
        self,
        jit: str,
        num_threads: int,
        memory_limit: int | None,
        buffer_pool: int,
        cache_dir: str | None,
        tf32: bool | str = False,
    ) -> None:
        self.buffer_pool = buffer_pool
        self.cache_dir = cache_dir
        self.jit = jit
        self.num_threads = num_threads
        self.memory_limit = memory_limit
        self.tf32 = tf32

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.as_dict().items())})"


def available_cpus() -> int:
    """CPUs that this process may run on: by affinity, and by the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0)) or 1
    else:
        count = os.cpu_count() or 1
    return math.ceil(min(count, cpu_quota()))


def cpu_quota(mounts: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float:
    """CPUs' worth of time that the process gets, infinite if it is not limited.

    Control groups are nested, and each bounds all that is in it: the least limit counts.

    Parameters
    ----------
    mounts : str
        Where the hierarchies of groups are mounted.
    own : str
        The file that tells the group of this process in each of them.
    """
    return min(map(_group_quota, _control_groups(mounts, own)), default=math.inf)


def _control_groups(mounts: str, own: str) -> Iterator[str]:
    """Folders of the groups that this process is in, the innermost of each hierarchy first."""
    try:
        with open(own) as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        lines = ["0::/", "1:cpu:/"]
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:  # version 2, which may stand beside version 1
            roots = [mounts, f"{mounts}/unified"]
        elif "cpu" in controllers.split(","):
            roots = [f"{mounts}/{controllers}", f"{mounts}/cpu"]
        else:
            continue
        for root in roots:
            yield from _up_to(root, path)


def _up_to(root: str, path: str) -> Iterator[str]:
    """Folders of a group and of those around it.

    A container may see its groups without the outermost ones, which their paths have all the same.
    """
    names = [name for name in path.split("/") if name not in ("", "..")]
    start = 0
    while start < len(names) and not os.path.isdir("/".join([root, *names[start:]])):
        start += 1
    for stop in range(len(names), start - 1, -1):
        yield "/".join([root, *names[start:stop]])


def _group_quota(folder: str) -> float:
    """CPUs' worth of time that one group gets, infinite if it is not limited or not there."""
    try:
        with open(f"{folder}/cpu.max") as file:  # version 2
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open(f"{folder}/cpu.cfs_quota_us") as file:  # version 1
                quota = file.read()
            with open(f"{folder}/cpu.cfs_period_us") as file:
                period = file.read()
        except (OSError, ValueError):
            return math.inf
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return share if share > 0 else math.inf


def physical_memory() -> int | None:
    """Bytes of memory that this machine has, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _checked(name: str, value: Any) -> Any:
    if name == "jit":
        if not isinstance(value, str) or value not in JIT_MODES:
            raise EinsumError(
                f"jit must be one of {', '.join(map(repr, JIT_MODES))}, not {value!r}"
            )
        return value
    if name == "tf32":
        if not isinstance(value, bool) and not (isinstance(value, str) and value == "3x"):
            raise TypeError(f"tf32 must be True, False or '3x', not {value!r}")
        return value
    if name in ("memory_limit", "cache_dir") and value is None:
        return None
    if name == "cache_dir":
        return os.path.abspath(os.fsdecode(value))
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    value = value.__index__()
    least = 0 if name == "buffer_pool" else 1
    if value < least:
        raise EinsumError(f"{name} must be at least {least}, not {value}")
    if name == "num_threads" and value > MOST_THREADS:
        raise EinsumError(f"num_threads must be at most {MOST_THREADS}, not {value}")
    if name == "buffer_pool" and value > MOST_BYTES:
        raise EinsumError(f"buffer_pool must be at most {MOST_BYTES}, not {value}")
    return value


def _thread_count(own: str, openmp: str) -> int:
    """The number of threads that the environment asks for, or that of the CPUs.

    Pools of processes bound the threads of all libraries by OpenMP's variable, whose first number
    is that of the outermost level.
    """
    count = _number(own)
    if count > 0:
        return min(count, MOST_THREADS)
    return min(_number(openmp.partition(",")[0].strip()) or MOST_THREADS, available_cpus())


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def default_buffer_pool() -> int:
    """Bytes of a pool that suits this machine."""
    memory = physical_memory()
    return BUFFER_POOL if memory is None else min(BUFFER_POOL, memory // 8)


def _pool_size(text: str) -> int:
    """The bytes that the environment asks for, or what suits this machine."""
    size = int(text) if text.isdecimal() and len(text) < 30 else MOST_BYTES + 1
    return size if size <= MOST_BYTES else default_buffer_pool()


def default_cache_dir() -> str | None:
    """The platform's directory for what can be made again, None if this user has none."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or not _is_own(home):
        return None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.join(home, ".cache")
    return os.path.join(base, "fastein")


def _is_own(folder: str) -> bool:
    """Whether a folder belongs to this user (under sudo, $HOME may be another one's)."""
    try:
        return not hasattr(os, "geteuid") or os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def _cache_dir(text: str) -> str | None:
    """The directory that the environment asks for, or the platform's."""
    if not text:
        return default_cache_dir()
    return None if text.lower() == "none" else os.path.abspath(os.path.expanduser(text))


def _from_environment() -> Settings:
    jit = os.environ.get("FASTEIN_JIT", "tiered").strip().lower()
    threads = os.environ.get("FASTEIN_NUM_THREADS", "").strip()
    pool = os.environ.get("FASTEIN_BUFFER_POOL", "").strip()
    return Settings(
        jit=jit if jit in JIT_MODES else "tiered",
        num_threads=_thread_count(threads, os.environ.get("OMP_NUM_THREADS", "")),
        memory_limit=None,
        buffer_pool=_pool_size(pool),
        cache_dir=_cache_dir(os.environ.get("FASTEIN_CACHE_DIR", "").strip()),
    )


settings = _from_environment()
_listeners: list[Callable[[], None]] = []


def on_change(listener: Callable[[], None]) -> None:
    """Have `listener` called after every change (the plan cache forgets its plans)."""
    _listeners.append(listener)


def _apply(values: dict[str, Any]) -> None:
    if any(getattr(settings, name) != value for name, value in values.items()):
        for name, value in values.items():
            setattr(settings, name, value)
        changed()


def changed() -> None:
    """Tell all listeners that what they have derived from the settings is out of date."""
    for listener in _listeners:
        listener()


class config:  # noqa: N801  (reads as a verb: ``with config(jit='never'):``)
    """Change fastein's settings, for good or for the length of a ``with`` block.

    Parameters
    ----------
    jit : {'tiered', 'always', 'never'}, optional
        When loop nests are compiled. ``'tiered'`` (the default) answers small and early calls
        without a compiler and compiles a kernel once the calls have earned it; ``'always'``
        compiles every loop nest at its first call; ``'never'`` never compiles.
        ``FASTEIN_JIT`` in the environment sets the initial value.
    num_threads : int, optional
        Most threads that one call uses. ``FASTEIN_NUM_THREADS`` sets the initial value; by default
        the CPUs that the process may use, or ``OMP_NUM_THREADS`` if that is less.
    memory_limit : int or None, optional
        Largest intermediate, in elements, that a contraction path may create.
    buffer_pool : int, optional
        Most bytes of memory that fastein keeps when large results die, for the next ones. 0
        keeps nothing and leaves all memory to NumPy. By default 1 GiB or an eighth of the
        machine's memory, whichever is less; ``FASTEIN_BUFFER_POOL`` sets the initial value.
    cache_dir : path or None, optional
        Directory in which compiled kernels are kept for other processes, None for none. By
        default ``fastein`` in the user's directory for caches; ``FASTEIN_CACHE_DIR`` sets the
        initial value, ``none`` for None.
    tf32 : bool or '3x', optional
        Whether products of float32 on a GPU may run on its tensor cores, which round the operands
        to 11 bits (about 1e-3). ``'3x'``: as three products of the operands' halves, as precise
        as float32. False by default; it changes nothing on the CPU.

    Raises
    ------
    EinsumError
        If a value is out of range.
    TypeError
        If a setting is unknown or of the wrong type.

    Notes
    -----
    Settings belong to the process, not to a thread. The object shows the settings in force as
    attributes, which cannot be set.

    Examples
    --------
    >>> import fastein
    >>> with fastein.config(jit='never'):
    ...     fastein.config().jit
    'never'
    """

    __slots__ = ("_before",)

    def __init__(self, **changes: Any) -> None:
        for name in changes:
            if name not in Settings.__slots__:
                known = ", ".join(sorted(Settings.__slots__))
                raise TypeError(f"no setting is called {name!r}; the settings are {known}")
        checked = {name: _checked(name, value) for name, value in changes.items()}
        self._before = {name: getattr(settings, name) for name in checked}
        if checked:
            _apply(checked)

    def __enter__(self) -> config:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _apply(self._before)

    def __getattr__(self, name: str) -> Any:
        if name in Settings.__slots__:
            return getattr(settings, name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"config({', '.join(f'{k}={v!r}' for k, v in settings.as_dict().items())})"
