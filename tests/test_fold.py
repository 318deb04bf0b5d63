"""Receipts over many processes: recorded, folded into the table, listed once each."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import oscillink_store as osc
from oscillink_store.engine import fold
from oscillink_store.receipts.chain import verify_chains
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.manifest import read_current
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA


def row(name: str) -> dict[str, Any]:
    return {"id": name, "text": f"text of {name}"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[osc.Store]:
    with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
        store.ingest([row(f"r{i}") for i in range(10)])
        yield store


def wals(store: osc.Store) -> list[Path]:
    return sorted((store.path / "receipts").glob("*.wal"))


def folded(store: osc.Store) -> int:
    table = read_current(store.path).tables.get("receipts")
    return 0 if table is None else table.rows


def assert_each_once(store: osc.Store, count: int) -> pa.Table:
    table = store.receipts()
    assert table.schema.equals(RECEIPT_SCHEMA)
    assert table.num_rows == count
    assert len(set(table["hash"].to_pylist())) == count
    receipts = [Receipt.from_json(body) for body in table["body"].to_pylist()]
    by_writer = Counter(receipt.writer for receipt in receipts)
    for writer, entries in by_writer.items():
        numbers = sorted(r.sequence for r in receipts if r.writer == writer)
        assert numbers == list(range(1, entries + 1))
    report = store.verify()
    assert report.problems == ()
    assert report.receipts == count
    return table


def test_a_chain_runs_through_searches_and_ingests(store: osc.Store) -> None:
    searched = [store.search(f"r{i}", label=f"label {i}").receipt for i in range(3)]
    report = store.ingest([row("new")])
    last = store.search("new").receipt
    assert report.receipt is not None
    chain = [*searched, report.receipt, last]
    assert [receipt.sequence for receipt in chain] == [2, 3, 4, 5, 6]
    assert [r.previous for r in chain[1:]] == [r.hash for r in chain[:-1]]
    assert len({receipt.writer for receipt in chain}) == 1
    assert verify_chains(chain, after=None).problems  # its first entry is missing here
    assert report.receipt.content["generation"] == 2
    assert report.receipt.content["parent"] == 1
    assert report.receipt.content["added"] == 1
    assert last.content["generation"] == 2
    table = assert_each_once(store, 6).sort_by("sequence")
    assert table["kind"].to_pylist() == ["ingest"] + ["search"] * 3 + ["ingest", "search"]
    assert table["label"].to_pylist()[1:4] == ["label 0", "label 1", "label 2"]
    assert table["scores"].to_pylist()[1] == searched[0].scores
    assert table["result_ids"].to_pylist()[1] == searched[0].result_ids


def test_few_receipts_wait(store: osc.Store) -> None:
    for i in range(fold._LEAST_FILES - 2):
        store.ingest([row(f"more{i}")])
    assert len(wals(store)) == fold._LEAST_FILES - 1
    assert folded(store) == 0
    assert_each_once(store, fold._LEAST_FILES - 1)


def test_many_files_are_folded(store: osc.Store) -> None:
    for i in range(40):
        store.ingest([row(f"more{i}")])
        assert len(wals(store)) <= fold._LEAST_FILES
    assert folded(store) >= 32
    assert_each_once(store, 41)


def test_many_receipts_are_folded(store: osc.Store) -> None:
    for i in range(fold._LEAST_RECEIPTS):
        store.search(f"r{i % 10}")
    assert folded(store) == 0
    store.ingest([row("new")])
    assert folded(store) == 1 + fold._LEAST_RECEIPTS
    assert len(wals(store)) == 1
    store.search("new")
    table = assert_each_once(store, fold._LEAST_RECEIPTS + 3)
    assert table["sequence"].to_pylist() == list(range(1, fold._LEAST_RECEIPTS + 4))
    store.close()
    with osc.connect(store.path, read_only=True) as reader:
        assert reader.receipts().equals(table)


def test_a_living_writer_keeps_its_file(store: osc.Store) -> None:
    with osc.connect(store.path) as other:
        for i in range(fold._LEAST_RECEIPTS):
            other.search(f"r{i % 10}")
        store.ingest([row("new")])
        assert folded(store) == 0
        other.search("new")
    store.ingest([row("newer")])
    assert folded(store) == 3 + fold._LEAST_RECEIPTS
    assert_each_once(store, 4 + fold._LEAST_RECEIPTS)


def test_a_writer_goes_on_after_it_was_folded(store: osc.Store) -> None:
    with osc.connect(store.path) as other:
        for start in range(3):
            for i in range(fold._LEAST_RECEIPTS // 2 + 1):
                other.search(f"r{i % 10}")
            other.ingest([row(f"other{start}")])
            store.ingest([row(f"new{start}")])
    assert folded(store) > fold._LEAST_RECEIPTS
    assert_each_once(store, 1 + 3 * (fold._LEAST_RECEIPTS // 2 + 3))


def test_a_crash_between_folding_and_removing_shows_nothing_twice(store: osc.Store) -> None:
    for i in range(fold._LEAST_FILES):
        store.ingest([row(f"more{i}")])
        if i == fold._LEAST_FILES - 2:
            kept = {path.name: path.read_bytes() for path in wals(store)}
    count = folded(store)
    assert count == fold._LEAST_FILES
    for name, content in kept.items():  # as if the files had never been removed
        (store.path / "receipts" / name).write_bytes(content)
    assert len(wals(store)) == fold._LEAST_FILES + 1
    assert_each_once(store, fold._LEAST_FILES + 1)
    store.ingest([row("again")])
    assert_each_once(store, fold._LEAST_FILES + 2)
    assert folded(store) in (count, count + 1)
    for i in range(fold._LEAST_FILES):
        store.ingest([row(f"later{i}")])
    assert_each_once(store, 2 * fold._LEAST_FILES + 2)


def test_empty_and_torn_files_are_folded_away(store: osc.Store) -> None:
    folder = store.path / "receipts"
    for i in range(fold._LEAST_FILES):
        (folder / f"{i:016x}.000000000001.wal").write_bytes(b"" if i % 2 else b'{"content"')
    assert store.verify().ok
    store.ingest([row("new")])
    assert len(wals(store)) == 1
    assert folded(store) == 1
    assert_each_once(store, 2)


def test_durability_off_records_nothing(store: osc.Store) -> None:
    with osc.connect(store.path, durability="off") as quiet:
        assert quiet.search("r1").receipt.verify()
        assert quiet.ingest([row("quiet")]).receipt is not None
    assert_each_once(store, 1)


def test_many_processes(tmp_path: Path) -> None:
    path = tmp_path / "s.osc"
    script = """
        import sys
        import oscillink_store as osc
        number = int(sys.argv[2])
        for turn in range(7):
            with osc.connect(sys.argv[1], embedder="hash:16", lock_timeout=60) as store:
                store.search("text")
                store.ingest([{"id": f"p{number}t{turn}", "text": f"text {number} {turn}"}])
                store.search("text", label=f"{number}")
                assert store.verify().problems == (), store.verify().problems
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(path), str(number)],
            stderr=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    errors = [child.communicate(timeout=200)[1] for child in children]
    assert errors == ["", "", ""]
    with osc.connect(path) as store:
        assert len(store) == 21
        table = assert_each_once(store, 63)
        assert Counter(table["kind"].to_pylist()) == {"search": 42, "ingest": 21}
        assert Counter(table["label"].to_pylist()) == {None: 42, "0": 7, "1": 7, "2": 7}
        assert folded(store) > 0
        generations = sorted(
            entry["generation"] for entry in table.to_pylist() if entry["kind"] == "ingest"
        )
        assert generations == list(range(1, 22))


def test_a_maintenance_folds_into_the_table_that_it_merges(store: osc.Store) -> None:
    for i in range(2):  # a fragment of receipts each
        for _ in range(fold._LEAST_RECEIPTS):
            store.search("text")
        store.ingest([row(f"more{i}")])
    for _ in range(fold._LEAST_RECEIPTS):
        store.search("text")
    store.maintain()
    assert folded(store) == 3 * fold._LEAST_RECEIPTS + 3
    receipts = store.current().table("receipts")
    assert receipts is not None
    # two merged, one folded behind them
    assert receipts.fragments == [2 * fold._LEAST_RECEIPTS + 2, fold._LEAST_RECEIPTS + 1]
    assert_each_once(store, 3 * fold._LEAST_RECEIPTS + 3)
