"""Trust: files are read whole only when size or time say that they need be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oscillink_store as osc
from oscillink_store.errors import FormatError, IntegrityError, IntegrityWarning
from oscillink_store.storage import trust
from oscillink_store.storage.manifest import FileEntry, manifest_path, read_current
from oscillink_store.storage.trust import damage, require_trusted, require_whole


@pytest.fixture
def store(tmp_path: Path) -> Iterator[osc.Store]:
    with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
        store.ingest([{"id": f"r{i}", "text": f"word{i} of many", "n": i} for i in range(12)])
        store.ingest([{"id": f"s{i}", "text": f"word{i} of more", "n": i} for i in range(4)])
        yield store


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to compare their checksums."""
    names: list[str] = []
    plain = trust.sha256

    def watched(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(trust, "sha256", watched)
    return names


def times(root: Path) -> dict[str, int]:
    return {
        entry.path: (root / entry.path).stat().st_mtime_ns for entry in read_current(root).files()
    }


def test_files_are_compared_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    entry = FileEntry.of(tmp_path, path)
    assert entry.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert damage(tmp_path, entry) is None
    require_whole(tmp_path, [entry, entry])
    for change, words in (
        (lambda: path.write_bytes(b"abd"), "checksum differs"),
        (lambda: path.write_bytes(b"ab"), "2 bytes where 3"),
        (path.unlink, "is missing"),
        (path.mkdir, "bytes where|cannot be read"),
    ):
        change()
        for require in (require_whole, require_trusted):
            with pytest.raises(IntegrityError, match=f"file.*(?:{words}).*: restore"):
                require(tmp_path, [entry])


def test_a_file_with_its_size_and_time_is_not_read(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    entry = FileEntry.of(tmp_path, path)
    require_trusted(tmp_path, [entry])
    assert read == []
    os.utime(path, ns=(0, entry.modified + 1))
    require_trusted(tmp_path, [entry])
    assert read == ["file"]
    assert path.stat().st_mtime_ns == entry.modified  # given back
    require_trusted(tmp_path, [entry])
    assert read == ["file"]


def test_other_bytes_of_the_same_size_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    entry = FileEntry.of(tmp_path, path)
    os.utime(path, ns=(0, entry.modified + 1))
    require_trusted(tmp_path, [entry])  # whole, and known to be
    path.write_bytes(b"abd")
    os.utime(path, ns=(0, entry.modified + 2))
    with pytest.raises(IntegrityError, match="checksum differs"):
        require_trusted(tmp_path, [entry])


def test_an_untouched_store_is_not_read(store: osc.Store, read: list[str]) -> None:
    before = read_current(store.path)
    with osc.connect(store.path, read_only=True) as reader:
        reader.search("word3", where="n < 5")
        assert reader.to_arrow().num_rows == 16
    assert read == []
    store.ingest([{"id": "new", "text": "x", "n": 1}])  # of old files, what goes into new ones
    assert set(read) <= {Path(entry.path).name for entry in before.segments.values()}


def test_a_copied_folder_opens_without_a_word(
    store: osc.Store, tmp_path: Path, read: list[str]
) -> None:
    copy = tmp_path / "copy.osc"
    shutil.copytree(store.path, copy, copy_function=shutil.copyfile)  # with new times
    written = {entry.path: entry.modified for entry in read_current(store.path).files()}
    assert all(time != written[path] for path, time in times(copy).items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with osc.connect(copy) as opened:
            assert opened.search("word3", k=5).hits == store.search("word3", k=5).hits
            assert opened.to_arrow(where="n < 5") == store.to_arrow(where="n < 5")
            assert opened.ingest([{"id": "new", "text": "x", "n": 1}]).added == 1
            assert opened.verify().ok
    assert {path: (copy / path).stat().st_mtime_ns for path in written} == written
    assert {Path(path).name for path in written} <= set(read)
    read.clear()
    with osc.connect(copy, read_only=True) as again:
        assert len(again) == 17
    assert read == []


def test_a_damaged_copy_is_noticed(store: osc.Store, tmp_path: Path) -> None:
    """A bit that flipped while the folder was copied, in each file in turn."""
    for place, entry in enumerate(read_current(store.path).files()):
        copy = tmp_path / f"copy{place}.osc"
        shutil.copytree(store.path, copy, copy_function=shutil.copyfile)
        content = bytearray((copy / entry.path).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / entry.path).write_bytes(content)
        name = Path(entry.path).name
        with warnings.catch_warnings():
            warnings.simplefilter("error", IntegrityWarning)
            with pytest.raises(
                (IntegrityError, IntegrityWarning), match=rf"{name} is not what was written"
            ):
                osc.connect(copy, read_only=True)


def test_a_folder_that_cannot_be_written_opens(
    store: osc.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.osc"
    shutil.copytree(store.path, copy, copy_function=shutil.copyfile)
    before = times(copy)

    def refused(*_: Any, **__: Any) -> None:  # what a read-only file system says
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refused)
    for _ in range(2):
        with osc.connect(copy, read_only=True) as opened:
            assert opened.search("word3", k=5).hits == store.search("word3", k=5).hits
    assert times(copy) == before


def test_format_version_1_is_refused(store: osc.Store) -> None:
    path = manifest_path(store.path, 2)
    raw = json.loads(path.read_text())
    del raw["checksum"]
    raw["format_version"] = 1
    content = json.dumps(raw).encode()
    path.write_bytes(content)
    pointer = {"manifest": path.relative_to(store.path).as_posix(),
               "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip
    (store.path / "CURRENT").write_text(json.dumps(pointer) + "\n")
    before = (store.path / "CURRENT").read_bytes()
    for read_only in (True, False):
        with pytest.raises(FormatError, match=r"format version 1, .*ingest its texts into a new"):
            osc.connect(store.path, read_only=read_only)
    assert (store.path / "CURRENT").read_bytes() == before
