"""Commits: everything on the disk before the swap, and a whole store whenever one is cut off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import lance
import pytest

import oscillink_store as osc
from oscillink_store.engine.candidates import text_matches
from oscillink_store.storage.manifest import (
    manifest_path,
    manifests_on_disk,
    read_current,
    read_manifest,
)

PREVIOUS = 40


def rows(start: int, stop: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "text": f"word{i} of many words", "title": f"T{i}", "n": i}
        for i in range(start, stop)
    ]


def referenced(root: Path) -> set[str]:
    """What the live generation and the two before it consist of."""
    names: set[str] = set()
    for generation in manifests_on_disk(root)[-3:]:
        names |= {entry.path for entry in read_manifest(root, generation).files()}
        names.add(manifest_path(root, generation).relative_to(root).as_posix())
    return names


def present(root: Path) -> set[str]:
    """Every file but receipts, the lock, ``CURRENT`` and Lance's hint."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and path.parent.name != "receipts"
        and path.name not in ("CURRENT", "LOCK", "latest_version_hint.json")
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four generations, so that there are old files about."""
    path = tmp_path_factory.mktemp("commit") / "t.osc"
    with osc.connect(path, embedder="hash:16") as store:
        store.ingest(rows(0, 10))
        store.ingest(rows(10, 20))
        store.ingest(rows(20, PREVIOUS))
    return path


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "t.osc")
    return tmp_path / "t.osc"


# Ends or interrupts itself at a file operation of the commit, which Python announces to
# audit hooks before it happens: no code of the store is touched.
VICTIM = """
import os, signal, sys
import oscillink_store as osc

root, event, part, when, how = sys.argv[1:]
armed = swapped = False

def hook(name, arguments):
    global armed, swapped
    if not armed or name not in (event, "os.rename"):
        return
    path = os.path.abspath(os.fsdecode(str(arguments[0])))
    if name == event and part in path and swapped == (when == "after the swap"):
        armed = False
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt
    swapped = swapped or (name == "os.rename" and path.endswith("/.CURRENT.tmp"))

def progress(stage, done, total):
    global armed
    armed = armed or stage == "read"  # the next is the commit, which works out the lattice

def look(store):
    with osc.connect(root, read_only=True) as reader:
        for seen in (store, reader):
            found = [len(seen.search(text, where=f"text = '{text}'"))
                     for text in ("replaced", "later")]
            print(seen.generation, len(seen), len(seen.to_arrow()), *found)
    print(store.verify().problems)

sys.addaudithook(hook)
with osc.connect(root) as store:
    rows = [{"id": f"r{i}", "text": f"word{i} of many words", "title": f"T{i}", "n": i}
            for i in range(5, 305)]
    rows[0]["text"] = "replaced"
    try:
        store.ingest(rows, progress=progress)
    except KeyboardInterrupt:
        look(store)
        store.ingest([{"id": "later", "text": "later", "n": 0}])
        look(store)
"""


def victim(
    folder: Path, moment: tuple[str, str, str], how: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VICTIM, str(folder), *moment, how],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


BEFORE, AFTER = "before the swap", "after the swap"
MOMENTS = {
    "before anything is written": ("os.scandir", "/manifests", BEFORE),
    "after the rows, before the segments": ("open", "/segments/0000000004/", BEFORE),
    "among the segments": ("open", "/segments/0000000004/moments", BEFORE),
    "before the manifest": ("open", "/manifests/.0000000004.json.tmp", BEFORE),
    "before the receipt": ("open", "/receipts/", BEFORE),
    "before the swap": ("os.rename", "/.CURRENT.tmp", BEFORE),
    "before the swap is on the disk": ("open", "/t.osc", AFTER),
    "before old files go": ("os.remove", "/manifests/0000000001.json", AFTER),
    "while old folders go": ("os.rmdir", "/segments/0000000001", AFTER),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_writer_leaves_one_generation_or_the_other(folder: Path, moment: str) -> None:
    done = victim(folder, MOMENTS[moment], "kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    generation = 3 if MOMENTS[moment][2] == BEFORE else 4
    with osc.connect(folder, read_only=True) as store:
        assert store.generation == generation
        assert len(store) == (PREVIOUS if generation == 3 else 305)
        assert store.verify().problems == ()
        assert store.search("word7", k=1).ids == ["r7"]
        ids = store.to_arrow(["id"])["id"].to_pylist()
        assert len(set(ids)) == len(ids) == len(store)
    with osc.connect(folder) as store:
        report = store.ingest(rows(500, 510))
        assert report.generation in (generation + 1, generation + 2)
        assert report.added == 10
        assert store.verify().problems == ()
        assert store.search("word505", k=1).ids == ["r505"]
        assert len(store) == (PREVIOUS if generation == 3 else 305) + 10
    # nothing that the crash left is there any more
    assert present(folder) == referenced(folder)


@pytest.mark.parametrize("delay", [0.004, 0.016, 0.064])
def test_a_writer_killed_at_any_time(folder: Path, delay: float) -> None:
    script = """
        import sys, time
        import oscillink_store as osc
        def progress(stage, done, total):
            if stage == "next":  # the first relation, beside which rows are written
                print(stage, flush=True)
        with osc.connect(sys.argv[1]) as store:
            rows = [{"id": f"x{i}", "text": f"more {i} " * 20} for i in range(2000)]
            store.ingest(rows, progress=progress)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"next\n"
        signal.sigtimedwait([], delay)
        child.kill()
    with osc.connect(folder) as store:
        assert (store.generation, len(store)) in ((3, PREVIOUS), (4, PREVIOUS + 2000))
        assert store.verify().problems == ()
        generation = store.generation
        assert store.ingest(rows(500, 510)).generation in (generation + 1, generation + 2)
        assert store.verify().problems == ()
    assert present(folder) == referenced(folder)


