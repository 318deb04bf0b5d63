"""Items that expire: when, what starts their time anew, and who deletes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import GetOp

import oscillink_store as osc
from oscillink_store.integrations.langgraph import OscillinkStore

HASH = {"embed": "hash", "fields": ["text"]}
SECOND = 1 / 60


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    with osc.connect(tmp_path / "s.osc", embedder="hash") as folder:
        yield folder


def left(folder: osc.Store, key: str = "k") -> float:
    """Seconds until an item expires."""
    record = folder.record(("langgraph", "a"), key)
    return record.expires.timestamp() - time.time()


def remember(folder: osc.Store, ttl: Any) -> OscillinkStore:
    return OscillinkStore(folder, index={"fields": ["text"]}, ttl=ttl)


def test_the_time_of_an_item_is_in_minutes(folder: osc.Store) -> None:
    with remember(folder, {"default_ttl": 2}) as store:
        store.put(("a",), "k", {"text": "x"})
        store.put(("a",), "own", {"text": "x"}, ttl=1)
        store.put(("a",), "for ever", {"text": "x"}, ttl=None)
        assert left(folder) == pytest.approx(120, abs=5)
        assert left(folder, "own") == pytest.approx(60, abs=5)
        assert folder.record(("langgraph", "a"), "for ever").expires is None
        store.put(("a",), "k", {"text": "x"}, ttl=None)
        assert folder.record(("langgraph", "a"), "k").expires is None


READS: list[Callable[..., Any]] = [
    lambda store, **refresh: store.get(("a",), "k", **refresh),
    lambda store, **refresh: store.search(("a",), **refresh),
    lambda store, **refresh: store.search(("a",), query="x", **refresh),
    lambda store, **refresh: asyncio.run(store.aget(("a",), "k", **refresh)),
]


@pytest.mark.parametrize("read", READS)
def test_reads_start_the_time_anew_where_configured(
    folder: osc.Store, read: Callable[..., Any]
) -> None:
    def moved(ttl: dict[str, Any], **refresh: bool) -> bool:
        with remember(folder, {"default_ttl": 10} | ttl) as store:
            store.put(("a",), "k", {"text": "x"})
            before = folder.record(("langgraph", "a"), "k")
            assert read(store, **refresh)
            after = folder.record(("langgraph", "a"), "k")
            assert after.updated == before.updated
            return after.expires > before.expires

    assert moved({"refresh_on_read": True})
    assert not moved({"refresh_on_read": True}, refresh_ttl=False)
    assert not moved({"refresh_on_read": False})
    assert moved({"refresh_on_read": False}, refresh_ttl=True)
    assert not moved({})


def test_a_sweep_deletes_what_has_expired_and_its_anchors(folder: osc.Store) -> None:
    with remember(folder, None) as store:
        store.put(("a",), "short", {"text": "short"}, ttl=SECOND / 2)
        store.put(("a",), "long", {"text": "long"}, ttl=10)
        store.put(("a",), "for ever", {"text": "for ever"})
        assert store.sweep_ttl() == 0
        time.sleep(0.6)
        assert store.get(("a",), "short") is not None  # until somebody sweeps
        generation = folder.generation
        assert store.sweep_ttl() == 1
        assert folder.generation == generation + 1
        assert store.get(("a",), "short") is None
        assert sorted(folder.to_arrow()["text"].to_pylist()) == ["for ever", "long"]


def test_expired_items_can_be_left_out_at_once(folder: osc.Store) -> None:
    with remember(folder, {"omit_expired": True, "refresh_on_read": True}) as store:
        store.put(("a",), "k", {"text": "gone"}, ttl=SECOND / 2)
        store.put(("b",), "k", {"text": "here"}, ttl=10)
        time.sleep(0.6)
        assert store.get(("a",), "k") is None
        for options in ({}, {"query": "gone"}, {"filter": {"text": {"$ne": ""}}}):
            assert [item.namespace for item in store.search((), **options)] == [("b",)]
        assert [item.key for item in store.search((), limit=1, offset=1)] == []
        assert store.list_namespaces() == [("b",)]
        assert store.batch([GetOp(("a",), "k")]) == [None]
        assert store.sweep_ttl() == 1  # reading has not kept it


def test_a_thread_sweeps_until_it_is_stopped(folder: osc.Store) -> None:
    with remember(folder, {"sweep_interval_minutes": 0.2 / 60}) as store:
        done = store.start_ttl_sweeper()
        again = store.start_ttl_sweeper()
        store.put(("a",), "k", {"text": "x"}, ttl=0.1 / 60)
        deadline = time.monotonic() + 20
        while store.get(("a",), "k") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not done.done()
        assert store.stop_ttl_sweeper()
        assert done.result(timeout=5) is None
        assert not again.done()
        assert store.stop_ttl_sweeper()

        third = store.start_ttl_sweeper()
        third.cancel()
        store._sweeper._thread.join(5)
        assert not store._sweeper._thread.is_alive()


def test_without_a_ttl_there_is_no_thread(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc") as store:
        assert store.start_ttl_sweeper().done()
        assert store.stop_ttl_sweeper()
