"""Batches: what they add, replace and leave, and that their number makes no difference."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_content import answered, content, snapshot_of

import oscillink_store as osc
from oscillink_store.errors import InputError, IntegrityError
from oscillink_store.storage.manifest import read_current

WORDS = [f"word{i}" for i in range(120)]


def corpus(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with every part: titles that others mention, sequences, links, gates, metadata."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        vector = rng.normal(size=16)
        text = " ".join(rng.choice(WORDS, 12)) + f" as Grand Topic {i // 2} has it"
        rows.append(
            {
                "id": f"r{i}", "title": f"Grand Topic {i}", "text": text,
                "vector": (vector / np.linalg.norm(vector)).tolist(),
                "sequence": f"s{i % 7}", "position": i, "gate": 1.0 if i % 5 else 0.5,
                "links": [f"r{(i * 7) % count}"] if i % 3 == 0 else [],
                "n": i, "lang": "en" if i % 2 else "de",
                "speaker": ["Ann", "Bob", None][i % 3],
            }
        )  # fmt: skip
    return rows


QUESTIONS: list[dict[str, Any]] = [
    {"text": "word7 word30"},
    {"text": "what does Grand Topic 12 have", "where": "n < 60"},
    {"text": "what did Ann say about word9", "k": 20},
    {"vector": [1.0] * 16, "k": 7},
    {"text": "word3", "vector": [1.0] + [0.0] * 15, "where": "lang = 'de'", "k": 30},
]


def answers(store: osc.Store) -> list[dict[str, Any]]:
    """What the store answers, to the bit, without what names the generation."""
    return [answered(store.search(**question).receipt) for question in QUESTIONS]


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """Ninety rows in one batch."""
    path = tmp_path_factory.mktemp("once") / "s.osc"
    with osc.connect(path, embedder=embed, fields=FACETS) as store:
        store.ingest(corpus(90))
        yield store


def embed(texts: list[str]) -> Any:
    """A few numbers of the text's digest; questions are texts as well."""
    digests = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
    return np.array([list(digest) for digest in digests], np.float32) - 127.5


FACETS = osc.Fields(facets=["speaker"])


