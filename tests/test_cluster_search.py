"""Searches of clusters: as if they were one store, through every executor, whatever fails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_rows import hang, tenant_rows, vector_of, wake, with_vectors

import oscillink_store as osc
from oscillink_store.cluster import tasks
from oscillink_store.cluster.executors import ProcessExecutor, SerialExecutor
from oscillink_store.errors import ClosedError, NotAStoreError, QueryError, UnansweredError
from oscillink_store.filters import Compare
from oscillink_store.storage.mirror import push

# without what would connect anchors of different shards
ALONE = osc.Parameters(knn_weight=0.0, shared_weight=0.0, mention_weight=0.0)
ROWS = with_vectors(tenant_rows(160))
QUESTION, PSI = "Anna Lund at the harbour", vector_of("a question")


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster of eight shards."""
    path = tmp_path_factory.mktemp("search") / "cluster"
    with osc.create_cluster(path, shards=8, by="tenant", parameters=ALONE) as cluster:
        cluster.ingest(ROWS)
    return path


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "cluster")


def test_a_cluster_answers_as_one_store_does(
    root: Path, processes: ProcessExecutor, tmp_path: Path
) -> None:
    with osc.connect(tmp_path / "one.osc", parameters=ALONE) as one:
        one.ingest(ROWS)
        for executor in ("serial", processes):
            with osc.connect_cluster(root, executor=executor) as cluster:
                for asked in (
                    {"text": QUESTION, "vector": PSI},
                    {"text": QUESTION},
                    {"vector": PSI, "where": Compare("year", "gte", 2010)},
                    {"vector": PSI, "ranking": "dense"},
                ):
                    # k is all: which of two anchors of one score is the last would be by chance
                    told = cluster.search(**asked, k=200)
                    expected = one.search(**asked, k=200)
                    assert ranked(told) == ranked(expected)
                    assert [hit.score for hit in told] == pytest.approx(
                        [hit.score for hit in expected], abs=1e-6
                    )
                    assert told.complete
                    assert told.verify()
                    for hit in told:
                        assert hit.store == cluster.shard_of(str(hit.metadata["tenant"]))


def test_searches_are_recorded_replayed_and_verified(root: Path) -> None:
    with osc.connect_cluster(root) as cluster:
        result = cluster.search(QUESTION, vector=PSI, label="monday")
        replayed = cluster.replay(result.receipt.hash)
        assert replayed.whole.status == "identical"
        assert {each.status for each in replayed.parts.values()} == {"identical"}
        report = cluster.verify()
        assert (report.ok, report.receipts) == (True, 1)
    wal = next((root / "receipts").glob("*.wal"))
    wal.write_bytes(wal.read_bytes().replace(b"monday", b"sunday"))
    with osc.connect_cluster(root) as cluster:
        report = cluster.verify()
        assert [p for p in report.problems if str(root / "receipts") in p]


def test_a_catalogue_opens_as_many_stores(root: Path) -> None:
    with osc.connect_cluster(root) as cluster, osc.connect_many(root / "catalogue.json") as many:
        assert many.names == [shard.name for shard in cluster.shards()]
        told, expected = many.search(vector=PSI), cluster.search(vector=PSI)
        assert (told.ids, told.hits) == (expected.ids, expected.hits)


def ranked(result: osc.SearchResult) -> list[str]:
    """Ids by score, and where scores are the same by themselves."""
    return [hit.id for hit in sorted(result, key=lambda hit: (-round(hit.score, 6), hit.id))]


def test_a_shard_that_hangs_is_left_out_in_time(root: Path, tmp_path: Path) -> None:
    with ProcessExecutor(3) as executor:
        with osc.connect_cluster(root, executor=executor) as cluster:
            assert cluster.search(vector=PSI).complete
            current = hang(root / "shard-0003.osc")
            started = time.perf_counter()
            result = cluster.search(QUESTION, vector=PSI, timeout=4.0)
            assert time.perf_counter() - started < 5.0
            assert [left.store for left in result.missing] == ["shard-0003"]
            assert result.missing[0].error == "TimeoutError"
            assert result.verify()
            assert len(result) == 10
            # nobody asks it again until it has answered, and the others answer at once
            started = time.perf_counter()
            again = cluster.search(QUESTION, vector=PSI, timeout=4.0)
            assert time.perf_counter() - started < 2.0
            assert [left.store for left in again.missing] == ["shard-0003"]
            assert again.ids == result.ids
    wake(current)
    with osc.connect_cluster(root) as cluster:
        assert cluster.verify().ok


