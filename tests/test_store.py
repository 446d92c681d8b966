"""The kernel store: one build a key, whoever asks."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastein.store import KernelStore, content_key, sha256


def test_keys_depend_on_every_part_and_on_their_boundaries():
    keys = {content_key(*parts) for parts in [("a", "b"), ("ab",), ("b", "a"), ("a", "b", "")]}
    assert len(keys) == 4
    assert content_key(1, "source") == content_key("1", "source")


def test_hashes_are_those_of_everybody():
    for data in (b"", b"abc", bytes(range(256)) * 1000):
        assert sha256(data).digest() == hashlib.sha256(data).digest()


def test_an_entry_is_built_once_and_then_found():
    store: KernelStore[object] = KernelStore()
    built = store.get("key", object)
    assert store.get("key", lambda: pytest.fail("built again")) is built
    assert "key" in store
    assert "other" not in store
    assert len(store) == 1


def test_threads_that_ask_for_one_key_share_one_build():
    store: KernelStore[object] = KernelStore()
    builds = []
    everyone = threading.Barrier(8)

    def build():
        builds.append(threading.get_ident())
        return object()

    def ask():
        everyone.wait()
        return store.get("key", build)

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert len(builds) == 1
    assert len({id(answer) for answer in answers}) == 1


def test_a_build_does_not_hold_up_other_keys():
    store: KernelStore[str] = KernelStore()
    started, finish = threading.Event(), threading.Event()

    def slow():
        started.set()
        assert finish.wait(10)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get, "slow", slow)
        assert started.wait(10)
        assert store.get("quick", lambda: "quick") == "quick"
        finish.set()
        assert waiting.result() == "slow"


def test_a_failed_build_leaves_nothing_behind():
    store: KernelStore[str] = KernelStore()
    with pytest.raises(ZeroDivisionError):
        store.get("key", lambda: str(1 / 0))
    assert len(store) == 0
    assert store.get("key", lambda: "second try") == "second try"


def test_a_build_may_ask_for_what_it_builds():
    """As a signal handler or a finaliser would that runs meanwhile."""
    store: KernelStore[str] = KernelStore()

    def build():
        assert store.get("key", lambda: "inner") == "inner"
        return "outer"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.get, "key", build).result(10) == "inner"