class TestBatches:
    @pytest.mark.parametrize("cuts", [[45], [1, 2, 40, 89], [88]])
    def test_their_number_makes_no_difference(
        self, tmp_path: Path, at_once: osc.Store, cuts: list[int]
    ) -> None:
        rows = corpus(90)
        with osc.connect(tmp_path / "s.osc", embedder=embed, fields=FACETS) as store:
            for start, stop in zip([0, *cuts], [*cuts, 90], strict=True):
                assert store.ingest(rows[start:stop]).added == stop - start
            assert answers(store) == answers(at_once)
            assert store.to_arrow().equals(at_once.to_arrow())
            assert content(store.path) == content(at_once.path)
            assert store.stats()["edges"] == at_once.stats()["edges"]
            assert store.verify().problems == ()

    def test_of_one_row_each(self, tmp_path: Path) -> None:
        rows = corpus(12)
        with osc.connect(tmp_path / "a.osc") as one, osc.connect(tmp_path / "b.osc") as many:
            one.ingest(rows)
            for row in rows:
                many.ingest([row])
            assert content(one.path) == content(many.path)
            assert many.generation == 12

    def test_all_relations_come_back_after_every_batch(self, tmp_path: Path) -> None:
        rows = corpus(40)
        with osc.connect(tmp_path / "s.osc") as store:
            first = store.ingest(rows[:20]).edges
            both = store.ingest(rows[20:]).edges
            assert all(both[name] > first[name] > 0 for name in ("next", "mention", "link", "knn"))

    def test_no_rows_of_a_batch_are_new(self, at_once: osc.Store) -> None:
        before = at_once.generation
        report = at_once.ingest(corpus(90))
        assert (report.added, report.updated, report.unchanged) == (0, 0, 90)
        assert report.receipt is None
        assert at_once.generation == report.generation == before
        report = at_once.ingest(corpus(90)[10:20])
        assert (report.unchanged, report.anchors) == (10, 90)

    def test_replaced_rows_move_behind_the_others(self, tmp_path: Path) -> None:
        rows = corpus(30)
        fresh = [row | {"text": f"entirely new text {row['n']}"} for row in rows[5:15]]
        with (
            osc.connect(tmp_path / "a.osc", embedder=embed) as store,
            osc.connect(tmp_path / "b.osc", embedder=embed) as wanted,
        ):
            store.ingest(rows)
            report = store.ingest([*fresh, rows[20], {**rows[0], "id": "added"}])
            assert (report.added, report.updated, report.unchanged) == (1, 10, 1)
            assert (report.anchors, len(store)) == (31, 31)
            wanted.ingest([*rows[:5], *rows[15:], *fresh, {**rows[0], "id": "added"}])
            assert store.to_arrow().equals(wanted.to_arrow())
            assert content(store.path) == content(wanted.path)
            assert answers(store) == answers(wanted)
            found = {hit.id: hit.text for hit in store.search("entirely new", k=31)}
            assert {name: found[name] for name in ("r5", "r14")} == {
                "r5": "entirely new text 5", "r14": "entirely new text 14",
            }  # fmt: skip
            assert store.verify().problems == ()

    def test_every_row_replaced(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder=embed) as store:
            store.ingest(corpus(20))
            fresh = [row | {"text": f"other {row['n']}"} for row in reversed(corpus(20))]
            assert store.ingest(fresh).updated == 20
            assert store.to_arrow(["id"])["id"].to_pylist() == [row["id"] for row in fresh]
            assert {hit.text for hit in store.search("other", k=30)} == {r["text"] for r in fresh}
            assert len(store.search("Grand Topic", k=30)) == 20
            assert store.verify().problems == ()

    @pytest.mark.parametrize(
        "change",
        [
            {"text": "x"}, {"title": "x"}, {"gate": 0.25}, {"n": -1}, {"links": ["r9"]},
            {"sequence": "x"}, {"position": 99}, {"vector": [1.0] + [0.0] * 15}, {"lang": None},
            {"more": True},
        ],
    )  # fmt: skip
    def test_any_changed_part_replaces_a_row(self, tmp_path: Path, change: dict[str, Any]) -> None:
        rows = corpus(12)
        with osc.connect(tmp_path / "s.osc", embedder=embed) as store:
            store.ingest(rows)
            report = store.ingest([*rows[:4], rows[4] | change, *rows[5:]])
            assert (report.added, report.updated, report.unchanged) == (0, 1, 11)
            name, value = next(iter(change.items()))
            assert np.all(store.get("r4")[0][name] == np.float32(value) if name == "vector" else
                          store.get("r4")[0][name] == value)  # fmt: skip

    @settings(max_examples=12)
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=6),
            min_size=1,
            max_size=4,
        )
    )
    def test_any_batches_against_a_dict(
        self, tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int]]]
    ) -> None:
        held: dict[str, dict[str, Any]] = {}
        with osc.connect(tmp_path_factory.mktemp("any") / "s.osc", embedder="hash:16") as store:
            for batch in batches:
                rows = {f"r{i}": {"id": f"r{i}", "text": f"text {v}", "n": i} for i, v in batch}
                report = store.ingest(list(rows.values()))
                changed = [name for name, row in rows.items() if held.get(name) != row]
                assert report.updated == len([name for name in changed if name in held])
                assert report.added == len(rows.keys() - held.keys())
                assert report.unchanged == len(rows) - len(changed)
                for name in changed:
                    held.pop(name, None)
                    held[name] = rows[name]
                kept = store.to_arrow(["id", "text", "n"]).to_pylist()
                assert kept == list(held.values())
            found = store.search("text", k=20)
            assert {hit.id: hit.text for hit in found} == {
                name: row["text"] for name, row in held.items()
            }


