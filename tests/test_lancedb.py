"""The tables stay plain Lance: LanceDB, Lance and DuckDB read them without the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import duckdb
import lance
import lancedb
import numpy as np
import pytest

import oscillink_store as osc


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """Three batches, with a replaced row, a later column and a column of a wider type."""
    with osc.connect(tmp_path_factory.mktemp("lancedb") / "s.osc", embedder="hash:32") as store:
        rows = [
            {"id": f"r{i}", "title": f"Title {i}", "text": f"word{i} of many words", "n": i,
             "meta": {"a": i}}
            for i in range(40)
        ]  # fmt: skip
        store.ingest(rows[:20])
        store.ingest([rows[3] | {"text": "replaced words"}, *rows[20:]])
        store.ingest([{"id": "late", "text": "a later word", "n": 0.5, "extra": "x"}])
        yield store


def test_all_rows_are_there(store: osc.Store) -> None:
    table = lancedb.connect(str(store.path)).open_table("anchors")
    assert table.count_rows() == len(store) == 41
    rows = table.to_arrow()
    assert {row["id"] for row in rows.select(["id"]).to_pylist()} == {
        *(f"r{i}" for i in range(40)), "late",
    }  # fmt: skip
    mine = store.to_arrow()
    assert rows.select(mine.schema.names).equals(mine)
    assert table.count_rows("n < 10 AND meta.a > 3") == 6
    vectors = np.stack(rows["vector"].to_numpy())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.fixture
def indexed(store: osc.Store, tmp_path: Path) -> Path:
    """A copy of the store in which LanceDB made a full-text index."""
    folder = tmp_path / "i.osc"
    shutil.copytree(store.path, folder)
    table = lancedb.connect(str(folder)).open_table("anchors")
    assert table.list_indices() == []
    table.create_index("fulltext", config=lancedb.index.FTS(), replace=True)
    return folder


def test_full_text_search(indexed: Path) -> None:
    table = lancedb.connect(str(indexed)).open_table("anchors")
    assert [index.columns for index in table.list_indices()] == [["fulltext"]]
    found = table.search("word7", query_type="fts").limit(5).to_list()
    assert [row["id"] for row in found] == ["r7"]
    assert table.search("replaced", query_type="fts").limit(5).to_list()[0]["id"] == "r3"
    assert len(table.search("many", query_type="fts").limit(99).to_list()) == 39
    # the title is searched as well
    assert {row["id"] for row in table.search("title", query_type="fts").limit(99).to_list()} == {
        f"r{i}" for i in range(40)
    }


def test_an_index_of_ones_own_does_no_harm(store: osc.Store, indexed: Path) -> None:
    with osc.connect(indexed) as copy:
        assert copy.search("word7", k=5).hits == store.search("word7", k=5).hits
        assert copy.verify().ok
        copy.ingest([{"id": "new", "text": "brand new", "n": 1}])
        assert copy.search("brand new", k=1).ids == ["new"]
        assert copy.verify().ok
    assert lancedb.connect(str(indexed)).open_table("anchors").count_rows() == 42


def test_vector_search(store: osc.Store) -> None:
    table = lancedb.connect(str(store.path)).open_table("anchors")
    for name in ("r7", "late"):
        vector = store.get(name)[0]["vector"]
        assert table.search(vector).limit(1).to_list()[0]["id"] == name


def test_lance_and_duckdb_read_it_too(store: osc.Store) -> None:
    anchors = lance.dataset(str(store.path / "anchors.lance"))
    assert anchors.count_rows() == 41
    assert anchors.has_stable_row_ids
    assert duckdb.sql("SELECT count(*), sum(n) FROM anchors").fetchall() == [(41, 780.5)]


def test_no_package_is_needed(store: osc.Store) -> None:
    script = """
        import sys, lancedb
        table = lancedb.connect(sys.argv[1]).open_table("anchors")
        print(table.count_rows(), table.search().where("n = 7").to_list()[0]["id"])
        print("oscillink_store" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(store.path)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout == "41 r7\nFalse\n", done.stderr


def test_a_reader_does_no_harm(store: osc.Store, tmp_path: Path) -> None:
    def listing() -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()
        }

    before = listing()
    table = lancedb.connect(str(store.path)).open_table("anchors")
    table.search(store.get("r7")[0]["vector"]).limit(3).to_list()
    table.to_arrow()
    assert listing() == before
    assert store.verify().ok
