"""Damaged files: the last whole generation with a warning, or an error; never a wrong answer."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kill_writer import rows
from state_model import QUESTIONS, open_store

import oscillink_store as osc
from oscillink_store.errors import IntegrityError, IntegrityWarning
from oscillink_store.filters import Compare
from oscillink_store.storage.manifest import manifest_path, manifests_on_disk, read_current

Truth = dict[int, tuple[pa.Table, list[Any]]]
"""What every generation answers."""


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def delete(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "zeroed": zero,
    "flipped": flip,
    "deleted": delete,
}


def answers(store: osc.Store) -> tuple[pa.Table, list[Any]]:
    found = [store.search(**question) for question in QUESTIONS]
    hits = [[(hit.id, hit.score, hit.text) for hit in hits] for hits in found]
    return store.to_arrow(), [hits, store.records(), store.record(("n",), "k1")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """A store with a past: batches, replaced and deleted rows, a maintenance, and all again."""
    root = tmp_path_factory.mktemp("damage") / "store.osc"
    with open_store(root) as store:
        for batch in (5, 8, 16):
            store.ingest(rows(batch, 1))
        store.write(put=[osc.Record(("n",), f"k{i}", i) for i in range(50)])
        store.write(delete=Compare("batch", "eq", 8) & Compare("n", "gt", 2), drop=[(("n",), "k1")])
        store.tag("early")
        store.maintain()
        store.ingest(rows(16, 2) + rows(2, 2))
        store.ingest(rows(11, 3))
        store.delete(["11-1", "5-4"])
        store.set_gates(0.5, where="n < 3")
        store.tag("late")
        store.write(rows(7, 4), put=[osc.Record(("n",), "k2", "new")], touch=[(("n",), "k3")])
        truth = {}
        for generation in manifests_on_disk(root):
            with store.snapshot(generation=generation) as pinned:
                truth[generation] = answers(pinned)
        names = read_current(root).segments
        assert {name.partition("/")[0] for name in names} == {
            "parts", "near", "lattice", "corrections", "arrivals", "dead", "moments", "facets",
            "records", "gates",
        }  # fmt: skip
    assert len(truth) >= 4
    return root, truth


@pytest.fixture
def damaged(template: tuple[Path, Truth], tmp_path: Path) -> Callable[..., Path]:
    """Copies of the store with one file damaged."""
    count = 0

    def make(name: str, how: str, *, silently: bool = False) -> Path:
        nonlocal count
        count += 1
        root = tmp_path / f"{count}.osc"
        shutil.copytree(template[0], root)
        path = root / name
        before = path.stat()
        DAMAGES[how](path)
        if silently and path.exists():
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return root

    return make


def files_of(root: Path) -> list[str]:
    return sorted(entry.path for entry in read_current(root).files())


def tree(root: Path) -> dict[str, str]:
    """The bytes of every file but those of locks and receipts."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.parent.name not in ("receipts", "pins")
        if not path.name.startswith("LOCK")
    }


def verified(store: osc.Store) -> bool:
    try:
        return store.verify().ok
    except IntegrityError:  # there is nothing to compare with
        return False


def refusal(root: Path) -> str | None:
    """Why the store cannot be opened."""
    try:
        open_store(root).close()
    except IntegrityError as error:
        return str(error)
    return None


def check_opened(root: Path, name: str, truth: Truth) -> int | None:
    """Open it, check what it answers, and give the generation; None when it is refused."""
    live = max(truth)
    before = tree(root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reason = refusal(root)
        if reason is not None:
            assert str(root / name) in reason
            assert "restore" in reason
            return None
        caught.clear()
        with open_store(root) as store:
            table, found = answers(store)
            generation = store.generation
            assert table.equals(truth[generation][0])
            assert found == truth[generation][1]
            if generation != live or name == "CURRENT":
                messages = [str(w.message) for w in caught if w.category is IntegrityWarning]
                assert len(messages) == 1
                assert str(root / name) in messages[0]
                assert "repair" in messages[0]
                assert not verified(store)
                with pytest.raises(IntegrityError, match="restore"):
                    store.ingest(rows(3, 9))
                with pytest.raises(IntegrityError, match="restore"):
                    store.delete(ids="5-1")
                with pytest.raises(IntegrityError, match="restore"):
                    store.write(put=[osc.Record((), "k", 1)])
                with pytest.raises(IntegrityError, match="restore"):
                    store.maintain()
                assert tree(root) == before
                assert answers(store)[0].equals(truth[generation][0])
            else:
                assert not [w for w in caught if w.category is IntegrityWarning]
    return generation


def check_repaired(root: Path, generation: int, truth: Truth) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IntegrityWarning)
        with open_store(root) as store:
            assert store.maintain(repair=True).repaired == generation
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_store(root) as store:
            assert answers(store) == truth[generation]
            assert store.verify().problems == ()
            before = len(store)
            store.ingest(rows(3, 9))
            assert len(store) == before + len(rows(3, 9))
            assert store.verify().problems == ()


