"""Readers and writers, in processes and threads: one generation or another, never a mix."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import oscillink_store as osc
from oscillink_store.engine.reader import Reader
from oscillink_store.errors import LockedError
from oscillink_store.storage.manifest import manifests_on_disk

spawn = multiprocessing.get_context("spawn")

Content = tuple[tuple[int, int], ...]
"""Every batch that is there and its version, ascending."""

ALL = 200


def pair(batch: int, version: int) -> list[dict[str, Any]]:
    """Two rows that come, change and go together."""
    return [
        {
            "id": f"{batch}-{side}", "text": f"Blue House {side} of {batch} in version {version}",
            "title": f"House {batch}", "vector": [1.0, batch + 0.5 * (side == "left"), version],
            "links": [f"{batch - 1}-{side}"], "batch": batch, "version": version,
        }
        for side in ("left", "right")
    ]  # fmt: skip


def content_of(rows: list[tuple[int, int]]) -> Content:
    """What rows of (batch, version) say, when every batch is there with both of its rows."""
    content = sorted(set(rows))
    assert sorted(rows) == sorted(content * 2)
    assert len(dict(content)) == len(content)
    return tuple(content)


def searched(store: Reader, where: str | None = None) -> tuple[int, Content]:
    result = store.search("Blue House", vector=[1.0, 2.0, 3.0], k=ALL, where=where)
    rows = [(hit.metadata["batch"], hit.metadata["version"]) for hit in result]
    return result.receipt.content["generation"], content_of(rows)


def table_of(store: Reader) -> Content:
    held = store.to_arrow(["batch", "version"]).to_pydict()
    return content_of(list(zip(held["batch"], held["version"], strict=True)))


# What readers do again and again; each gives the generations that it saw, and what they held.


def search_everything(store: osc.Store) -> list[tuple[int, Content]]:
    return [searched(store)]


def search_under_a_filter(store: osc.Store) -> list[tuple[int, Content]]:
    generation, content = searched(store, where="batch >= 0 AND version < 1000000")
    odd, some = searched(store, where="batch % 2 = 1")
    assert all(batch % 2 for batch, _ in some)
    assert odd >= generation
    return [(generation, content)]


def read_the_table(store: osc.Store) -> list[tuple[int, Content]]:
    before = store.generation
    content = table_of(store)
    # another generation may have come in between, which one is not told
    return [(before, content)] if store.generation == before else []


def pin(store: osc.Store) -> list[tuple[int, Content]]:
    with store.snapshot() as pinned:
        seen = [searched(pinned)]
        for pause in (0.0, 0.05, 0.1):
            time.sleep(pause)
            seen += [searched(pinned), searched(pinned, where="batch >= 0")]
            assert table_of(pinned) == seen[0][1]
            batch = seen[0][1][0][0]
            assert len(pinned.get([f"{batch}-left", f"{batch}-right"])) == 2
        assert set(seen) == {(pinned.generation, seen[0][1])}
    return seen[:1]


READERS: tuple[Callable[[osc.Store], list[tuple[int, Content]]], ...] = (
    search_everything,
    search_under_a_filter,
    read_the_table,
    pin,
)


def read(root: Path, read_only: bool, ready: Any, stop: Any, found: Any) -> None:
    """A process with a thread for each way to read."""

    def again_and_again(look: Callable[[osc.Store], list[tuple[int, Content]]]) -> Any:
        seen: dict[int, Content] = {}
        rounds = 0
        while not stop.is_set() or rounds < 2:
            rounds += 1
            for generation, content in look(store):
                assert seen.setdefault(generation, content) == content
        return look.__name__, rounds, seen

    try:
        with osc.connect(root, read_only=read_only, lock_timeout=60) as store:
            search_everything(store)
            ready.release()
            with ThreadPoolExecutor(len(READERS)) as pool:
                # a read-only store cannot hold a generation while writers go on
                looks = READERS[:3] if read_only else READERS
                found.put(list(pool.map(again_and_again, looks)))
    except BaseException as error:
        found.put(error)
        raise


@contextmanager
def processes(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> Iterator[None]:
    started = [spawn.Process(target=target, args=args) for args in arguments]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.join(60)
            if process.is_alive():
                process.kill()
            process.join()
        assert [process.exitcode for process in started] == [0] * len(started)


def write(store: osc.Store, steps: int) -> dict[int, Content]:
    """Commit one change after another; what every generation holds."""
    there = dict(table_of(store))
    history = {store.generation: tuple(sorted(there.items()))}

    def note() -> None:
        history[store.generation] = tuple(sorted(there.items()))

    for step in range(1, steps + 1):
        oldest = sorted(there, key=lambda batch: there[batch])[:2]
        changed = {100 + step: step, **({oldest[0]: step} if step % 3 == 0 else {})}
        store.ingest([row for batch, version in changed.items() for row in pair(batch, version)])
        there |= changed
        note()
        if len(there) > 24:
            gone = oldest[1]
            store.delete([f"{gone}-left", f"{gone}-right"])
            del there[gone]
            note()
        if step % 7 == 0:
            store.maintain()
            note()
    return history


def test_readers_see_one_generation_or_another_while_a_writer_commits(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    ready, stop, found = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    with osc.connect(root, lock_timeout=60) as store:
        store.ingest([row for batch in range(20) for row in pair(batch, 0)])
        with store.snapshot() as pinned:
            first = searched(pinned)
            arguments = [(root, read_only, ready, stop, found) for read_only in (False, True)]
            with processes(read, arguments):
                try:
                    assert all(ready.acquire(timeout=60) for _ in arguments)
                    history = write(store, 15)
                finally:
                    stop.set()
                results = [found.get(timeout=60) for _ in arguments]
            assert searched(pinned) == first
            assert table_of(pinned) == first[1]
        assert store.verify().problems == ()
    seen_at_all: set[int] = set()
    for result in results:
        assert not isinstance(result, BaseException), result
        for name, rounds, seen in result:
            assert rounds >= 2, name
            for generation, content in seen.items():
                assert content == history[generation], (name, generation)
            seen_at_all |= seen.keys()
    assert len(seen_at_all) > 5


def write_own(root: Path, writer: int, batches: int, start: Any) -> None:
    with osc.connect(root, lock_timeout=60) as store:
        start.wait()
        for number in range(batches):
            store.ingest(pair(100 * writer + number, 1))
            if number % 4 == 3:
                store.delete([f"{100 * writer + number - 1}-{side}" for side in ("left", "right")])
            if number % 6 == 5:
                store.maintain()


def expected_of(writers: int, batches: int) -> Content:
    deleted = {number - 1 for number in range(batches) if number % 4 == 3}
    kept = [number for number in range(batches) if number not in deleted]
    return tuple((100 * writer + number, 1) for writer in range(writers) for number in kept)


def test_writer_processes_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    osc.connect(root).close()
    start = spawn.Barrier(2)
    with processes(write_own, [(root, writer, 12, start) for writer in range(2)]):
        pass
    with osc.connect(root) as store:
        assert table_of(store) == searched(store)[1] == expected_of(2, 12)
        assert store.verify().problems == ()
        kinds = store.receipts()["kind"].to_pylist()
        assert kinds.count("ingest") == 2 * (12 + 3)


def test_threads_of_one_process_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    with osc.connect(tmp_path / "store.osc", lock_timeout=60) as store:
        store.ingest(pair(999, 0))

        def write_some(writer: int) -> None:
            for number in range(6):
                store.ingest(pair(100 * writer + number, 1))

        def read_on() -> int:
            rounds = 0
            while not stop.is_set():
                rounds += 1
                searched(store)
                pin(store)
            return rounds

        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read_on) for _ in range(2)]
            writers = [pool.submit(write_some, writer) for writer in range(4)]
            try:
                for writer in writers:
                    writer.result(timeout=100)
            finally:
                stop.set()
            assert all(reader.result() > 0 for reader in readers)
        whole = (*((100 * w + n, 1) for w in range(4) for n in range(6)), (999, 0))
        assert table_of(store) == searched(store)[1] == whole
        assert store.generation == 25
        assert store.verify().problems == ()


HOLDER = """
import sys
import oscillink_store as osc

