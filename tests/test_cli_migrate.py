"""``migrate`` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_run import Run
from golden_store import digests, unpack

from oscillink_store.storage.manifest import FORMAT_VERSION, read_current


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpack(2, tmp_path)


def test_a_store_is_migrated_once(cli: Callable[..., Run], old: Path, tmp_path: Path) -> None:
    run = cli("migrate", old)
    assert run.code == 0
    assert f"went from format version 2 to {FORMAT_VERSION}" in run.out
    assert "receipts.lance gets" in run.out
    assert "generation 5: 21 rows" in run.out
    assert f"oscillink-store tag {old} before-format-3 --delete" in run.out
    assert run.err == (
        "note: there is no backup: an earlier release cannot open the store any more\n"
    )
    again = cli("migrate", old, "--backup", tmp_path / "b")
    assert again == Run(0, f"nothing to do: {old} has format version {FORMAT_VERSION}\n", "")
    assert cli("verify", old).code == 0
    assert cli("delete", old, "a0").code == 0


def test_a_dry_run(cli: Callable[..., Run], old: Path) -> None:
    before = digests(old)
    run = cli("migrate", old, "--dry-run")
    assert run.code == 0
    assert f"would go from format version 2 to {FORMAT_VERSION}" in run.out
    assert "nothing was changed" in run.out
    assert run.err.startswith("note: only a copy can be opened by an earlier release again")
    assert digests(old) == before
    document = cli("migrate", old, "--dry-run", "--json").document
    assert (document["before"], document["after"], document["dry_run"]) == (2, FORMAT_VERSION, True)
    assert (document["rows"], document["tags"]) == (21, ["before-format-3"])


def test_a_backup(cli: Callable[..., Run], old: Path, tmp_path: Path) -> None:
    before = digests(old)
    place = tmp_path / "backup.osc"
    run = cli("migrate", old, "--backup", place)
    assert (run.code, run.err) == (0, "")
    assert f"backup: {place}; to go back, put it in the place of {old}\n" in run.out
    assert digests(place) == before
    other = unpack(2, tmp_path / "other")
    refused = cli("migrate", other, "--backup", place)
    assert (refused.code, refused.out) == (1, "")
    assert "backup.osc exists" in refused.err
    assert read_current(other).format_version == 2


def test_writing_without_it(cli: Callable[..., Run], old: Path) -> None:
    assert cli("search", old, "university").code == 0
    run = cli("delete", old, "a0")
    assert (run.code, run.out) == (1, "")
    assert f"run oscillink-store migrate {old}" in run.err
    assert cli("verify", old).code == 0


def test_no_store(cli: Callable[..., Run], tmp_path: Path) -> None:
    run = cli("migrate", tmp_path / "missing")
    assert (run.code, run.out) == (1, "")
    assert "there is no store here" in run.err
