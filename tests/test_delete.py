"""Deleting: anchors go with their edges, and what is left is what never held them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_content import content

import oscillink_store as osc
from oscillink_store.errors import ClosedError, MissingError, QueryError, ReadOnlyError

FACETS = osc.Fields(facets=["who"])


def rows(start: int, stop: int) -> list[dict[str, Any]]:
    """Titles that others mention, sequences, links to the row before, facets, phrases."""
    return [
        {"id": f"r{i}", "title": f"Grand Topic {i}", "n": i, "who": ["Ann", "Bob", None][i % 3],
         "text": f"word{i % 5} of Grand Topic {i // 2} in the Rare Phrase Number {i // 4}",
         "sequence": f"s{i % 3}", "position": i, "links": [f"r{i - 1}"] if i else [],
         "gate": 1.0 if i % 4 else 0.5}
        for i in range(start, stop)
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[osc.Store]:
    with osc.connect(tmp_path / "s.osc", embedder="hash:32", fields=FACETS) as store:
        store.ingest(rows(0, 30))
        yield store


def rebuilt(folder: Path, kept: list[dict[str, Any]]) -> osc.Store:
    """A store that never held anything else."""
    store = osc.connect(folder, embedder="hash:32", fields=FACETS)
    store.ingest(kept)
    return store


def same_answers(one: osc.Store, other: osc.Store) -> None:
    for question in ("word3", "what of Grand Topic 7", "what said Ann", "Rare Phrase Number 2"):
        for where in (None, "n % 2 = 0"):
            first, second = one.search(question, k=9, where=where), other.search(
                question, k=9, where=where
            )  # fmt: skip
            assert first.hits == second.hits
            assert first.receipt.content["delta_h"] == second.receipt.content["delta_h"]


def test_by_ids(store: osc.Store, tmp_path: Path) -> None:
    report = store.delete(["r3", "r17", "r3"])
    assert (report.deleted, report.added, report.updated, report.unchanged) == (2, 0, 0, 0)
    assert (report.generation, report.anchors, len(store)) == (2, 28, 28)
    assert report.receipt is not None
    assert report.receipt.content["deleted"] == 2
    assert report.edges == store.stats()["edges"]
    gone = {"r3", "r17"}
    for name in gone:
        with pytest.raises(MissingError, match=f"'{name}'"):
            store.get(name)
    assert gone.isdisjoint(store.to_arrow(["id"])["id"].to_pylist())
    assert gone.isdisjoint(store.search("Grand Topic 3 word3", k=30).ids)
    assert len(store.search("word3", k=99)) == 28
    edges = store.edges()
    assert gone.isdisjoint(edges["source"].to_pylist() + edges["target"].to_pylist())
    assert store.verify().problems == ()
    kept = [row for row in rows(0, 30) if row["id"] not in gone]
    with rebuilt(tmp_path / "b.osc", kept) as fresh:
        assert content(store.path) == content(fresh.path)
        same_answers(store, fresh)


def test_one_id_is_a_string(store: osc.Store) -> None:
    assert store.delete("r3").deleted == 1
    assert len(store) == 29


def test_by_a_predicate(store: osc.Store, tmp_path: Path) -> None:
    report = store.delete(where="n >= 10 AND n < 20 OR who = 'Bob'")
    gone = {row["id"] for row in rows(0, 30) if 10 <= row["n"] < 20 or row["who"] == "Bob"}
    assert report.deleted == len(gone)
    kept = [row for row in rows(0, 30) if row["id"] not in gone]
    assert store.to_arrow(["id"])["id"].to_pylist() == [row["id"] for row in kept]
    assert store.stats()["facets"] == {"who": 1}
    with rebuilt(tmp_path / "b.osc", kept) as fresh:
        assert content(store.path) == content(fresh.path)
        same_answers(store, fresh)


def test_nothing_to_delete_is_no_generation(store: osc.Store) -> None:
    for report in (store.delete([]), store.delete(where="n > 1000")):
        assert (report.deleted, report.generation, report.receipt) == (0, 1, None)
    assert store.generation == 1


@pytest.mark.parametrize("arguments", [{}, {"ids": ["r1"], "where": "n = 1"}])
def test_neither_or_both(store: osc.Store, arguments: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="either ids or where"):
        store.delete(**arguments)
    assert len(store) == 30


def test_a_missing_id_deletes_nothing(store: osc.Store) -> None:
    with pytest.raises(MissingError, match="'nobody'") as caught:
        store.delete(["r1", "nobody", "r2"])
    assert isinstance(caught.value, LookupError)
    store.delete("r1")
    with pytest.raises(MissingError, match="'r1'"):  # gone already
        store.delete(["r2", "r1"])
    assert (store.generation, len(store)) == (2, 29)


def test_what_is_no_predicate(store: osc.Store) -> None:
    for where in ("", "no_column = 1", "n = ", "DROP TABLE anchors"):
        with pytest.raises(QueryError):
            store.delete(where=where)
    with pytest.raises(QueryError, match="int"):
        store.delete([5])
    assert (store.generation, len(store)) == (1, 30)


def test_who_may_not_write(store: osc.Store) -> None:
    with osc.connect(store.path, read_only=True) as reader:
        with pytest.raises(ReadOnlyError, match="delete needs a writable store"):
            reader.delete("r1")
        assert len(reader) == 30
    store.close()
    with pytest.raises(ClosedError):
        store.delete("r1")


def test_all_anchors_and_then_others(store: osc.Store, tmp_path: Path) -> None:
    for turn in range(3):
        count = len(store)
        report = store.delete(where="true")
        assert (report.deleted, report.anchors, len(store)) == (count, 0, 0)
        assert set(report.edges.values()) == {0}
        assert store.search("word3").ids == []
        assert store.search(vector=np.ones(32), where="n > 1").ids == []
        assert store.to_arrow().num_rows == store.edges().num_rows == 0
        assert store.stats()["anchors"] == 0
        assert store.dimension == 32
        assert store.verify().problems == ()
        if turn == 1:
            store.maintain()
            assert store.search("word3").ids == []
            assert store.to_arrow().num_rows == 0
        batch = rows(3 * turn, 3 * turn + 20)
        assert store.ingest(batch).added == 20
        with rebuilt(tmp_path / f"b{turn}.osc", batch) as fresh:
            assert content(store.path) == content(fresh.path)
            same_answers(store, fresh)
        assert store.verify().problems == ()


def test_links_to_what_is_gone_dangle(tmp_path: Path) -> None:
    linked = [{"id": name, "text": name, "links": list(to)}
              for name, to in (("a", "bc"), ("b", "c"), ("c", ""), ("d", "cx"))]  # fmt: skip

    def links(store: osc.Store) -> set[tuple[str, str]]:
        return {
            (edge["source"], edge["target"])
            for edge in store.edges().to_pylist()
            if edge["relation"] == "link"
        }

    with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
        assert store.ingest(linked).dangling_links == 1
        assert links(store) == {("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")}
        assert store.delete("c").dangling_links == 4
        assert links(store) == {("a", "b")}
        # a link that dangles holds again when its target comes back
        assert store.ingest([linked[2]]).dangling_links == 1
        assert links(store) == {("a", "b"), ("a", "c"), ("b", "c"), ("d", "c")}
        # the links of what is gone are gone with it
        assert store.delete(["a", "d"]).dangling_links == 0
        assert links(store) == {("b", "c")}


def test_deleted_and_ingested_again(store: osc.Store, tmp_path: Path) -> None:
    store.delete(["r5", "r6"])
    report = store.ingest(rows(5, 7))
    assert (report.added, report.updated, report.unchanged) == (2, 0, 0)
    with rebuilt(tmp_path / "b.osc", [*rows(0, 5), *rows(7, 30), *rows(5, 7)]) as fresh:
        assert content(store.path) == content(fresh.path)
        same_answers(store, fresh)


@settings(max_examples=10)
@given(
    st.lists(
        st.one_of(
            st.lists(st.integers(0, 15), max_size=5, unique=True),
            st.tuples(st.integers(0, 15), st.integers(1, 8)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_changes_against_a_store_built_anew(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int] | tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    held = {row["id"]: row for row in rows(0, 12)}
    with rebuilt(folder / "a.osc", list(held.values())) as store:
        for step in steps:
            if isinstance(step, tuple):
                for row in (batch := rows(step[0], sum(step))):
                    if held.get(row["id"]) != row:
                        held[row["id"]] = row
                store.ingest(batch)
            else:
                ids = [f"r{i}" for i in step if f"r{i}" in held]
                assert store.delete(ids).deleted == len(ids)
                for name in ids:
                    del held[name]
        assert store.verify().problems == ()
        assert store.to_arrow(["id"])["id"].to_pylist() == list(held)
        if held:
            with rebuilt(folder / "b.osc", list(held.values())) as fresh:
                assert content(store.path) == content(fresh.path)
                same_answers(store, fresh)
