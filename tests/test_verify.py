"""Verification: every kind of damage is named, with the file it is in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import pytest

import oscillink_store as osc
from oscillink_store.engine import fold
from oscillink_store.errors import IntegrityError
from oscillink_store.storage.manifest import manifest_path, read_current


def rows(start: int, stop: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "text": f"word{i} of many words", "title": f"T{i}", "n": i,
         "links": [f"r{i // 2}"]}
        for i in range(start, stop)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations, the second with deleted rows; folded and unfolded receipts."""
    path = tmp_path_factory.mktemp("verify") / "t.osc"
    with osc.connect(path, embedder="hash:16") as store:
        store.ingest(rows(0, 40))
    for _ in range(fold._LEAST_FILES):
        with osc.connect(path) as store:
            store.search("word1")
    with osc.connect(path) as store:
        store.ingest([row | {"text": "other words"} for row in rows(3, 9)])
        for i in range(5):
            store.search(f"word{i}", label=f"number {i}")
        assert store.receipts().num_rows == 7 + fold._LEAST_FILES
    assert read_current(path).tables["receipts"].rows == 1 + fold._LEAST_FILES
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[osc.Store]:
    shutil.copytree(template, tmp_path / "t.osc")
    with osc.connect(tmp_path / "t.osc") as store:
        yield store


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = {
    "checksum differs": flip,
    "bytes where": truncate,
    "were written": lengthen,
    "is missing": Path.unlink,
}


def test_a_whole_store(store: osc.Store) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = store.verify(progress=lambda *step: told.append(step))
    assert report.ok
    assert report.problems == ()
    assert report.generation == 2
    manifest = read_current(store.path)
    assert report.files == len(manifest.files()) == len({e.path for e in manifest.files()})
    assert report.bytes == sum((store.path / e.path).stat().st_size for e in manifest.files())
    assert report.receipts == 7 + fold._LEAST_FILES
    of_files = [step for step in told if step[0] == "files"]
    assert of_files[0] == ("files", 0, report.bytes)
    assert of_files[-1] == ("files", report.bytes, report.bytes)
    assert told[-1] == ("receipts", report.receipts, None)


def test_every_file_is_compared(store: osc.Store) -> None:
    """Each kind of damage on each file of the generation, one at a time."""
    manifest = read_current(store.path)
    kinds = {Path(entry.path).suffix for entry in manifest.files()}
    assert kinds >= {".lance", ".manifest", ".txn", ".arrow", ".npy", ".json"}
    for number, entry in enumerate(manifest.files()):
        path = store.path / entry.path
        whole = path.read_bytes()
        words, damage = list(DAMAGES.items())[number % len(DAMAGES)]
        if entry.path.startswith(("receipts.lance/data", "anchors.lance/data")):
            words, damage = "checksum differs", flip
        damage(path)
        problems = store.verify().problems
        # a table that can no longer be read at all is a second problem
        assert any(str(path) in problem and words in problem for problem in problems), entry.path
        assert all(str(path) in problem or "receipts.lance" in problem for problem in problems)
        path.write_bytes(whole)
    assert store.verify().ok


@pytest.mark.parametrize("words", DAMAGES)
@pytest.mark.parametrize(
    "pattern", ["anchors.lance/data/*.lance", "anchors.lance/_indices/*/part_0_docs.lance",
                "anchors.lance/_deletions/*", "receipts.lance/data/*.lance",
                "receipts.lance/_versions/*.manifest",
                "segments/*2/vectors.npy", "segments/*2/rows.arrow", "segments/*2/facets.json"],
)  # fmt: skip
def test_damage_of_one_file(store: osc.Store, pattern: str, words: str) -> None:
    live = {store.path / entry.path for entry in read_current(store.path).files()}
    path = next(path for path in sorted(store.path.glob(pattern)) if path in live)
    DAMAGES[words](path)
    store.close()
    with osc.connect(store.path, read_only=True) as opened:
        report = opened.verify()
        assert not report.ok
        assert any(str(path) in problem and words in problem for problem in report.problems)
        assert all("\n" not in problem for problem in report.problems)


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_a_damaged_manifest_of_an_open_store(store: osc.Store, damage: Any) -> None:
    path = manifest_path(store.path, 2)
    damage(path)
    with pytest.raises(IntegrityError, match=r"0000000002\.json.*restore the folder"):
        store.verify()


