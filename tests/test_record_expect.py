"""Writes that hold only if records are still as they were read."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from record_counter import TOTAL, count

import oscillink_store as osc
from oscillink_store.errors import ConflictError, OscillinkError
from oscillink_store.storage.manifest import read_current

Make = Callable[..., osc.Store]

COUNTER = Path(__file__).parent / "record_counter.py"
NAME = (("n",), "k")


@pytest.fixture
def kept(store: osc.Store) -> osc.Store:
    """A store with anchors and one record."""
    store.write(put=[SAME])
    return store


def read(store: osc.Store) -> osc.Record:
    record = store.record(*NAME)
    assert record is not None
    return record


def counted(store: osc.Store, names: list[str], times: int) -> None:
    """Whether every count of everyone is there, once."""
    total = store.record(*TOTAL)
    assert total is not None
    assert total.value == len(names) * times
    told = sorted(record.value for record in store.records(("by",)))
    assert told == list(range(1, total.value + 1))
    texts = sorted(store.to_arrow(["text"])["text"].to_pylist())
    assert texts == sorted(f"number {number}" for number in told)


def test_threads_that_count_lose_nothing(make_store: Make) -> None:
    store = make_store(embedder="hash:16")
    names = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(len(names)) as pool:
        conflicts = sum(pool.map(partial(count, store, times=12), names))
    assert conflicts > 0
    counted(store, names, 12)


def test_processes_that_count_lose_nothing(make_store: Make) -> None:
    store = make_store(embedder="hash:16", lock_timeout=60)
    names = ["a", "b", "here"]
    children = [
        subprocess.Popen(
            [sys.executable, COUNTER, store.path, name, "20"], stdout=subprocess.PIPE, text=True
        )
        for name in names[:-1]
    ]
    conflicts = count(store, "here", 20)
    for child in children:
        conflicts += int(child.communicate(timeout=120)[0])
        assert child.returncode == 0
    assert conflicts > 0
    counted(store, names, 20)


WRITTEN = "was written or touched since it was read"
SAME = osc.Record(*NAME, 1, ttl=1000)

CHANGES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "put": (WRITTEN, [{"put": [SAME]}]),
    "touch": (WRITTEN, [{"touch": [NAME]}]),
    "drop": ("is not there any more", [{"drop": [NAME]}]),
    "drop and put": (WRITTEN, [{"drop": [NAME]}, {"put": [SAME]}]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_conflict_leaves_all_as_it_was(kept: osc.Store, change: str) -> None:
    problem, writes = CHANGES[change]
    expect = [read(kept), (("n",), "none")]
    for write in writes:
        kept.write(**write)
    before = read_current(kept.path), kept.receipts().num_rows, kept.records(), kept.to_arrow()
    with pytest.raises(ConflictError) as conflict:
        kept.write(
            unread(),
            delete=["cake"],
            put=[osc.Record(("new",), "k", 2), osc.Record(*NAME, 2)],
            drop=[NAME],
            expect=expect,
        )
    assert str(conflict.value) == (
        f"record 'k' of namespace ('n',) {problem}; nothing was written: read again and repeat"
    )
    assert conflict.value.names == (NAME,)
    after = read_current(kept.path), kept.receipts().num_rows, kept.records(), kept.to_arrow()
    assert after == before


def unread() -> Iterator[dict[str, Any]]:
    """Rows that nobody is to ask for."""
    raise AssertionError("a write that cannot be reads no source")
    yield {}


def test_all_that_is_not_as_expected_is_named(kept: osc.Store) -> None:
    old = read(kept)
    kept.write(put=[osc.Record(*NAME, 2), osc.Record((), "there", 1)])
    with pytest.raises(
        ConflictError, match=r"'there' of namespace \(\) is there, where none was, "
    ) as c:
        kept.write(expect=[((), "none"), ((), "there"), old])
    assert "and 1 more are not as expected" in str(c.value)
    again = pickle.loads(pickle.dumps(c.value))
    assert again.names == c.value.names == (((), "there"), NAME)
    assert isinstance(again, OscillinkError)
    assert isinstance(again, RuntimeError)


def test_what_is_as_expected_is_written(kept: osc.Store) -> None:
    record, absent = read(kept), ((), "new")
    # whatever happens to others, and whatever files the record is in
    kept.write(put=[osc.Record(("other",), "k", 1)], drop=[absent], touch=[absent])
    kept.maintain()
    report = kept.write(
        [{"id": "new", "text": "new"}],
        put=[osc.Record(*absent, 1), osc.Record(*NAME, 2)],
        expect=[record, absent, record],
    )
    assert (report.added, read(kept).value) == (1, 2)
    with pytest.raises(ConflictError):
        kept.write(put=[osc.Record(*NAME, 3)], expect=[record])
    with pytest.raises(ConflictError):
        kept.write(put=[osc.Record(*absent, 3)], expect=[absent])
    assert [read(kept).value, kept.record(*absent).value] == [2, 1]


def test_to_expect_alone_writes_nothing(kept: osc.Store) -> None:
    generation = kept.generation
    assert kept.write(expect=[read(kept)]).generation == generation
    assert kept.generation == generation


def test_a_record_of_another_time_is_no_match_for_one_that_never_expires(kept: osc.Store) -> None:
    old = read(kept)
    kept.write(put=[osc.Record(*NAME, 1)])
    new = read(kept)
    assert new.expires is None
    with pytest.raises(ConflictError):
        kept.write(expect=[old])
    kept.write(touch=[NAME], put=[osc.Record((), "other", 1)])  # nothing to begin anew
    kept.write(expect=[new])
