"""Mirrors: a store goes to a file system of Arrow and comes back whole, file by missing file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_rows import tenant_rows, with_vectors
from store_content import content

import oscillink_store as osc
from oscillink_store.errors import (
    DiskError,
    IntegrityError,
    NotAStoreError,
    QueryError,
)
from oscillink_store.storage.manifest import manifests_on_disk, read_current, read_manifest
from oscillink_store.storage.mirror import local_copy, pull, push

ROWS = with_vectors(tenant_rows(60))


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    return (tmp_path / "mirror" / "notes.osc").as_uri()


@pytest.fixture
def notes(make_store: Callable[..., osc.Store]) -> osc.Store:
    store = make_store("notes.osc", embedder=None)
    store.ingest(ROWS[:40])
    return store


def test_what_is_pulled_is_what_was_pushed(notes: osc.Store, mirror: str, tmp_path: Path) -> None:
    notes.search(vector=ROWS[0]["vector"])
    pushed = push(notes.path, mirror)
    copy = tmp_path / "copy.osc"
    pulled = pull(mirror, copy)
    files = read_current(notes.path).files()
    assert pushed == pulled
    assert (pulled.files, pulled.bytes) == (len(files), sum(entry.bytes for entry in files))
    assert content(copy) == content(notes.path)
    with osc.connect(copy, read_only=True) as store:
        assert store.verify().problems == ()
        assert store.receipts().num_rows == notes.receipts().num_rows >= 2
        found = store.search(vector=ROWS[3]["vector"], k=5)
        here = notes.search(vector=ROWS[3]["vector"], k=5)
        assert found.receipt.content == here.receipt.content


def test_only_what_is_missing_is_copied(notes: osc.Store, mirror: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.osc"
    push(notes.path, mirror)
    pull(mirror, copy)
    before = {entry.path for entry in read_current(notes.path).files()}
    assert push(notes.path, mirror).files == pull(mirror, copy).files == 0
    notes.ingest(ROWS)
    after = {entry.path for entry in read_current(notes.path).files()}
    pushed = push(notes.path, mirror)
    assert pushed.files == len(after - before) < len(after)
    pulled = pull(mirror, copy)
    assert pulled == pushed
    assert content(copy) == content(notes.path)


def test_older_generations_leave_the_mirror(notes: osc.Store, mirror: str, tmp_path: Path) -> None:
    root = tmp_path / "mirror" / "notes.osc"
    (root / "segments").mkdir(parents=True)
    (root / "segments" / "foreign").write_text("stays")
    generations = []
    for count in (45, 50, 55, 60):
        push(notes.path, mirror)
        generations.append(notes.generation)
        notes.ingest(ROWS[:count])
        notes.maintain()
    push(notes.path, mirror)
    assert manifests_on_disk(root) == [generations[-1], notes.generation]
    expected = {"segments/foreign", "CURRENT"}
    expected |= {f"receipts/{path.name}" for path in (notes.path / "receipts").iterdir()}
    for generation in manifests_on_disk(root):
        expected.add(f"manifests/{generation:010d}.json")
        expected |= {entry.path for entry in read_manifest(root, generation).files()}
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert there == expected
    with osc.connect(root, read_only=True) as store:
        assert store.verify().problems == ()


def test_a_push_that_stops_leaves_the_mirror_as_it_was(
    notes: osc.Store, mirror: str, tmp_path: Path
) -> None:
    push(notes.path, mirror)
    before = content(notes.path)
    notes.ingest(ROWS)
    damaged = notes.path / sorted(read_current(notes.path).segments.values(),
                                  key=lambda entry: entry.path)[-1].path  # fmt: skip
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=damaged.name):
        push(notes.path, mirror)
    pull(mirror, tmp_path / "copy.osc")
    assert content(tmp_path / "copy.osc") == before
    damaged.write_bytes(whole)
    push(notes.path, mirror)
    pull(mirror, tmp_path / "copy.osc")
    assert content(tmp_path / "copy.osc") == content(notes.path)


@pytest.mark.parametrize("name", ["segments", "manifests", "CURRENT"])
@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_mirror_is_named_and_mended(
    notes: osc.Store, mirror: str, tmp_path: Path, name: str, damage: str
) -> None:
    push(notes.path, mirror)
    root = tmp_path / "mirror" / "notes.osc"
    victim = root / name
    if victim.is_dir():
        # a generation's first manifest may be that of an empty store
        victim = max(path for path in victim.rglob("*") if path.is_file())
    content_ = bytearray(victim.read_bytes())
    content_[len(content_) // 2] ^= 1
    if damage == "flip":
        victim.write_bytes(content_)
    else:
        victim.unlink()
    expected = NotAStoreError if (name, damage) == ("CURRENT", "gone") else IntegrityError
    copy = tmp_path / "copy.osc"
    with pytest.raises(expected, match="push"):
        pull(mirror, copy)
    assert not (copy / "CURRENT").exists()
    if (name, damage) == ("segments", "flip"):
        victim.unlink()  # as the message says
    push(notes.path, mirror)
    pull(mirror, copy)
    assert content(copy) == content(notes.path)


def test_a_damaged_copy_is_not_taken_for_whole(
    notes: osc.Store, mirror: str, tmp_path: Path
) -> None:
    push(notes.path, mirror)
    cache = tmp_path / "cache"
    copy = local_copy(mirror, str(cache))
    assert copy.parent == cache
    assert local_copy(str(notes.path), str(cache)) == notes.path
    notes.ingest(ROWS)
    push(notes.path, mirror)
    victim = next(path for path in (copy / "segments").rglob("*.arrays"))
    os.truncate(victim, 10)
    assert local_copy(mirror, str(cache)) == copy
    assert content(copy) == content(notes.path)
    next(path for path in (copy / "segments").rglob("*.arrays")).unlink()
    assert local_copy(mirror, str(cache)) == copy
    assert content(copy) == content(notes.path)


def test_places_that_cannot_be_used(notes: osc.Store, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="nosuch://bucket"):
        push(notes.path, "nosuch://bucket/store")
    with pytest.raises(QueryError) as caught:
        push(notes.path, "nosuch://user:secret@bucket/store")
    assert "secret" not in str(caught.value)
    with pytest.raises(NotAStoreError, match="holds no store"):
        pull((tmp_path / "nothing").as_uri(), tmp_path / "copy.osc")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DiskError, match="pushing a store failed"):
        push(notes.path, (tmp_path / "file" / "store").as_uri())
    with pytest.raises(NotAStoreError):
        push(tmp_path / "nothing", (tmp_path / "mirror").as_uri())
