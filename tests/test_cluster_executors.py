"""Executors: the same content whatever runs the tasks, and workers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster_rows import KillingEmbedder, tenant_rows, with_vectors
from store_content import content

import oscillink_store as osc
from oscillink_store.cluster.executors import ProcessExecutor, SerialExecutor
from oscillink_store.errors import InputError, WorkerError

# an exception that a pool's own thread ended with is an error
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


def contents(root: Path) -> dict[str, object]:
    return {path.name: content(path) for path in sorted(root.glob("*.osc"))}


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path) -> str:
    try:
        marker.open("x").close()
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def refuse() -> None:
    raise InputError("row 3: 'x' is odd", field="x", row=3)


# executors


def test_serial_runs_at_once_and_keeps_errors() -> None:
    with SerialExecutor() as executor:
        assert executor.submit(max, 1, 2).result() == 2
        failed = executor.submit(refuse)
        assert failed.done()
        with pytest.raises(InputError, match="is odd"):
            failed.result()


def test_processes_run_elsewhere_and_errors_come_back_whole(processes: ProcessExecutor) -> None:
    pids = {processes.submit(pid_after, 0.01).result() for _ in range(4)}
    assert os.getpid() not in pids
    with pytest.raises(InputError, match="is odd") as caught:
        processes.submit(refuse).result()
    assert (caught.value.field, caught.value.row) == ("x", 3)


def test_a_task_whose_worker_is_killed_runs_again(
    processes: ProcessExecutor, tmp_path: Path
) -> None:
    others = [processes.submit(pid_after, 0.2) for _ in range(2)]
    lost = processes.submit(die_once, tmp_path / "marker")
    others += [processes.submit(pid_after, 0.05) for _ in range(4)]
    unwanted = processes.submit(pid_after, 600)
    others.append(processes.submit(pid_after, 0))
    assert unwanted.cancel()  # and those behind it are not lost with it
    assert lost.result(30) == "done"
    assert all(other.result(30) for other in others)


def test_a_task_that_kills_every_worker_is_given_up(processes: ProcessExecutor) -> None:
    with pytest.raises(WorkerError, match="was killed"):
        processes.submit(die).result(30)
    assert processes.submit(max, 1, 2).result(30) == 2  # and others go on


def test_shutdown_waits_for_tasks_but_not_for_those_given_up() -> None:
    executor = ProcessExecutor(2)
    hung = executor.submit(pid_after, 600)
    wanted = executor.submit(pid_after, 0.5)
    waiting = [executor.submit(pid_after, 600) for _ in range(8)]
    while not wanted.done():
        time.sleep(0.05)
    assert not hung.cancel()
    assert [task.cancel() for task in reversed(waiting)].count(True) >= 7  # all that have not begun
    started = time.perf_counter()
    executor.shutdown()
    assert time.perf_counter() - started < 20
    assert wanted.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(max, 1, 2)


WORKERS = """
import sys, time
sys.path[:0] = {path!r}
from test_cluster_executors import pid_after
from oscillink_store.cluster.executors import ProcessExecutor
if __name__ == "__main__":
    executor = ProcessExecutor(1)
    print(executor.submit(pid_after, 0).result(), flush=True)
    executor.submit(pid_after, 600)
    time.sleep(600)
"""


def test_a_task_that_was_given_up_does_not_keep_the_process(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import time
from oscillink_store.cluster.executors import ProcessExecutor

if __name__ == "__main__":
    executor = ProcessExecutor(1)
    executor.submit(time.time).result()
    task = executor.submit(time.sleep, 60)
    while not task.running():
        time.sleep(0.01)
    assert not task.cancel()
""")
    subprocess.run([sys.executable, program], check=True, timeout=30)


def test_workers_end_with_the_process_that_made_them(tmp_path: Path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(WORKERS.format(path=[str(Path(__file__).parent)]))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlived its parent")


# clusters on them


def test_every_executor_fills_the_shards_alike(processes: ProcessExecutor, tmp_path: Path) -> None:
    rows = tenant_rows(120)
    found = []
    with ThreadPoolExecutor(3) as threads:
        for number, executor in enumerate(("serial", threads, processes)):
            root = tmp_path / str(number)
            with osc.create_cluster(
                root, shards=5, by="tenant", embedder="hash:64", executor=executor
            ) as cluster:
                report = cluster.ingest(rows[:70], batch=50)
                report = cluster.ingest(rows, batch=50)
                assert (report.added, report.unchanged) == (50, 70)
                assert cluster.verify().ok
                found.append((contents(root), cluster.summaries()))
    for other in found[1:]:
        assert other == found[0]


@pytest.mark.parametrize("operations", [40, pytest.param(0, marks=pytest.mark.slow)])
def test_a_worker_killed_in_mid_ingest_loses_nothing(
    processes: ProcessExecutor, tmp_path: Path, operations: int
) -> None:
    rows = tenant_rows(120)
    embedder = KillingEmbedder(tmp_path, operations)
    with osc.create_cluster(
        tmp_path / "cluster", shards=4, by="tenant", embedder=embedder, executor=processes
    ) as cluster:
        report = cluster.ingest(rows, batch=60)
        assert embedder.marker.exists()
        assert report.added + report.unchanged == report.rows == 120
        assert sum(report.anchors.values()) == 120
        assert cluster.verify().problems == ()
    # what was written is what a cluster holds of which no worker was killed
    with osc.create_cluster(tmp_path / "other", shards=4, by="tenant", embedder=embedder) as other:
        other.ingest(rows, batch=60)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "other")


def test_an_ingest_whose_workers_are_always_killed_can_go_on(
    processes: ProcessExecutor, tmp_path: Path
) -> None:
    rows = tenant_rows(60)
    root = tmp_path / "cluster"
    deadly = KillingEmbedder(tmp_path, always=True)
    with osc.create_cluster(
        root, shards=3, by="tenant", embedder=deadly, executor=processes
    ) as cluster:
        cluster.ingest(with_vectors(rows[:20]))  # embeds nothing
        with pytest.raises(WorkerError, match="was killed"):
            cluster.ingest(rows)
        assert cluster.verify().ok
    healthy = KillingEmbedder(tmp_path)
    with osc.connect_cluster(root, embedder=healthy, executor=processes) as cluster:
        report = cluster.ingest(rows)
        assert report.added == 40
        assert len(cluster) == 60
        assert cluster.verify().ok


def test_an_embedder_that_cannot_travel_is_told_of(
    processes: ProcessExecutor, tmp_path: Path
) -> None:
    with osc.create_cluster(
        tmp_path / "cluster", by="tenant", embedder=lambda texts: texts, executor=processes
    ) as cluster, pytest.raises(Exception, match="pickle"):  # fmt: skip
        cluster.ingest(tenant_rows(5))