@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_of_the_live_generation(
    template: tuple[Path, Truth], damaged: Callable[..., Path], how: str
) -> None:
    original, truth = template
    refused, fallen = [], []
    repaired = set()
    for name in files_of(original):
        root = damaged(name, how)
        generation = check_opened(root, name, truth)
        if generation is None:
            refused.append(name)
        else:
            assert generation < max(truth)
            fallen.append(name)
            kind = name.partition("/")[0], generation
            # the way out is the same, whatever happened
            if how == "flipped" and kind not in repaired:
                repaired.add(kind)
                check_repaired(root, generation, truth)
    # what the last batch wrote leaves the generation before it whole
    newest = f"segments/{max(truth):010d}/"
    assert all(name in fallen for name in files_of(original) if name.startswith(newest))
    assert len(fallen) > 8
    print(f"{how}: {len(fallen)} files fell back, {len(refused)} were refused")


@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_of_the_only_generation(tmp_path: Path, how: str) -> None:
    """There is nothing to fall back to, so the store is refused."""
    original = tmp_path / "store.osc"
    with open_store(original) as store:
        store.ingest(rows(5, 1))
    for number, name in enumerate(files_of(original)):
        root = tmp_path / f"{number}.osc"
        shutil.copytree(original, root)
        DAMAGES[how](root / name)
        assert check_opened(root, name, {1: (pa.table({}), [])}) is None


@pytest.mark.parametrize("how", DAMAGES)
def test_current_and_the_live_manifest(
    template: tuple[Path, Truth], damaged: Callable[..., Path], how: str
) -> None:
    original, truth = template
    live = max(truth)
    root = damaged("CURRENT", how)
    assert check_opened(root, "CURRENT", truth) == live
    check_repaired(root, live, truth)
    name = str(manifest_path(original, live).relative_to(original))
    root = damaged(name, how)
    generation = check_opened(root, name, truth)
    assert generation == sorted(truth)[-2]
    check_repaired(root, generation, truth)


@pytest.mark.parametrize("how", ["truncated", "zeroed", "flipped"])
def test_a_tag(template: tuple[Path, Truth], damaged: Callable[..., Path], how: str) -> None:
    _, truth = template
    root = damaged("tags/early", how)
    with open_store(root) as store:
        assert answers(store) == truth[max(truth)]
        for call in (store.tags, lambda: store.snapshot(tag="early")):
            with pytest.raises(IntegrityError, match=str(root / "tags/early")):
                call()
        kept = manifests_on_disk(root)
        for number in range(4):  # nobody knows which generation the tag is to keep
            store.ingest(rows(3, number))
        store.maintain()
        assert set(kept) <= set(manifests_on_disk(root))
        assert not store.verify().ok
        store.untag("early")
        assert store.tags().keys() == {"late"}
        assert store.verify().ok
        store.maintain()
        assert min(manifests_on_disk(root)) > min(kept)


@pytest.mark.parametrize("how", ["zeroed", "flipped"])
def test_bits_that_rot_without_a_new_time_are_found_by_a_verification(
    template: tuple[Path, Truth], damaged: Callable[..., Path], how: str
) -> None:
    original, _ = template
    for name in files_of(original):
        root = damaged(name, how, silently=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IntegrityWarning)
            reason = refusal(root)
            if reason is not None:
                assert str(root / name) in reason
                continue
            with open_store(root) as store:
                problems = store.verify().problems
                assert any(str(root / name) in problem for problem in problems), name
                before = tree(root)
                with pytest.raises(IntegrityError, match="restore"):
                    store.maintain()  # would give what is wrong a checksum of its own
                assert tree(root) == before


def test_a_copied_store_is_read_once_and_trusted_from_then_on(
    template: tuple[Path, Truth], tmp_path: Path
) -> None:
    original, truth = template
    root = tmp_path / "copy.osc"
    shutil.copytree(original, root, copy_function=shutil.copyfile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_store(root) as store:
            assert answers(store) == truth[max(truth)]
            assert store.verify().ok


def test_a_fresh_process_tells_of_the_damage(
    template: tuple[Path, Truth], damaged: Callable[..., Path]
) -> None:
    original, truth = template
    newest = [n for n in files_of(original) if n.startswith(f"segments/{max(truth):010d}/")]
    root = damaged(newest[0], "flipped")
    script = (
        "import sys, oscillink_store as osc; store = osc.connect(sys.argv[1]);"
        "print(store.generation, len(store), len(store.search('Blue House', k=3)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    before = sorted(truth)[-2]
    assert done.stdout.split() == [str(before), str(truth[before][0].num_rows), "3"]
    assert "IntegrityWarning" in done.stderr
    assert str(root / newest[0]) in done.stderr