def rows():
    yield {"id": "held", "text": "held", "vector": [1, 0, 0], "batch": 0, "version": 0}
    print("holding", flush=True)
    sys.stdin.readline()

with osc.connect(sys.argv[1]) as store:
    store.ingest(rows())
"""


@contextmanager
def holder(folder: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of an ingest, until it is told to go on."""
    program = folder / "nightly_ingest.py"
    program.write_text(HOLDER)
    with subprocess.Popen(
        [sys.executable, str(program), str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "holding\n"
        try:
            yield child
        finally:
            child.kill()


def test_a_second_writer_waits_then_is_told_who_writes(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    with osc.connect(root, lock_timeout=0.3) as store:
        store.ingest(pair(1, 1))
        with holder(tmp_path, root) as child:
            for act in (
                lambda: store.ingest(pair(2, 1)),
                lambda: store.delete(["1-left"]),
                store.maintain,
                lambda: store.tag("now"),
            ):
                started = time.perf_counter()
                with pytest.raises(LockedError, match=rf"process {child.pid} \(nightly_ingest\.py"):
                    act()
                assert 0.3 <= time.perf_counter() - started < 10
            # readers never wait
            assert searched(store)[1] == ((1, 1),)
            with store.snapshot() as pinned:
                assert table_of(pinned) == ((1, 1),)
            with osc.connect(root, lock_timeout=60) as patient:
                waiting = threading.Thread(target=patient.ingest, args=(pair(2, 1),))
                waiting.start()
                time.sleep(0.2)
                assert waiting.is_alive()
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
                waiting.join(60)
                assert not waiting.is_alive()
            assert child.wait(60) == 0
        assert {row["id"] for row in store.to_arrow().to_pylist()} == {
            "1-left", "1-right", "2-left", "2-right", "held",
        }  # fmt: skip


def test_the_lock_of_a_killed_writer_is_free_at_once(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    with osc.connect(root, lock_timeout=5) as store:
        store.ingest(pair(1, 1))
        with holder(tmp_path, root) as child:
            child.kill()
            child.wait()
            assert store.ingest(pair(2, 1)).added == 2
        assert searched(store)[1] == ((1, 1), (2, 1))
        assert store.verify().problems == ()


def commit_on_demand(root: Path, orders: Any, done: Any) -> None:
    with osc.connect(root) as store:
        for version in iter(orders.get, None):
            store.ingest(pair(1, version))
            done.put(store.generation)


def test_a_new_generation_of_another_process_is_picked_up(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    orders, done = spawn.Queue(), spawn.Queue()
    with osc.connect(root) as store:
        store.ingest(pair(1, 1))
        with processes(commit_on_demand, [(root, orders, done)]):
            try:
                for version in (2, 3, 4):
                    orders.put(version)
                    generation = done.get(timeout=60)
                    if version == 3:  # a search sees it by itself
                        assert searched(store) == (generation, ((1, version),))
                    assert store.refresh() == generation
                    opened = store.current()
                    assert store.refresh() == generation
                    assert store.current() is opened
                    assert searched(store) == (generation, ((1, version),))
                    assert [row["version"] for row in store.get("1-left")] == [version]
            finally:
                orders.put(None)


def pin_until_killed(root: Path, generation: int, ready: Any) -> None:
    with osc.connect(root) as store, store.snapshot(generation=generation):
        ready.release()
        time.sleep(600)


def test_a_pin_ends_with_its_process(tmp_path: Path) -> None:
    root = tmp_path / "store.osc"
    ready = spawn.Semaphore(0)
    with osc.connect(root) as store:
        first = store.ingest(pair(1, 1)).generation
        child = spawn.Process(target=pin_until_killed, args=(root, first, ready))
        child.start()
        try:
            assert ready.acquire(timeout=60)
            for version in range(2, 7):
                store.ingest(pair(1, version))
            store.maintain()
            assert first in manifests_on_disk(root)
            with store.snapshot(generation=first) as pinned:
                assert searched(pinned) == (first, ((1, 1),))
                assert table_of(pinned) == ((1, 1),)
        finally:
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        store.maintain()
        assert first not in manifests_on_disk(root)
        assert list((root / "pins").iterdir()) == []
        assert store.verify().problems == ()
