"""The life of a store: created, reopened, shared between threads and processes, locked."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import oscillink_store as osc
from oscillink_store.errors import ClosedError, EmbedderError, LockedError, MissingError, QueryError
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import manifests_on_disk, read_current, read_manifest


def batch(start: int, stop: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{i}",
            "text": f"word{i} among common words",
            "title": f"Title {i}",
            "n": i,
            **more,
        }
        for i in range(start, stop)
    ]


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder with its size and the time of its last change."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in (root, *root.rglob("*"))
    }


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, started from nothing; killed if the test fails."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    """The next line that the child prints."""
    assert child.stdout is not None
    text = child.stdout.readline().rstrip("\n")
    if not text:
        assert child.stderr is not None
        pytest.fail(child.stderr.read())
    return text


def go_on(child: subprocess.Popen[str]) -> None:
    """Let the child take its next step."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """Sixty rows; tests only read them."""
    path = tmp_path_factory.mktemp("shared") / "s.osc"
    with osc.connect(path, embedder="hash:64") as store:
        rows = batch(0, 60, meta={"a": 1, "tags": ["x"]})
        store.ingest(rows[:40])
        store.ingest(rows[40:])
        yield store


class TestOpening:
    def test_created_filled_and_reopened(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "er" / "s.osc"
        with osc.connect(path, embedder="hash:64") as store:
            assert (store.generation, len(store), store.dimension) == (0, 0, None)
            report = store.ingest(batch(0, 20))
            assert (report.generation, report.added, report.anchors) == (1, 20, 20)
            assert (report.updated, report.unchanged) == (0, 0)
            assert set(report.seconds) == {"read", "embed", "lattice", "commit", "total"}
            assert report.receipt is not None
            first = store.search("word7", k=5)
        with osc.connect(str(path)) as store:
            assert (store.generation, len(store), store.dimension) == (1, 20, 64)
            again = store.search("word7", k=5)
        assert again.hits == first.hits
        assert again.receipt.content_hash == first.receipt.content_hash
        assert again.receipt.writer != first.receipt.writer

    def test_an_empty_folder_becomes_a_store(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path) as store:
            assert len(store) == 0
        assert (tmp_path / "CURRENT").is_file()

    def test_what_an_interrupted_creation_left_becomes_one_too(self, tmp_path: Path) -> None:
        (tmp_path / "LOCK").touch()
        (tmp_path / "manifests").mkdir()
        (tmp_path / "manifests" / "0000000000.json").write_text("{")
        (tmp_path / ".CURRENT.tmp").write_text("{")
        with osc.connect(tmp_path) as store:
            assert store.verify().ok

    def test_many_create_one_store(self, tmp_path: Path) -> None:
        def connect(_: int) -> dict[str, Any]:
            with osc.connect(tmp_path / "s.osc") as store:
                return store.stats()

        with ThreadPoolExecutor(8) as pool:
            stats = list(pool.map(connect, range(8)))
        assert len({stat["created"] for stat in stats}) == 1

    def test_reading_writes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "s.osc"
        with osc.connect(path, embedder="hash:64") as store:
            store.ingest(batch(0, 20))
            store.search("word7")
        before = listing(path)
        with osc.connect(path, read_only=True) as store:
            result = store.search("word7", where="n < 10", label="mine")
            assert result.ids
            assert result.receipt.verify()
            store.search(vector=np.ones(64))
            store.rerank(["r1", "r2"], "word1")
            store.get("r3")
            store.to_arrow(where="n > 3")
            store.edges()
            store.stats()
            assert store.receipts().num_rows == 2
            assert store.verify().ok
        assert listing(path) == before

    def test_options_of_a_new_store_are_recorded(self, tmp_path: Path) -> None:
        fields = osc.Fields(text="body", sequence=("doc", "part"), position="at", facets=["who"])
        parameters = osc.Parameters(knn_neighbors=3, sources=2)
        osc.connect(tmp_path / "s.osc", fields=fields, parameters=parameters).close()
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            assert store.fields == fields
            assert store.parameters == parameters
            store.ingest(
                [{"id": str(i), "body": f"words {i}", "doc": 1, "part": 2, "at": i, "who": "Ann"}
                 for i in range(10)]
            )  # fmt: skip
            assert store.stats()["facets"] == {"who": 1}
            assert store.to_arrow(["sequence"])["sequence"].to_pylist() == ['["1", "2"]'] * 10
            assert 10 * 3 / 2 <= store.stats()["edges"]["knn"] <= 10 * 3

    def test_importing_costs_next_to_nothing(self) -> None:
        script = """
            import sys, oscillink_store
            heavy = {"numba", "llvmlite", "lance", "duckdb", "pyarrow", "numpy", "scipy", "rich"}
            print(sorted(heavy & set(sys.modules)), dir(oscillink_store)[0] != "")
        """
        with process(script) as child:
            assert line(child) == "[] True"

    def test_searching_loads_no_compiler_and_no_sql_engine(self, shared: osc.Store) -> None:
        script = """
            import sys, oscillink_store
            with oscillink_store.connect(sys.argv[1], read_only=True) as store:
                assert store.search("word7", k=1, where="n < 10").ids == ["r7"]
            print(sorted({"numba", "duckdb", "scipy", "rich", "torch"} & set(sys.modules)))
        """
        with process(script, shared.path) as child:
            line(child)  # kernels may have to be compiled first
        with process(script, shared.path) as child:
            assert line(child) == "[]"


class TestEmbedders:
    def test_the_recorded_one_is_needed(self, tmp_path: Path) -> None:
        def embed(texts: list[str]) -> Any:
            return np.array([[len(text), text.count("a"), 1.0] for text in texts])

        def other(texts: list[str]) -> Any:
            return embed(texts)

        path = tmp_path / "s.osc"
        with osc.connect(path, embedder=embed) as store:
            store.ingest(batch(0, 5))
            name = store.stats()["embedder"]
            assert "embed" in name
        with pytest.raises(EmbedderError, match="come from embedder"):
            osc.connect(path, embedder=other)
        with pytest.raises(EmbedderError, match="come from embedder"):
            osc.connect(path, embedder="hash:64")
        with osc.connect(path, embedder=embed) as store:
            assert store.has_embedder
            assert store.search("word3").hits[0].cosine is not None
        with osc.connect(path) as store:  # a callable cannot be found by its name
            assert not store.has_embedder
            assert store.search("word3").hits[0].cosine is None
            assert store.search(vector=[1, 2, 3]).hits[0].cosine is not None
            assert store.ingest([{"id": "own", "text": "x", "vector": [1, 0, 0]}]).added == 1
            assert store.stats()["embedder"] == name

    def test_the_built_in_one_opens_by_itself(self, shared: osc.Store) -> None:
        with osc.connect(shared.path, read_only=True) as store:
            assert store.has_embedder
            assert store.stats()["embedder"] == "hash:64"
            assert store.search("word3", k=1).hits[0].cosine is not None

    def test_one_of_another_dimension_is_refused_for_own_vectors(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc") as store:
            store.ingest([{"id": "a", "text": "x", "vector": [1.0, 0.0, 0.0]}])
            assert store.stats()["embedder"] is None
        with pytest.raises(EmbedderError, match="64 dimensions"):
            osc.connect(tmp_path / "s.osc", embedder="hash:64")

    def test_another_process_may_have_chosen_meanwhile(self, tmp_path: Path) -> None:
        with (
            osc.connect(tmp_path / "s.osc") as plain,
            osc.connect(tmp_path / "s.osc", embedder="hash:32") as late,
            osc.connect(tmp_path / "s.osc", embedder="hash:64") as store,
        ):
            store.ingest(batch(0, 5))
            assert plain.has_embedder
            assert plain.search("word3", k=1).hits[0].cosine is not None
            for call in (lambda: late.search("word3"), lambda: late.ingest(batch(5, 9))):
                with pytest.raises(EmbedderError, match="hash:64"):
                    call()
            assert len(store) == 5


class TestTwoStores:
    def test_one_sees_what_the_other_commits(self, tmp_path: Path) -> None:
        with (
            osc.connect(tmp_path / "s.osc", embedder="hash:64") as writer,
            osc.connect(tmp_path / "s.osc", read_only=True) as reader,
        ):
            assert len(reader.search("word1")) == 0
            for generation in (1, 2, 3):
                writer.ingest(batch(generation * 10, generation * 10 + 10))
                name = f"r{generation * 10 + 5}"
                assert reader.search(f"word{generation * 10 + 5}", k=1).ids == [name]
                assert (reader.generation, len(reader)) == (generation, generation * 10)
                assert reader.get(name)[0]["text"] == writer.get(name)[0]["text"]

    def test_they_take_turns_at_writing(self, tmp_path: Path) -> None:
        path = tmp_path / "s.osc"
        with osc.connect(path, embedder="hash:64") as one, osc.connect(path) as two:
            one.ingest(batch(0, 5))
            two.ingest(batch(5, 10))
            one.ingest(batch(10, 15))
            assert len(one) == len(two) == 15
            assert one.search("word12", k=3).hits == two.search("word12", k=3).hits

    def test_fields_chosen_by_one_hold_for_the_other(self, tmp_path: Path) -> None:
        path = tmp_path / "s.osc"
        with (
            osc.connect(path, embedder="hash:64") as one,
            osc.connect(path, embedder="hash:64") as two,
        ):
            two.ingest(batch(0, 5, who="Ann"), fields=osc.Fields(facets=["who"]))
            one.ingest(batch(5, 10, who="Bob"))
            assert one.stats()["facets"] == two.stats()["facets"] == {"who": 2}


class TestThreads:
    def test_searches_while_another_thread_ingests(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            store.ingest(batch(0, 50))
            done = threading.Event()
            seen: list[tuple[int, int]] = []

            def search() -> None:
                while True:
                    last = done.is_set()
                    result = store.search("word7 word8", k=5, where="n < 50")
                    # what the filter keeps never changes; the corpus around it does
                    assert {"r7", "r8"} <= set(result.ids)
                    assert all(hit.metadata["n"] < 50 for hit in result)
                    seen.append((result.receipt.content["generation"], len(store)))
                    if last:
                        return

            with ThreadPoolExecutor(3) as pool:
                running = [pool.submit(search) for _ in range(3)]
                try:
                    for start in range(50, 150, 10):
                        store.ingest(batch(start, start + 10))
                finally:
                    done.set()
                for future in running:
                    future.result()
            assert max(generation for generation, _ in seen) == store.generation == 11
            assert len({generation for generation, _ in seen}) > 2
            assert store.verify().problems == ()
            assert store.receipts().num_rows == 11 + len(seen)

    def test_one_that_ingested_is_read_by_all(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            with ThreadPoolExecutor(4) as pool:
                for generation in range(1, 8):
                    store.ingest(batch(generation, generation + 1))
                    found = pool.map(lambda _: store.generation, range(16))
                    assert set(found) == {generation}

    def test_batches_of_several_threads_all_arrive(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            with ThreadPoolExecutor(4) as pool:
                reports = list(pool.map(lambda i: store.ingest(batch(5 * i, 5 * i + 5)), range(8)))
            assert sorted(report.generation for report in reports) == list(range(1, 9))
            assert len(store) == 40
            assert store.verify().problems == ()

    def test_a_search_does_not_wait_for_a_writer(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64", lock_timeout=60) as store:
            store.ingest(batch(0, 10))
            with osc.connect(store.path) as other, ThreadPoolExecutor(1) as pool:
                with writer_lock(store.path, 0):
                    waiting = pool.submit(store.ingest, batch(20, 30))
                    # another process commits while this one waits for the lock
                    manifest = (store.path / "CURRENT").read_bytes()
                    (store.path / "CURRENT.new").write_bytes(manifest)
                    (store.path / "CURRENT.new").replace(store.path / "CURRENT")
                    assert store.search("word3", k=1).ids == ["r3"]
                    assert not waiting.done()
                assert waiting.result().generation == 2
                assert len(other) == 20

    def test_closing_ends_searches_with_a_clear_error(self, shared: osc.Store) -> None:
        for _ in range(3):
            store = osc.connect(shared.path, read_only=True)
            with ThreadPoolExecutor(2) as pool:
                running = [pool.submit(search_until_closed, store) for _ in range(2)]
                time.sleep(0.05)
                store.close()
                for future in running:
                    assert isinstance(future.exception(), ClosedError)


def search_until_closed(store: osc.Store) -> None:
    while True:
        store.search("word7", where="n < 20")


HOLD = """
import sys
from pathlib import Path
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import manifests_on_disk, read_current, read_manifest
with writer_lock(Path(sys.argv[1]), 5):
    print("held", flush=True)
    sys.stdin.readline()