class TestMetadata:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[osc.Store]:
        with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
            yield store

    @staticmethod
    def row(name: str, **metadata: Any) -> dict[str, Any]:
        return {"id": name, "text": f"text of {name}", **metadata}

    def column(self, store: osc.Store, name: str) -> list[Any]:
        """A column as the table, the hits, ``get`` and the rows segment tell it."""
        table = store.to_arrow(["id", name]).to_pylist()
        ids = [row["id"] for row in table]
        values = [row[name] for row in table]
        hits = {hit.id: hit.metadata[name] for hit in store.search("text", k=50)}
        assert [hits[i] for i in ids] == values
        assert [record[name] for record in store.get(ids)] == values
        assert store.verify().problems == ()
        return values

    def test_new_columns_are_null_before(self, store: osc.Store) -> None:
        store.ingest([self.row("a", x=1), self.row("b", x=2)])
        store.ingest([self.row("c", y="late", z={"deep": [1, 2]})])
        assert self.column(store, "x") == [1, 2, None]
        assert self.column(store, "y") == [None, None, "late"]
        assert self.column(store, "z") == [None, None, {"deep": [1, 2]}]
        assert store.search("text", where="y IS NULL", k=9).receipt.content["k"] == 9
        assert set(store.search("text", where="y IS NULL").ids) == {"a", "b"}
        assert store.search("text", where="z.deep[1] = 1").ids == ["c"]

    def test_a_column_of_nulls_gets_its_type_later(self, store: osc.Store) -> None:
        store.ingest([self.row("a", x=None), self.row("b", x=None)])
        assert store.stats()["metadata"] == {"x": "null"}
        store.ingest([self.row("c", x="now")])
        assert store.stats()["metadata"] == {"x": "string"}
        assert self.column(store, "x") == [None, None, "now"]
        assert store.search("text", where="x = 'now'").ids == ["c"]

    @pytest.mark.parametrize(
        ("before", "after", "type_", "where"),
        [
            (1, 2.5, "double", "x < 2"),
            (2.5, 1, "double", "x > 2"),
            ({"a": 1}, {"a": 1.5, "b": "new"}, "struct<a: double, b: string>", "x.a < 1.2"),
            ([1, 2], [0.5], "list<item: double>", "array_has(x, 2)"),
            (decimal.Decimal("1.5"), decimal.Decimal("10.25"), "decimal128(4, 2)", "x < 2"),
            ([], ["b"], "list<item: string>", "x IS NOT NULL AND NOT array_has(x, 'b')"),
            ({"a": None}, {"a": 7}, "struct<a: int64>", "x.a IS NULL"),
        ],
    )
    def test_types_widen_and_old_values_keep_theirs(
        self, store: osc.Store, before: Any, after: Any, type_: str, where: str
    ) -> None:
        store.ingest([self.row("a", x=before, n=1), self.row("b", x=None, n=2)])
        store.ingest([self.row("c", x=after, m=3)])
        assert store.stats()["metadata"]["x"] == type_
        wanted = before | {"b": None} if isinstance(before, dict) and "b" in after else before
        assert self.column(store, "x") == [wanted, None, after]
        assert "a" in store.search("text", where=where).ids
        assert "c" not in store.search("text", where=where).ids
        # old rows are known again, and both columns beside it are as they were
        for again in (self.row("a", x=before, n=1), self.row("c", x=after, m=3)):
            assert store.ingest([again]).unchanged == 1
        assert self.column(store, "n") == [1, 2, None]
        assert self.column(store, "m") == [None, None, 3]

    def test_widening_and_replacing_at_once(self, store: osc.Store) -> None:
        store.ingest([self.row(name, x=i) for i, name in enumerate("abcd")])
        report = store.ingest([self.row("b", x=0.5), self.row("e", x=1)])
        assert (report.added, report.updated) == (1, 1)
        assert self.column(store, "x") == [0.0, 2.0, 3.0, 0.5, 1.0]
        assert store.to_arrow(["id"])["id"].to_pylist() == ["a", "c", "d", "b", "e"]
        report = store.ingest([self.row("d", x=None)])
        assert self.column(store, "x") == [0.0, 2.0, 0.5, 1.0, None]

    def test_what_a_column_cannot_hold_is_refused(self, store: osc.Store) -> None:
        store.ingest([self.row("a", x=0.5, y=1), self.row("c"), self.row("d")])
        for value, words, row in (
            (2**53 + 1, "exactly", 1), ("text", "double so far and string", 1),
        ):  # fmt: skip
            with pytest.raises(InputError, match=words) as caught:
                store.ingest([self.row("a", x=None, y=1), self.row("b", x=value)])
            assert (caught.value.field, caught.value.row) == ("x", row)
        with pytest.raises(InputError, match="row 2: 'x' holds") as caught:
            # unchanged rows count too
            store.ingest([self.row("c"), self.row("d"), self.row("e", x=2**53 + 1)])
        assert caught.value.row == 2
        assert self.column(store, "x") == [0.5, None, None]
        assert store.generation == 1

    def test_values_of_many_types_come_back(self, store: osc.Store) -> None:
        metadata = {
            "whole": -3, "part": 0.1, "yes": True, "none": None, "raw": b"\x00\xff",
            "day": dt.date(2024, 2, 29), "at": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
            "long": dt.timedelta(days=1, microseconds=1), "price": decimal.Decimal("12.30"),
            "nested": {"list": [{"a": 1, "b": [None, "x"]}, None], "empty": []},
            "Größe 1": "umlauts", "select": "a keyword", "Year": 2024,
        }  # fmt: skip
        store.ingest([self.row("a", **metadata), self.row("b")])
        for name, value in metadata.items():
            assert self.column(store, name) == [value, None], name
        assert dict(store.search("text", k=1, where="id = 'a'")[0].metadata) == metadata
        for where in (
            "yes", "day = date '2024-02-29'", "cast(price as double) = 12.3",
            '"Größe 1" = \'umlauts\'', '"select" = \'a keyword\'', "Year = 2024", "year = 2024",
            "whole = -3", "nested.list[1].a = 1", "at > timestamp '2024-01-01'",
        ):  # fmt: skip
            assert store.search("text", where=where).ids == ["a"], where

    def test_facets_may_be_declared_later(self, store: osc.Store) -> None:
        rows = [self.row(f"r{i}", who=["Ann", "Bob", None, " "][i % 4]) for i in range(8)]
        store.ingest(rows)
        assert store.stats()["facets"] == {}
        before = {hit.id: hit.score for hit in store.search("what did Ann write", k=8)}
        report = store.ingest(rows, fields=osc.Fields(facets=["who"]))
        assert (report.generation, report.unchanged, report.added) == (2, 8, 0)
        assert store.stats()["facets"] == {"who": 2}
        bonus = store.parameters.facet_bonus
        for hit in store.search("what did Ann write", k=8):
            lifted = bonus if hit.metadata["who"] == "Ann" else 0.0
            assert hit.score == pytest.approx(before[hit.id] + lifted, abs=1e-12)
        assert store.ingest(rows).generation == 2
        assert store.ingest([self.row("new", who="Cy")]).generation == 3
        assert store.stats()["facets"] == {"who": 3}
        assert store.verify().problems == ()


