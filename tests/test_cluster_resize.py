"""Growing and shrinking a cluster: little moves, nothing is lost, and searches see every row."""

from __future__ import annotations

import shutil
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_rows import tenant_rows, with_vectors
from store_content import content

import oscillink_store as osc
from oscillink_store.cluster import tasks
from oscillink_store.cluster.executors import SerialExecutor
from oscillink_store.cluster.placement import homes_of
from oscillink_store.errors import InputError, QueryError, StoreError


class InterruptedResizeError(Exception):
    pass


class Stopping(SerialExecutor):
    """Runs tasks until one of some function has run so many times, and stops there."""

    def __init__(self, function: Any, count: int) -> None:
        self.function, self.left = function, count

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is self.function:
            self.left -= 1
            if self.left < 0:
                raise InterruptedResizeError
        return super().submit(fn, *args, **kwargs)


ROWS = with_vectors(tenant_rows(200, tenants=40))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster of four shards, to be copied."""
    root = tmp_path_factory.mktemp("resize") / "cluster"
    filled(root).close()
    return root


@pytest.fixture
def root(four: Path, tmp_path: Path) -> Path:
    return shutil.copytree(four, tmp_path / "cluster")


def filled(root: Path, shards: int = 4, executor: Executor | None = None) -> osc.Cluster:
    cluster = osc.create_cluster(root, shards=shards, by="tenant", executor=executor)
    cluster.ingest(ROWS)
    return cluster


def seen(root: Path) -> dict[str, list[str]]:
    """Which stores of the catalogue hold each id, with the rows as they were ingested."""
    found: dict[str, list[str]] = {}
    with osc.connect_cluster(root) as cluster:
        for shard in cluster.shards():
            with osc.connect(shard.path, read_only=True) as store:
                for row in store.to_arrow(["id", "text"]).to_pylist():
                    assert row["text"] == ROWS[int(row["id"][1:])]["text"]
                    found.setdefault(row["id"], []).append(shard.name)
    return found


@pytest.mark.parametrize(("before", "after"), [(4, 5), (4, 9), (5, 3), (3, 3)])
def test_rows_move_as_the_hash_says(tmp_path: Path, before: int, after: int) -> None:
    values = [row["tenant"] for row in ROWS]
    moving = int((homes_of(values, before) != homes_of(values, after)).sum())
    with filled(tmp_path / "cluster", before) as cluster:
        report = cluster.resize(after)
        assert report.moved == moving
        assert sum(report.anchors.values()) == len(cluster) == 200
        assert cluster.verify().problems == ()
        assert len(cluster.shards()) == after
        assert cluster.stats()["resizing"] is None
        # embeddings, digests and all: the source finds every row as it was
        assert cluster.ingest(ROWS).unchanged == 200
    homes = homes_of(values, after).tolist()
    assert seen(tmp_path / "cluster") == {
        row["id"]: [f"shard-{home:04d}"] for row, home in zip(ROWS, homes, strict=True)
    }


def test_a_shard_holds_the_same_whichever_way_it_came(tmp_path: Path) -> None:
    filled(tmp_path / "small", 3).close()
    with osc.connect_cluster(tmp_path / "small") as cluster:
        cluster.resize(7)
    filled(tmp_path / "large", 7).close()
    for number in range(3, 7):  # the others had more, and have another order
        name = f"shard-{number:04d}.osc"
        small, large = content(tmp_path / "small" / name), content(tmp_path / "large" / name)
        assert small["statistics"] == large["statistics"]
        with (
            osc.connect(tmp_path / "small" / name) as a,
            osc.connect(tmp_path / "large" / name) as b,
        ):
            columns = ["id", "digest"]
            rows = [
                sorted(zip(*(s.current().values(c, s.current().alive_slots) for c in columns),
                           strict=True))
                for s in (a, b)
            ]  # fmt: skip
            assert rows[0] == rows[1]


@pytest.mark.parametrize("phase", ["copy_out", "drop_moved"])
@pytest.mark.parametrize("count", [0, 3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [6, 3])
def test_a_resize_that_is_interrupted_goes_on(
    root: Path, phase: str, count: int, after: int
) -> None:
    stopping = Stopping(getattr(tasks, phase), count)
    with (
        osc.connect_cluster(root, executor=stopping) as cluster,
        pytest.raises(InterruptedResizeError),
    ):
        cluster.resize(after)
    # every row is there once or twice, and in the end once
    found = seen(root)
    assert sorted(found) == sorted(row["id"] for row in ROWS)
    assert {len(places) for places in found.values()} <= {1, 2}
    with osc.connect_cluster(root) as cluster:
        assert cluster.stats()["resizing"] == after
        with pytest.raises(StoreError, match=rf"run resize\({after}\) first, or .* then ingest"):
            cluster.ingest(ROWS)
        assert not cluster.verify().ok or phase == "drop_moved"
        cluster.resize(4 if count == 1 else after)  # back, or on
        assert cluster.verify().problems == ()
        assert cluster.ingest(ROWS).unchanged == 200
    assert {len(places) for places in seen(root).values()} == {1}


def test_nothing_is_deleted_that_its_new_home_does_not_hold(root: Path) -> None:
    stopping = Stopping(tasks.drop_moved, 0)
    with (
        osc.connect_cluster(root, executor=stopping) as cluster,
        pytest.raises(InterruptedResizeError),
    ):
        cluster.resize(6)
    with osc.connect_cluster(root) as cluster:
        # somebody empties a new home behind the cluster's back
        home = cluster.shards()[5]
        with osc.connect(home.path) as store:
            gone = store.to_arrow(["id"])["id"].to_pylist()
            assert gone
            store.delete(gone)
        rule = tasks.Rule(column="tenant", shards=6)
        for shard in cluster.shards():
            tasks.drop_moved(shard, cluster.shards(), rule)
    found = seen(root)
    assert all(len(found[id_]) == 1 for id_ in gone)
    with osc.connect_cluster(root) as cluster:
        cluster.resize(6)
        assert cluster.verify().ok
        assert len(cluster) == 200


def test_a_resize_that_cannot_be_done_is_taken_back(tmp_path: Path) -> None:
    homes = homes_of([f"t{n}" for n in range(8)], 2).tolist()
    with osc.create_cluster(tmp_path / "cluster", shards=2, by="tenant", embedder="hash") as made:
        for home, value in ((0, 1), (1, "high")):
            made.ingest(
                {"id": f"r{n}", "text": "a note", "tenant": f"t{n}", "grade": value}
                for n in range(8) if homes[n] == home
            )  # fmt: skip
        with pytest.raises(InputError, match="column 'grade' holds int64 so far and string"):
            made.resize(1)
        made.resize(2)
        assert made.verify().ok
        assert made.delete("r0").deleted == 1


def test_no_shard_leaves_with_anchors(tmp_path: Path) -> None:
    with filled(tmp_path / "cluster", 2) as cluster:
        row = next(row for row in ROWS if cluster.shard_of(row["tenant"]) == "shard-0000")
        with osc.connect(cluster.shards()[1].path) as store:
            store.ingest([{**row, "text": "as of long ago"}])
        with pytest.raises(StoreError, match="shard-0001 would leave the cluster with 1 anchors"):
            cluster.resize(1)
        cluster.resize(2)
        # nor does what is in the wrong place replace what is in the right one
        assert cluster.ingest([row]).unchanged == 1
        cluster.resize(1)
        assert cluster.verify().ok


def test_the_epoch_goes_up_between_writing_and_deleting(root: Path) -> None:
    epochs: list[tuple[str, int]] = []

    class Noting(SerialExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if fn in (tasks.copy_out, tasks.drop_moved):
                with osc.connect_cluster(root) as other:
                    epochs.append((fn.__name__, other.catalogue().epoch))
            return super().submit(fn, *args, **kwargs)

    with osc.connect_cluster(root, executor=Noting()) as cluster:
        cluster.resize(5)
    assert set(epochs) == {("copy_out", 0), ("drop_moved", 1)}


def test_shards_exchange_rows_in_threads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads, filled(tmp_path / "cluster", 6, threads) as cluster:
        cluster.resize(3)
        cluster.resize(8)
        assert cluster.verify().ok
        assert len(cluster) == 200


@pytest.mark.parametrize("shards", [0, -1, True, "5", 2.0])
def test_a_number_of_shards_is_looked_at(tmp_path: Path, shards: Any) -> None:
    with osc.create_cluster(tmp_path / "cluster", shards=1) as cluster:
        with pytest.raises(QueryError, match="shards is"):
            cluster.resize(shards)
