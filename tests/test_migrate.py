"""Stores of earlier formats: what can be done with them, and what a migration makes of them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from golden_store import FORMATS, digests, unpack
from test_kills import strays

import oscillink_store as osc
from oscillink_store.errors import (
    FormatError,
    IntegrityError,
    LockedError,
    NotAStoreError,
    QueryError,
)
from oscillink_store.migrations import MIGRATIONS
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.commit import Change, commit
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import (
    FORMAT_VERSION,
    Manifest,
    manifests_on_disk,
    publish,
    read_current,
    read_manifest,
)
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA, to_arrow
from oscillink_store.storage.tables import TableChange

EARLIER = [version for version in FORMATS if version < FORMAT_VERSION]
CHILD = Path(__file__).parent / "kill_migration.py"
ANSWERS: dict[str, dict[str, Any]] = {
    "university": {"where": "lang = 'en'", "k": 3},
    "cake": {"k": 2},
    "who owns the newspaper": {"vector": [1, 0, 2, 0, 1, 0, 0, 3], "k": 5},
}


@pytest.fixture(params=EARLIER)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The golden store of an earlier format."""
    return unpack(request.param, tmp_path)


def hits(reader: Any) -> list[list[dict[str, Any]]]:
    found = [reader.search(text, **options) for text, options in ANSWERS.items()]
    return [[asdict(hit) for hit in result] for result in found]


def held(root: Path) -> dict[str, Any]:
    """All that a user can see of a store, but for receipts."""
    with osc.connect(root, read_only=True) as store:
        assert store.verify().problems == ()
        return {
            "anchors": store.to_arrow(),
            "edges": store.edges(),
            "records": store.records(),
            "hits": hits(store),
            "fields": store.fields,
            "facets": store.stats()["facets"],
        }


def bodies(root: Path) -> dict[str, str]:
    with osc.connect(root, read_only=True) as store:
        rows = store.receipts()
    found = dict(zip(rows["hash"].to_pylist(), rows["body"].to_pylist(), strict=True))
    assert len(found) == rows.num_rows
    return found


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_there_is_a_golden_store_and_a_migration_of_every_format() -> None:
    assert list(FORMATS) == list(range(2, FORMATS[-1] + 1))
    assert [step.FROM for step in MIGRATIONS] == list(range(2, FORMAT_VERSION))
    assert all(step.TO == step.FROM + 1 for step in MIGRATIONS)


class TestOpening:
    @pytest.mark.parametrize("version", FORMATS)
    def test_every_released_format(self, version: int, tmp_path: Path) -> None:
        root = unpack(version, tmp_path)
        with osc.connect(root) as store:
            assert store.stats()["format_version"] == version
            assert store.verify().ok
            assert store.to_arrow()["id"].to_pylist() == ["a0", "a1", "a3", "a4", "a5"]
            assert store.record(("users", "ann"), "drink").value == {"likes": "tea"}
            result = store.search("university", where="lang = 'en'", k=3)
            assert result.ids == ["a1", "a0", "a5"]
            known = [
                receipt
                for receipt in map(Receipt.from_json, store.receipts()["body"].to_pylist())
                if receipt.kind == "search" and receipt.result_ids == result.ids
            ]
            assert len(known) == 2  # the release that wrote the store found the same
            with store.snapshot(tag="first") as first:
                assert len(first) == 4
                assert first.search("cake", k=2).ids == ["a3", "a2"]
            assert store.verify().ok

    @pytest.mark.parametrize("version", FORMATS)
    def test_a_manifest_is_written_as_it_was_read(self, version: int, tmp_path: Path) -> None:
        root = unpack(version, tmp_path)
        paths = sorted((root / "manifests").iterdir())
        assert len(paths) >= 3
        for path in paths:
            content = path.read_bytes()
            assert Manifest.from_bytes(content, path).to_bytes() == content

    def test_receipts_have_all_columns(self, old: Path) -> None:
        with osc.connect(old, read_only=True) as store:
            rows = store.receipts()
        assert rows.schema == RECEIPT_SCHEMA
        searched = rows.filter(pa.compute.equal(rows["kind"], "search"))
        assert set(searched["results"].to_pylist()) == {2, 3}
        assert searched["has_text"].to_pylist() == [True] * searched.num_rows

    def test_damage_of_current_is_told_from_damage_of_the_manifest(self, old: Path) -> None:
        current = old / "CURRENT"
        pointer = json.loads(current.read_bytes())
        current.write_text(json.dumps({**pointer, "sha256": "0" * 64}))
        with pytest.raises(IntegrityError, match="CURRENT is damaged"):
            read_current(old)

    def test_a_write_is_refused_and_says_how_to_go_on(self, old: Path) -> None:
        rows = [{"id": "new", "text": "x", "vector": [1.0] * 8, "session": "s", "turn": 9}]
        before = read_current(old)
        with osc.connect(old) as store:
            writes: list[Callable[[], object]] = [
                lambda: store.ingest(rows),
                lambda: store.ingest_job(rows, name="j"),
                lambda: store.delete("a0"),
                lambda: store.write(put=[osc.Record(("users",), "k", {})]),
                store.maintain,
            ]
            for write in writes:
                with pytest.raises(FormatError, match=r"run oscillink-store migrate .*migrate"):
                    write()
            assert len(store) == 5
            store.tag("mine")
            assert store.tags()["mine"] == store.generation
            store.untag("mine")
        assert read_current(old) == before
        assert strays(old) == set()

    def test_a_damaged_store_is_repaired_in_its_format(self, old: Path) -> None:
        generation = read_current(old).generation
        victim = next((old / "segments" / f"{generation:010d}").iterdir())
        flip(victim)
        with pytest.warns(osc.errors.IntegrityWarning), osc.connect(old) as store:
            report = store.maintain(repair=True)
        assert report.repaired == report.generation < generation
        assert read_current(old).format_version < FORMAT_VERSION
        assert osc.migrate(old).after == FORMAT_VERSION


