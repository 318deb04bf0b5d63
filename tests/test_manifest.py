"""The manifest and ``CURRENT``: what is written, what is refused, and what a swap leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import oscillink_store as osc
from oscillink_store.engine.opening import new_manifest
from oscillink_store.errors import (
    FormatError,
    IntegrityError,
    IntegrityWarning,
    MissingError,
    NotAStoreError,
)
from oscillink_store.storage.files import replace_durably, replacing
from oscillink_store.storage.manifest import (
    FORMAT_VERSION,
    FileEntry,
    Manifest,
    TableEntry,
    manifest_path,
    publish,
    read_current,
    read_manifest,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "t.osc"
    with osc.connect(path, embedder="hash:16") as store:
        store.ingest([{"id": f"r{i}", "text": f"word{i} of many", "n": i} for i in range(8)])
    return path


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A store of one generation."""
    shutil.copytree(template, tmp_path / "t.osc")
    return tmp_path / "t.osc"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the live manifest as a newer release might have written it, checksums included."""
    path = manifest_path(folder, read_current(folder).generation)
    raw = json.loads(path.read_text())
    del raw["checksum"]
    change(raw)
    own = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
    content = json.dumps(raw | {"checksum": own}).encode()
    path.write_bytes(content)
    pointer = {
        "manifest": path.relative_to(folder).as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "CURRENT").write_text(json.dumps(pointer) + "\n")


class TestFormat:
    def test_a_newer_format_is_refused(self, folder: Path) -> None:
        edit(folder, lambda raw: raw.update(format_version=FORMAT_VERSION + 1))
        with pytest.raises(FormatError, match=r"format version 4.*upgrade") as caught:
            osc.connect(folder)
        assert isinstance(caught.value, ValueError)
        with pytest.raises(FormatError, match="upgrade"):
            osc.connect(folder, read_only=True)

    def test_a_newer_format_of_another_shape_is_refused_alike(self, folder: Path) -> None:
        def change(raw: dict[str, Any]) -> None:
            raw.clear()
            raw.update(format_version=9, shards=[])

        edit(folder, change)
        with pytest.raises(FormatError, match="format version 9"):
            osc.connect(folder)

    def test_a_feature_that_must_be_understood_is_refused(self, folder: Path) -> None:
        edit(folder, lambda raw: raw["features"].update(tints=True, colours=False))
        with pytest.raises(FormatError, match=r"uses tints, which.*upgrade"):
            osc.connect(folder)

    def test_a_feature_that_need_not_be_understood_is_kept(self, folder: Path) -> None:
        edit(folder, lambda raw: raw["features"].update(colours=False))
        with osc.connect(folder) as store:
            assert store.search("word3", k=1).ids == ["r3"]
            store.ingest([{"id": "new", "text": "x", "n": 9}])
        assert read_current(folder).features == {"colours": False}

    @pytest.mark.parametrize(
        "change",
        [
            lambda raw: raw.pop("tables"),
            lambda raw: raw.update(more=1),
            lambda raw: raw.update(format_version="1"),
            lambda raw: raw.update(features=[]),
            lambda raw: raw["segments"].update(rows={"path": "x"}),
        ],
    )
    def test_what_is_no_manifest(self, folder: Path, change: Any) -> None:
        edit(folder, change)
        with pytest.raises((IntegrityError, FormatError), match=r"0000000001\.json"):
            read_current(folder)


class TestDamage:
    def test_any_flipped_byte_of_the_manifest(self, folder: Path) -> None:
        path = manifest_path(folder, 1)
        whole = path.read_bytes()
        for place in range(0, len(whole), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            # the generation before it has no anchors, which would be a wrong answer
            with pytest.raises(IntegrityError, match=r"0000000001\.json is not what was written"):
                osc.connect(folder)
        path.write_bytes(whole)
        osc.connect(folder).close()

    def test_the_generation_before_is_read(self, folder: Path) -> None:
        with osc.connect(folder) as store:
            store.ingest([{"id": "new", "text": "x", "n": 9}])
        path = manifest_path(folder, 2)
        whole = path.read_bytes()
        for content in (whole[:-2], whole[:90] + b"x" + whole[91:], b"", b"{}"):
            path.write_bytes(content)
            with (
                pytest.warns(IntegrityWarning, match=r"0000000002\.json is not.*generation 1 "),
                osc.connect(folder) as store,
            ):
                assert (store.generation, len(store)) == (1, 8)
        path.unlink()
        with (
            pytest.warns(IntegrityWarning, match=r"0000000002\.json.* is missing.*generation 1 "),
            osc.connect(folder) as store,
        ):
            assert (store.generation, len(store)) == (1, 8)

    def test_any_flipped_byte_is_noticed_without_current(self, folder: Path) -> None:
        path = manifest_path(folder, 1)
        whole = path.read_bytes()
        for place in range(0, len(whole), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises((IntegrityError, FormatError), match=r"0000000001\.json"):
                read_manifest(folder, 1)
        path.write_bytes(whole)
        assert read_manifest(folder, 1) == read_current(folder)

    def test_any_flipped_byte_of_current(self, folder: Path) -> None:
        path = folder / "CURRENT"
        whole = path.read_bytes()
        for place in range(len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
            with pytest.raises(IntegrityError, match="restore the folder from a backup"):
                read_current(folder)

    @pytest.mark.parametrize(
        "content",
        [
            b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"{}", b'{"manifest": 1, "sha256": 2}',
            b'{"manifest": "/etc/passwd", "sha256": ""}',
            b'{"manifest": "manifests/../CURRENT", "sha256": ""}',
            b'{"manifest": "a\\u0000b", "sha256": ""}', b'{"manifest": "", "sha256": ""}',
        ],
    )  # fmt: skip
    def test_a_current_that_makes_no_sense(self, folder: Path, content: bytes) -> None:
        (folder / "CURRENT").write_bytes(content)
        with pytest.raises(IntegrityError, match="CURRENT is damaged: restore"):
            read_current(folder)
        with (
            pytest.warns(IntegrityWarning, match="CURRENT is damaged.*generation 1 "),
            osc.connect(folder, read_only=True) as store,
        ):
            assert store.search("word3", k=1).ids == ["r3"]

    def test_a_missing_manifest(self, folder: Path) -> None:
        manifest_path(folder, 1).unlink()
        with pytest.raises(IntegrityError, match=r"0000000001\.json.* is missing: restore"):
            read_current(folder)
        with pytest.raises(IntegrityError, match=r"0000000001\.json.* is missing: restore"):
            osc.connect(folder)

    def test_a_missing_current(self, folder: Path) -> None:
        (folder / "CURRENT").unlink()
        with pytest.raises(IntegrityError, match="CURRENT is missing: restore the folder"):
            read_current(folder)
        with pytest.warns(IntegrityWarning, match="CURRENT is missing.*generation 1 "):
            store = osc.connect(folder, read_only=True)
        with store:
            assert store.search("word3", k=1).ids == ["r3"]
        with pytest.warns(IntegrityWarning, match="CURRENT is missing.*generation 1 "):
            store = osc.connect(folder)
        with store:
            assert store.maintain(repair=True).repaired == 1
        assert read_current(folder).statistics["anchors"] == 8
        (folder / "CURRENT").unlink()
        shutil.rmtree(folder / "manifests")
        with pytest.raises(NotAStoreError, match="no CURRENT"):
            read_current(folder)

    def test_a_missing_current_of_a_creation_that_was_cut_off(self, tmp_path: Path) -> None:
        osc.connect(tmp_path / "t.osc").close()
        (tmp_path / "t.osc" / "CURRENT").unlink()
        with pytest.raises(NotAStoreError, match="no CURRENT"):
            read_current(tmp_path / "t.osc")
        with osc.connect(tmp_path / "t.osc") as store:
            assert len(store) == 0


def example(generation: int) -> Manifest:
    entry = FileEntry(path="anchors.lance/data/x", bytes=7, sha256="ab", modified=5)
    return replace(
        new_manifest(osc.Fields(sequence=("a", "b"), facets=["c"]), osc.Parameters(sources=2)),
        generation=generation,
        parent=generation - 1 if generation else None,
        tables={"anchors": TableEntry(version=3, rows=5, files=(entry, entry))},
        segments={"rows": replace(entry, path="segments/rows")},
        features={"f": False},
        embedder={"name": "Größe", "dimension": 3},
    )


class TestPublishing:
    def test_it_reads_back_as_it_was(self, tmp_path: Path) -> None:
        manifest = example(4)
        publish(tmp_path, manifest)
        read = read_current(tmp_path)
        assert read.to_bytes() == manifest.to_bytes()
        assert (read.tables, read.segments) == (manifest.tables, manifest.segments)
        assert read_manifest(tmp_path, 4) == read
        with pytest.raises(MissingError, match=r"generation 3 of .* is not there: it has 4"):
            read_manifest(tmp_path, 3)
        assert osc.Fields(**read.fields) == osc.Fields(sequence=("a", "b"), facets=["c"])
        assert osc.Parameters(**read.parameters) == osc.Parameters(sources=2)
        assert [entry.path for entry in read.files()] == ["anchors.lance/data/x"] * 2 + [
            "segments/rows"
        ]

    def test_the_swap_is_the_last_thing(self, tmp_path: Path) -> None:
        publish(tmp_path, example(1))
        seen: list[int] = []

        def look() -> None:
            assert manifest_path(tmp_path, 2).is_file()
            seen.append(read_current(tmp_path).generation)

        publish(tmp_path, example(2), look)
        assert seen == [1]
        assert read_current(tmp_path).generation == 2

    def test_what_fails_before_the_swap_leaves_the_old_one(self, tmp_path: Path) -> None:
        publish(tmp_path, example(1))
        before = (tmp_path / "CURRENT").read_bytes()
        for error in (ZeroDivisionError, KeyboardInterrupt):

            def fail(error: type[BaseException] = error) -> None:
                raise error

            with pytest.raises(error):
                publish(tmp_path, example(2), fail)
            assert (tmp_path / "CURRENT").read_bytes() == before
            assert read_current(tmp_path).generation == 1
            assert not list(tmp_path.glob(".*.tmp"))

    def test_a_reader_that_is_overtaken_reads_again(self, tmp_path: Path) -> None:
        publish(tmp_path, example(1))
        publish(tmp_path, example(2))
        manifest_path(tmp_path, 1).unlink()
        assert read_current(tmp_path).generation == 2


class TestReplacing:
    def test_all_or_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        replace_durably(path, b"one")
        with replacing(path, b"two"):
            assert path.read_bytes() == b"one"
        assert path.read_bytes() == b"two"
        with pytest.raises(ZeroDivisionError), replacing(path, b"three"):
            raise ZeroDivisionError
        assert path.read_bytes() == b"two"
        assert [item.name for item in tmp_path.iterdir()] == ["file"]
