"""The demo as it is: the whole standard library, in one process after the other."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import oscillink_store as osc
from oscillink_store.demo import QUESTIONS
from oscillink_store.model import RELATIONS

COMMAND = [sys.executable, "-m", "oscillink_store"]


def _run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, encoding="utf-8", **options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    done = _run("demo", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def again(folder: Path, first: dict[str, Any]) -> str:
    done = _run("demo", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_holds_thousands_of_connected_texts(folder: Path, first: dict[str, Any]) -> None:
    assert first["store"] == str(folder / "demo.osc")
    assert first["ingest"]["added"] > 4000
    assert all(first["ingest"]["edges"][relation] > 100 for relation in RELATIONS)
    assert first["ingest"]["dangling_links"] == 0


def test_the_lattice_finds_what_the_other_ways_miss(first: dict[str, Any]) -> None:
    assert [answer["question"] for answer in first["questions"]] == list(QUESTIONS)
    for answer in first["questions"]:
        ids = {way: [hit["id"] for hit in answer[way]] for way in ("vector", "hybrid", "lattice")}
        assert all(len(found) == 5 for found in ids.values())
        missed = {*ids["lattice"]} - {*ids["vector"], *ids["hybrid"]}
        reached = {link["hit"] for link in answer["connections"]}
        assert missed & reached
        assert missed <= reached | set(answer["named"])
        for link in answer["connections"]:
            assert ids["lattice"].index(link["other"]) < ids["lattice"].index(link["hit"])


def test_connections_are_edges_of_the_store(folder: Path, first: dict[str, Any]) -> None:
    with osc.connect(folder / "demo.osc", read_only=True) as store:
        edges = {
            (frozenset((edge["source"], edge["target"])), edge["relation"])
            for edge in store.edges().to_pylist()
        }
    for answer in first["questions"]:
        for link in answer["connections"]:
            assert (frozenset((link["hit"], link["other"])), link["relation"]) in edges


def test_sql_and_the_receipt_agree_with_the_search(folder: Path, first: dict[str, Any]) -> None:
    hits = first["questions"][0]["lattice"]
    assert [row["id"] for row in first["sql"]["rows"]] == [hit["id"] for hit in hits]
    assert [row["score"] for row in first["sql"]["rows"]] == [
        pytest.approx(hit["score"], abs=0.0006) for hit in hits
    ]
    assert first["sql"]["same_as_lattice"] is True
    assert first["verified"]["ok"] is True
    with osc.connect(folder / "demo.osc", read_only=True) as store:
        receipts = {row["hash"]: row for row in store.receipts().to_pylist()}
    assert receipts[first["receipt"]["hash"]]["label"] == "demo: lattice"


def test_a_second_run_uses_the_store_again_and_fits_the_page(
    first: dict[str, Any], again: str
) -> None:
    assert "used again" in again
    for question in QUESTIONS:
        assert question in again
    assert first["store"] in again
    lines = again.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("+", "The store lies"))) <= 100
    assert all(line == line.rstrip() for line in lines)


def test_what_it_proposes_runs(folder: Path, again: str) -> None:
    proposed = [line for line in again.splitlines() if line.startswith("  oscillink-store ")]
    assert len(proposed) == 4
    for line in proposed:
        done = _run(*shlex.split(line)[1:], cwd=folder)
        assert done.returncode == 0, line
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) >= 1


def test_it_leaves_a_store_of_other_things_alone(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "own.osc", embedder="hash") as store:
        store.ingest([{"id": "a", "text": "mine"}])
    done = _run("demo", "--store", tmp_path / "own.osc")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--store" in done.stderr
    with osc.connect(tmp_path / "own.osc") as store:
        assert len(store) == 1


def test_it_fits_a_narrow_terminal(folder: Path, again: str) -> None:
    done = _run("demo", cwd=folder, env=os.environ | {"COLUMNS": "60"})
    tables = [line for line in done.stdout.splitlines() if line[0:1] == " " and line[1:2].isdigit()]
    assert len(tables) == 15
    assert max(map(len, tables)) <= 60