class TestMigration:
    def test_nothing_is_lost(self, old: Path) -> None:
        before, receipts, first = held(old), bodies(old), read_current(old)
        stages: dict[str, list[tuple[int, int | None]]] = {}
        report = osc.migrate(
            old, progress=lambda *told: stages.setdefault(told[0], []).append(told[1:])
        )
        rows = first.tables["receipts"].rows
        assert (report.before, report.after) == (first.format_version, FORMAT_VERSION)
        assert (report.rows, report.generation) == (rows, first.generation + 1)
        assert report.bytes == sum(file.bytes for file in first.tables["receipts"].files)
        assert (report.backup, report.dry_run) == (None, False)
        assert stages["migrate"][-1] == (rows, rows)
        done, total = stages["files"][-1]
        assert done == total == sum(entry.bytes for entry in first.files())
        assert read_current(old).format_version == FORMAT_VERSION
        assert held(old) == before
        assert bodies(old) == receipts
        assert strays(old) == set()

    def test_the_columns_say_what_the_receipts_say(self, old: Path) -> None:
        osc.migrate(old)
        with osc.connect(old, read_only=True) as store:
            rows = store.receipts()
            (folded,) = [table for name, table in store.current().manifest.tables.items()
                         if name == "receipts"]  # fmt: skip
        told = to_arrow([Receipt.from_json(body) for body in rows["body"].to_pylist()])
        assert rows == told
        assert folded.rows > 16
        assert set(rows["added"].to_pylist()) >= {2, 4}

    def test_a_migrated_store_is_a_store(self, old: Path) -> None:
        osc.migrate(old)
        row = {"id": "new", "text": "A cake of carrots.", "vector": [1.0] * 8, "lang": "en"}
        with osc.connect(old) as store:
            store.ingest([{**row, "session": "s", "turn": 9}])
            assert store.search("carrots", k=1).ids == ["new"]
        for number in range(20):
            with osc.connect(old) as store:
                store.search("cake", label=f"m{number}")
        with osc.connect(old) as store:
            store.delete("a0")
            store.maintain()
            assert store.stats()["folded_receipts"] > 40
            assert store.verify().ok
            labels = set(store.receipts()["label"].to_pylist())
            assert {"n3", "m3"} <= labels
        assert strays(old) == set()

    def test_the_generation_before_stays_readable_until_its_tag_goes(self, old: Path) -> None:
        before = read_current(old)
        with osc.connect(old, read_only=True) as store:
            expected = hits(store)
        report = osc.migrate(old)
        (name,) = report.tags
        with osc.connect(old) as store:
            for number in range(4):
                store.write(put=[osc.Record(("n",), str(number), {})])
            with store.snapshot(tag=name) as snapshot:
                assert hits(snapshot) == expected
            assert read_manifest(old, before.generation) == before
            store.untag(name)
            store.maintain()
            assert before.generation not in manifests_on_disk(old)
            assert store.verify().ok
        assert strays(old) == set()

    def test_a_second_one_has_nothing_to_do(self, old: Path, tmp_path: Path) -> None:
        osc.migrate(old)
        before = digests(old)
        report = osc.migrate(old, backup=tmp_path / "backup")
        assert (report.before, report.after, report.steps) == (FORMAT_VERSION, FORMAT_VERSION, ())
        assert (report.rows, report.tags, report.backup) == (0, (), None)
        assert digests(old) == before
        assert not (tmp_path / "backup").exists()

    def test_an_open_store_goes_on(self, old: Path) -> None:
        with osc.connect(old) as store:
            with store.snapshot() as pinned:
                expected = hits(pinned)
                osc.migrate(old)
                store.delete("a0")
                assert hits(pinned) == expected
            assert store.stats()["format_version"] == FORMAT_VERSION

    def test_a_store_whose_receipts_were_never_folded(self, store: osc.Store) -> None:
        as_format_2(store.path)
        before = store.search("newspaper").hits
        report = osc.migrate(store.path)
        assert (report.rows, report.bytes, report.after) == (0, 0, FORMAT_VERSION)
        assert store.search("newspaper").hits == before
        assert store.delete("cake").deleted == 1

    def test_a_store_without_anything(self, make_store: Callable[..., osc.Store]) -> None:
        store = make_store()
        as_format_2(store.path)
        assert osc.migrate(store.path).after == FORMAT_VERSION
        store.ingest([{"id": "a", "text": "one"}])
        assert store.verify().ok


