"""Maintenance: a tidier store with the same content, and the repair of a damaged one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_content import answered, content

import oscillink_store as osc
from oscillink_store.errors import ClosedError, IntegrityError, IntegrityWarning, ReadOnlyError
from oscillink_store.storage.manifest import (
    manifests_on_disk,
    read_current,
    read_manifest,
)


def rows(start: int, stop: int, text: str = "common words") -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "title": f"Grand Topic {i}", "n": i, "links": [f"r{i // 3}"],
         "text": f"word{i % 7} {text} of Grand Topic {i // 2}", "sequence": "s", "position": i}
        for i in range(start, stop)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve generations, with anchors replaced and deleted."""
    path = tmp_path_factory.mktemp("maintain") / "s.osc"
    with osc.connect(path, embedder="hash:32") as store:
        store.ingest(rows(0, 40))
        for start in range(40, 56, 2):
            store.ingest(rows(start, start + 2))
        store.ingest(rows(5, 12, "entirely new words"))
        store.delete(["r20", "r41", "r7"])
        store.ingest([{"id": "late", "text": "late words", "extra": "x"}])
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[osc.Store]:
    shutil.copytree(template, tmp_path / "s.osc")
    with osc.connect(tmp_path / "s.osc", embedder="hash:32") as store:
        yield store


QUESTIONS: list[dict[str, Any]] = [
    {"text": "word3 Grand Topic 4"}, {"text": "entirely new", "where": "n % 2 = 0", "k": 30},
    {"text": "late", "where": "extra = 'x'"}, {"vector": [1.0] * 32, "k": 20},
]  # fmt: skip


def told(store: osc.Store) -> dict[str, Any]:
    results = [store.search(**question) for question in QUESTIONS]
    return {
        "hits": [result.hits for result in results],
        "contents": [answered(result.receipt) for result in results],
        "arrow": store.to_arrow(),
        "edges": store.edges(),
        "content": content(store.path),
        "get": [row["text"] for row in store.get(["r5", "late", "r0"])],
    }


