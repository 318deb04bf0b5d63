"""The views show what the store holds when they are queried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

import oscillink_store as osc

EXAMPLE = Path(__file__).parent.parent / "examples" / "receipts.sql"
QUERIES = [query for query in EXAMPLE.read_text(encoding="utf-8").split(";") if query.strip()]


@pytest.fixture
def con(store: osc.Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        osc.attach(con, store)
        yield con


def names(con: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return [column[0] for column in con.execute(f"FROM {view} LIMIT 0").description]


def test_anchors_are_the_stores(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    assert names(con, "coherent_anchors") == [
        "id", "title", "text", "sequence", "position", "links", "gate", "vector", "payload",
        "lang",
    ]  # fmt: skip
    shown = con.sql("FROM coherent_anchors ORDER BY id").to_arrow_table().to_pylist()
    stored = sorted(store.to_arrow().to_pylist(), key=lambda row: row["id"])
    assert shown == [{name: row[name] for name in shown[0]} for row in stored]
    ((kind,),) = con.execute("SELECT DISTINCT typeof(vector) FROM coherent_anchors").fetchall()
    assert kind == f"FLOAT[{store.dimension}]"


def test_anchors_with_every_field(make_store: Callable[..., osc.Store]) -> None:
    store = make_store(embedder=None)
    store.ingest(
        [
            {"id": "a", "text": "one", "title": "A", "sequence": "s", "position": 1, "gate": 0.5,
             "links": ["b"], "vector": [1.0, 0.0], "year": 2020},
            {"id": "b", "text": "two", "vector": [0.0, 2.0], "tags": ["x", "y"]},
        ]
    )  # fmt: skip
    with duckdb.connect() as con:
        osc.attach(con, store)
        assert con.execute("FROM coherent_anchors ORDER BY id").fetchall() == [
            ("a", "A", "one", "s", 1.0, ["b"], 0.5, (1.0, 0.0), None, 2020, None),
            ("b", None, "two", None, None, None, 1.0, (0.0, 1.0), None, None, ["x", "y"]),
        ]


def test_anchors_can_be_filtered_joined_and_aggregated(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute(
        "SELECT lang, count(*), max(length(text)) > 20 FROM coherent_anchors"
        " WHERE id <> 'cake' GROUP BY lang ORDER BY lang"
    ).fetchall()
    assert rows == [("de", 1, True), ("en", 4, True)]
    ((score,),) = con.execute(
        "SELECT array_inner_product(a.vector, b.vector) FROM coherent_anchors a, coherent_anchors b"
        " WHERE a.id = 'hbu' AND b.id = 'hbu'"
    ).fetchall()
    assert score == pytest.approx(1.0)
    relation = con.sql("FROM coherent_anchors").filter("lang = 'de'").project("id")
    assert relation.fetchall() == [("zeitung",)]


def test_edges_are_the_stores(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    edges = con.sql("FROM coherent_edges").to_arrow_table()
    assert edges.num_rows > 0
    assert edges == store.edges()


def test_summaries_are_the_stores(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    assert con.sql("FROM coherent_summaries").to_arrow_table().to_pylist() == []


def test_receipts_are_the_stores(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    receipts = [store.search(text, k=2).receipt for text in ("one city", "two cakes")]
    rows = con.execute(
        "SELECT hash, kind, result_ids, time FROM coherent_receipts ORDER BY time"
    ).fetchall()
    assert [row[1] for row in rows] == ["ingest", "search", "search"]
    assert [row[0] for row in rows[1:]] == [receipt.hash for receipt in receipts]
    assert [row[2] for row in rows[1:]] == [receipt.result_ids for receipt in receipts]
    for row, receipt in zip(rows[1:], receipts, strict=True):
        assert row[3].replace(tzinfo=UTC) == datetime.fromisoformat(receipt.time)
    shown = con.sql("FROM coherent_receipts").to_arrow_table()
    stored = store.receipts()
    assert shown.schema.names == stored.schema.names
    assert shown.drop_columns("time").to_pylist() == stored.drop_columns("time").to_pylist()


def test_receipts_answer_without_their_json(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    one = store.search("one city", k=2).receipt
    two = store.search("cakes", k=6, where="lang = 'en'", vector=[1.0] * store.dimension).receipt
    rows = con.execute(
        "SELECT has_text, has_vector, filtered, k, results, margin, version, candidates"
        " FROM coherent_receipts WHERE kind = 'search' ORDER BY sequence"
    ).fetchall()
    for row, receipt, filtered in ((rows[0], one, False), (rows[1], two, True)):
        content = receipt.content
        margin = content["first_evidence"] - content["fifth_evidence"]
        assert row == (
            True, True, filtered, content["k"], len(receipt.result_ids), margin, receipt.version,
            len(receipt.candidate_ids),
        )  # fmt: skip
    ((added, anchors, parent, k),) = con.execute(
        "SELECT added, anchors, parent, k FROM coherent_receipts WHERE kind = 'ingest'"
    ).fetchall()
    assert (added, anchors, parent, k) == (6, 6, 0, None)


def test_the_documented_queries(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    found = [store.search(text, k=3) for text in ("one city", "two cakes", "a cake")]
    loose = replace(osc.Parameters(), max_iterations=1)
    with osc.connect(store.path, parameters=loose) as other:
        lost = other.search("Houston").receipt
    assert lost.content["converged"] is False
    by_day, cited, unsettled = QUERIES
    ((day, searches, average, median, p95),) = con.execute(by_day).fetchall()
    assert day == datetime.fromisoformat(lost.time).date()
    assert searches == 4
    assert 0 < median <= p95
    assert average > 0
    times = Counter(hit.id for result in found for hit in result) + Counter(lost.result_ids)
    rows = con.execute(cited).fetchall()
    assert {row[0]: row[2] for row in rows} == times
    assert [row[2] for row in rows] == sorted(times.values(), reverse=True)
    titles = {row["id"]: row["title"] for row in store.to_arrow().to_pylist()}
    assert all(row[1] == titles[row[0]] for row in rows)
    ((hash_, *_, residual),) = con.execute(unsettled).fetchall()
    assert (hash_, residual) == (lost.hash, lost.content["residual"])


def test_verification_of_a_whole_store(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    store.search("one city")
    assert names(con, "coherent_verify()") == ["generation", "files", "receipts", "ok", "problem"]
    report = store.verify()
    assert con.execute("FROM coherent_verify()").fetchall() == [
        (store.generation, report.files, 2, True, None)
    ]
    con.execute("PREPARE v AS SELECT bool_and(ok) FROM coherent_verify()")
    assert con.execute("EXECUTE v").fetchall() == [(True,)]
    path = next((store.path / "receipts").glob("*.wal"))
    path.write_bytes(path.read_bytes().replace(b'"k":', b'"K":'))
    assert con.execute("EXECUTE v").fetchall() == [(False,)]


def test_verification_has_a_row_for_each_problem(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    for path in sorted((store.path / "segments").rglob("*.arrays"))[:2]:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    problems = store.verify().problems
    assert len(problems) == 2
    rows = con.execute("SELECT problem FROM coherent_verify() WHERE NOT ok").fetchall()
    assert rows == [(problem,) for problem in problems]


def test_views_follow_an_ingest(
    con: duckdb.DuckDBPyConnection, store: osc.Store, rows: list[dict[str, object]]
) -> None:
    con.execute("PREPARE ids AS SELECT id FROM coherent_anchors WHERE lang = 'fr'")
    assert con.execute("EXECUTE ids").fetchall() == []
    before = con.execute("SELECT count(*) FROM coherent_edges").fetchone()
    store.ingest([{"id": "gateau", "title": "Le gâteau", "text": "Dallas (Texas)", "lang": "fr"}])
    assert con.execute("EXECUTE ids").fetchall() == [("gateau",)]
    assert con.execute("SELECT count(*) FROM coherent_anchors").fetchone() == (len(rows) + 1,)
    assert con.execute("SELECT count(*) FROM coherent_edges").fetchone() > before
    ingests = "SELECT count(*) FROM coherent_receipts WHERE kind = 'ingest'"
    assert con.execute(ingests).fetchone() == (2,)


def test_views_follow_another_handle_on_the_store(
    con: duckdb.DuckDBPyConnection, make_store: Callable[..., osc.Store], store: osc.Store
) -> None:
    assert store.generation == 1
    make_store().ingest([{"id": "new", "text": "another writer's text"}])
    found = "SELECT title FROM coherent_anchors WHERE id = 'new'"
    assert con.execute(found).fetchall() == [(None,)]
    assert con.execute("SELECT id FROM coherent_search('writer', k := 1)").fetchall() == [("new",)]


def test_a_new_column_shows_at_once_in_anchors_and_after_attaching_again_in_search(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    store.ingest([{"id": "new", "text": "a zebra", "lang": "en", "year": 2020}])
    assert con.execute("SELECT year FROM coherent_anchors WHERE id = 'new'").fetchall() == [(2020,)]
    found = "SELECT metadata FROM coherent_search('zebra', k := 1)"
    assert con.execute(found).fetchall() == [({"lang": "en"},)]
    osc.attach(con, store)
    assert con.execute(found).fetchall() == [({"lang": "en", "year": 2020},)]


def test_a_prepared_statement_over_changed_columns_says_so(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    con.execute("PREPARE p AS FROM coherent_anchors")
    store.ingest([{"id": "new", "text": "a zebra", "year": 2020}])
    with pytest.raises(duckdb.Error, match="11 columns where it declared 10"):
        con.execute("EXECUTE p")
    con.execute("PREPARE p AS FROM coherent_anchors")
    assert len(con.execute("EXECUTE p").fetchall()) == len(store)


def test_a_column_that_changed_its_type_asks_to_attach_again(
    make_store: Callable[..., osc.Store],
) -> None:
    store = make_store()
    store.ingest([{"id": "a", "text": "a zebra", "year": 2020}])
    with duckdb.connect() as con:
        osc.attach(con, store)
        store.ingest([{"id": "b", "text": "a horse", "year": 2020.5}])
        found = "SELECT metadata.year FROM coherent_search('a horse', k := 1)"
        with pytest.raises(duckdb.Error, match=r"'year' is double now .* attach it again"):
            con.execute(found)
        osc.attach(con, store)
        assert con.execute(found).fetchall() == [(2020.5,)]


def test_a_store_attached_before_its_first_ingest(
    make_store: Callable[..., osc.Store], rows: list[dict[str, object]]
) -> None:
    store = make_store()
    with duckdb.connect() as con:
        osc.attach(con, store)
        store.ingest(rows)
        assert con.execute("SELECT count(lang) FROM coherent_anchors").fetchone() == (6,)
        assert con.execute("SELECT id FROM coherent_search('cake', k := 1)").fetchall() == [
            ("cake",)
        ]