@pytest.mark.parametrize(
    "moment",
    ["among the segments", "before the swap", "before the swap is on the disk"],
)
def test_an_interrupt_leaves_one_generation_or_the_other(folder: Path, moment: str) -> None:
    """Also for the process that goes on, which then writes the same versions once more."""
    done = victim(folder, MOMENTS[moment], "interrupt")
    assert done.returncode == 0, done.stderr
    *interrupted, problems, again, also, still = done.stdout.splitlines()
    if MOMENTS[moment][2] == BEFORE:
        assert interrupted == [f"3 {PREVIOUS} {PREVIOUS} 0 0"] * 2
        # a receipt may name the number of the commit that was interrupted last of all
        number = 5 if moment == "before the swap" else 4
        assert again == also == f"{number} {PREVIOUS + 1} {PREVIOUS + 1} 0 1"
    else:
        assert interrupted == ["4 305 305 1 0"] * 2
        assert again == also == "5 306 306 1 1"
    assert problems == still == "()"
    assert present(folder) == referenced(folder)


def test_everything_is_on_the_disk_before_the_swap(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        log.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(folder)))
        fsync(handle)

    def watched_replace(source: Any, target: Any) -> None:
        log.append(f"-> {Path(target).relative_to(folder)}")
        replace(source, target)

    with osc.connect(folder) as store:
        known = {entry.path for entry in read_current(folder).files()}
        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        store.ingest(rows(100, 130))
        monkeypatch.undo()
    swap = log.index("-> CURRENT")
    early, late = set(log[:swap]), log[swap + 1 :]
    fresh = {entry.path for entry in read_current(folder).files()} - known
    assert {Path(path).parts[0] for path in fresh} == {
        "anchors.lance", "corrections.lance", "segments"
    }  # fmt: skip
    assert {Path(path).suffix for path in fresh} >= {".lance", ".manifest", ".arrays", ".arrow"}
    assert fresh <= early
    for path in fresh:
        assert {str(parent) for parent in Path(path).parents} <= early, path
    assert ".CURRENT.tmp" in early
    assert "manifests" in log[log.index("-> manifests/0000000004.json") : swap]
    assert "." in late


def test_deleted_rows_keep_their_files_until_nobody_needs_them(folder: Path) -> None:
    with osc.connect(folder) as store:
        with osc.connect(folder, read_only=True) as reader:
            pinned = reader.current()
            store.ingest([row | {"text": "replaced"} for row in rows(0, 15)])
            # the generation before the live one still reads, from nothing loaded
            assert pinned.anchors.read(["n"])["n"].to_pylist() == list(range(PREVIOUS))
            assert pinned.rows["n"].to_pylist() == list(range(PREVIOUS))
            assert text_matches(pinned, "word3", 5, None).rows.tolist() == [3]
        assert any("_deletions" in path for path in present(folder))
        assert store.verify().problems == ()
        table = lance.dataset(str(folder / "anchors.lance"))
        assert table.count_rows() == PREVIOUS
    assert present(folder) == referenced(folder)


def test_what_another_program_wrote_on_top_is_not_taken_over(folder: Path) -> None:
    table = lance.dataset(str(folder / "anchors.lance"))
    lance.write_dataset(table.to_table(limit=3), str(folder / "anchors.lance"), mode="append")
    with osc.connect(folder) as store:
        assert len(store.to_arrow()) == len(store) == PREVIOUS
        store.ingest(rows(100, 101))
        assert len(store.to_arrow()) == len(store) == PREVIOUS + 1
        assert store.verify().problems == ()