def data_files(root: Path) -> set[str]:
    """Every file but receipts, the lock, ``CURRENT`` and Lance's hint."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and path.parent.name != "receipts"
        and path.name not in ("CURRENT", "LOCK", "latest_version_hint.json")
    }


def test_the_content_is_the_same(store: osc.Store) -> None:
    before, verified = told(store), store.verify()
    receipts = store.receipts()["hash"].to_pylist()
    report = store.maintain()
    assert told(store) == before
    assert report.generation == store.generation == 13
    assert report.repaired is None
    assert report.slots == 10  # seven replaced, three deleted
    assert report.parts >= 1
    assert report.corrections > 0
    assert report.bytes > 0
    assert report.seconds > 0
    after = store.verify()
    assert after.problems == verified.problems == ()
    assert set(store.receipts()["hash"].to_pylist()) >= set(receipts)
    snapshot = store.current()
    assert (len(snapshot.parts), len(snapshot.dead), snapshot.slots) == (1, 0, 54)
    assert snapshot.runs("corrections") == snapshot.runs("arrivals") == []
    assert len(snapshot.anchors.fragments) == 1
    corrections = snapshot.table("corrections")
    assert corrections is not None
    assert corrections.count() == 0
    with osc.connect(store.path, read_only=True) as reader:
        assert told(reader) == before


def test_a_tidy_store_is_left_alone(store: osc.Store) -> None:
    store.maintain()
    before = data_files(store.path)
    report = store.maintain()
    assert report.generation == store.generation == 13
    assert (report.corrections, report.slots, report.parts, report.bytes) == (0, 0, 0, 0)
    assert data_files(store.path) == before


def test_writing_goes_on_afterwards(store: osc.Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.osc"
    shutil.copytree(store.path, copy)
    store.maintain()
    with osc.connect(copy) as other:
        for each in (store, other):
            each.ingest(rows(60, 70))
            each.ingest(rows(0, 3, "changed"))
            each.delete(where="n > 30 AND n < 40")
        assert told(store) == told(other)
        store.maintain()
        assert told(store) == told(other)
    assert store.verify().problems == ()


def test_an_empty_store(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "e.osc") as store:
        report = store.maintain()
        assert (report.generation, report.parts, report.files) == (0, 0, 0)
        assert store.verify().ok


def test_orphans_go(store: osc.Store) -> None:
    for name in ("segments/0000000099/x.arrays", "anchors.lance/data/x.lance", "manifests/7.json"):
        (store.path / name).parent.mkdir(exist_ok=True)
        (store.path / name).write_bytes(b"left by a crash")
    assert store.maintain().files >= 3
    names: set[str] = set()
    for generation in manifests_on_disk(store.path):
        names.add(f"manifests/{generation:010d}.json")
        names |= {entry.path for entry in read_manifest(store.path, generation).files()}
    assert data_files(store.path) == names
    assert manifests_on_disk(store.path) == [11, 12, 13]
    assert not (store.path / "segments" / "0000000099").exists()


def test_progress_is_told(store: osc.Store) -> None:
    stages: list[str] = []
    store.maintain(progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["fold", "commit", "sweep"]


def test_an_interrupt_leaves_the_generation_before(store: osc.Store) -> None:
    before = told(store)

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == wanted:
            raise KeyboardInterrupt

    for wanted in ("fold", "commit", "sweep"):
        with pytest.raises(KeyboardInterrupt):
            store.maintain(progress=interrupt)
        assert told(store) == before
        assert store.verify().problems == ()
        assert store.generation == (13 if wanted == "sweep" else 12)


def test_who_may_not_write(store: osc.Store) -> None:
    with (
        osc.connect(store.path, read_only=True) as reader,
        pytest.raises(ReadOnlyError, match="maintain needs a writable store"),
    ):
        reader.maintain()
    store.close()
    with pytest.raises(ClosedError):
        store.maintain()


class TestRepair:
    def test_nothing_to_repair(self, store: osc.Store) -> None:
        assert store.maintain(repair=True).repaired is None
        assert store.generation == 13

    def test_each_file_in_turn(self, store: osc.Store, tmp_path: Path) -> None:
        """Whichever file of the live generation is damaged, what came before it is live again."""
        with store.snapshot(generation=11) as before:
            wanted = before.to_arrow()
            hits = before.search("word3", k=9).hits
        shared = {entry.path for entry in read_manifest(store.path, 11).files()}
        fresh = [e.path for e in read_current(store.path).files() if e.path not in shared]
        assert len(fresh) > 8
        for place, name in enumerate([*fresh, "manifests/0000000012.json"]):
            copy = tmp_path / f"copy{place}.osc"
            shutil.copytree(store.path, copy)
            whole = (copy / name).read_bytes()
            (copy / name).write_bytes(whole[: len(whole) // 2])
            with pytest.warns(IntegrityWarning, match="generation 11 "):
                damaged = osc.connect(copy)
            with damaged:
                with pytest.raises(IntegrityError):
                    damaged.maintain()
                assert damaged.generation == 11
                report = damaged.maintain(repair=True)
                assert report.repaired == 11
                assert damaged.verify().problems == ()
                assert damaged.to_arrow() == wanted
                assert damaged.search("word3", k=9).hits == hits
                # the number of what was given up is not used again
                assert damaged.ingest(rows(70, 71)).generation > 12
                assert damaged.search("word0", where="n = 70").ids == ["r70"]
                assert damaged.verify().problems == ()
            with osc.connect(copy, read_only=True) as again:
                assert len(again) == len(wanted) + 1

    def test_nothing_whole_is_left(self, store: osc.Store) -> None:
        for generation in manifests_on_disk(store.path):
            for entry in read_manifest(store.path, generation).files():
                if entry.path.endswith(".arrow"):
                    (store.path / entry.path).unlink(missing_ok=True)
        with pytest.raises(IntegrityError, match=r"no generation is whole .*is missing"):
            store.maintain(repair=True)
