"""Write-ahead files of receipts: real files, real processes, killed and forked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import duckdb
import lance
import numpy as np
import pyarrow as pa
import pytest

from oscillink_store.errors import ClosedError, IntegrityError
from oscillink_store.receipts.chain import Head, verify_chains
from oscillink_store.receipts.content import ingest_content, search_content
from oscillink_store.receipts.layout import GENESIS
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage import wal
from oscillink_store.storage.head_file import head_path, read_head
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA, from_arrow, to_arrow
from oscillink_store.storage.wal import Ledger
from oscillink_store.storage.wal_files import (
    is_alive,
    pending_receipts,
    read_wal,
    remove_wal,
    wal_files,
)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "receipts"


def run(script, *arguments, timeout=60):
    """Run a script in another interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def dead_wals(directory):
    return [read_wal(path) for path in wal_files(directory) if not is_alive(path)]


def receipts_in(directory):
    receipts, problems = pending_receipts(directory)
    assert problems == []
    return receipts


def test_entries_lie_on_disk_as_they_were_returned(directory):
    with Ledger(directory) as ledger:
        assert ledger.head == Head(sequence=0, hash=GENESIS)
        written = [ledger.record({"kind": "search", "n": n}, label="x") for n in range(5)]
        assert receipts_in(directory) == written  # before any close: nothing is buffered
    assert [receipt.sequence for receipt in written] == [1, 2, 3, 4, 5]
    assert {receipt.writer for receipt in written} == {ledger.writer}
    assert ledger.head == Head(sequence=5, hash=written[-1].hash)
    assert verify_chains(written, {ledger.writer: [ledger.head]}).ok
    (path,) = wal_files(directory)
    assert path.read_bytes() == b"".join(receipt.to_bytes() + b"\n" for receipt in written)


def test_nothing_is_made_before_the_first_entry_and_nothing_at_all_when_off(directory):
    with Ledger(directory, durability="off") as ledger:
        first, second = ledger.record({"n": 1}), ledger.record({"n": 2})
        assert second.previous == first.hash
        assert second.verify()
        ledger.rotate()
    Ledger(directory).close()
    assert not directory.exists()
    assert wal_files(directory) == []
    assert receipts_in(directory) == []


def test_a_closed_ledger_refuses(directory):
    ledger = Ledger(directory)
    ledger.record({"n": 1})
    ledger.close()
    ledger.close()
    with pytest.raises(ClosedError):
        ledger.record({"n": 2})
    assert len(receipts_in(directory)) == 1


def test_a_content_that_cannot_be_sealed_leaves_the_chain_whole(directory):
    with Ledger(directory) as ledger:
        ledger.record({"n": 1})
        with pytest.raises(ValueError, match=r"content\.n is nan"):
            ledger.record({"n": float("nan")})
        assert ledger.record({"n": 2}).sequence == 2
    assert verify_chains(receipts_in(directory)).ok


def test_threads_share_one_chain(directory):
    with Ledger(directory) as ledger, ThreadPoolExecutor(8) as pool:
        returned = list(pool.map(lambda n: ledger.record({"n": n}), range(600)))
    stored = receipts_in(directory)
    assert verify_chains(stored, {ledger.writer: [ledger.head]}).require().receipts == 600
    assert sorted(returned, key=lambda receipt: receipt.sequence) == stored
    assert [receipt.content["n"] for receipt in returned] == list(range(600))


def test_processes_have_chains_of_their_own(directory):
    with Ledger(directory) as ledger:
        ledger.record({"n": 1})
        run(
            """
            import sys
            from pathlib import Path
            from oscillink_store.storage.wal import Ledger
            with Ledger(Path(sys.argv[1])) as ledger:
                ledger.record({"n": 2})
            """,
            directory,
        )
        assert [is_alive(path) for path in wal_files(directory)].count(True) == 1
    report = verify_chains(receipts_in(directory)).require()
    assert len(report.heads) == report.receipts == 2


