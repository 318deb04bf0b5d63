"""Generations that stay: tags and snapshots, unchanged whatever writers do meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_content import held

import oscillink_store as osc
from oscillink_store.errors import (
    ClosedError,
    IntegrityError,
    MissingError,
    NotAStoreError,
    QueryError,
    ReadOnlyError,
)
from oscillink_store.storage.manifest import manifests_on_disk


def rows(start: int, stop: int, text: str = "common words") -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "title": f"Grand Topic {i}", "n": i,
         "text": f"word{i % 7} {text} of Grand Topic {i // 2}"}
        for i in range(start, stop)
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[osc.Store]:
    with osc.connect(tmp_path / "s.osc", embedder="hash:32") as store:
        store.ingest(rows(0, 20))
        store.ingest(rows(20, 30))
        yield store


def told(reader: Any) -> dict[str, Any]:
    """Everything that a reader says of its generation."""
    results = [
        reader.search("word3 Grand Topic 4", k=7), reader.search("words", where="n % 3 = 0", k=99),
        reader.search(vector=np.arange(32.0), k=5), reader.rerank(["r1", "r2", "r3"], "word2"),
    ]  # fmt: skip
    return {
        "hits": [result.hits for result in results],
        "content": [result.receipt.content for result in results],
        "arrow": reader.to_arrow(),
        "some": reader.to_arrow(["id"], where="n > 7"),
        "edges": reader.edges(),
        "stats": reader.stats(),
        "get": [(row["id"], row["text"], row["vector"].tobytes()) for row in reader.get(["r7"])],
        "numbers": (reader.generation, len(reader), reader.dimension, reader.has_embedder),
    }


def write_on(store: osc.Store) -> None:
    """Adds, replaces, deletes, widens and maintains, over many generations."""
    for start in range(100, 120):
        store.ingest(rows(start, start + 1))
    store.ingest(rows(3, 9, "entirely new words"))
    store.delete(where="n > 10 AND n < 25")
    store.ingest([{"id": "wide", "text": "wide", "n": 0.5, "more": True}])
    store.maintain()
    store.delete(where="n < 10")
    store.maintain()
    assert store.verify().problems == ()


class TestSnapshots:
    def test_one_stays_as_it_is(self, store: osc.Store) -> None:
        with store.snapshot() as snap:
            before, kept = told(snap), held(snap.current())
            assert before["numbers"] == (2, 30, 32, True)
            write_on(store)
            assert told(snap) == before
            assert held(snap.current()) == kept
            assert repr(snap) == f"<Snapshot {store.path} generation=2>"
        assert len(store) == 26
        store.maintain()
        assert 2 not in manifests_on_disk(store.path)
        assert not list((store.path / "pins").iterdir())

    def test_of_a_generation_that_is_past(self, store: osc.Store) -> None:
        with store.snapshot(generation=1) as snap:
            before = told(snap)
            assert before["numbers"] == (1, 20, 32, True)
            write_on(store)
            assert told(snap) == before
            # opened anew from what is on the disk
            with store.snapshot(generation=1) as another:
                assert told(another) == before
        store.maintain()
        with pytest.raises(MissingError, match="generation 1 of"):
            store.snapshot(generation=1)

    def test_of_an_empty_store(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "e.osc", embedder="hash:32") as store:
            with store.snapshot() as snap:
                store.ingest(rows(0, 5))
                assert (len(snap), snap.search("word1").ids) == (0, [])
                assert snap.to_arrow().num_rows == 0
            assert len(store) == 5

    def test_several_at_once(self, store: osc.Store) -> None:
        snaps = [store.snapshot()]
        wanted = [told(snaps[0])]
        for start in range(30, 60, 5):
            store.ingest(rows(start, start + 5))
            snaps.append(store.snapshot())
            wanted.append(told(snaps[-1]))
        store.maintain()
        assert [told(snap) for snap in snaps] == wanted
        assert set(manifests_on_disk(store.path)) >= {snap.generation for snap in snaps}
        for snap in snaps[::2]:
            snap.close()
        store.maintain()
        assert [told(snap) for snap in snaps[1::2]] == wanted[1::2]
        for snap in snaps:
            snap.close()

    def test_closed_ones_answer_nothing(self, store: osc.Store) -> None:
        snap = store.snapshot()
        snap.close()
        snap.close()
        assert snap.closed
        for call in (lambda: snap.search("word1"), lambda: len(snap), snap.to_arrow):
            with pytest.raises(ClosedError, match="snapshot is closed"):
                call()
        with store.snapshot() as snap:
            store.close()
            with pytest.raises(ClosedError):
                snap.search("word1")

    def test_what_cannot_be_had(self, store: osc.Store) -> None:
        with pytest.raises(QueryError, match="either generation or tag"):
            store.snapshot(generation=1, tag="x")
        with pytest.raises(MissingError, match="'x'"):
            store.snapshot(tag="x")
        for generation in (3, -1, 99):
            with pytest.raises(MissingError, match=f"generation {generation} of"):
                store.snapshot(generation=generation)
        assert not list((store.path / "pins").iterdir())

    def test_receipts_of_a_snapshot_are_recorded(self, store: osc.Store) -> None:
        with store.snapshot(generation=1) as snap:
            receipt = snap.search("word1", label="pinned").receipt
        assert receipt.verify()
        assert receipt.content["generation"] == 1
        assert receipt.hash in store.receipts()["hash"].to_pylist()
        assert store.verify().problems == ()


class TestTags:
    def test_a_tag_keeps_its_generation(self, store: osc.Store) -> None:
        with store.snapshot() as snap:
            before = told(snap)
        assert store.tag("before-import") == 2
        assert store.tag("first", generation=1) == 1
        write_on(store)
        assert store.tags() == {"before-import": 2, "first": 1}
        assert set(manifests_on_disk(store.path)) >= {1, 2}
        with store.snapshot(tag="before-import") as snap:
            assert told(snap) == before
        with store.snapshot(tag="first") as snap:
            assert len(snap) == 20
        store.untag("first")
        assert store.tags() == {"before-import": 2}
        store.maintain()
        assert 1 not in manifests_on_disk(store.path)
        with store.snapshot(tag="before-import") as snap:
            assert told(snap) == before
        with pytest.raises(MissingError, match="'first'"):
            store.snapshot(tag="first")

    def test_a_tag_moves(self, store: osc.Store) -> None:
        store.tag("release", generation=1)
        assert store.tag("release") == 2
        assert store.tags() == {"release": 2}
        with osc.connect(store.path, read_only=True) as reader:
            assert reader.tags() == {"release": 2}
            with reader.snapshot(tag="release") as snap:
                assert len(snap) == 30

    def test_untag_what_is_not(self, store: osc.Store) -> None:
        with pytest.raises(MissingError, match=r"'no'.*none"):
            store.untag("no")
        store.tag("yes")
        with pytest.raises(MissingError, match=r"'no'.*'yes'"):
            store.untag("no")

    def test_a_generation_that_is_not(self, store: osc.Store) -> None:
        with pytest.raises(MissingError, match="generation 17 of"):
            store.tag("x", generation=17)
        assert store.tags() == {}

    @pytest.mark.parametrize(
        "name", ["", ".hidden", "a/b", "../up", "a b", "x" * 129, "-x", "a\n", "a\0"]
    )
    def test_names_that_cannot_be_files(self, store: osc.Store, name: str) -> None:
        with pytest.raises(QueryError, match="tag"):
            store.tag(name)
        assert store.tags() == {}

    @pytest.mark.parametrize("name", ["a", "2026-01-31", "v1.2+b=3@x", "Größe", "x" * 128])
    def test_names(self, store: osc.Store, name: str) -> None:
        store.tag(name)
        assert store.tags() == {name: 2}

    def test_read_only(self, store: osc.Store) -> None:
        with osc.connect(store.path, read_only=True) as reader:
            for call in (lambda: reader.tag("x"), lambda: reader.untag("x")):
                with pytest.raises(ReadOnlyError):
                    call()
        assert store.tags() == {}

    def test_a_damaged_tag(self, store: osc.Store) -> None:
        store.tag("x")
        (store.path / "tags" / "x").write_bytes(b"\xff")
        with pytest.raises(IntegrityError, match="tags/x is not what was written"):
            store.tags()
        # what is committed is committed
        assert store.ingest(rows(50, 51)).generation == store.generation == 3
        store.untag("x")
        assert store.tags() == {}


class TestRefresh:
    def test_it_tells_the_live_generation(self, store: osc.Store) -> None:
        with osc.connect(store.path, read_only=True) as reader:
            assert reader.refresh() == 2
            store.ingest(rows(40, 41))
            assert reader.refresh() == 3
            assert reader.refresh() == store.refresh() == 3
            assert len(reader) == 31

    def test_it_opens_nothing_twice(self, store: osc.Store) -> None:
        before = store.current()
        store.refresh()
        assert store.current() is before

    def test_closed_or_gone(self, store: osc.Store) -> None:
        reader = osc.connect(store.path, read_only=True)
        shutil.rmtree(store.path)
        with pytest.raises(NotAStoreError):
            reader.refresh()
        reader.close()
        with pytest.raises(ClosedError):
            reader.refresh()


def test_a_read_only_snapshot_never_answers_wrong(store: osc.Store) -> None:
    """It cannot hold its generation, since it writes nothing; what it has open stays as it is."""
    with osc.connect(store.path, read_only=True) as reader, reader.snapshot() as snap:
        before = told(snap)
        assert not (store.path / "pins").exists()
        store.ingest(rows(40, 41))
        assert told(snap) == before
        assert reader.generation == 3
        write_on(store)
        assert snap.search("word3 Grand Topic 4", k=7).hits == before["hits"][0]
        assert snap.edges() == before["edges"]
        assert snap.get("r7")[0]["text"] == before["get"][0][1]
        with pytest.raises(IntegrityError):
            snap.to_arrow()


PINNED = """
import hashlib, sys
import oscillink_store as osc

def told(reader):
    hits = [reader.search(text, k=9, where=where).hits
            for text in ("word3", "Grand Topic 4", "entirely new") for where in (None, "n > 4")]
    table = reader.to_arrow()
    said = repr((hits, table.to_pylist(), reader.edges().to_pylist(), reader.stats()))
    return hashlib.sha256(said.encode()).hexdigest()

with osc.connect(sys.argv[1]) as store, store.snapshot() as snap:
    print(snap.generation, told(snap), flush=True)
    sys.stdin.readline()
    print(snap.generation, told(snap), flush=True)
    print(store.refresh(), len(store), flush=True)
    sys.stdin.readline()
"""


def test_snapshots_of_another_process(store: osc.Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PINNED), str(store.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            before = child.stdout.readline()
            assert before.startswith("2 ")
            write_on(store)
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == before
            assert child.stdout.readline() == f"{store.generation} {len(store)}\n"
            assert 2 in manifests_on_disk(store.path)
        finally:
            child.kill()  # a pin ends with its process, however that ends
    store.maintain()
    assert 2 not in manifests_on_disk(store.path)
    assert not list((store.path / "pins").iterdir())
