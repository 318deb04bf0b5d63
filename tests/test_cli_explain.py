"""``oscillink-store explain`` on a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_run import Run

import oscillink_store as osc

QUESTION = "who owned The Collegian?"


@pytest.fixture
def filled(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "filled.osc"
    with osc.connect(path, embedder="hash", parameters=osc.Parameters(sources=1)) as store:
        store.ingest(rows)
    return path


def test_the_table_says_why(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("explain", filled, QUESTION, "-k", 2)
    assert (run.code, run.err) == (0, "")
    for piece in (
        "1  ", "The Collegian", "source: highest evidence; named in the question",
        "Houston Baptist University", "via mention ← The Collegian", "own evidence", "ΔH",
        "2 of 6 candidates",
    ):  # fmt: skip
        assert piece in run.out


@pytest.mark.parametrize(("ending", "magic"), [("html", b"<!DOCTYPE html>"), ("png", b"\x89PNG")])
def test_it_writes_the_file_that_was_asked_for(
    cli: Callable[..., Run], filled: Path, tmp_path: Path, ending: str, magic: bytes
) -> None:
    path = tmp_path / f"why.{ending}"
    run = cli("explain", filled, QUESTION, "--out", path)
    assert run == Run(0, f"wrote {path}\n", "")
    assert path.read_bytes().startswith(magic)


def test_as_json_it_is_the_whole_explanation(cli: Callable[..., Run], filled: Path) -> None:
    document = cli("explain", filled, QUESTION, "--json", "--where", "lang = 'en'").document
    assert document["question"] == QUESTION
    assert len(document["nodes"]) == len(document["reasons"]) == 5
    assert document["reasons"][1]["sentence"] == "via mention ← The Collegian"


def test_a_vector_is_taken_as_by_search(
    cli: Callable[..., Run], filled: Path, tmp_path: Path
) -> None:
    with osc.connect(filled, read_only=True) as store:
        np.save(tmp_path / "psi.npy", np.ones(store.dimension))
    run = cli("explain", filled, "--vector", tmp_path / "psi.npy", "--json", "--read-only")
    assert run.document["question"] is None
    assert run.document["reasons"]


def test_other_endings_are_wrong_usage(
    cli: Callable[..., Run], filled: Path, tmp_path: Path
) -> None:
    run = cli("explain", filled, QUESTION, "--out", tmp_path / "why.svg")
    assert (run.code, run.out) == (2, "")
    assert ".html" in run.err
    assert ".png" in run.err
    assert run.err.count("\n") == 1
    with osc.connect(filled, read_only=True) as store:
        assert store.verify().receipts == 1  # nothing was searched for it


def test_a_place_that_cannot_be_written_is_one_line(
    cli: Callable[..., Run], filled: Path, tmp_path: Path
) -> None:
    run = cli("explain", filled, QUESTION, "--out", tmp_path / "nowhere" / "why.html")
    assert (run.code, run.out) == (1, "")
    assert "nowhere" in run.err
    assert "unexpected" not in run.err


def test_nothing_found_is_said(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("explain", filled, QUESTION, "--where", "lang = 'fr'")
    assert run.code == 0
    assert "No anchor matches." in run.out