def test_killing_the_process_loses_no_entry(directory):
    script = """
        import sys
        from pathlib import Path
        from oscillink_store.storage.wal import Ledger
        ledger = Ledger(Path(sys.argv[1]))
        while True:
            print(ledger.record({"n": 1}).hash, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        seen = [process.stdout.readline().strip() for _ in range(300)]
        (path,) = wal_files(directory)
        assert is_alive(path)
        assert dead_wals(directory) == []
        process.kill()
        seen += process.stdout.read().split()
    assert not is_alive(path)
    (contents,) = dead_wals(directory)
    assert contents.problems == ()
    hashes = [receipt.hash for receipt in contents.receipts]
    seen = [line for line in seen if len(line) == 64]
    assert hashes[: len(seen)] == seen
    # the kill may have fallen between writing an entry and printing it
    assert len(hashes) - len(seen) in (0, 1)
    assert verify_chains(contents.receipts).ok


def test_a_forked_child_is_a_writer_of_its_own(directory):
    output = run(
        """
        import os, sys
        from pathlib import Path
        from oscillink_store.storage.wal import Ledger
        from oscillink_store.storage.wal_files import is_alive, wal_files
        ledger = Ledger(Path(sys.argv[1]))
        ledger.record({"who": "parent"})
        child = os.fork()
        if child == 0:
            receipt = ledger.record({"who": "child"})
            assert receipt.sequence == 1
            ledger.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ledger.record({"who": "parent"})
        print(sorted(is_alive(path) for path in wal_files(Path(sys.argv[1]))))
        ledger.close()
        """,
        directory,
    )
    assert output.strip() == "[False, True]"
    receipts = receipts_in(directory)
    report = verify_chains(receipts).require()
    assert sorted(head.sequence for head in report.heads.values()) == [1, 2]
    assert [item.content["who"] for item in receipts].count("parent") == 2


def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(directory):
    with contextlib.ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, writer)
        script = """
            import os, sys
            from pathlib import Path
            from oscillink_store.storage.wal import Ledger
            ledger = Ledger(Path(sys.argv[1]))
            ledger.record({"who": "parent"})
            if os.fork() == 0:
                os.close(1), os.close(2)
                os.read(int(sys.argv[2]), 1)
            os._exit(0)
        """
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(directory), str(reader)],
            pass_fds=[reader],
            check=True,
            timeout=60,
        )
        os.close(reader)
        (path,) = wal_files(directory)
        assert not is_alive(path)


def test_a_torn_last_line_is_ignored(directory):
    with Ledger(directory) as ledger:
        written = [ledger.record({"n": n}) for n in range(3)]
    (path,) = wal_files(directory)
    whole = path.read_bytes()
    last = len(written[-1].to_bytes()) + 1
    for cut in (1, 2, 50, last - 1):
        path.write_bytes(whole[:-cut])
        contents = read_wal(path)
        assert contents.receipts == tuple(written[:2])
        assert contents.torn == last - cut
        assert contents.problems == ()
    path.write_bytes(whole[: -last // 2] + b"\0" * 20 + b"\n")
    assert read_wal(path).receipts == tuple(written[:2])
    path.write_bytes(b"")
    assert read_wal(path).receipts == ()


def test_a_damaged_line_in_the_middle_is_a_problem_and_keeps_the_file(directory):
    with Ledger(directory) as ledger:
        written = [ledger.record({"n": n}) for n in range(3)]
    (path,) = wal_files(directory)
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"\0" * len(lines[1])
    path.write_bytes(b"\n".join(lines))
    contents = read_wal(path)
    assert contents.receipts == (written[0], written[2])
    assert len(contents.problems) == 1
    assert f"{path.name}, line 2: " in contents.problems[0]
    assert remove_wal(contents) is False
    assert path.exists()
    assert pending_receipts(directory)[1] == list(contents.problems)
    assert [item.fault for item in verify_chains(contents.receipts).problems] == ["missing"]


def test_an_edited_line_is_read_and_fails_verification(directory):
    with Ledger(directory) as ledger:
        for n in range(3):
            ledger.record({"n": n + 10})
    (path,) = wal_files(directory)
    path.write_bytes(path.read_bytes().replace(b'"n":11', b'"n":12'))
    with pytest.raises(IntegrityError, match="entry 2 of writer"):
        verify_chains(receipts_in(directory)).require()


def test_bytes_beyond_the_last_entry_are_cut_before_the_next(directory):
    with Ledger(directory) as ledger:
        ledger.record({"n": 1})
        (path,) = wal_files(directory)
        with path.open("ab") as file:  # as an append leaves it that was interrupted halfway
            file.write(b'{"content":{"n":2')
        ledger.record({"n": 2})
    assert read_wal(path).torn == 0
    assert verify_chains(receipts_in(directory)).require().receipts == 2


@pytest.mark.parametrize("rotated", [False, True])
def test_an_entry_that_was_not_recorded_is_cut_off_at_the_end(directory, monkeypatch, rotated):
    def failing(_descriptor):
        raise OSError(5, "Input/output error")

    with Ledger(directory, durability="sync") as ledger:
        head = Head(sequence=1, hash=ledger.record({"n": 1}).hash)
        with monkeypatch.context() as patch:
            patch.setattr(wal, "ROTATE_BYTES", 1 if rotated else 1 << 20)
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(OSError, match="Input/output error"):
                ledger.record({"n": 2})
    told = read_head(head_path(directory, ledger.writer))
    assert (told.closed, told.head) == (True, head)
    assert len(receipts_in(directory)) == 1


def test_a_rotated_file_is_dead_and_the_chain_goes_on(directory):
    with Ledger(directory) as ledger:
        before = [ledger.record({"n": n}) for n in range(3)]
        assert dead_wals(directory) == []
        ledger.rotate()
        ledger.rotate()
        after = [ledger.record({"n": n}) for n in range(2)]
        (contents,) = dead_wals(directory)
        assert contents.receipts == tuple(before)
        assert len(wal_files(directory)) == 2
        assert receipts_in(directory) == before + after

        folded = {ledger.writer: Head(sequence=3, hash=before[-1].hash)}
        assert pending_receipts(directory, folded) == (after, [])
        assert remove_wal(contents) is True
        assert remove_wal(contents) is True  # it is gone, which is what was asked
        assert pending_receipts(directory, folded) == (after, [])
        assert verify_chains(after, after=folded).ok


def test_only_an_unchanged_file_without_a_writer_is_removed(directory):
    with Ledger(directory) as ledger:
        ledger.record({"n": 1})
        (path,) = wal_files(directory)
        early = read_wal(path)
        assert remove_wal(early) is False
        ledger.record({"n": 2})
    assert remove_wal(early) is False
    assert len(receipts_in(directory)) == 2
    assert remove_wal(read_wal(path)) is True
    assert wal_files(directory) == []


def test_a_full_file_is_followed_by_another(directory, monkeypatch):
    monkeypatch.setattr(wal, "ROTATE_BYTES", 2000)
    with Ledger(directory) as ledger:
        written = [ledger.record({"n": n}) for n in range(30)]
        assert len(wal_files(directory)) > 3
        assert all(path.stat().st_size < 3000 for path in wal_files(directory))
        assert [is_alive(path) for path in wal_files(directory)].count(True) == 1
    assert receipts_in(directory) == written
    assert verify_chains(receipts_in(directory)).ok


def test_a_new_file_that_was_taken_for_an_abandoned_one_is_made_again(directory, monkeypatch):
    # between its creation and its lock a file looks abandoned: another process removes it then
    original, removed = fcntl.flock, []

    def late(file, operation):
        if operation == fcntl.LOCK_EX and len(removed) < 2 and wal_files(directory):
            (path,) = wal_files(directory)
            path.unlink()
            removed.append(path)
        original(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with Ledger(directory) as ledger:
        written = [ledger.record({"n": n}) for n in range(3)]
        (path,) = wal_files(directory)
        assert is_alive(path)
    assert len(removed) == 2
    assert receipts_in(directory) == written


@pytest.mark.parametrize("durability", ["sync", "batch"])
def test_a_full_disk_leaves_whole_lines_and_the_chain_goes_on(directory, durability):
    # a limit on the file's size cuts a write short just as a full disk does
    output = run(
        """
        import resource, sys
        from pathlib import Path
        from oscillink_store.errors import DiskError
        from oscillink_store.storage.wal import Ledger
        from oscillink_store.storage.wal_files import wal_files
        directory = Path(sys.argv[1])
        ledger = Ledger(directory, durability=sys.argv[2])
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        done = 0
        try:
            while True:
                ledger.record({"n": done})
                done += 1
        except DiskError as error:
            print(error)
        (path,) = wal_files(directory)
        assert path.read_bytes().endswith(b"}\\n")
        assert path.read_bytes().count(b"\\n") == done == ledger.head.sequence
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        ledger.record({"n": done})
        ledger.close()
        print(done)
        """,
        directory,
        durability,
    )
    message, done = output.splitlines()
    assert "the disk is full" in message
    assert "free some space" in message
    assert int(done) >= 2
    assert verify_chains(receipts_in(directory)).require().receipts == int(done) + 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    # root may write anywhere, so the process gives up its privileges first
    output = run(
        """
        import os, sys, tempfile
        from pathlib import Path
        from oscillink_store.errors import ReadOnlyError
        from oscillink_store.storage.wal import Ledger
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o555)
            if os.geteuid() == 0:
                os.seteuid(65534)
            try:
                Ledger(Path(root) / "receipts").record({"n": 1})
            except ReadOnlyError as error:
                print(error)
            finally:
                os.seteuid(os.getuid())
                os.chmod(root, 0o755)
        """,
    )
    assert 'durability="off"' in output


def test_a_file_in_the_way_is_reported_as_a_store_error(tmp_path):
    (tmp_path / "receipts").write_text("")
    with (
        Ledger(tmp_path / "receipts") as ledger,
        pytest.raises(OSError, match="receipt could not be written"),
    ):
        ledger.record({"n": 1})


@pytest.fixture
def syncs(monkeypatch):
    """Count the calls of fdatasync, which are made all the same."""
    original, calls, called = os.fdatasync, [], threading.Event()

    def counting(descriptor):
        original(descriptor)
        calls.append(descriptor)
        called.set()

    monkeypatch.setattr(os, "fdatasync", counting)
    return calls, called


def test_sync_forces_every_entry_to_the_disk(directory, syncs):
    with Ledger(directory, durability="sync") as ledger:
        for n in range(5):
            ledger.record({"n": n})
            assert len(syncs[0]) == n + 1
    assert len(syncs[0]) == 5


def test_batch_syncs_by_number_and_on_close(directory, syncs, monkeypatch):
    monkeypatch.setattr(wal, "SYNC_SECONDS", 3600.0)
    with Ledger(directory, durability="batch") as ledger:
        for n in range(wal.SYNC_ENTRIES - 1):
            ledger.record({"n": n})
        assert len(syncs[0]) == 0
        ledger.record({"n": -1})
        assert len(syncs[0]) == 1
        ledger.record({"n": -2})
    assert len(syncs[0]) == 2


def test_batch_syncs_what_is_left_after_a_while(directory, syncs, monkeypatch):
    monkeypatch.setattr(wal, "SYNC_SECONDS", 0.01)
    calls, called = syncs
    with Ledger(directory, durability="batch") as ledger:
        for _ in range(2):  # the timer starts anew after it has run
            called.clear()
            ledger.record({"n": 1})
            assert called.wait(30)
        count = len(calls)
    assert len(calls) == count  # nothing was left for the close


def test_a_failed_sync_in_the_background_is_raised_by_the_next_entry(directory, monkeypatch):
    failed = threading.Event()

    def failing(_descriptor):
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(wal, "SYNC_SECONDS", 0.01)
    with Ledger(directory) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            ledger.record({"n": 1})
            assert failed.wait(30)
            deadline = time.monotonic() + 30
            while ledger._timer is None and ledger._failure is None:
                assert time.monotonic() < deadline
        with pytest.raises(OSError, match="Input/output error"):
            ledger.record({"n": 2})
        assert ledger.record({"n": 2}).sequence == 2
    assert verify_chains(receipts_in(directory)).ok


def search_example(n):
    return search_content(
        generation=n,
        text="who?",
        vector=np.ones(3),
        where=None,
        asked=None,
        k=2,
        only=False,
        detail="full",
        state={},
        parameters={"sources": 3},
        parameter_version=1,
        kernel_version=1,
        candidates=["a", "b", "c"],
        results=["b", "c"],
        scores=[2.0, 0.5 + n],
        first_evidence=1.5,
        fifth_evidence=None,
        best_cosine=0.25,
        delta_h=4.0,
        terms={"graph": {"knn": 4.0}},
        iterations=5,
        residual=1e-6,
        converged=True,
        knn_recall=1.0,
        coherence=None,
        null_points=None,
        contested=None,
    )


def test_receipts_become_a_table_and_come_back(tmp_path):
    ingest = ingest_content(
        generation=1,
        parent=0,
        batch="ab" * 32,
        added=3,
        updated=0,
        unchanged=0,
        deleted=0,
        anchors=3,
        edges={},
        embedder=None,
        dimension=3,
        parameters={},
        parameter_version=1,
        kernel_version=1,
        knn_recall=1.0,
        manifest="ef" * 32,
        change={"edges_added": {"knn": 3}, "mean_drift": 0.25, "delta_h": None, "sampled": 0},
    )
    with Ledger(tmp_path / "receipts") as ledger:
        receipts = [ledger.record(ingest)]
        receipts += [ledger.record(search_example(n), label=f"run {n}") for n in range(3)]
    table = to_arrow(receipts)
    assert table.schema == RECEIPT_SCHEMA
    lance.write_dataset(table, tmp_path / "receipts.lance")
    stored = lance.dataset(tmp_path / "receipts.lance").to_table()
    assert stored.equals(table)
    assert list(from_arrow(stored)) == receipts
    assert verify_chains(from_arrow(stored)).ok

    row = table.to_pylist()[2]
    assert row["time"] == datetime.fromisoformat(receipts[2].time)
    assert row["time"].utcoffset() == datetime.now(UTC).utcoffset()
    assert row["result_ids"] == ["b", "c"]
    assert row["scores"] == [2.0, 1.5]
    assert row["candidates"] == 3
    assert row["label"] == "run 1"
    assert row["fifth_evidence"] is None
    assert row["hash"] == receipts[2].hash
    assert row["body"] == receipts[2].to_json()
    assert table.to_pylist()[0]["result_ids"] is None

    with duckdb.connect() as con:
        con.register("receipts", stored)
        found = con.execute(
            "SELECT kind, count(*), max(delta_h), max(scores[2]) FROM receipts "
            "WHERE time > TIMESTAMPTZ '2020-01-01' GROUP BY kind ORDER BY kind"
        ).fetchall()
        assert found == [("ingest", 1, None, None), ("search", 3, 4.0, 2.5)]


def test_an_empty_table_keeps_its_columns():
    table = to_arrow([])
    assert table.schema == RECEIPT_SCHEMA
    assert list(from_arrow(table)) == []


def test_a_body_that_is_no_receipt_is_refused():
    table = pa.table({"body": ["{}"]})
    with pytest.raises(IntegrityError):
        list(from_arrow(table))


def test_a_line_read_by_hand_is_a_receipt(directory):
    with Ledger(directory) as ledger:
        written = ledger.record({"kind": "search"})
    (path,) = wal_files(directory)
    assert Receipt.from_json(path.read_text()).verify()
    assert Receipt.from_json(path.read_text()) == written
