"""A disk that fills up anywhere in a write: the old generation stays, and the next write works."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from kill_writer import rows
from state_model import open_store

import oscillink_store as osc
from oscillink_store.errors import DiskError

Step = Callable[[osc.Store], object]

STEPS: dict[str, Step] = {
    "ingest": lambda store: store.ingest(rows(18, 2) + rows(5, 2)),
    "delete": lambda store: store.delete(where="n > 3"),
    "write": lambda store: store.write(
        rows(18, 3), put=[osc.Record((), f"k{i}", "x" * 100) for i in range(200)]
    ),
    "records": lambda store: store.write(
        put=[osc.Record((), f"k{i}", "x" * 100) for i in range(200)]
    ),
    "maintain": lambda store: store.maintain(),
    "tag": lambda store: store.tag("full"),
}


def fill(root: Path) -> None:
    with open_store(root) as store:
        for batch in (5, 8, 16):
            store.ingest(rows(batch, 1))
        store.delete(["5-1", "16-0"])


def check_unchanged(root: Path, before: tuple[int, pa.Table]) -> None:
    """As another process sees it, which writes nothing."""
    with osc.connect(root, read_only=True) as store:
        assert store.verify().problems == ()
        assert store.generation == before[0]
        assert store.to_arrow().equals(before[1])
        assert len(store.search("Blue House", vector=[1, 0, 0], k=5)) == 5


def fails(root: Path, step: Step, limits: AbstractContextManager[None]) -> bool:
    """Whether a write fails for want of space, which then changes nothing."""
    problem = None
    with open_store(root) as store:
        before = store.generation, store.to_arrow()
        with limits:
            try:
                step(store)
            except DiskError as error:
                problem = str(error)
        if problem is not None:
            assert "free some space" in problem
            assert store.to_arrow().equals(before[1])
            assert store.tags() == {}
            check_unchanged(root, before)
    return problem is not None


def check_next(root: Path, step: Step) -> None:
    """There is space again."""
    with open_store(root) as store:
        step(store)
        assert store.verify().problems == ()
        before = len(store)
        store.ingest(rows(3, 1))
        assert len(store) == before + len(rows(3, 1))
        assert store.verify().problems == ()


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def free(folder: Path) -> int:
    """How many bytes fit on it."""
    done = subprocess.run(
        ["stat", "-f", "-c", "%a %S", str(folder)], capture_output=True, text=True, check=True
    )
    blocks, size = map(int, done.stdout.split())
    return blocks * size


@pytest.mark.parametrize("name", STEPS)
def test_a_small_file_system(tmp_path: Path, name: str) -> None:
    """With room for a few pages more each time, until the write succeeds."""
    with mounted(tmp_path / "small", "8m") as disk:
        root, ballast = disk / "store.osc", disk / "ballast"
        fill(root)

        @contextmanager
        def full(room: int) -> Iterator[None]:
            ballast.write_bytes(bytes(max(free(disk) - room, 0)))
            try:
                yield
            finally:
                ballast.unlink()

        failures = 0
        for room in range(0, 1 << 20, 3 * 4096):
            if not fails(root, STEPS[name], full(room)):
                break
            failures += 1
        assert failures >= (1 if name == "tag" else 4)
        check_next(root, STEPS[name])


def limit_file_sizes(root: Path, name: str, step: int) -> None:
    """Files may not grow beyond more and more bytes, until the write succeeds."""
    fill(root)
    failures = 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def limited(room: int) -> Iterator[None]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    for room in range(0, 1 << 20, step):
        if not fails(root, STEPS[name], limited(room)):
            break
        failures += 1
    assert failures >= (1 if name == "tag" else 3)
    check_next(root, STEPS[name])


@pytest.mark.parametrize("step", [2048, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STEPS)
def test_files_that_may_not_grow(tmp_path: Path, name: str, step: int) -> None:
    """The same wherever nothing may be mounted; in a process of its own, whose limits go."""
    script = "from test_disk_full import *; limit_file_sizes(Path({!r}), {!r}, {!r})"
    done = subprocess.run(
        [sys.executable, "-c", script.format(str(tmp_path / "store.osc"), name, step)],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
