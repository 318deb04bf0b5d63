"""``cluster`` at the command line: make, fill, search, verify, resize, look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_run import Run
from cluster_rows import tenant_rows

import oscillink_store as osc
from oscillink_store.cli.cluster_commands import cluster as commands

COMMANDS = [command.callback.__name__ for command in commands.registered_commands]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in tenant_rows(60)), encoding="utf-8")
    return path


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "filled"
    with osc.create_cluster(path, shards=3, by="tenant", embedder="hash") as cluster:
        cluster.ingest(tenant_rows(60))
    return path


def test_every_command_has_help_with_an_example(cli: Callable[..., Run]) -> None:
    assert "cluster" in cli("--help").out
    overview = cli("cluster", "--help")
    for name in COMMANDS:
        assert name in overview.out
        page = cli("cluster", name, "--help")
        assert page.code == 0
        assert f"Example: oscillink-store cluster {name}" in page.out
        assert "--json" in page.out


def test_a_cluster_is_made_and_filled(
    cli: Callable[..., Run], tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "new"
    made = cli("cluster", "create", path, "--shards", 3, "--by", "tenant", "--embedder", "hash")
    assert (made.code, "3 empty shards" in made.out, "'tenant'" in made.out) == (0, True, True)
    first = cli("cluster", "ingest", path, source, "--executor", "serial", "--json")
    assert (first.document["rows"], first.document["added"]) == (60, 60)
    again = cli("cluster", "ingest", path, source, "--executor", "serial", "--batch", 7)
    assert again.code == 0
    assert "unchanged" in again.out
    with osc.connect_cluster(path) as cluster:
        assert len(cluster) == 60


def test_search_names_shards_and_what_is_missing(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("cluster", "search", filled, "Anna Lund", "-k", 3)
    assert run.code == 0
    assert "3 hits" in run.out
    assert "of 3 shards" in run.out
    assert run.err == ""
    document = cli("cluster", "search", filled, "Anna Lund", "-k", 3, "--json").document
    assert len(document["hits"]) == 3
    assert document["missing"] == {}
    assert sorted(document["receipt"]["parts"]) == ["shard-0000", "shard-0001", "shard-0002"]
    (filled / "shard-0001.osc" / "CURRENT").unlink()
    run = cli("cluster", "search", filled, "Anna Lund", "--json")
    assert run.code == 0
    assert list(run.document["missing"]) == ["shard-0001"]
    assert "shard-0001 was left out" in run.err


def test_verify_ends_with_1_where_a_shard_is_damaged(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("cluster", "verify", filled, "--executor", "serial")
    assert (run.code, "whole: 3 shards" in run.out) == (0, True)
    next((filled / "shard-0002.osc" / "segments").rglob("*.arrays")).unlink()
    run = cli("cluster", "verify", filled, "--executor", "serial", "--json")
    assert run.code == 1
    assert run.document["ok"] is False
    assert all(problem.startswith("shard-0002: ") for problem in run.document["problems"])


def test_resize_and_stats(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("cluster", "resize", filled, 4, "--executor", "serial", "--json")
    assert run.code == 0
    assert sum(run.document["anchors"].values()) == 60
    figures = cli("cluster", "stats", filled, "--json").document
    assert (figures["shards"], figures["anchors"], figures["by"]) == (4, 60, "tenant")
    table = cli("cluster", "stats", filled)
    for piece in ("60 anchors, placed by tenant", "shard-0003", "generation"):
        assert piece in table.out
    assert "4 shards now" in cli("cluster", "resize", filled, 4, "--executor", "serial").out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("stats", "nowhere"), 1, "is no cluster"),
        (("ingest", "nowhere", "rows.jsonl"), 1, "is no cluster"),
        (("create",), 2, "--help"),
        (("create", "new", "--shards", "0"), 2, "--help"),
        (("create", "new", "--by", "text"), 1, "each row's text"),
        (("stats", "filled", "--executor", "threads"), 1, "executor is 'threads'"),
    ],
)
def test_errors_are_one_line(
    cli: Callable[..., Run],
    filled: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(filled.parent)
    run = cli("cluster", *arguments)
    assert (run.code, run.out, run.err.count("\n")) == (code, "", 1)
    assert run.err.startswith("error: ")
    assert words in run.err
    assert not Path("nowhere").exists()


def test_processes_work_from_the_command_line(
    cli: Callable[..., Run], filled: Path, source: Path
) -> None:
    run = cli("cluster", "ingest", filled, source, "--executor", "processes:1", "--json")
    assert run.code == 0
    assert run.document["unchanged"] == 60
