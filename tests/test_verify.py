"""Verification: every kind of damage is named, with the file it is in."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import pytest

import oscillink_store as osc
from oscillink_store.engine import fold
from oscillink_store.engine import verify as verification
from oscillink_store.errors import DiskError, IntegrityError, IntegrityWarning
from oscillink_store.receipts.chain import Head, extend
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.manifest import (
    TableEntry,
    manifest_path,
    read_current,
    read_manifest,
)
from oscillink_store.storage.tables import open_table


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
    folded = manifest.tables["receipts"].rows
    assert [step for step in told if step[0] == "receipts"][-1] == ("receipts", folded, folded)
    ledger = sum(path.stat().st_size for path in (store.path / "receipts").glob("*.wal"))
    assert told[-1] == ("ledger", ledger, ledger)


def test_a_writer_that_was_killed_while_it_made_its_head_file(store: osc.Store) -> None:
    (store.path / "receipts" / "0123456789abcdef.head").touch()
    assert store.verify().problems == ()


def test_writers_that_begin_and_files_that_are_folded_while_the_ledger_is_listed(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the heads and the files another writer begins, and behind these a commit folds."""
    heads, files = verification.known_heads, verification.wal_files

    def then_begin(*arguments: Any) -> Any:
        found = heads(*arguments)
        for _ in range(fold._LEAST_FILES):
            with osc.connect(store.path) as other:
                other.search("word2")
        return found

    def then_fold(directory: Path) -> list[Path]:
        found = files(directory)
        before = read_current(store.path).tables["receipts"].rows
        with osc.connect(store.path) as other:
            other.ingest(rows(0, 1))
            other.delete("r1")
        assert read_current(store.path).tables["receipts"].rows > before
        return found

    with monkeypatch.context() as patch:
        patch.setattr(verification, "known_heads", then_begin)
        assert store.verify().problems == ()
    with monkeypatch.context() as patch:
        patch.setattr(verification, "wal_files", then_fold)
        assert store.verify().problems == ()


@pytest.mark.parametrize("tidied", [False, True])
def test_the_number_of_a_commit_that_failed_is_not_given_again(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch, tidied: bool
) -> None:
    """Its receipt is there, and would name another manifest."""
    replace_file = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).name == "CURRENT":
            raise OSError(28, "No space left on device")
        return replace_file(path, target)

    live = store.generation
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(DiskError):
            store.ingest(rows(90, 91))
    if tidied:
        store.maintain()
    store.write(put=[osc.Record(namespace=("n",), key="k", value=1)])
    assert store.generation > live + 1
    assert store.verify().problems == ()


