"""Ingest jobs: the ledger, resuming, sync, rejected rows, sources, and kills at any moment."""

from __future__ import annotations

import gzip
import io
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import oscillink_store as osc
from oscillink_store.engine import jobs
from oscillink_store.engine.batch import Writer
from oscillink_store.engine.key_set import KeySet, contained
from oscillink_store.engine.sources import Query, Stream
from oscillink_store.errors import InputError, LockedError, QueryError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.storage.job_table import JOBS, job_lock, read

Row = dict[str, Any]


def numbered(count: int, start: int = 0, **more: Any) -> list[Row]:
    return [
        {"id": f"r{i}", "text": f"note {i} tells of matter {i % 5}", "year": 2000 + i % 9} | more
        for i in range(start, start + count)
    ]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def content(store: osc.Store) -> list[Row]:
    rows = store.to_arrow(["id", "text", "year"]).to_pylist()
    return sorted(rows, key=lambda row: row["id"])


def ledger(store: osc.Store, job: str | None = None) -> list[Any]:
    return read(store.current().table(JOBS), job)


def counts(report: osc.model.JobReport) -> tuple[int, int, int, int, int]:
    return (report.added, report.updated, report.deleted, report.unchanged, report.rejected)


def side_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class _StopError(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many commits pass, then fail each one before anything is written."""
    commit = Writer.commit

    def arrange(commits: int) -> None:
        left = [commits]

        def limited(self: Writer, *arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise _StopError
            left[0] -= 1
            return commit(self, *arguments, **options)

        monkeypatch.setattr(Writer, "commit", limited)

    return arrange


class TestRuns:
    def test_batches_and_a_second_run(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", rows := numbered(25))
        report = store.ingest_job(path, name="notes", batch=10)
        assert counts(report) == (25, 0, 0, 0, 0)
        assert (report.run, report.batches, report.generation, report.resumed) == (1, 3, 4, False)
        assert content(store) == sorted(rows, key=lambda row: row["id"])
        generation = store.generation
        again = store.ingest_job(path, name="notes", batch=10)
        assert counts(again) == (0, 0, 0, 25, 0)
        assert (again.run, again.batches, again.generation) == (2, 0, generation + 1)
        rows[3]["text"] = "changed"
        rows.append({"id": "new", "text": "new"})
        third = store.ingest_job(write(path, rows), name="notes", batch=10)
        assert counts(third) == (1, 1, 0, 24, 0)
        # of finished runs only the newest is kept, as one row
        (row,) = ledger(store)
        assert (row.run, row.finished, row.position, row.anchors) == (3, True, 26, 26)
        assert np.array_equal(row.ids, np.sort(keys_of([row["id"] for row in rows])))
        assert store.verify().ok

    def test_status(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        store = make_store()
        assert store.jobs() == []
        store.ingest_job(write(tmp_path / "a.jsonl", numbered(4)), name="b")
        store.ingest_job(numbered(6), name="a")
        first, second = store.jobs()
        assert (first.name, first.run, first.finished, first.added) == ("a", 1, True, 2)
        assert (first.unchanged, first.anchors, first.source) == (4, 6, "the given rows")
        assert (second.name, second.added, second.source) == ("b", 4, str(tmp_path / "a.jsonl"))
        assert abs(time.time() - second.time.timestamp()) < 60

    def test_the_same_as_one_ingest(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        rows = numbered(30)
        for i, row in enumerate(rows):
            row["title"] = f"Matter {i}"
        path = write(tmp_path / "a.jsonl", rows)
        one, many = make_store("one.osc"), make_store("many.osc")
        one.ingest(path)
        many.ingest_job(path, name="j", batch=7)
        assert one.edges().equals(many.edges())
        assert one.search("matter 3").ids == many.search("matter 3").ids

    def test_quiet_runs_commit_rarely(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", numbered(50))
        store.ingest_job(path, name="j", batch=50)
        monkeypatch.setattr(jobs, "_QUIET_ROWS", 20)
        before = store.generation
        report = store.ingest_job(path, name="j", batch=5)
        assert (report.unchanged, report.batches) == (50, 2)
        assert store.generation == before + 3

    def test_many_batches_keep_few_files(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store = make_store(embedder=None)
        most = 0

        def count(stage: str, done: int, total: int | None) -> None:
            nonlocal most
            files = store.current().manifest.tables.get(JOBS)
            if files is not None:
                most = max(most, sum("/data/" in file.path for file in files.files))

        rows = [{"id": f"r{i}", "text": f"t{i}", "vector": [1.0, i]} for i in range(40)]
        report = store.ingest_job(rows, name="j", batch=1, progress=count)
        assert report.batches == 40
        assert 30 <= most <= 34

    def test_progress(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        seen: list[tuple[str, int, int | None]] = []
        path = write(tmp_path / "a.jsonl", numbered(5))
        make_store().ingest_job(path, name="j", batch=2, progress=lambda *a: seen.append(a))
        assert seen == [("read", 2, 5), ("read", 4, 5), ("read", 5, 5), ("delete", 0, 0)]

    def test_other_writers_get_their_turn(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store, other = make_store(), make_store()
        threads = []

        def write_too(stage: str, done: int, total: int | None) -> None:
            other.ingest([{"id": f"process {stage} {done}", "text": "of another writer"}])
            row = {"id": f"thread {stage} {done}", "text": "of another thread"}
            threads.append(threading.Thread(target=store.ingest, args=([row],)))
            threads[-1].start()
            threads[-1].join(10)
            assert not threads[-1].is_alive()

        store.ingest_job(numbered(6), name="j", batch=2, progress=write_too)
        assert len(threads) == 4
        assert len(store) == 6 + 2 * 4
        assert store.verify().ok

    def test_a_source_of_bad_rows_only(self, make_store: Callable[..., osc.Store]) -> None:
        store = make_store()
        rows = [{"id": f"r{i}", "text": ""} for i in range(5)]
        report = store.ingest_job(rows, name="j", batch=2, on_error="skip", sync=True)
        assert counts(report) == (0, 0, 0, 0, 5)
        assert (len(store), store.jobs()[0].finished) == (0, True)
        assert store.ingest_job(numbered(5), name="j").added == 5

    def test_a_new_fields_setting_alone_is_committed(
        self, make_store: Callable[..., osc.Store]
    ) -> None:
        store = make_store()
        store.ingest_job(numbered(3, who="Ann"), name="j")
        store.ingest_job(numbered(3, who="Ann"), name="j", fields=osc.Fields(facets=["who"]))
        assert store.stats()["facets"] == {"who": 1}

    def test_a_facet_may_come_late(self, make_store: Callable[..., osc.Store]) -> None:
        store = make_store()
        rows = [*numbered(3), *numbered(2, 3, who="Ann")]
        store.ingest_job(rows, name="j", batch=2, fields=osc.Fields(facets=["who"]))
        assert store.to_arrow(["who"])["who"].to_pylist() == [None] * 3 + ["Ann"] * 2
        generation = store.generation
        for wrong, name in (
            (osc.Fields(facets=["speaker"]), "speaker"), (osc.Fields(title="head"), "head"),
            (osc.Fields(facets=["text"]), "text"),
        ):  # fmt: skip
            with pytest.raises(InputError, match="first 3 rows") as caught:
                store.ingest_job(numbered(3), name="k", fields=wrong)
            assert caught.value.field == name
        assert store.generation == generation

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"name": "a/b"}, "letters"),
            ({"name": ""}, "letters"),
            ({"name": "j", "batch": 0}, "at least 1"),
            ({"name": "j", "on_error": "ignore"}, "'stop' or 'skip'"),
            ({"name": "j", "rejected": "x.jsonl"}, "skip"),
        ],
    )
    def test_bad_arguments(
        self, make_store: Callable[..., osc.Store], options: Row, words: str
    ) -> None:
        with pytest.raises(QueryError, match=words):
            make_store().ingest_job(numbered(1), **options)

    def test_no_rows(self, make_store: Callable[..., osc.Store]) -> None:
        with pytest.raises(InputError, match="has no rows"):
            make_store().ingest_job([], name="j", sync=True)

    def test_one_run_at_a_time(self, make_store: Callable[..., osc.Store]) -> None:
        store = make_store()
        with job_lock(store.path, "j"):
            with pytest.raises(LockedError, match="running already"):
                store.ingest_job(numbered(1), name="j")
            store.ingest_job(numbered(1), name="k")
        store.ingest_job(numbered(1), name="j")


class TestResume:
    @pytest.mark.parametrize("done", [0, 1, 2, 3])
    def test_goes_on_behind_the_last_commit(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
        done: int,
    ) -> None:
        store = make_store()
        paths = [write(tmp_path / "a.jsonl", numbered(13)), tmp_path / "b.parquet"]
        pq.write_table(pa.Table.from_pylist(numbered(12, 13)), paths[1])
        stop_after(done)
        with pytest.raises(_StopError):
            store.ingest_job(paths, name="j", batch=10)
        monkeypatch.undo()
        assert len(store) == min(10 * done, 25)
        if done:
            assert not store.jobs()[0].finished
            assert store.jobs()[0].position == min(10 * done, 25)
        read_rows: list[int] = []
        report = make_store().ingest_job(
            paths, name="j", batch=4, progress=lambda _, rows, __: read_rows.append(rows)
        )
        assert counts(report) == (25, 0, 0, 0, 0)
        assert (report.run, report.resumed) == (1, done > 0)
        assert read_rows[0] == (min(10 * done + 4, 25) if done < 3 else 0)
        assert [row["id"] for row in content(store)] == sorted(f"r{i}" for i in range(25))
        assert len(ledger(store)) == 1

    def test_starts_over_when_the_source_changed(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", numbered(20))
        stop_after(1)
        with pytest.raises(_StopError):
            store.ingest_job(path, name="j", batch=10)
        monkeypatch.undo()
        write(path, numbered(20, 5))
        report = store.ingest_job(path, name="j", batch=10, sync=True)
        # what the first run brought is the job's, so it goes when it left the source
        assert counts(report) == (15, 0, 5, 5, 0)
        assert (report.run, report.resumed) == (2, False)
        assert [row["id"] for row in content(store)] == sorted(f"r{i}" for i in range(5, 25))

    def test_a_repeated_id_is_found_across_an_interruption(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", [*numbered(10), *numbered(1)])
        stop_after(1)
        with pytest.raises(_StopError):
            store.ingest_job(path, name="j", batch=5)
        monkeypatch.undo()
        with pytest.raises(InputError, match="row 10: 'id' repeats 'r0'") as caught:
            store.ingest_job(path, name="j", batch=5)
        assert caught.value.row == 10
        assert len(store) == 10

    def test_what_cannot_be_recognized_starts_over(
        self,
        make_store: Callable[..., osc.Store],
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = make_store()
        stop_after(1)
        with pytest.raises(_StopError):
            store.ingest_job(numbered(10), name="j", batch=5)
        monkeypatch.undo()
        report = store.ingest_job(numbered(10), name="j", batch=5)
        assert (report.added, report.unchanged, report.resumed) == (5, 5, False)


class TestSync:
    def test_deletes_what_left(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        store = make_store()
        store.ingest([{"id": "mine", "text": "nobody's job"}])
        path = write(tmp_path / "a.jsonl", numbered(10))
        store.ingest_job(path, name="j")
        store.ingest_job(write(tmp_path / "b.jsonl", numbered(3)), name="k")
        write(path, numbered(2, 8))
        assert counts(store.ingest_job(path, name="j")) == (0, 0, 0, 2, 0)
        report = store.ingest_job(path, name="j", sync=True, batch=2)
        # r0 to r2 are also those of the other job
        assert counts(report) == (0, 0, 5, 2, 0)
        assert report.batches == 2
        ids = ["mine", "r0", "r1", "r2", "r8", "r9"]
        assert sorted(store.to_arrow(["id"])["id"].to_pylist()) == ids
        assert counts(store.ingest_job(path, name="j", sync=True)) == (0, 0, 0, 2, 0)

    def test_deletion_goes_on_after_an_interruption(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", numbered(20))
        store.ingest_job(path, name="j")
        write(path, numbered(1))
        for commits in (2, 1):
            stop_after(commits)
            with pytest.raises(_StopError):
                store.ingest_job(path, name="j", sync=True, batch=4)
            monkeypatch.undo()
        assert len(store) == 20 - 12
        report = store.ingest_job(path, name="j", sync=True, batch=4)
        assert counts(report) == (0, 0, 19, 1, 0)
        assert report.resumed
        assert store.to_arrow(["id"])["id"].to_pylist() == ["r0"]
        assert len(ledger(store)) == 1


class TestRejected:
    def test_good_rows_stay(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        store = make_store()
        rows = numbered(30)
        rows[3]["text"] = ""
        rows[7]["id"] = "r6"
        rows[11]["year"] = "soon"
        del rows[19]["id"]
        lines = [json.dumps(row) for row in rows]
        lines[23] = '{"id": "r23", "text": '
        lines[24] = "[1]"
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        side = tmp_path / "rejected.jsonl"
        report = store.ingest_job(
            tmp_path / "a.jsonl", name="j", batch=8, on_error="skip", rejected=side
        )
        assert counts(report) == (24, 0, 0, 0, 6)
        bad = {3, 7, 11, 19, 23, 24}
        wanted = sorted(f"r{i}" for i in range(30) if i not in bad)
        assert [row["id"] for row in content(store)] == wanted
        found = side_lines(side)
        assert {line["row"] for line in found} == bad
        by_row = {line["row"]: line for line in found}
        assert [by_row[i]["field"] for i in sorted(bad)] == ["text", "id", "year", "id", None, None]
        assert all(line["source"] == str(tmp_path / "a.jsonl") for line in found)
        assert "is empty" in by_row[3]["reason"]
        assert "repeats 'r6'" in by_row[7]["reason"]
        assert by_row[11]["data"] == rows[11]
        assert by_row[23]["data"] == lines[23]
        # a new run writes the file anew
        store.ingest_job(tmp_path / "a.jsonl", name="j", on_error="skip", rejected=side)
        assert len(side_lines(side)) == 6

    def test_stop_keeps_the_batches_before(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store = make_store()
        rows = numbered(10)
        rows[7]["text"] = " "
        path = write(tmp_path / "a.jsonl", rows)
        with pytest.raises(InputError, match="row 7: 'text' is empty"):
            store.ingest_job(path, name="j", batch=3)
        assert len(store) == 6
        rows[7]["text"] = "mended"
        report = store.ingest_job(write(path, rows), name="j", batch=3)
        assert counts(report) == (4, 0, 0, 6, 0)

    def test_bad_lines_in_many_blocks(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("oscillink_store.engine.source_jsonl._HEAD_BYTES", 300)
        monkeypatch.setattr("oscillink_store.engine.source_jsonl._BLOCK_BYTES", 700)
        lines = [json.dumps(row) for row in numbered(150)]
        broken = {1: "{", 2: "7", 30: '{"id": "x"} {"id": "y"}', 31: "\\", 149: '{"id": 3'}
        odd = {60: {"year": "?"}, 61: {"year": [1]}, 90: {"text": 5}, 120: {"year": 2**70}}
        for place, line in broken.items():
            lines[place] = line
        for place, values in odd.items():
            lines[place] = json.dumps(json.loads(lines[place]) | values)
        lines.insert(100, "")  # a blank line is no row
        path, side = tmp_path / "a.jsonl", tmp_path / "rejected.jsonl"
        path.write_text("\n".join(lines))
        store = make_store()
        report = store.ingest_job(path, name="j", batch=40, on_error="skip", rejected=side)
        bad = {*broken, *odd}
        assert (report.added, report.rejected) == (150 - len(bad), len(bad))
        assert {line["row"] for line in side_lines(side)} == bad
        good = [row for i, row in enumerate(numbered(150)) if i not in bad]
        assert content(store) == sorted(good, key=lambda row: row["id"])

    def test_bad_objects(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        rows: list[Any] = [
            {"id": 1, "text": "whole numbers and text are both ids", "n": 1, "d": {}},
            {"id": "b", "text": "a half", "n": 0.5},
            "no dict",
            {"id": "d", "text": "too large", "n": 2**70},
            {"id": "e", "text": "not exact beside halves", "n": 2**53 + 1},
            {"id": "f", "text": "of its own kind", "n": object()},
            {"id": "g", "text": "\ud800"},
            {"id": 8, "text": "fine", "n": 3},
        ]
        side = tmp_path / "rejected.jsonl"
        store = make_store()
        report = store.ingest_job(iter(rows), name="j", on_error="skip", rejected=side)
        assert (report.added, report.rejected) == (3, 5)
        assert store.to_arrow(["id", "n"]).to_pylist() == [
            {"id": "1", "n": 1.0}, {"id": "b", "n": 0.5}, {"id": "8", "n": 3.0},
        ]  # fmt: skip
        assert {line["row"]: line["field"] for line in side_lines(side)} == {
            2: None, 3: "n", 4: "n", 5: "n", 6: "text",
        }  # fmt: skip

    def test_bad_csv_records(self, make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(
            b"id,text,year\n" b"a,one,1\n" b"b,two,2,3\n" b'c,"x\ny",3\n' b"d\n" b"e,\xff\xfe,5\n"
            b"f,,6\n" b"g,seven,7\n" b"h,8\n"
        )  # fmt: skip
        store = make_store()
        side = tmp_path / "rejected.jsonl"
        for batch in (2, 100):
            report = store.ingest_job(
                path, name=f"j{batch}", batch=batch, on_error="skip", rejected=side
            )
            assert report.rejected == 5
            assert store.to_arrow(["id"])["id"].to_pylist() == ["a", "c", "g"]
            assert store.jobs()[-1].position == 8
            assert {line["row"] for line in side_lines(side)} == {1, 3, 4, 5, 7}
        assert "Expected 3 columns, got 4" in side.read_text()
        with pytest.raises(InputError, match="Expected 3 columns"):
            store.ingest_job(path, name="k")

    def test_bad_csv_records_in_many_blocks(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("oscillink_store.engine.source_csv._BLOCK_BYTES", 256)
        bad = {*range(5), 40, 41, 77, *range(110, 140), 199}
        lines = [f"r{i},note {i},{i}" + ",?" * (i in bad) for i in range(200)]
        path = tmp_path / "a.csv"
        path.write_text("\n".join(["id,text,year", *lines]))
        side = tmp_path / "rejected.jsonl"
        store = make_store()
        report = store.ingest_job(path, name="j", batch=30, on_error="skip", rejected=side)
        assert (report.added, report.rejected) == (200 - len(bad), len(bad))
        found = {line["row"]: line["data"] for line in side_lines(side)}
        assert found == {i: lines[i] for i in bad}
        assert {row["id"]: row["year"] for row in content(store)} == {
            f"r{i}": i for i in range(200) if i not in bad
        }

    def test_rejected_rows_keep_their_anchors(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", rows := numbered(6))
        store.ingest_job(path, name="j")
        rows[2]["text"] = ""
        report = store.ingest_job(write(path, rows[1:]), name="j", sync=True, on_error="skip")
        assert counts(report) == (0, 0, 1, 4, 1)
        assert [row["id"] for row in content(store)] == ["r1", "r2", "r3", "r4", "r5"]
        # it is still the job's own, and goes when its row goes
        report = store.ingest_job(write(path, rows[3:]), name="j", sync=True)
        assert [row["id"] for row in content(store)] == ["r3", "r4", "r5"]
        assert report.deleted == 2

    def test_a_row_without_legible_id_may_be_any(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        store = make_store()
        path = write(tmp_path / "a.jsonl", numbered(4))
        store.ingest_job(path, name="j")
        write(path, numbered(2))
        with path.open("a") as file:
            file.write('{"id": "r2", "te\n')
        report = store.ingest_job(path, name="j", sync=True, on_error="skip")
        assert (report.deleted, report.withheld, len(store)) == (0, 2, 4)
        report = store.ingest_job(write(path, numbered(2)), name="j", sync=True)
        assert (report.deleted, report.withheld, len(store)) == (2, 0, 2)

    def test_the_file_goes_on_after_an_interruption(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        rows = numbered(40)
        for i in range(0, 40, 3):
            rows[i]["text"] = ""
        path = write(tmp_path / "a.jsonl", rows)
        whole, side = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
        options = {"name": "j", "batch": 6, "on_error": "skip"}
        expected = make_store("whole.osc").ingest_job(path, rejected=whole, **options)
        store = make_store("parts.osc")
        for commits in (2, 1, 3):
            stop_after(commits)
            with pytest.raises(_StopError):
                store.ingest_job(path, rejected=side, **options)
            monkeypatch.undo()
            with side.open("a") as file:
                file.write("half a li")
        report = store.ingest_job(path, rejected=side, **options)
        assert counts(report) == counts(expected) == (26, 0, 0, 0, 14)
        assert side.read_text() == whole.read_text()

    def test_a_column_that_is_missing_everywhere_is_no_matter_of_rows(
        self, make_store: Callable[..., osc.Store]
    ) -> None:
        rows = [{"id": f"r{i}", "body": "x"} for i in range(20)]
        with pytest.raises(InputError, match=r"no column 'text'.*Fields\(text="):
            make_store().ingest_job(rows, name="j", on_error="skip")

    def test_a_wrong_type_is_held_against_those_who_have_it(
        self, make_store: Callable[..., osc.Store]
    ) -> None:
        store = make_store()
        rows = numbered(20)
        rows[4]["position"] = "first"
        rows[5]["digest"] = "reserved"
        report = store.ingest_job(rows, name="j", on_error="skip")
        assert (report.added, report.rejected) == (18, 2)
        # what the store holds decides about later rows
        report = store.ingest_job(numbered(5, 20, year="old"), name="j", on_error="skip")
        assert (report.added, report.rejected) == (0, 5)

    def test_many_bad_rows_take_no_square_of_time(
        self, make_store: Callable[..., osc.Store]
    ) -> None:
        # rows without vectors leave nothing to be done but finding them
        seconds = []
        for count in (1000, 4000):
            rows = [row | {"vector": [1.0, 2.0]} for row in numbered(count)]
            for i in range(1, count):
                rows[i] |= {"text": None} if i % 2 else {"year": "x"}
            store = make_store(f"{count}.osc", embedder=None)
            started = time.process_time()
            report = store.ingest_job(rows, name="j", batch=count, on_error="skip")
            seconds.append(time.process_time() - started)
            assert (report.added, report.rejected) == (1, count - 1)
        assert seconds[1] < 10 * max(seconds[0], 0.2)


class TestSources:
    def test_files_of_every_kind(
        self, make_store: Callable[..., osc.Store], tmp_path: Path
    ) -> None:
        tables = [pa.Table.from_pylist(numbered(5, start)) for start in range(0, 30, 5)]
        pq.write_table(tables[0], tmp_path / "0.parquet")
        with pa.ipc.new_file(tmp_path / "1.arrow", tables[1].schema) as file:
            file.write_table(tables[1])
        with pa.ipc.new_stream(tmp_path / "2.arrows", tables[2].schema) as stream:
            stream.write_table(tables[2])
        write(tmp_path / "3.jsonl", tables[3].to_pylist())
        with gzip.open(tmp_path / "4.jsonl.gz", "wt") as zipped:
            zipped.writelines(f"{json.dumps(row)}\n" for row in tables[4].to_pylist())
        duckdb.from_arrow(tables[5]).write_csv(str(tmp_path / "5.csv"))
        store = make_store()
        report = store.ingest_job(str(tmp_path / "[0-9].*"), name="j", batch=7)
        assert (report.added, report.batches) == (30, 5)
        assert content(store) == sorted(numbered(30), key=lambda row: row["id"])

    def test_relations_readers_and_tables(self, make_store: Callable[..., osc.Store]) -> None:
        store = make_store()
        con = duckdb.connect()
        relation = con.sql("SELECT 'd' || range AS id, 'text ' || range AS text FROM range(25)")
        assert store.ingest_job(relation, name="duckdb", batch=10).batches == 3
        table = pa.Table.from_pylist(numbered(25))
        assert store.ingest_job(table, name="table", batch=10).batches == 3
        reader = pa.Table.from_pylist(numbered(25, 25)).to_reader(4)
        assert store.ingest_job(reader, name="reader", batch=10).batches == 3
        assert len(store) == 75
        con.close()

    def test_a_query_goes_on_while_its_files_are_the_same(
        self,
        make_store: Callable[..., osc.Store],
        tmp_path: Path,
        stop_after: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = write(tmp_path / "a.jsonl", numbered(20))
        query = Query(f"SELECT id, text, year FROM '{tmp_path}/*.jsonl' WHERE year <> 2001")
        store = make_store()
        resumed = []
        for _ in range(2):
            stop_after(1)
            with pytest.raises(_StopError):
                store.ingest_job(query, name="j", batch=6)
            monkeypatch.undo()
            resumed.append(store.jobs()[0].position)
        assert resumed == [6, 12]
        write(path, numbered(19))
        report = store.ingest_job(query, name="j", batch=6)
        assert (report.resumed, report.unchanged, report.added) == (False, 12, 5)
        for bad in ("SELEC 1", "SELECT * FROM 'nowhere.parquet'", "CREATE TABLE t (i INTEGER)"):
            with pytest.raises(InputError, match="query"):
                store.ingest_job(Query(bad), name="bad")

    @pytest.mark.parametrize("form", ["jsonl", "csv", "arrow"])
    def test_streams(self, make_store: Callable[..., osc.Store], form: Any) -> None:
        table = pa.Table.from_pylist(numbered(12))
        data = io.BytesIO()
        if form == "jsonl":
            data.write("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()).encode())
        elif form == "csv":
            pa.csv.write_csv(table, data)
        else:
            with pa.ipc.new_stream(data, table.schema) as stream:
                stream.write_table(table)
        data.seek(0)
        store = make_store()
        report = store.ingest_job(Stream(data, form), name="j", batch=5)
        assert (report.added, report.batches) == (12, 3)
        assert content(store) == sorted(numbered(12), key=lambda row: row["id"])
        with pytest.raises(InputError, match="standard input"):
            store.ingest_job(Stream(io.BytesIO(b"\x00nothing"), form), name="j")


def test_missing_columns_of_a_later_batch_are_null(make_store: Callable[..., osc.Store]) -> None:
    fields = osc.Fields(title="head", sequence="doc", position="at", facets=["who"])
    store = make_store(fields=fields)
    with pytest.raises(InputError, match="'who'"):
        store.ingest([{"id": "a", "text": "x", "head": "A", "doc": "d", "at": 1}])
    store.ingest([{"id": "a", "text": "x", "head": "A", "doc": "d", "at": 1, "who": "Ann"}])
    store.ingest([{"id": "b", "text": "y"}])
    assert store.ingest_job([{"id": "c", "text": "z"}], name="j").added == 1
    later = store.get(["b", "c"])
    assert all(row[name] is None for row in later for name in ("title", "sequence", "who"))
    # a name that is new in this call must be right
    with pytest.raises(InputError, match="'headline'"):
        store.ingest([{"id": "d", "text": "x"}], fields=osc.Fields(title="headline"))


def test_key_sets_hold_what_was_added() -> None:
    rng = np.random.default_rng(1)
    keys, oracle = KeySet(), set[int]()
    for size in (0, 1, 5, 1000, 3, 3, 70, 2000, 1, 1):
        batch = rng.integers(0, 4000, size).astype(np.uint64)
        keys.add(batch)
        oracle |= set(batch.tolist())
        wanted = rng.integers(0, 5000, 300).astype(np.uint64)
        assert keys.holds(wanted).tolist() == [key in oracle for key in wanted.tolist()]
        assert keys.sorted().tolist() == sorted(oracle)
        assert contained(wanted, keys.sorted()).tolist() == keys.holds(wanted).tolist()


_CHILD = """
import sys
import oscillink_store as osc
root, source, side = sys.argv[1:]
with osc.connect(root, embedder=None) as store:
    print("ready", flush=True)
    store.ingest_job(
        source, name="nightly", batch=100, sync=True, on_error="skip", rejected=side
    )
"""


def _killed_until_done(root: Path, source: Path, side: Path, run: int) -> int:
    """Run the job in processes that are killed at random moments; how many were."""
    moment = random.Random(run)
    kills = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(root), str(source), str(side)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"ready\n"
            try:
                # more and more patient, so that it ends on a machine of any speed
                assert child.wait(moment.uniform(0.05, 0.35) * (1 + kills / 3)) == 0
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
        with osc.connect(root) as store:
            job = next(iter(store.jobs()), None)
            ids = store.to_arrow(["id"])["id"].to_pylist()
            assert len(set(ids)) == len(ids)
            if job is None or job.run < run:
                continue
            if job.finished:
                return kills
            if run == 1:
                assert len(ids) == job.anchors == job.added == job.position - job.rejected


def test_killed_at_any_moment(disk: Path) -> None:
    rng = np.random.default_rng(5)
    rows = numbered(1000)
    vectors = rng.standard_normal((len(rows), 8)).round(3)
    for row, vector in zip(rows, vectors.tolist(), strict=True):
        row["vector"] = vector
    for place in range(7, len(rows), 97):
        rows[place]["text"] = ""
    source = write(disk / "a.jsonl", rows)
    later = [dict(row) for i, row in enumerate(rows) if i % 3]
    for changed in later[::4]:
        changed["text"] = changed["text"] and changed["text"] + " again"
    outcomes, kills = [], 0
    for name in ("whole", "killed"):
        root, side = disk / f"{name}.osc", disk / f"{name}.jsonl"
        sides = []
        for turn, content_ in enumerate((rows, later)):
            write(source, content_)
            if name == "whole":
                with osc.connect(root) as store:
                    store.ingest_job(
                        source, name="nightly", batch=100, sync=True, on_error="skip",
                        rejected=side,
                    )  # fmt: skip
            else:
                kills += _killed_until_done(root, source, side, turn + 1)
            sides.append(side.read_text())
        with osc.connect(root) as store:
            assert store.verify().ok
            (job,) = store.jobs()
            (row,) = ledger(store)
            table = store.to_arrow(["id", "text", "year"]).sort_by("id")
            outcomes.append((
                table.to_pylist(), job.run, job.position, job.anchors, row.ids.tolist(), sides,
                (job.added, job.updated, job.unchanged, job.rejected), job.deleted, job.finished,
            ))  # fmt: skip
    assert outcomes[0] == outcomes[1]
    assert kills >= 3