def test_a_damaged_current_of_an_open_store(store: osc.Store) -> None:
    truncate(store.path / "CURRENT")
    truncate(store.path / "CURRENT")
    for call in (store.verify, lambda: store.search("word1")):
        with pytest.raises(IntegrityError, match="CURRENT is damaged: restore the folder"):
            call()


class TestReceipts:
    @staticmethod
    def wal(store: osc.Store) -> Path:
        """The file of the five searches, whose writer has ended."""
        return next(
            path for path in (store.path / "receipts").iterdir() if path.stat().st_size > 4000
        )

    def test_an_edited_line(self, store: osc.Store) -> None:
        path = self.wal(store)
        lines = path.read_bytes().splitlines(keepends=True)
        assert b'"label":"number 2"' in lines[3]
        lines[3] = lines[3].replace(b'"label":"number 2"', b'"label":"number 9"')
        path.write_bytes(b"".join(lines))
        writer = path.name.partition(".")[0]
        (problem,) = store.verify().problems
        assert problem.startswith(f"{store.path / 'receipts'}: ")
        assert f"entry 4 of writer {writer}" in problem
        assert "its members do not give its hash" in problem

    def test_an_edited_score(self, store: osc.Store) -> None:
        path = self.wal(store)
        whole = path.read_bytes()
        lines = whole.splitlines()
        entry = json.loads(lines[1])
        entry["content"]["scores"][0] += 1
        lines[1] = json.dumps(entry).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
        (problem,) = store.verify().problems
        assert "entry 2" in problem
        assert "its content does not give" in problem

    def test_lines_that_are_gone(self, store: osc.Store) -> None:
        path = self.wal(store)
        writer = path.name.partition(".")[0]
        lines = path.read_bytes().splitlines(keepends=True)
        for kept, words in (
            (lines[:1] + lines[2:], "entry 2 of"),
            (lines[:1] + lines[3:], "entries 2 to 3 of"),
            (lines[1:], "entry 1 of"),
            ([lines[1], lines[0], *lines[2:]], "entry 1 of"),
            ([*lines, lines[0]], "entry 1 of"),
        ):
            path.write_bytes(b"".join(kept))
            problems = store.verify().problems
            assert any(words in p and writer in p for p in problems), (words, problems)

    def test_a_line_that_is_no_receipt(self, store: osc.Store) -> None:
        path = self.wal(store)
        lines = path.read_bytes().splitlines(keepends=True)
        lines[2] = b"{}\n"
        path.write_bytes(b"".join(lines))
        problems = store.verify().problems
        assert any(f"{path.name}, line 3" in problem for problem in problems)

    def test_a_torn_last_line_is_no_damage(self, store: osc.Store) -> None:
        path = self.wal(store)
        path.write_bytes(path.read_bytes() + b'{"content":')
        assert store.verify().ok
        assert store.receipts().num_rows == 7 + fold._LEAST_FILES

    def test_edited_lines_are_not_shown_as_receipts(self, store: osc.Store) -> None:
        path = self.wal(store)
        lines = path.read_bytes().splitlines()
        for number, change in ((1, {"time": "yesterday"}), (2, {"content": {"k": "many"}})):
            lines[number] = json.dumps(json.loads(lines[number]) | change).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
        labels = store.receipts()["label"].to_pylist()
        assert [label for label in labels if label] == ["number 2", "number 3", "number 4"]
        assert len(store.verify().problems) == 2
        # a store goes on all the same, and what was edited stays where it is
        for _ in range(fold._LEAST_FILES):
            with osc.connect(store.path) as other:
                other.search("word1")
        store.ingest(rows(100, 101))
        assert path.exists()
        assert len(store.verify().problems) == 2
        assert read_current(store.path).tables["receipts"].rows > 30

    def test_a_folded_receipt_replaced_along_with_every_checksum(self, store: osc.Store) -> None:
        """Whoever forges table, manifest and CURRENT still has to forge the seal."""
        import hashlib

        from oscillink_store.storage.tables import open_table

        table = lance.dataset(str(store.path / "receipts.lance"))
        rows_ = table.to_table()
        kept = rows_.slice(0, rows_.num_rows - 1)
        lance.write_dataset(kept, str(store.path / "receipts.lance"), mode="overwrite")
        version = lance.dataset(str(store.path / "receipts.lance")).version
        entry = open_table(store.path / "receipts.lance", version).entry(store.path)
        path = manifest_path(store.path, 2)
        raw = json.loads(path.read_text())
        raw["tables"]["receipts"] = {
            "version": entry.version, "rows": entry.rows,
            "files": [{"path": f.path, "bytes": f.bytes, "sha256": f.sha256} for f in entry.files],
        }  # fmt: skip
        content = json.dumps(raw).encode()
        path.write_bytes(content)
        (store.path / "CURRENT.new").write_text(json.dumps({
            "manifest": "manifests/0000000002.json",
            "sha256": hashlib.sha256(content).hexdigest(),
        }))  # fmt: skip
        (store.path / "CURRENT.new").replace(store.path / "CURRENT")
        problems = store.verify().problems
        assert any("does not hold the receipts that were folded" in problem for problem in problems)

    def test_a_receipt_checks_itself(self, store: osc.Store) -> None:
        receipt = store.search("word1").receipt
        assert receipt.verify()