"""

INGEST = """
import sys
import oscillink_store as osc
with osc.connect(sys.argv[1], embedder="hash:64") as store:
    print("open", flush=True)
    first, last, step = map(int, sys.argv[2:5])
    for start in range(first, last, step):
        sys.stdin.readline()
        rows = [{"id": f"r{i}", "text": f"word{i} among common words", "n": i}
                for i in range(start, start + step)]
        store.ingest(rows)
        store.search(f"word{start}", k=1)
    print(store.generation, flush=True)
"""


class TestProcesses:
    def test_a_second_writer_is_told_who_writes(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64", lock_timeout=0.1) as store:
            with process(HOLD, store.path) as child:
                assert line(child) == "held"
                with pytest.raises(LockedError, match=f"process {child.pid} ") as caught:
                    store.ingest(batch(0, 5))
                assert isinstance(caught.value, TimeoutError)
                assert len(store.search("word1")) == 0  # readers never wait
                child.communicate("\n", timeout=200)
            assert store.ingest(batch(0, 5)).generation == 1

    def test_the_lock_ends_with_its_process(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64", lock_timeout=10) as store:
            with process(HOLD, store.path) as child:
                assert line(child) == "held"
                child.kill()
                child.wait(200)
            assert store.ingest(batch(0, 5)).generation == 1
            assert not (store.path / "LOCK.holder").exists()

    def test_searches_while_another_process_ingests(self, tmp_path: Path) -> None:
        path = tmp_path / "s.osc"
        with osc.connect(path, embedder="hash:64") as store, \
                process(INGEST, path, 0, 60, 10) as child:  # fmt: skip
            assert line(child) == "open"
            for batch_number in range(1, 7):
                go_on(child)
                while True:
                    result = store.search("word3 word33", k=60)
                    generation = result.receipt.content["generation"]
                    # a reader sees one generation whole: all of its anchors and no others
                    assert len(result) == 10 * generation
                    assert max((hit.metadata["n"] for hit in result), default=-1) < 10 * generation
                    if generation == batch_number:
                        break
            assert line(child) == "6"
            child.communicate(timeout=200)
            assert len(store) == 60
            assert store.verify().problems == ()
            receipts = store.receipts().to_pylist()
            assert [r["generation"] for r in receipts if r["kind"] == "ingest"] == [
                1,
                2,
                3,
                4,
                5,
                6,
            ]
            assert len({r["writer"] for r in receipts}) == 2

    def test_two_processes_ingest_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "s.osc"
        osc.connect(path).close()
        with process(INGEST, path, 0, 40, 10) as one, process(INGEST, path, 40, 80, 10) as two:
            assert [line(one), line(two)] == ["open", "open"]
            for child in (one, two):
                for _ in range(4):
                    go_on(child)
            generations = sorted(int(line(child)) for child in (one, two))
            for child in (one, two):
                child.communicate(timeout=200)
        assert generations[-1] == 8
        with osc.connect(path, read_only=True) as store:
            assert len(store) == 80
            assert sorted(store.to_arrow(["n"])["n"].to_pylist()) == list(range(80))
            report = store.verify()
            assert report.problems == ()
            assert report.receipts == 16
            assert store.search("word7 word77", k=2).ids in (["r7", "r77"], ["r77", "r7"])


class TestReading:
    def test_get(self, shared: osc.Store) -> None:
        records = shared.get(["r50", "r3", "r50"])
        assert [record["id"] for record in records] == ["r50", "r3", "r50"]
        assert records[1].keys() == {
            "id", "title", "text", "vector", "sequence", "position", "links", "gate", "payload",
            "n", "meta",
        }  # fmt: skip
        assert records[1]["title"] == "Title 3"
        assert records[1]["meta"] == {"a": 1, "tags": ["x"]}
        vector = records[1]["vector"]
        assert vector.dtype == np.float32
        assert vector.shape == (64,)
        assert np.isclose(np.linalg.norm(vector), 1.0)
        vector[:] = 0  # a copy
        assert np.isclose(np.linalg.norm(shared.get("r3")[0]["vector"]), 1.0)
        assert shared.get([]) == []
        with pytest.raises(MissingError, match="'r99'") as caught:
            shared.get(["r1", "r99"])
        assert isinstance(caught.value, LookupError)

    def test_a_text_may_be_blank_beside_its_vector(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "blank.osc") as store:
            store.ingest(
                [
                    {"id": "a", "text": "", "vector": [1.0, 0.0]},
                    {"id": "b", "text": " \n", "vector": [0.0, 1.0]},
                    {"id": "c", "text": "words", "vector": [1.0, 1.0]},
                ]
            )
            store.ingest([{"id": "d", "text": "", "vector": [1.0, 0.1]}])
            assert store.search("words", vector=[1.0, 0.0], ranking="dense").ids == list("adcb")
            assert [hit.text for hit in store.search("words", k=1)] == ["words"]
            assert [row["text"] for row in store.get(["a", "b"])] == ["", " \n"]
            assert store.verify().ok

    def test_to_arrow(self, shared: osc.Store) -> None:
        table = shared.to_arrow()
        assert table.schema.names == [
            "id", "title", "text", "vector", "sequence", "position", "links", "gate", "payload",
            "n", "meta",
        ]  # fmt: skip
        assert table["id"].to_pylist() == [f"r{i}" for i in range(60)]
        assert table.schema.field("vector").type == pa.list_(pa.float32(), 64)
        some = shared.to_arrow(columns=["n", "id"], where="n % 7 = 3")
        assert some.to_pylist() == [{"n": i, "id": f"r{i}"} for i in range(60) if i % 7 == 3]
        assert shared.to_arrow(columns=[]).num_columns == 0
        assert shared.to_arrow(where="n > 99").num_rows == 0

    def test_edges_name_every_pair_once(self, shared: osc.Store) -> None:
        edges = shared.edges()
        assert edges.schema.names == ["source", "target", "relation", "weight"]
        place = {name: i for i, name in enumerate(shared.to_arrow(["id"])["id"].to_pylist())}
        pairs = [
            (place[row["source"]], place[row["target"]], row["relation"])
            for row in edges.to_pylist()
        ]
        assert pairs
        assert all(source < target for source, target, _ in pairs)
        assert len(set(pairs)) == len(pairs)
        assert min(edges["weight"].to_pylist()) > 0
        counts = shared.stats()["edges"]
        assert sum(counts.values()) == len(pairs)
        assert {name: sum(relation == name for *_, relation in pairs) for name in counts} == counts

    def test_stats(self, shared: osc.Store) -> None:
        stats = shared.stats()
        assert json.loads(json.dumps(stats)) == stats
        assert (stats["anchors"], stats["generation"], stats["dimension"]) == (60, 2, 64)
        assert stats["metadata"]["n"] == "int64"
        on_disk = sum(
            path.stat().st_size for path in (shared.path / "segments" / "0000000002").iterdir()
        )
        assert stats["bytes"]["segments"] == on_disk
        assert stats["path"] == str(shared.path.resolve())

    def test_rerank_knows_only_what_it_is_given(self, shared: osc.Store) -> None:
        given = ["r9", "r5", "r33", "r5"]
        result = shared.rerank(given, "word33", k=10)
        assert set(result.ids) == set(given)
        assert result.ids[0] == "r33"
        assert sorted(result.receipt.content["candidates"]) == ["r33", "r5", "r9"]
        assert [hit.rank for hit in result] == [1, 2, 3]
        assert shared.rerank(given, "word33", k=1).ids == ["r33"]
        assert shared.rerank("r5", "word33").ids == ["r5"]
        assert shared.rerank(given, vector=shared.get("r9")[0]["vector"], k=1).ids == ["r9"]
        assert len(shared.rerank([], "word33")) == 0
        with pytest.raises(MissingError, match="'r99'"):
            shared.rerank(["r1", "r99"], "word1")
        with pytest.raises(QueryError, match="k is 0"):
            shared.rerank(given, "word33", k=0)

    def test_repr(self, shared: osc.Store) -> None:
        assert repr(shared) == f"<Store {shared.path} generation=2 anchors=60>"


def test_files_of_old_generations_go(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
        for generation in range(1, 40):
            store.ingest(batch(10 * generation, 10 * generation + 10))
            kept = range(max(0, generation - 2), generation + 1)
            assert manifests_on_disk(store.path) == list(kept)
            # what these consist of, and nothing else
            names = {f"manifests/{number:010d}.json" for number in kept}
            for number in kept:
                names |= {entry.path for entry in read_manifest(store.path, number).files()}
            assert names == data_files(store.path)
        # rows, indices and corrections are merged in tiers, so that few files hold them all
        assert len(read_current(store.path).segments) <= 4 * np.log2(390)
        assert store.verify().problems == ()
        assert len(store.search("word33 word77", k=400)) == 390


def data_files(root: Path) -> set[str]:
    """Every file but receipts, the lock, ``CURRENT`` and Lance's hint."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and path.parent.name != "receipts"
        and path.name not in ("CURRENT", "LOCK", "latest_version_hint.json")
    }


@pytest.mark.parametrize("method", ["search", "rerank"])
def test_a_finished_process_leaves_its_receipts(tmp_path: Path, method: str) -> None:
    script = """
        import sys, oscillink_store as osc
        store = osc.connect(sys.argv[1], embedder="hash:64")
        store.ingest([{"id": "a", "text": "some words"}])
        result = store.search("words") if sys.argv[2] == "search" else store.rerank(["a"], "words")
        print(result.receipt.hash)
    """  # ends without close()
    with process(script, tmp_path / "s.osc", method) as child:
        digest = line(child)
        assert child.communicate(timeout=200) == ("", "")
        assert child.returncode == 0
    with osc.connect(tmp_path / "s.osc", read_only=True) as store:
        assert digest in store.receipts()["hash"].to_pylist()
        assert store.verify().receipts == 2
