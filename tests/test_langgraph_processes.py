"""The memory of agents in several processes: shared, kept, and whole after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from memory_writer import INDEX, value

import oscillink_store as osc
from oscillink_store.integrations.langgraph import OscillinkStore

WRITER = Path(__file__).parent / "memory_writer.py"
RIVAL = WRITER.with_name("memory_rival.py")


def writer(folder: Path, name: str, count: int, program: Path = WRITER) -> subprocess.Popen[str]:
    command = [sys.executable, str(program), str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def sound(folder: Path) -> list[osc.Record]:
    """The records of all items, whose anchors are those that there are."""
    with osc.connect(folder) as store:
        assert store.verify().problems == ()
        records = store.records(("langgraph",))
        listed = [id_ for record in records for id_ in record.value["anchors"]]
        assert sorted(store.to_arrow()["id"].to_pylist()) == sorted(listed)
        for record in records:
            rows = store.get(record.value["anchors"])
            assert [row["text"] for row in rows] == record.value["value"]["texts"]
        return records


def test_processes_share_a_memory(tmp_path: Path) -> None:
    folder = tmp_path / "s.osc"
    with OscillinkStore(folder, index=INDEX) as store:
        children = [writer(folder, name, 8) for name in ("one", "two")]
        for step in range(8):  # three writers at once
            store.put(("here",), str(step), value("here", step))
        for child in children:
            child.communicate(timeout=60)
            assert child.returncode == 0
        assert store.list_namespaces() == [("here",), ("one",), ("two",)]
        for name in ("here", "one", "two"):
            found = store.search((name,), limit=100)
            assert {item.key: item.value for item in found} == {
                str(step): value(name, step) for step in range(8)
            }
            best = store.search((), query=f"{name} 4 4", limit=1)
            assert [(item.namespace, item.key) for item in best] == [((name,), "4")]


def test_memory_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "s.osc"
    with OscillinkStore(folder, index=INDEX) as store:
        store.put(("a", "b"), "k", value("first", 3))
        before = store.get(("a", "b"), "k")
    with OscillinkStore(folder, index=INDEX) as store:
        assert store.get(("a", "b"), "k") == before
        assert [item.key for item in store.search(("a",), query="first 3")] == ["k"]
        assert store.list_namespaces() == [("a", "b")]


@pytest.mark.parametrize("seconds", [0.05, 0.45])
def test_a_kill_leaves_no_item_without_its_anchors(tmp_path: Path, seconds: float) -> None:
    folder = tmp_path / "s.osc"
    with writer(folder, "victim", 0) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        told = int(child.stdout.readline())
        time.sleep(seconds)
        child.kill()
        told = max([told, *map(int, child.stdout.read().split())])
    # what it was told to be on the disk is there, or something newer
    assert max(record.value["value"]["step"] for record in sound(folder)) >= told


def test_rivals_for_the_same_items_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s.osc"
    names = ("one", "two")
    with OscillinkStore(folder, index=INDEX, ttl={}) as store:
        children = [writer(folder, name, 10, RIVAL) for name in names]
        while any(child.poll() is None for child in children):
            store.sweep_ttl()
            time.sleep(0.002)  # or it takes the time of those that write
        told = [json.loads(child.communicate()[0] or "null") for child in children]
        assert [child.returncode for child in children] == [0, 0]
        for key in ("", "one", "two"):
            item = store.get(("shared",), key)
            assert (None if item is None else item.value) in [last[key] for last in told]
        assert store.list_namespaces(prefix=("own",)) == [("own", name) for name in names]
    sound(folder)


def test_of_two_puts_at_once_one_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "s.osc"
    names, steps = ("one", "two"), range(12)
    start = threading.Barrier(2)

    def put(name: str) -> None:
        # what is behind a store is as apart from another as in another process
        with OscillinkStore(folder, index=INDEX) as store:
            for step in steps:
                start.wait(timeout=60)
                store.put(("shared",), str(step), value(name, step + names.index(name)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, names))
    assert {record.key for record in sound(folder)} == {str(step) for step in steps}