def test_a_shard_that_is_gone_is_named(root: Path) -> None:
    (root / "shard-0005.osc").rename(root / "elsewhere")
    with osc.connect_cluster(root) as cluster:
        result = cluster.search(QUESTION, vector=PSI)
        assert [left.store for left in result.missing] == ["shard-0005"]
        assert result.verify()
        # an empty store in its place would hide that its rows are gone
        for act in (cluster.__len__, cluster.stats, lambda: cluster.ingest(ROWS)):
            with pytest.raises(NotAStoreError, match="where shard-0005 should be, holds no store"):
                act()
        assert not (root / "shard-0005.osc").exists()
        assert not cluster.verify().ok
    for number in range(8):
        if number != 5:
            (root / f"shard-{number:04d}.osc").rename(root / str(number))
    with osc.connect_cluster(root) as cluster, pytest.raises(UnansweredError, match="shard-0000"):
        cluster.search(QUESTION, vector=PSI)


def test_a_search_in_mid_resize_sees_every_row(root: Path) -> None:
    """Between any two tasks of a resize everything is found, by whoever asks then."""
    ids = {row["id"] for row in ROWS}
    times: list[int] = []

    class Asking(SerialExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if fn in (tasks.copy_out, tasks.drop_moved):
                with osc.connect_cluster(root) as other:
                    found = other.search(vector=PSI, ranking="dense", k=400).ids
                    assert set(found) == ids
                    times.append(len(found) - len(ids))
            return super().submit(fn, *args, **kwargs)

    with osc.connect_cluster(root, executor=Asking()) as cluster:
        moved = cluster.resize(10).moved
    assert max(times) == moved > 0


def test_a_search_that_rows_overtook_is_run_again(root: Path) -> None:
    """One that read the new home before and the old home after would miss a row."""
    rows = {row["id"]: row for row in ROWS}

    class Moving(SerialExecutor):
        """In mid-search, once, a row moves to a shard that has been read already."""

        moved = False

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            future = super().submit(fn, *args, **kwargs)
            place = args[0]
            if fn.__name__ == "survey" and not self.moved and place.path.endswith("0000.osc"):
                Moving.moved = True
                with osc.connect_cluster(root) as other:
                    source = next(
                        row["tenant"] for row in ROWS
                        if other.shard_of(row["tenant"]) != "shard-0000"
                    )  # fmt: skip
                    target = next(
                        f"tenant {n}" for n in range(1000)
                        if other.shard_of(f"tenant {n}") == "shard-0000"
                    )  # fmt: skip
                    moving = [row for row in ROWS if row["tenant"] == source]
                    report = other.ingest([row | {"tenant": target} for row in moving])
                    assert report.moved == len(moving)
            return future

    with osc.connect_cluster(root) as cluster:
        # a serial executor of the caller's own kind is asked shard by shard
        many = cluster._stores(cluster.catalogue())
        many._executor, own = Moving(), many._executor
        found = cluster.search(vector=PSI, ranking="dense", k=400)
        many._executor = own
        assert Moving.moved
        assert sorted(found.ids) == sorted(rows)


def test_mirrors_are_searched(root: Path, processes: ProcessExecutor, tmp_path: Path) -> None:
    uris = {}
    for number in range(8):
        path = root / f"shard-{number:04d}.osc"
        uris[path.stem] = (tmp_path / "bucket" / path.name).as_uri()
        push(path, uris[path.stem])
    with osc.connect_cluster(root) as cluster:
        expected = cluster.search(QUESTION, vector=PSI)
    cache = tmp_path / "cache"
    with osc.create_cluster(
        tmp_path / "mirrors", stores=uris, executor=processes, cache=cache
    ) as cluster:
        told = cluster.search(QUESTION, vector=PSI)
        assert told.hits == expected.hits
        assert told.verify()
        assert len(list(cache.glob("*.osc"))) == 8
        assert cluster.verify().ok


def test_a_resize_leaves_searches_of_other_threads_alone(root: Path) -> None:
    with osc.connect_cluster(root) as cluster:
        before = cluster._stores(cluster.catalogue())  # as a search has it that is under way
        assert before.search(vector=PSI).complete
        cluster.resize(9)
        assert cluster.search(vector=PSI).complete
        assert cluster._stores(cluster.catalogue()) is not before
        assert before.search(vector=PSI).complete


def test_a_limit_of_time_is_looked_at(tmp_path: Path) -> None:
    with osc.create_cluster(tmp_path / "cluster", shards=1) as cluster:
        for timeout in (0, -1.0, True, "2"):
            with pytest.raises(QueryError, match="timeout is"):
                cluster.search("a", timeout=timeout)  # type: ignore[arg-type]


def test_a_closed_cluster_answers_nothing(root: Path) -> None:
    cluster = osc.connect_cluster(root)
    cluster.search(vector=PSI)
    cluster.close()
    with pytest.raises(ClosedError):
        cluster.search(vector=PSI)
