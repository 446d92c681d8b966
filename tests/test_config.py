"""Settings: what may be set, for how long, and who is told."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import in_a_process

import fastein
from fastein import EinsumError, config
from fastein.config import (
    BUFFER_POOL,
    available_cpus,
    cpu_quota,
    default_buffer_pool,
    on_change,
    physical_memory,
    settings,
)


@pytest.fixture(autouse=True)
def as_before():
    before = settings.as_dict()
    yield
    config(**before)
    assert settings.as_dict() == before


def test_a_block_restores_what_it_changed():
    changed = {"jit": "never", "num_threads": 3, "memory_limit": 10, "buffer_pool": 0, "tf32": True}
    changed["cache_dir"] = None
    with config(**changed) as inside:
        assert {name: getattr(inside, name) for name in changed} == changed
        with config(jit="tiered"):
            assert settings.as_dict() == {**changed, "jit": "tiered"}
        assert settings.jit == "never"


def test_what_a_block_hands_out_cannot_change_settings():
    with config(num_threads=1) as inside:
        with pytest.raises(AttributeError):
            inside.num_threads = 2
        assert inside.num_threads == config().num_threads == 1


def test_tf32_has_three_values():
    for value in (True, False, "3x"):
        with config(tf32=value):
            assert settings.tf32 is value
    for value in ("2x", 3, None):
        with pytest.raises(TypeError, match="tf32 must be"):
            config(tf32=value)


def test_a_block_restores_after_an_error():
    before = settings.as_dict()
    with pytest.raises(ZeroDivisionError), config(num_threads=7, memory_limit=None):
        raise ZeroDivisionError
    assert settings.as_dict() == before


def test_a_call_changes_for_good():
    config(num_threads=5)
    assert fastein.get_num_threads() == 5
    fastein.set_num_threads(np.int64(2))
    assert type(fastein.get_num_threads()) is int
    assert config().num_threads == 2


def test_without_arguments_it_shows_the_settings():
    shown = config()
    assert {name: getattr(shown, name) for name in settings.as_dict()} == settings.as_dict()
    assert repr(shown).startswith("config(buffer_pool=")
    assert repr(settings).startswith("Settings(buffer_pool=")
    assert not hasattr(shown, "colour")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"jit": "sometimes"}, EinsumError, "'always', 'tiered', 'never'"),
        ({"jit": None}, EinsumError, "None"),
        ({"num_threads": 0}, EinsumError, "at least 1"),
        ({"num_threads": -2}, EinsumError, "-2"),
        ({"memory_limit": 0}, EinsumError, "at least 1"),
        ({"buffer_pool": -1}, EinsumError, "at least 0"),
        ({"buffer_pool": 2**63}, EinsumError, "at most"),
        ({"buffer_pool": None}, TypeError, "integer"),
        ({"cache_dir": 3}, TypeError, "str"),
        ({"num_threads": 2.0}, TypeError, "integer"),
        ({"num_threads": True}, TypeError, "integer"),
        ({"num_threads": None}, TypeError, "integer"),
        ({"memory_limit": "1GB"}, TypeError, "integer"),
        ({"threads": 2}, TypeError, "buffer_pool, cache_dir, jit, memory_limit, num_threads"),
    ],
)
def test_bad_values_change_nothing(change, error, says):
    before = settings.as_dict()
    with pytest.raises(error, match=says):
        config(**change)
    with pytest.raises(error):
        config(**{"num_threads": 9, "memory_limit": 9, **change})
    assert settings.as_dict() == before


def test_listeners_hear_of_every_change_but_not_of_looks():
    heard = []
    on_change(lambda: heard.append(settings.num_threads))
    config()
    config(num_threads=settings.num_threads)
    assert heard == []
    with config(num_threads=settings.num_threads + 2):
        assert heard == [settings.num_threads]
    assert len(heard) == 2


def test_available_cpus_follows_the_affinity():
    if hasattr(os, "sched_getaffinity"):
        assert available_cpus() == len(os.sched_getaffinity(0))
    assert available_cpus() >= 1


def read_with(environment, names):
    """What a new process with this environment reads."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FASTEIN_", "OMP_"))}
    code = f"from fastein.config import settings as s; print({names})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    ("environment", "jit", "threads"),
    [
        ({}, "tiered", available_cpus()),
        ({"FASTEIN_JIT": " Never ", "FASTEIN_NUM_THREADS": "3"}, "never", 3),
        ({"FASTEIN_JIT": "nonsense", "FASTEIN_NUM_THREADS": "0"}, "tiered", available_cpus()),
        ({"FASTEIN_JIT": "always", "FASTEIN_NUM_THREADS": "-1"}, "always", available_cpus()),
        ({"FASTEIN_NUM_THREADS": "many"}, "tiered", available_cpus()),
        ({"OMP_NUM_THREADS": "1"}, "tiered", 1),
        ({"OMP_NUM_THREADS": " 1, 4"}, "tiered", 1),
        ({"OMP_NUM_THREADS": "1", "FASTEIN_NUM_THREADS": "3"}, "tiered", 3),
        ({"OMP_NUM_THREADS": "100000"}, "tiered", available_cpus()),
        ({"OMP_NUM_THREADS": "0"}, "tiered", available_cpus()),
    ],
)
def test_the_environment_is_read_at_import(environment, jit, threads):
    assert read_with(environment, "s.jit, s.num_threads") == [jit, str(threads)]


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("0", 0),
        (" 123 ", 123),
        ("", default_buffer_pool()),
        ("-1", default_buffer_pool()),
        ("1GB", default_buffer_pool()),
        ("9" * 30, default_buffer_pool()),
    ],
)
def test_the_pool_of_the_environment(text, nbytes):
    assert read_with({"FASTEIN_BUFFER_POOL": text}, "s.buffer_pool") == [str(nbytes)]


