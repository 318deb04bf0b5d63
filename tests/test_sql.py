"""The searches in SQL give what the Python calls give."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import oscillink_store as osc

QUESTION = "who owned The Collegian?"


@pytest.fixture
def con(store: osc.Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        osc.attach(con, store)
        yield con


def ranked(result: osc.SearchResult) -> list[dict[str, object]]:
    return [{"id": hit.id, "score": hit.score, "rank": hit.rank} for hit in result]


def one(con: duckdb.DuckDBPyConnection, sql: str, parameters: object = None) -> object:
    ((value,),) = con.execute(sql, parameters).fetchall()
    return value


def test_topk_is_the_python_search(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    expected = ranked(store.search(QUESTION, k=3))
    assert one(con, f"SELECT coherent_topk('{QUESTION}', k := 3)") == expected
    assert one(con, "SELECT coherent_topk($q, k := $k)", {"q": QUESTION, "k": 3}) == expected
    assert len(one(con, "SELECT coherent_topk(?)", [QUESTION])) == len(store)


def test_topk_is_a_list_of_structs(con: duckdb.DuckDBPyConnection) -> None:
    kind = one(con, "SELECT typeof(coherent_topk('cake', k := 1))")
    assert kind == "STRUCT(id VARCHAR, score DOUBLE, rank BIGINT)[]"


def test_search_is_a_table_of_the_hits(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    result = store.search(QUESTION, k=4)
    rows = con.sql("FROM coherent_search($q, k := 4)", params={"q": QUESTION}).to_arrow_table()
    assert rows.schema.names == [
        "id", "score", "rank", "text", "title", "evidence", "gate", "coherence", "cosine",
        "metadata", "payload", "receipt",
    ]  # fmt: skip
    for row, hit in zip(rows.to_pylist(), result, strict=True):
        row.pop("receipt")
        assert row == {name: getattr(hit, name) for name in row}


def test_the_receipt_of_a_search_can_be_looked_up(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    rows = con.execute(f"SELECT id, receipt FROM coherent_search('{QUESTION}', k := 2)").fetchall()
    (receipt,) = {receipt for _, receipt in rows}
    kind, ids, generation = con.execute(
        "SELECT kind, result_ids, generation FROM coherent_receipts WHERE hash = $1", [receipt]
    ).fetchone()
    assert (kind, ids, generation) == ("search", [id_ for id_, _ in rows], store.generation)


@pytest.mark.parametrize("cast", ["", "::FLOAT[384]", "::FLOAT[]", "::DOUBLE[]", "::DOUBLE[384]"])
def test_vectors_of_every_sql_type(
    con: duckdb.DuckDBPyConnection, store: osc.Store, cast: str
) -> None:
    vector = store.get("hbu")[0]["vector"]
    expected = ranked(store.search(vector=vector, k=4))
    assert one(con, f"SELECT coherent_topk($v{cast}, k := 4)", {"v": vector}) == expected
    assert one(con, f"SELECT coherent_topk($v{cast}, k := 4)", {"v": vector.tolist()}) == expected
    rows = con.execute(f"SELECT id FROM coherent_search($v{cast}, k := 4)", {"v": vector})
    assert [id_ for (id_,) in rows.fetchall()] == [hit["id"] for hit in expected]


def test_a_vector_of_whole_numbers_or_decimals(make_store: Callable[..., osc.Store]) -> None:
    store = make_store(embedder=None)
    store.ingest(
        [{"id": f"{x}{y}", "text": f"{x} {y}", "vector": [x, y]} for x in (1, 2) for y in (0, 3)]
    )
    with duckdb.connect() as con:
        osc.attach(con, store)
        expected = ranked(store.search(vector=[2, 1], k=2))
        for q in ("[2, 1]", "[2.0, 1.0]", "[2, 1]::DECIMAL(3, 1)[]", "[2::DOUBLE, 1]"):
            assert one(con, f"SELECT coherent_topk({q}, k := 2)") == expected


def test_text_with_its_vector(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    vector = store.get("cake")[0]["vector"]
    expected = store.search(QUESTION, vector=vector, k=6)
    assert expected.ids != store.search(QUESTION, k=6).ids
    values = {"q": QUESTION, "v": vector}
    assert one(con, "SELECT coherent_topk($q, k := 6, vector := $v)", values) == ranked(expected)
    rows = con.execute("SELECT id FROM coherent_search($q, k := 6, vector := $v)", values)
    assert [id_ for (id_,) in rows.fetchall()] == expected.ids


def test_text_without_an_embedder_is_full_text_only(make_store: Callable[..., osc.Store]) -> None:
    store = make_store(embedder=None)
    vectors = np.eye(3, dtype=np.float32)
    texts = ["a red house", "a red car", "a blue car"]
    store.ingest(
        [
            {"id": str(i), "text": text, "vector": vector}
            for i, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ]
    )
    with duckdb.connect() as con:
        osc.attach(con, store)
        worded = con.execute("SELECT id, cosine FROM coherent_search('blue', k := 1)").fetchall()
        assert worded == [("2", None)]
        dense = con.execute(
            "SELECT id, cosine FROM coherent_search($v, k := 1)", {"v": vectors[0]}
        ).fetchall()
        assert dense == [("0", pytest.approx(1.0))]


def test_the_filter_is_applied_before_ranking(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    rows = con.execute(
        "SELECT id, metadata.lang FROM coherent_search('newspaper', filter := 'lang = ''de''')"
    ).fetchall()
    assert rows == [("zeitung", "de")]
    expected = ranked(store.search("newspaper", k=2, where="lang = 'en'"))
    sql = "SELECT coherent_topk('newspaper', k := 2, filter := $f)"
    assert one(con, sql, {"f": "lang = 'en'"}) == expected
    assert one(con, "SELECT coherent_topk('newspaper', filter := 'lang = ''xx''')") == []


def test_rerank_ranks_the_candidates_of_a_query(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    ids = ["cake", "dallas", "hbu"]
    con.execute("CREATE TABLE my_candidates AS SELECT unnest($1) AS id", [ids])
    sql = "SELECT coherent_rerank($q, list(id), k := 2) FROM my_candidates"
    assert one(con, sql, {"q": QUESTION}) == ranked(store.rerank(ids, QUESTION, k=2))
    vector = store.get("dallas")[0]["vector"]
    assert one(con, sql, {"q": vector}) == ranked(store.rerank(ids, vector=vector, k=2))
    sql = "SELECT coherent_rerank($q, list(id), vector := $v) FROM my_candidates"
    expected = ranked(store.rerank(ids, QUESTION, vector=vector))
    assert one(con, sql, {"q": QUESTION, "v": vector}) == expected


def test_rerank_of_nothing_is_nothing(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT coherent_rerank('x y', list(id)) FROM coherent_anchors WHERE lang = 'xx'"
    assert one(con, sql) == []
    assert one(con, "SELECT coherent_rerank('x y', [])") == []


def test_a_lateral_join_searches_once_for_each_row(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    questions = {1: QUESTION, 2: "marble cake", 3: "a city in Texas", 4: QUESTION}
    con.execute("CREATE TABLE questions (qid INTEGER, text VARCHAR)")
    con.executemany("INSERT INTO questions VALUES (?, ?)", [list(row) for row in questions.items()])
    before = store.receipts().num_rows
    rows = con.execute(
        "SELECT q.qid, m.* FROM questions q, coherent_search(q.text, k := 3) m ORDER BY qid, rank"
    ).fetchall()
    assert [(qid, id_) for qid, id_, *_ in rows] == [
        (qid, id_) for qid, text in questions.items() for id_ in store.search(text, k=3).ids
    ]
    assert len({row[-1] for row in rows}) == len(questions)
    assert store.receipts().num_rows == before + 2 * len(questions)


def test_lateral_joins_over_vectors_filters_and_ks(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    rows = con.execute(
        "SELECT a.id, m.id FROM coherent_anchors a, coherent_search(a.vector, k := 1) m ORDER BY 1"
    ).fetchall()
    assert rows == [(id_, id_) for id_ in sorted(store.to_arrow()["id"].to_pylist())]
    rows = con.execute(
        "SELECT t.f, count(*) FROM (VALUES ('lang = ''de''', 9), ('lang = ''en''', 2)) t(f, n), "
        "coherent_search('a city', k := t.n, filter := t.f) GROUP BY ALL ORDER BY 1"
    ).fetchall()
    assert rows == [("lang = 'de'", 1), ("lang = 'en'", 2)]


def test_a_left_join_keeps_questions_without_hits(con: duckdb.DuckDBPyConnection) -> None:
    rows = con.execute(
        "SELECT q.text, m.id FROM (VALUES ('cake')) q(text) "
        "LEFT JOIN LATERAL coherent_search(q.text, filter := 'lang = ''xx''') m ON true"
    ).fetchall()
    assert rows == [("cake", None)]


def test_the_question_is_evaluated_once(con: duckdb.DuckDBPyConnection) -> None:
    # a sequence shows how often its next value was taken
    con.execute("CREATE SEQUENCE calls")
    con.execute("SELECT coherent_topk('cake ' || nextval('calls'))").fetchall()
    con.execute("FROM coherent_search('cake ' || nextval('calls'), k := 2)").fetchall()
    con.execute("SELECT coherent_rerank('cake ' || nextval('calls'), ['hbu'])").fetchall()
    assert one(con, "SELECT currval('calls')") == 3


def test_more_rows_than_one_batch_keep_their_order(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    texts = [hit.title for hit in store.search("the of a", k=6)]
    expected = {text: ranked(store.search(text, k=1)) for text in texts}
    con.execute(
        "CREATE TABLE many AS SELECT i, $1[1 + i % 6] AS text FROM range(2100) t(i)", [texts]
    )
    rows = con.execute("SELECT text, coherent_topk(text, k := 1) FROM many ORDER BY i").fetchall()
    assert len(rows) == 2100
    assert all(hits == expected[text] for text, hits in rows)


def test_long_texts_survive_several_calls_in_one_query(
    make_store: Callable[..., osc.Store],
) -> None:
    store = make_store()
    rng = np.random.default_rng(0)
    words = [" ".join(f"word{n}" for n in rng.integers(0, 300, 40)) for _ in range(60)]
    store.ingest(
        [
            {"id": f"{i:03}{'x' * (i % 30)}", "title": f"Name{i}", "text": text, "tag": "t" * i}
            for i, text in enumerate(words)
        ]
    )
    known = {row["id"]: (row["text"], row["tag"]) for row in store.to_arrow().to_pylist()}
    with duckdb.connect() as con:
        osc.attach(con, store)
        found = con.execute(
            "SELECT a.title, m.id, m.text, m.metadata.tag, n.id, n.text, n.metadata.tag,"
            " coherent_topk(a.title, k := 2)"
            " FROM coherent_anchors a, coherent_search(a.title, k := 3) m,"
            " coherent_search(a.text, k := 2) n"
        ).fetchall()
    assert len(found) == 60 * 3 * 2
    top = {f"Name{i}": ranked(store.search(f"Name{i}", k=2)) for i in range(60)}
    for title, first, text, tag, second, other_text, other_tag, hits in found:
        assert (text, tag) == known[first]
        assert (other_text, other_tag) == known[second]
        assert hits == top[title]


def test_metadata_keeps_its_types_and_values(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    utc = dt.UTC
    columns = {
        "flag": pa.array([True, None], pa.bool_()),
        "big": pa.array([2**64 - 1, 0], pa.uint64()),
        "small": pa.array([-128, None], pa.int8()),
        "single": pa.array([0.1, float("nan")], pa.float32()),
        "double": pa.array([float("inf"), None], pa.float64()),
        "day": pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date32()),
        "moment": pa.array([dt.datetime(2020, 1, 1, 1, 2, 3, 4), None], pa.timestamp("us")),
        "second": pa.array([dt.datetime(2020, 1, 1), None], pa.timestamp("s")),
        "zoned": pa.array([dt.datetime(2020, 6, 1, tzinfo=utc), None], pa.timestamp("us", "UTC")),
        "clock": pa.array([dt.time(1, 2, 3, 4), None], pa.time64("us")),
        "span": pa.array([dt.timedelta(days=40, seconds=3), None], pa.duration("us")),
        "price": pa.array([decimal.Decimal("-99999999.99"), None], pa.decimal128(10, 2)),
        "raw": pa.array([b"a\x00b", b""], pa.binary()),
        "words": pa.array([["a", None], []], pa.list_(pa.string())),
        "nested": pa.array([{"a": 1, "b": [{"c": "x"}]}, None],
                           pa.struct([("a", pa.int32()),
                                      ("b", pa.list_(pa.struct([("c", pa.string())])))])),
        "mapped": pa.array([[("k", 1), ("l", None)], []], pa.map_(pa.string(), pa.int32())),
        "a name, with 'quotes'": pa.array(["x", "y"]),
        "empty": pa.nulls(2),
        "no words": pa.array([[], None], pa.list_(pa.null())),
    }  # fmt: skip
    store.ingest(pa.table({"id": ["1", "2"], "text": ["one two", "two three"], **columns}))
    with duckdb.connect() as con:
        osc.attach(con, store)
        assert one(con, "SELECT count(*) FROM coherent_search('two')") == 2
        for name in columns:
            quoted = '"' + name + '"'
            same = con.execute(
                f"SELECT bool_and(m.metadata.{quoted} IS NOT DISTINCT FROM a.{quoted}),"
                f" any_value(typeof(m.metadata.{quoted})), any_value(typeof(a.{quoted}))"
                " FROM coherent_search('two') m JOIN coherent_anchors a USING (id)"
            ).fetchone()
            assert same == (True, same[2], same[2]), name
        spread = con.execute("SELECT metadata.* FROM coherent_search('two')").description
        assert [column[0] for column in spread] == list(columns)


def test_a_store_without_metadata(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    store.ingest([{"id": "1", "text": "one"}])
    with duckdb.connect() as con:
        osc.attach(con, store)
        (row,) = con.execute("SELECT id, text, metadata FROM coherent_search('one')").fetchall()
        assert row == ("1", "one", {})


def test_an_empty_store(make_store: Callable[..., osc.Store]) -> None:
    with duckdb.connect() as con:
        osc.attach(con, make_store())
        assert one(con, "SELECT coherent_topk('one')") == []
        assert con.execute("FROM coherent_search('one')").fetchall() == []
        for view in ("anchors", "edges", "summaries"):
            assert con.execute(f"FROM coherent_{view}").fetchall() == []