def test_every_file_is_compared(store: osc.Store) -> None:
    """Each kind of damage on each file of the generation, one at a time."""
    manifest = read_current(store.path)
    kinds = {Path(entry.path).suffix for entry in manifest.files()}
    assert kinds >= {".lance", ".manifest", ".txn", ".arrow", ".arrays", ".json"}
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
    "pattern", ["anchors.lance/data/*.lance", "anchors.lance/_deletions/*",
                "anchors.lance/_versions/*.manifest", "corrections.lance/data/*.lance",
                "receipts.lance/data/*.lance", "receipts.lance/_versions/*.manifest",
                "segments/*2/parts-*-arrays.arrays", "segments/*2/parts-*-rows.arrow",
                "segments/*2/corrections-*.arrays", "segments/*2/facets.json"],
)  # fmt: skip
def test_damage_of_one_file(store: osc.Store, pattern: str, words: str) -> None:
    live = {store.path / e.path for e in read_current(store.path).files()}
    live -= {store.path / e.path for e in read_manifest(store.path, 1).files()}
    path = next(path for path in sorted(store.path.glob(pattern)) if path in live)
    DAMAGES[words](path)
    store.close()
    with pytest.warns(IntegrityWarning, match=f"{path.name}.* generation 1 "):
        opened = osc.connect(store.path, read_only=True)
    with opened:
        # what is read is the generation before; what is verified is the live one
        assert opened.generation == 1
        report = opened.verify()
        assert not report.ok
        assert report.generation == 2
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
    with pytest.warns(IntegrityWarning, match="CURRENT is damaged.* generation 2 "):
        assert store.search("word1").receipt.content["generation"] == 2
    with pytest.raises(IntegrityError, match="CURRENT is damaged: restore the folder"):
        store.verify()
    with pytest.raises(IntegrityError, match="CURRENT is damaged: restore the folder"):
        store.ingest(rows(100, 101))


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
        program = "import os, sys, oscillink_store as o; " \
            "s = o.connect(sys.argv[1]); s.search('word1'); os._exit(0)"  # fmt: skip
        subprocess.run([sys.executable, "-c", program, store.path], check=True)
        path = max(store.path.glob("receipts/*.wal"), key=lambda path: path.stat().st_mtime_ns)
        path.write_bytes(path.read_bytes() + b'{"content":')
        assert store.verify().ok
        assert store.receipts().num_rows == 8 + fold._LEAST_FILES

    def test_what_comes_behind_an_end_is_damage(self, store: osc.Store) -> None:
        path = self.wal(store)
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"content":')
        assert any("goes on behind the end" in problem for problem in store.verify().problems)
        last = Receipt.from_json(whole.splitlines()[-1])
        head = Head(sequence=last.sequence, hash=last.hash)
        _, line = extend(head, last.content, writer=last.writer)
        path.write_bytes(whole + line + b"\n")
        (problem,) = store.verify().problems
        assert f"its writer ended with entry {last.sequence}" in problem

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
        table = lance.dataset(str(store.path / "receipts.lance"))
        rows_ = table.to_table()
        kept = rows_.slice(0, rows_.num_rows - 1)
        lance.write_dataset(kept, str(store.path / "receipts.lance"), mode="overwrite")
        version = lance.dataset(str(store.path / "receipts.lance")).version
        forged = TableEntry(version=version, rows=0, files=())
        forged = open_table(store.path, "receipts", forged).entry(store.path)
        manifest = read_current(store.path)
        manifest = replace(manifest, tables={**manifest.tables, "receipts": forged})
        path, content = manifest_path(store.path, 2), manifest.to_bytes()
        path.write_bytes(content)
        (store.path / "CURRENT.new").write_text(json.dumps({
            "manifest": "manifests/0000000002.json",
            "sha256": hashlib.sha256(content).hexdigest(),
        }) + "\n")  # fmt: skip
        (store.path / "CURRENT.new").replace(store.path / "CURRENT")
        problems = store.verify().problems
        assert any("does not hold the receipts that were folded" in problem for problem in problems)

    def test_a_receipt_checks_itself(self, store: osc.Store) -> None:
        receipt = store.search("word1").receipt
        assert receipt.verify()


CALLS: list[Any] = [
    lambda s: s.search("word1").hits,
    lambda s: s.search("other words", where="n < 10", k=20).hits,
    lambda s: s.to_arrow(),
    lambda s: s.to_arrow(["text"], where="n < 10"),
    lambda s: s.get("r5")[0]["text"],
    lambda s: s.edges(),
]


def test_damage_is_never_a_wrong_answer(store: osc.Store) -> None:
    """Each file of the live generation in turn is gone when the store is opened."""
    with store.snapshot(generation=1) as before:
        wanted = [call(before) for call in CALLS]
    shared = {entry.path for entry in read_manifest(store.path, 1).files()}
    files = read_current(store.path).files()
    assert len({entry.path for entry in files} & shared) > 1
    for place, entry in enumerate(files):
        copy = store.path.with_name(f"copy{place}.osc")
        shutil.copytree(store.path, copy)
        (copy / entry.path).unlink()
        name = Path(entry.path).name
        if entry.path in shared:  # the generation before is damaged with it
            with pytest.raises(IntegrityError, match=rf"{name} is missing.*backup"):
                osc.connect(copy, read_only=True)
            continue
        with pytest.warns(IntegrityWarning, match=rf"{name} is missing.*generation 1 "):
            opened = osc.connect(copy)
        with opened:
            assert [call(opened) for call in CALLS] == wanted
            assert not opened.verify().ok
            for write in (lambda o: o.ingest(rows(100, 101)), lambda o: o.delete("r1"),
                          lambda o: o.maintain()):  # fmt: skip
                with pytest.raises(IntegrityError, match=rf"{name} is missing"):
                    write(opened)
            assert opened.generation == 1


def test_damage_is_told_by_what_meets_it(store: osc.Store) -> None:
    """Files that an open store has not read yet: an IntegrityError, never a predicate's fault."""
    manifest = read_current(store.path)
    for name, calls in (
        ("anchors", [lambda s: s.to_arrow(), lambda s: s.to_arrow(where="n < 10"),
                     lambda s: s.search("word1", where="n < 10")]),
        ("receipts", [lambda s: s.receipts()]),
    ):  # fmt: skip
        data = next(e.path for e in manifest.tables[name].files if "/data/" in e.path)
        for number, call in enumerate(calls):
            copy = store.path.with_name(f"{name}{number}.osc")
            shutil.copytree(store.path, copy)
            with osc.connect(copy, read_only=True) as opened:
                (copy / data).unlink()
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
