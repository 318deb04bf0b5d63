"""Ray as an executor: the same content, and workers that are killed or hang."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_rows import KillingEmbedder, tenant_rows
from store_content import content

import oscillink_store as osc
from oscillink_store.cluster.executors import make_executor
from oscillink_store.errors import InputError, WorkerError

ray = pytest.importorskip("ray")

from oscillink_store.cluster.ray_executor import RayExecutor  # noqa: E402 - it needs ray

ROWS = tenant_rows(120)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[RayExecutor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where workers find these tests
        with RayExecutor(2, retries=1) as executor:
            yield executor
    assert not ray.is_initialized()


def die_once(marker: Path) -> str:
    try:
        marker.open("x").close()
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(note: Path) -> None:
    note.write_text(str(os.getpid()))
    time.sleep(600)


def refuse() -> None:
    raise InputError("row 3: 'x' is odd", field="x", row=3)


def test_tasks_run_elsewhere_and_errors_come_back_whole(on_ray: RayExecutor) -> None:
    assert on_ray.submit(os.getpid).result(30) != os.getpid()
    with pytest.raises(InputError, match="is odd") as caught:
        on_ray.submit(refuse).result(30)
    assert type(caught.value) is InputError
    assert (caught.value.field, caught.value.row) == ("x", 3)


def test_a_killed_worker_is_replaced_as_often_as_allowed(
    on_ray: RayExecutor, tmp_path: Path
) -> None:
    assert on_ray.submit(die_once, tmp_path / "marker").result(60) == "done"
    with pytest.raises(WorkerError, match="Ray gave a task up"):
        on_ray.submit(die).result(60)


def test_cancelling_a_task_ends_its_worker(on_ray: RayExecutor, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    task = on_ray.submit(hang, note)
    while not note.exists() or not note.read_text():
        time.sleep(0.05)
    worker = int(note.read_text())
    assert task.cancel()
    for _ in range(400):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker goes on")


def test_ray_that_runs_already_is_used_and_left_alone(on_ray: RayExecutor) -> None:
    guest, made = make_executor("ray")
    assert made
    assert guest.submit(max, 1, 2).result(30) == 2
    guest.shutdown()
    assert ray.is_initialized()
    with pytest.raises(RuntimeError, match="after shutdown"):
        guest.submit(max, 1, 2)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that was filled in this process."""
    folder = tmp_path_factory.mktemp("plain")
    with osc.create_cluster(
        folder / "cluster", shards=4, by="tenant", embedder=KillingEmbedder(_marked(folder))
    ) as cluster:
        cluster.ingest(ROWS, batch=60)
    return folder / "cluster"


def _marked(folder: Path) -> Path:
    (folder / "killed").touch()  # so that nobody is
    return folder


def contents(root: Path) -> dict[str, object]:
    return {path.name: content(path) for path in sorted(root.glob("*.osc"))}


@pytest.mark.parametrize("operations", [0, 40])
def test_a_worker_killed_in_mid_ingest_loses_nothing(
    on_ray: RayExecutor, tmp_path: Path, plain: Path, operations: int
) -> None:
    embedder = KillingEmbedder(tmp_path, operations)
    root = tmp_path / "cluster"
    with osc.create_cluster(
        root, shards=4, by="tenant", embedder=embedder, executor=on_ray
    ) as cluster:
        report = cluster.ingest(ROWS, batch=60)
        assert embedder.marker.exists()
        assert report.added + report.unchanged == report.rows == 120
        assert cluster.verify().problems == ()
        with osc.connect_cluster(plain) as other:
            assert other.summaries()["vector"].equals(cluster.summaries()["vector"])
    assert contents(root) == contents(plain)
