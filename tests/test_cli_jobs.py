"""Ingest jobs on the command line: options, sources, what is printed, and interruptions."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cli_run import Run

import oscillink_store as osc


def write(path: Path, ids: range, **more: Any) -> Path:
    rows = [{"id": f"r{i}", "text": f"note {i} of matter {i % 4}"} | more for i in ids]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def ids(store: Path) -> list[str]:
    with osc.connect(store) as opened:
        return sorted(opened.to_arrow(["id"])["id"].to_pylist())


def test_a_job_and_its_second_run(cli: Callable[..., Run], tmp_path: Path) -> None:
    store, path = tmp_path / "a.osc", write(tmp_path / "a.jsonl", range(10))
    run = cli("ingest", store, path, "--job", "nightly", "--batch", 4)
    assert run.code == 0
    for piece in ("job nightly, run 1", "generation 4", "added", "10", "batches", "3"):
        assert piece in run.out
    assert run.err.startswith("note: the vectors come from")
    write(path, range(3, 12))
    again = cli("ingest", store, path, "--job", "nightly", "--sync", "--json")
    assert again.err == ""
    wanted = {"name": "nightly", "run": 2, "added": 2, "deleted": 3, "unchanged": 7, "updated": 0}
    assert wanted.items() <= again.document.items()
    assert ids(store) == sorted(f"r{i}" for i in range(3, 12))


def test_jobs_are_listed(cli: Callable[..., Run], tmp_path: Path) -> None:
    store, path = tmp_path / "a.osc", write(tmp_path / "a.jsonl", range(10))
    cli("ingest", store, path)
    # the line may break anywhere behind the folder
    assert "has no jobs" in " ".join(cli("jobs", store).out.split())
    assert cli("jobs", store, "--json").document == []
    cli("ingest", store, path, "--job", "nightly")
    shown = cli("jobs", store)
    assert (shown.code, shown.err) == (0, "")
    for piece in ("nightly", "finished", "read", "10"):
        assert piece in shown.out
    (job,) = cli("jobs", store, "--json").document
    assert (job["name"], job["finished"], job["unchanged"], job["position"]) == (
        "nightly", True, 10, 10,
    )  # fmt: skip


def test_rejected_rows(cli: Callable[..., Run], tmp_path: Path) -> None:
    store, path = tmp_path / "a.osc", write(tmp_path / "a.jsonl", range(5))
    with path.open("a") as file:
        file.write('{"id": "bad", "text": ""}\nno JSON\n')
    stopped = cli("ingest", store, path, "--job", "j")
    assert (stopped.code, stopped.out) == (1, "")
    assert "line 7 is not JSON" in stopped.err
    assert stopped.err.count("\n") == 1
    side = tmp_path / "rejected.jsonl"
    skipping = ("--job", "j", "--on-error", "skip")
    run = cli("ingest", store, path, *skipping, "--rejected", side, "--json")
    assert run.document["rejected"] == 2
    assert [json.loads(line)["row"] for line in side.read_text().splitlines()] == [6, 5]
    write(path, range(2))
    with path.open("a") as file:
        file.write("no JSON\n")
    run = cli("ingest", store, path, *skipping, "--sync")
    assert "note: 1 rows were left out: --rejected FILE" in run.err
    assert "note: 3 anchors that the source does not hold were kept" in run.err


def test_a_query(cli: Callable[..., Run], tmp_path: Path) -> None:
    store = tmp_path / "a.osc"
    for name, some in (("a", range(4)), ("b", range(4, 9))):
        write(tmp_path / f"{name}.jsonl", some)
    query = f"SELECT id, upper(text) AS text FROM '{tmp_path}/*.jsonl' WHERE id <> 'r3'"
    assert cli("ingest", store, "--sql", query, "--job", "q", "--json").document["added"] == 8
    assert cli("ingest", store, "--sql", query, "--json").document["unchanged"] == 8
    found = cli("search", store, "matter", "--json").document["hits"]
    assert all(hit["text"].startswith("NOTE") for hit in found)
    bad = cli("ingest", store, "--sql", "SELECT nothing FROM nowhere", "--job", "q")
    assert (bad.code, bad.out, bad.err.count("\n")) == (1, "", 1)
    assert "nowhere" in bad.err


@pytest.mark.parametrize("form", ["jsonl", "csv", "arrow"])
@pytest.mark.parametrize("job", [(), ("--job", "j")], ids=["once", "job"])
def test_standard_input(
    cli: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    job: tuple[str, ...],
) -> None:
    table = pa.table({"id": ["a", "b"], "text": ["one", "two"]})
    data = io.BytesIO()
    if form == "jsonl":
        data.write(b'{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n')
    elif form == "csv":
        data.write(b"id,text\na,one\nb,two\n")
    else:
        with pa.ipc.new_stream(data, table.schema) as stream:
            stream.write_table(table)
    data.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    run = cli("ingest", tmp_path / "a.osc", "-", "--format", form, *job, "--json")
    assert run.document["added"] == 2
    assert ids(tmp_path / "a.osc") == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "SOURCE"),
        (("x.jsonl", "--sql", "SELECT 1"), "SOURCE"),
        (("x.jsonl", "-"), "stands alone"),
        (("x.jsonl", "--sync"), "--sync needs --job"),
        (("x.jsonl", "--batch", "5"), "--batch needs --job"),
        (("x.jsonl", "--on-error", "skip"), "--on-error needs --job"),
        (("x.jsonl", "--rejected", "r"), "--rejected needs --job"),
        (("x.jsonl", "--job", "j", "--rejected", "r"), "--on-error skip"),
        (("x.jsonl", "--job", "j", "--batch", "0"), "--batch"),
        (("x.jsonl", "--job", "j", "--on-error", "ignore"), "--on-error"),
        (("-", "--format", "xml"), "--format"),
    ],
)
def test_wrong_usage(
    cli: Callable[..., Run], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    run = cli("ingest", tmp_path / "a.osc", *arguments)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert words in run.err
    assert not (tmp_path / "a.osc").exists()


def test_a_job_of_no_proper_name(cli: Callable[..., Run], tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(1))
    run = cli("ingest", tmp_path / "a.osc", path, "--job", "every night")
    assert (run.code, run.out, run.err.count("\n")) == (1, "", 1)
    assert "'every night'" in run.err


def test_ctrl_c_keeps_the_finished_batches(cli: Callable[..., Run], tmp_path: Path) -> None:
    store, path = tmp_path / "a.osc", write(tmp_path / "a.jsonl", range(200))
    cli("ingest", store, write(tmp_path / "b.jsonl", range(1)))
    command = ("ingest", store, path, "--job", "j", "--batch", "5", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "oscillink_store", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    manifests = store / "manifests"
    while process.poll() is None and not any(  # the fourth may be gone soon
        int(path.stem) >= 4 for path in manifests.glob("0*.json")
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"error: interrupted\n")
    assert process.returncode == 130
    (job,) = cli("jobs", store, "--json").document
    assert not job["finished"]
    assert "unfinished" in cli("jobs", store).out
    assert 0 < job["position"] < 200
    assert len(ids(store)) == job["position"]
    ended = cli("ingest", store, path, "--job", "j", "--batch", "200")
    assert "went on where it was interrupted" in ended.out
    (job,) = cli("jobs", store, "--json").document
    assert (job["run"], job["added"], job["unchanged"]) == (1, 199, 1)