def test_the_pool_suits_the_machine(monkeypatch):
    assert 0 < default_buffer_pool() <= BUFFER_POOL
    assert physical_memory() is None or default_buffer_pool() <= physical_memory() / 8
    module = sys.modules["fastein.config"]  # whose name in the package is the class's
    monkeypatch.setattr(module, "physical_memory", lambda: 2**30)
    assert default_buffer_pool() == 2**27
    monkeypatch.setattr(module, "physical_memory", lambda: None)
    assert default_buffer_pool() == BUFFER_POOL


# CPUs


V1 = "5:memory:/\n4:cpu,cpuacct:{0}\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("group", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, np.inf),
        ("0::/\n", {"cpu.max": "what?"}, np.inf),
        ("0::/\n", {"cpu.max": "0 0"}, np.inf),
        ("0::/\n", {}, np.inf),
        ("", {"cpu.max": "150000 100000\n"}, np.inf),
        # the group's own limit, or that of one around it: the least
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        ("0::/a\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a: b\n", {"a: b/cpu.max": "100000 100000"}, 1),
        # whose container sees less of the path than it is told, or is told less
        ("0::/docker/1234\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/docker/1234/job\n", {"cpu.max": "max 1", "job/cpu.max": "50000 100000"}, 0.5),
        ("0::/../other\n", {"cpu.max": "200000 100000"}, 2),
        # version 1, of which every controller has a hierarchy
        (V1.format("/"), {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n"}, 0.5),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "50000\n"}, 0.5),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1\n"}, np.inf),
        (V1.format("/a"), {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_quota_us": "250000"}, 2.5),
        (V1.format("/a"), {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/b/cpu.cfs_quota_us": "1"}, 0.5),
        # version 2 beside version 1
        ("1:cpu:/\n0::/a\n", {"unified/a/cpu.max": "200000 100000"}, 2),
        ("1:cpu:/\n0::/a\n", {"unified/a/x": "", "cpu/cpu.cfs_quota_us": "300000"}, 3),
        # where the system does not say which group it is
        (None, {"cpu.max": "150000 100000\n"}, 1.5),
        ("what?\n", {"cpu.max": "150000 100000\n"}, 1.5),
        (None, {"cpu/cpu.cfs_quota_us": "50000\n"}, 0.5),
    ],
)
def test_the_quota_of_a_container(tmp_path, group, files, cpus):
    mounts, own = tmp_path / "mounts", tmp_path / "own"
    if group is not None:
        own.write_text(group)
    for name, text in files.items():
        path = mounts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name == "cpu.cfs_quota_us":
            (path.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(str(mounts), str(own)) == cpus


THREADPOOLS = """
import threadpoolctl, fastein
from fastein._plan_cache import plan_count
fastein.set_num_threads(3)
own = [x for x in threadpoolctl.threadpool_info() if x["user_api"] == "fastein"]
assert [x["num_threads"] for x in own] == [3], own
fastein.einsum("ij,jk->ik", [[1.0]], [[1.0]])
plans = plan_count()
for _ in range(3):
    with threadpoolctl.threadpool_limits(limits=1):
        assert fastein.get_num_threads() == 1
assert plan_count() == plans == 1
with threadpoolctl.threadpool_limits(limits=2, user_api="fastein"):
    assert fastein.get_num_threads() == 2
assert fastein.get_num_threads() == 3
"""


def test_threadpoolctl_limits_threads():
    pytest.importorskip("threadpoolctl")
    subprocess.run([sys.executable, "-c", THREADPOOLS], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_the_affinity_of_the_process_limits_threads():
    in_a_process("""
        import os, subprocess
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        code = "import fastein; print(fastein.get_num_threads())"
        other = ("FASTEIN_NUM_THREADS", "OMP_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in other}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert out.stdout.split() == [b"1"], out
    """)