def as_format_2(root: Path) -> None:
    publish(root, replace(read_current(root), format_version=2))


class TestDryRun:
    def test_it_changes_nothing(self, old: Path, tmp_path: Path) -> None:
        before = digests(old)
        told = osc.migrate(old, dry_run=True, backup=tmp_path / "backup")
        assert digests(old) == before
        assert [path.name for path in tmp_path.iterdir()] == [old.name]
        done = osc.migrate(old)
        assert told.dry_run
        same = {"generation": done.generation, "dry_run": False, "seconds": done.seconds}
        assert replace(told, **same) == done
        assert told.generation == done.generation - 1

    def test_it_finds_what_would_be_found(self, old: Path, tmp_path: Path) -> None:
        (tmp_path / "backup").mkdir()
        with pytest.raises(QueryError, match="backup exists"):
            osc.migrate(old, dry_run=True, backup=tmp_path / "backup")
        flip(next((old / "receipts.lance" / "data").iterdir()))
        with pytest.raises(IntegrityError, match="restore the folder"):
            osc.migrate(old, dry_run=True)


class TestRefusals:
    def test_damage(self, old: Path) -> None:
        for entry in read_current(old).files():
            victim = old / entry.path
            whole = victim.read_bytes()
            flip(victim)
            before = digests(old)
            with pytest.raises(IntegrityError, match=f"{victim.name}.*restore the folder"):
                osc.migrate(old)
            assert digests(old) == before
            victim.write_bytes(whole)
        assert osc.migrate(old).after == FORMAT_VERSION

    @pytest.mark.parametrize("body", ["no JSON", "[]", '{"content":{"kind":"search"},"version":1}'])
    def test_a_receipt_that_cannot_be_read(self, old: Path, body: str) -> None:
        manifest = read_current(old)
        with osc.connect(old, read_only=True) as store:
            rows = store.current().table("receipts").read()
        place = rows.schema.get_field_index("body")
        garbled = [*rows["body"].to_pylist()[:-1], body]
        rows = rows.set_column(place, rows.schema.field(place), pa.array(garbled))
        with writer_lock(old, 0):
            change = TableChange(rows=rows, overwrite=True)
            commit(old, manifest, [Change(tables={"receipts": change})], lambda _: None)
        before = digests(old)
        with pytest.raises(IntegrityError, match=r"receipts\.lance: a receipt cannot be read"):
            osc.migrate(old)
        assert digests(old) == before

    def test_a_newer_format(self, old: Path) -> None:
        manifest = replace(read_current(old), format_version=FORMAT_VERSION + 1)
        publish(old, manifest)
        for dry_run in (True, False):
            with pytest.raises(FormatError, match="upgrade oscillink-store"):
                osc.migrate(old, dry_run=dry_run)

    def test_a_store_that_another_process_writes_to(self, old: Path) -> None:
        with writer_lock(old, 0), pytest.raises(LockedError, match="is writing"):
            osc.migrate(old, lock_timeout=0.05)

    def test_what_is_no_store(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(NotAStoreError):
                osc.migrate(path)
        assert list(tmp_path.iterdir()) == []


class TestBackup:
    def test_it_is_the_store_as_it_was(self, old: Path, tmp_path: Path) -> None:
        before = digests(old)
        place = tmp_path / "kept" / "backup.osc"
        assert osc.migrate(old, backup=place).backup == str(place)
        assert digests(place) == before
        assert {path.name for path in place.iterdir()} == {
            path.name for path in old.iterdir() if not path.name.startswith("LOCK")
        }
        with osc.connect(old) as store:
            store.search("cake")
            store.delete("a0")
            store.maintain()
        assert digests(place) == before
        place.rename(tmp_path / "restored.osc")
        with osc.connect(tmp_path / "restored.osc") as store:
            assert store.verify().ok
            assert store.get(["a0"])[0]["title"] == "The Collegian"
        assert osc.migrate(tmp_path / "restored.osc").after == FORMAT_VERSION

    def test_files_that_never_change_are_shared(self, old: Path, tmp_path: Path) -> None:
        osc.migrate(old, backup=tmp_path / "b")
        shared = {
            path.relative_to(tmp_path / "b").parts[0]
            for path in (tmp_path / "b").rglob("*")
            if path.is_file() and path.stat().st_nlink > 1
        }
        assert shared == {"anchors.lance", "corrections.lance", "receipts.lance", "segments"}

    def test_searches_go_on_meanwhile(
        self, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = shutil.copy2
        with osc.connect(old) as store:
            store.search("cake")

            def copy(source: Path, target: Path) -> object:
                copied = real(source, target)
                if source.parent.name == "receipts":
                    store.search("university")
                return copied

            monkeypatch.setattr("shutil.copy2", copy)
            osc.migrate(old, backup=tmp_path / "b")
            recorded = store.receipts().num_rows
        with osc.connect(tmp_path / "b", read_only=True) as store:
            assert store.verify().problems == ()
            assert 25 < store.receipts().num_rows < recorded

    def test_copies_where_there_are_no_links(
        self, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object, **__: object) -> None:  # what two file systems say
            raise OSError(18, "Invalid cross-device link")

        before = digests(old)
        monkeypatch.setattr("os.link", refused)
        osc.migrate(old, backup=tmp_path / "b")
        assert digests(tmp_path / "b") == before

    def test_places_that_cannot_be(self, old: Path, tmp_path: Path) -> None:
        before = digests(old)
        (tmp_path / "file").write_text("x")
        for place in (tmp_path / "file", old, old / "inner", old / "segments" / "x"):
            with pytest.raises(QueryError, match=r"backup: .* (exists|lies within the store)"):
                osc.migrate(old, backup=place)
        assert digests(old) == before

    def test_one_that_fails_leaves_nothing(
        self, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        before = digests(old)
        monkeypatch.setattr("shutil.copy2", full)
        with pytest.raises(osc.errors.DiskError, match="the backup was not done"):
            osc.migrate(old, backup=tmp_path / "b")
        assert digests(old) == before
        assert [path.name for path in tmp_path.iterdir()] == [old.name]


class TestKills:
    def test_it_can_be_killed_anywhere_and_run_again(self, disk: Path) -> None:
        whole = run(unpack(EARLIER[-1], disk / "whole"), 10_000)
        assert whole.returncode == 0
        operations = int(whole.stdout)
        expected = held(disk / "whole" / f"format-{EARLIER[-1]}.osc")
        left: list[int] = []
        for number in range(7):
            root = unpack(EARLIER[-1], disk / str(number))
            count = 1 + number * (operations - 1) // 6
            assert run(root, count).returncode == -signal.SIGKILL
            left.append(read_current(root).format_version)
            with osc.connect(root) as store:
                assert store.verify().ok
                assert hits(store) == expected["hits"]
            report = osc.migrate(root)
            assert report.after == FORMAT_VERSION
            assert held(root) == expected
            with osc.connect(root) as store:
                store.delete("a0")
                store.maintain()
            assert strays(root) == set()
        assert set(left) == {EARLIER[-1], FORMAT_VERSION}
        assert left == sorted(left)


def run(root: Path, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHILD), str(root), str(count)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
