"""Settings: what may be set, for how long, and who is told."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastein
from fastein import EinsumError, config
from fastein.config import available_cpus, on_change, settings


@pytest.fixture(autouse=True)
def as_before():
    before = settings.as_dict()
    yield
    config(**before)
    assert settings.as_dict() == before


def test_a_block_restores_what_it_changed():
    with config(jit="never", num_threads=3, memory_limit=10) as inside:
        assert (inside.jit, inside.num_threads, inside.memory_limit) == ("never", 3, 10)
        with config(jit="tiered"):
            assert settings.as_dict() == {"jit": "tiered", "num_threads": 3, "memory_limit": 10}
        assert settings.jit == "never"


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
    assert repr(shown).startswith("config(jit=")
    assert repr(settings).startswith("Settings(jit=")
    assert not hasattr(shown, "colour")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"jit": "sometimes"}, EinsumError, "'always', 'tiered', 'never'"),
        ({"jit": None}, EinsumError, "None"),
        ({"num_threads": 0}, EinsumError, "at least 1"),
        ({"num_threads": -2}, EinsumError, "-2"),
        ({"memory_limit": 0}, EinsumError, "at least 1"),
        ({"num_threads": 2.0}, TypeError, "integer"),
        ({"num_threads": True}, TypeError, "integer"),
        ({"num_threads": None}, TypeError, "integer"),
        ({"memory_limit": "1GB"}, TypeError, "integer"),
        ({"threads": 2}, TypeError, "jit, memory_limit, num_threads"),
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
    assert heard == []
    with config(num_threads=4):
        assert heard == [4]
    assert len(heard) == 2


def test_available_cpus_follows_the_affinity():
    if hasattr(os, "sched_getaffinity"):
        assert available_cpus() == len(os.sched_getaffinity(0))
    assert available_cpus() >= 1


@pytest.mark.parametrize(
    ("environment", "jit", "threads"),
    [
        ({}, "tiered", available_cpus()),
        ({"FASTEIN_JIT": " Never ", "FASTEIN_NUM_THREADS": "3"}, "never", 3),
        ({"FASTEIN_JIT": "nonsense", "FASTEIN_NUM_THREADS": "0"}, "tiered", available_cpus()),
        ({"FASTEIN_JIT": "always", "FASTEIN_NUM_THREADS": "-1"}, "always", available_cpus()),
        ({"FASTEIN_NUM_THREADS": "many"}, "tiered", available_cpus()),
    ],
)
def test_the_environment_is_read_at_import(environment, jit, threads):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FASTEIN_")}
    code = "from fastein.config import settings as s; print(s.jit, s.num_threads)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [jit, str(threads)]