SOURCES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "dicts": lambda rows: rows,
    "an iterator": iter,
    "an Arrow table": pa.Table.from_pylist,
    "a reader": lambda rows: pa.Table.from_pylist(rows).to_reader(max_chunksize=5),
    "a DuckDB relation": lambda rows: duckdb.arrow(pa.Table.from_pylist(rows)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_makes_the_same_store(tmp_path: Path, source: str) -> None:
    rows = corpus(20)
    with osc.connect(tmp_path / "a.osc") as one, osc.connect(tmp_path / "b.osc") as other:
        one.ingest(rows)
        assert other.ingest(SOURCES[source](rows)).added == 20
        assert one.to_arrow().equals(other.to_arrow())
        assert content(one.path) == content(other.path)
        assert one.ingest(SOURCES[source](rows)).unchanged == 20


def test_a_store_is_a_source(tmp_path: Path, at_once: osc.Store) -> None:
    with osc.connect(tmp_path / "s.osc", embedder=embed, fields=FACETS) as copy:
        copy.ingest(at_once.to_arrow())
        assert content(copy.path) == content(at_once.path)
        assert copy.ingest(at_once.to_arrow(where="n < 20")).unchanged == 20


def test_own_vectors_are_kept_as_directions(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 5)) * 7
    with osc.connect(tmp_path / "s.osc") as store:
        store.ingest([{"id": i, "text": "x", "vector": v.tolist()} for i, v in enumerate(vectors)])
        snapshot = snapshot_of(store.path)
        wanted = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        kept = snapshot.vectors(np.arange(9))
        mean, covariance = snapshot.moments
        np.testing.assert_allclose(kept, wanted, atol=1e-7)
        np.testing.assert_allclose(mean, wanted.mean(axis=0), atol=2**-20)
        np.testing.assert_allclose(covariance, np.cov(wanted.T, bias=True), atol=2**-19)
        assert store.to_arrow(["id"])["id"].to_pylist() == [str(i) for i in range(9)]
        table = np.stack(store.to_arrow(["vector"])["vector"].to_numpy())
        assert (table == kept).all()