def test_damage_is_told_by_what_meets_it(store: osc.Store) -> None:
    """Reading damaged files is an IntegrityError as well, never a predicate's fault."""
    manifest = read_current(store.path)
    data = next(e.path for e in manifest.tables["anchors"].files if "/data/" in e.path)
    index = next(e.path for e in manifest.tables["anchors"].files if "docs" in e.path)
    folded = next(e.path for e in manifest.tables["receipts"].files if "/data/" in e.path)
    cases = [
        (data, lambda s: s.to_arrow(where="n < 10")),
        (data, lambda s: s.to_arrow()),
        (data, lambda s: s.search("word1", where="n < 10")),
        (index, lambda s: s.search("word1")),
        (manifest.segments["rows"].path, lambda s: s.search("word1")),
        (manifest.segments["vectors"].path, lambda s: s.search("word1")),
        (manifest.segments["indices"].path, lambda s: s.edges()),
        (folded, lambda s: s.receipts()),
    ]
    for place, (name, call) in enumerate(cases):
        copy = store.path.with_name(f"copy{place}.osc")
        shutil.copytree(store.path, copy)
        (copy / name).unlink()
        with osc.connect(copy, read_only=True) as opened:
            with pytest.raises(IntegrityError, match="backup"):
                call(opened)
            assert not opened.verify().ok


def test_a_batch_on_damaged_rows_is_refused(store: osc.Store) -> None:
    manifest = read_current(store.path)
    data = next(e.path for e in manifest.tables["anchors"].files if "/data/" in e.path)
    whole = (store.path / data).read_bytes()
    (store.path / data).unlink()
    with pytest.raises(IntegrityError, match="backup"):
        store.ingest(rows(100, 105))
    (store.path / data).write_bytes(whole)
    # a column that changes its type is written anew: damage must not get a good checksum
    flip(store.path / data)
    with pytest.raises(IntegrityError, match="checksum differs"):
        store.ingest([{"id": "x", "text": "y", "n": 0.5}])
    (store.path / data).write_bytes(whole)
    assert store.verify().ok
    assert store.ingest([{"id": "x", "text": "y", "n": 0.5}]).added == 1
    assert store.verify().ok
