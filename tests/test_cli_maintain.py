"""``maintain``, ``delete`` and ``tag`` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_run import Run

import oscillink_store as osc


@pytest.fixture
def filled(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    """Six anchors that came in three generations."""
    path = tmp_path / "filled.osc"
    with osc.connect(path, embedder="hash") as store:
        for start in (0, 2, 4):
            store.ingest(rows[start : start + 2])
    return path


def fails(run: Run, *pieces: str, code: int = 1) -> None:
    assert (run.code, run.out) == (code, "")
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    for piece in pieces:
        assert piece in run.err


class TestMaintain:
    def test_the_content_stays(self, cli: Callable[..., Run], filled: Path) -> None:
        cli("delete", filled, "cake")
        before = cli("search", filled, "who owned The Collegian?", "--json").document["hits"]
        run = cli("maintain", filled)
        assert (run.code, run.err) == (0, "")
        assert run.out.startswith("generation 5: ")
        assert "1 slots taken back" in run.out
        assert (
            cli("search", filled, "who owned The Collegian?", "--json").document["hits"] == before
        )
        again = cli("maintain", filled, "--json").document
        assert (again["slots"], again["corrections"], again["repaired"]) == (0, 0, None)
        assert cli("verify", filled).code == 0

    def test_repair(self, cli: Callable[..., Run], filled: Path) -> None:
        victim = next((filled / "segments" / "0000000003").rglob("moments.arrays"))
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
        looked = cli("stats", filled, "--json")
        assert looked.document["generation"] == 2
        assert looked.err.startswith("note: ")
        assert looked.err.count("\n") == 1
        assert "moments.arrays" in looked.err
        assert cli("verify", filled).code == 1
        refused = cli("delete", filled, "collegian")
        assert (refused.code, refused.out) == (1, "")
        assert "moments.arrays" in refused.err.splitlines()[-1]
        assert cli("maintain", filled).code == 1
        mended = cli("maintain", filled, "--repair")
        assert mended.code == 0
        assert mended.out.startswith("went back to generation 2")
        after = cli("stats", filled, "--json")
        assert (after.document["anchors"], after.err) == (4, "")
        assert cli("verify", filled).code == 0


class TestDelete:
    def test_by_id(self, cli: Callable[..., Run], filled: Path) -> None:
        run = cli("delete", filled, "cake", "hbu")
        assert (run.code, run.err) == (0, "")
        assert run.out == "generation 4: 2 anchors deleted, 4 left\n"
        fails(cli("delete", filled, "cake"), "'cake'", "not in the store")

    def test_by_predicate(self, cli: Callable[..., Run], filled: Path) -> None:
        document = cli("delete", filled, "--where", "lang = 'en'", "--json").document
        assert (document["deleted"], document["anchors"]) == (5, 1)
        assert len(document["receipt"]["hash"]) == 64
        none = cli("delete", filled, "--where", "lang = 'en'", "--json").document
        assert (none["deleted"], none["receipt"]) == (0, None)
        fails(cli("delete", filled, "--where", "colour = 1"), "colour")

    @pytest.mark.parametrize("arguments", [(), ("cake", "--where", "lang = 'en'")])
    def test_wrong_usage(
        self, cli: Callable[..., Run], filled: Path, arguments: tuple[str, ...]
    ) -> None:
        fails(cli("delete", filled, *arguments), "--where", code=2)


class TestTag:
    def test_keep_list_and_give_up(self, cli: Callable[..., Run], filled: Path) -> None:
        assert "no tags" in cli("tag", filled).out
        assert cli("tag", filled, "now").out == "tag now keeps generation 3\n"
        older = cli("tag", filled, "older", "--generation", 2, "--json").document
        assert older["tags"] == {"now": 3, "older": 2}
        cli("delete", filled, "--where", "lang = 'en'")
        cli("maintain", filled)
        with osc.connect(filled) as store, store.snapshot(tag="older") as snapshot:
            assert len(snapshot) == 4
        assert cli("tag", filled).out == "now  generation 3\nolder  generation 2\n"
        assert cli("tag", filled, "now", "--delete").out == "tag now is gone\n"
        assert cli("tag", filled, "--json").document["tags"] == {"older": 2}

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("a/b",), 1, "letters"),
            (("t", "--generation", "99"), 1, "99"),
            (("t", "--delete"), 1, "'t'"),
            (("--delete",), 2, "name the tag"),
            (("--generation", "1"), 2, "name the tag"),
            (("t", "--generation", "1", "--delete"), 2, "--generation"),
        ],
    )
    def test_errors(
        self,
        cli: Callable[..., Run],
        filled: Path,
        arguments: tuple[str, ...],
        code: int,
        words: str,
    ) -> None:
        fails(cli("tag", filled, *arguments), words, code=code)