def test_only_new_rows_are_embedded(tmp_path: Path) -> None:
    seen: list[str] = []

    def embedder(texts: list[str]) -> Any:
        seen.extend(texts)
        return embed(texts)

    rows = [{"id": f"r{i}", "title": f"T{i}", "text": f"text {i}"} for i in range(300)]
    with osc.connect(tmp_path / "s.osc", embedder=embedder) as store:
        store.ingest(rows[:280])
        assert sorted(seen) == sorted(f"T{i}\ntext {i}" for i in range(280))
        seen.clear()
        store.ingest(rows)
        assert seen == [f"T{i}\ntext {i}" for i in range(280, 300)]


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
        rows = [{"id": f"r{i}", "text": f"text {i}"} for i in range(600)]
        store.ingest(rows, progress=lambda *step: told.append(step))
    assert ("read", 600, None) in told or ("read", 600, 600) in told
    assert [step for step in told if step[0] == "embed"] == [
        ("embed", 256, 600), ("embed", 512, 600), ("embed", 600, 600),
    ]  # fmt: skip
    assert told[-1][0] == "commit"


def test_what_is_damaged_is_not_carried_on(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc") as store:
        store.ingest(corpus(20))
        before = content(store.path)
        for name, entry in read_current(store.path).segments.items():
            path = store.path / entry.path
            whole, times = path.read_bytes(), path.stat()
            position = len(whole) // 2
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :]
            )
            with pytest.raises(IntegrityError, match=f"{path.name} is not what was written"):
                store.ingest([corpus(21)[20]])
            with pytest.raises(IntegrityError, match=f"{path.name} is not what was written"):
                store.delete("r3")
            assert (store.generation, name) == (1, name)
            path.write_bytes(whole)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert content(store.path) == before
        assert store.ingest([corpus(21)[20]]).added == 1
        assert store.verify().problems == ()


def test_a_large_batch_replaces_a_large_batch(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "text": "t", "vector": [1.0, i]} for i in range(20_000)]
    with osc.connect(tmp_path / "s.osc", durability="off") as store:
        store.ingest(rows)
        report = store.ingest([row | {"text": "u"} for row in rows[::2]])
        assert (report.updated, len(store)) == (10_000, 20_000)
        assert store.to_arrow(["text"], where="text = 'u'").num_rows == 10_000
        assert store.verify().problems == ()
