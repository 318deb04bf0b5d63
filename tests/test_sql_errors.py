"""A wrong call in SQL fails with one sentence of ours, and nothing is recorded for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import duckdb
import pytest

import oscillink_store as osc
from oscillink_store.errors import ClosedError, QueryError


@pytest.fixture
def con(store: osc.Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        osc.attach(con, store)
        yield con


WRONG = {
    "coherent_topk(NULL)": "q is NULL: pass text or a list of numbers",
    "coherent_topk(NULL::VARCHAR)": "q is NULL",
    "coherent_topk(NULL::FLOAT[384])": "q is NULL",
    "coherent_rerank(NULL, ['hbu'])": "q is NULL",
    "coherent_topk(5)": "q is 5: pass text or a list of numbers",
    "coherent_topk({'a': 1})": "q is {'a': 1}",
    "coherent_topk('')": "pass the question as a non-empty string",
    "coherent_topk([1, 2])": "the store's embeddings have dimension 384",
    "coherent_topk([])": "the store's embeddings have dimension 384",
    "coherent_topk(['a'])": "vector is not a list of numbers",
    "coherent_topk(list_resize([1.0], 384))": "NaN or infinity",
    "coherent_topk(list_resize([1e999], 384, 0))": "NaN or infinity",
    "coherent_topk(list_resize([0.0], 384, 0))": "all zeros",
    "coherent_topk('x', vector := [1])": "the store's embeddings have dimension 384",
    "coherent_topk('x', vector := 'y')": "vector is 'y': pass a list of numbers",
    "coherent_topk([1], vector := [1])": "q and vector are both vectors",
    "coherent_topk('x', k := 0)": "k is 0: pass a whole number of at least 1",
    "coherent_topk('x', k := -1)": "k is -1",
    "coherent_topk('x', k := NULL)": "k is None",
    "coherent_topk('x', k := 2.5)": "k is Decimal('2.5')",
    "coherent_topk('x', filter := 'year = 3')": "No field named year",
    "coherent_topk('x', filter := 'lang =')": "where: 'lang =' cannot be used",
    "coherent_topk('x', filter := '')": "where is ''",
    "coherent_topk('x', filter := 3)": "where is 3",
    "coherent_topk('x', filter := 'true); DROP TABLE t; --')": "where: ",
    "coherent_rerank('x', ['hbu', 'nobody'])": "id 'nobody' is not in the store",
    "coherent_rerank('x', ['hbu', NULL])": "id None is a NoneType",
    "coherent_rerank('x', ['hbu'], k := 0)": "k is 0",
    "coherent_gate(['hbu'], 1.5)": "the gate is 1.5: give a number from 0 to 1",
    "coherent_gate(['hbu'], NULL)": "gate is None: pass a number from 0 to 1",
    "coherent_gate(['hbu'], 'low')": "gate is 'low'",
    "coherent_gate(['hbu', 'nobody'], 0)": "id 'nobody' is not in the store",
    "coherent_gate(['hbu', NULL], 0)": "id None is a NoneType",
    "coherent_gate(['hbu', 'cake'], [0.5])": "gate is a list of 1 for 2 ids",
    "coherent_gate(['hbu', 'cake'], [0.5, NULL])": "row 1: 'gate' is missing",
    "__oscillink_gate(999999999, ['hbu'], 1)": "the store behind this function is gone",
    "__oscillink_topk(999999999, 'x', NULL, 1, NULL)": "the store behind this function is gone",
}


@pytest.mark.parametrize("call", WRONG)
def test_wrong_calls(con: duckdb.DuckDBPyConnection, store: osc.Store, call: str) -> None:
    before = store.receipts().num_rows
    with pytest.raises(duckdb.InvalidInputException) as caught:
        con.execute(f"SELECT {call}").fetchall()
    message = str(caught.value)
    assert WRONG[call] in message
    assert "\n" not in message
    assert store.receipts().num_rows == before
    # the connection goes on
    assert len(con.execute("FROM coherent_search('cake', k := 2)").fetchall()) == 2


@pytest.mark.parametrize("call", [call for call in WRONG if call.startswith("coherent_topk")])
def test_wrong_calls_of_the_table_function(con: duckdb.DuckDBPyConnection, call: str) -> None:
    with pytest.raises(duckdb.InvalidInputException, match=re.escape(WRONG[call])):
        con.execute(f"FROM {call.replace('coherent_topk', 'coherent_search')}").fetchall()


def test_a_question_that_is_null_fails_the_join_unless_left_out(
    con: duckdb.DuckDBPyConnection,
) -> None:
    con.execute("CREATE TABLE questions AS FROM (VALUES (1, 'cake'), (2, NULL)) t(qid, text)")
    join = "SELECT qid, m.id FROM questions q, coherent_search(q.text, k := 1) m"
    with pytest.raises(duckdb.InvalidInputException, match="q is NULL"):
        con.execute(join).fetchall()
    assert con.execute(f"{join} WHERE q.text IS NOT NULL").fetchall() == [(1, "cake")]


@pytest.mark.parametrize("wrong", ["coherent_topk()", "coherent_topk('x', limit_ := 3)"])
def test_wrong_arguments_show_the_right_ones(con: duckdb.DuckDBPyConnection, wrong: str) -> None:
    with pytest.raises(duckdb.BinderException, match=r"coherent_topk\(q, k := 10, filter := NULL"):
        con.execute(f"SELECT {wrong}")


def test_a_closed_store(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    store.close()
    for sql in (
        "SELECT coherent_topk('cake')",
        "FROM coherent_search('cake')",
        "SELECT coherent_rerank('cake', ['hbu'])",
        "FROM coherent_anchors",
        "FROM coherent_edges",
        "FROM coherent_summaries",
        "FROM coherent_receipts",
    ):
        with pytest.raises(duckdb.InvalidInputException, match="the store is closed: connect"):
            con.execute(sql).fetchall()
    with pytest.raises(ClosedError, match="the store is closed"):
        osc.attach(con, store)


def test_a_read_only_store_is_searched_without_records(
    make_store: Callable[..., osc.Store], store: osc.Store
) -> None:
    recorded = store.receipts().num_rows
    with duckdb.connect() as con:
        osc.attach(con, make_store(read_only=True))
        assert len(con.execute("FROM coherent_search('cake', k := 2)").fetchall()) == 2
        assert con.execute("SELECT count(*) FROM coherent_receipts").fetchone() == (recorded,)


@pytest.mark.parametrize(
    "name", ["", "a b", "a;b", "a'b", 'a"b', "1a", "a-b", "é", "a\n", "_a", "x" * 64, 3]
)
def test_names_are_plain_identifiers(
    con: duckdb.DuckDBPyConnection, store: osc.Store, name: str
) -> None:
    with pytest.raises(QueryError, match="use letters, digits and underscores"):
        osc.attach(con, store, name=name)
    with pytest.raises(QueryError, match="use letters, digits and underscores"):
        osc.detach(con, name=name)


def test_arguments_in_the_wrong_order(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    with pytest.raises(QueryError, match="store is a DuckDBPyConnection: call attach"):
        osc.attach(store, con)


def test_a_table_in_the_way_is_kept_and_nothing_half_attached(store: osc.Store) -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TEMP TABLE coherent_edges AS SELECT 42 AS mine")
        with pytest.raises(duckdb.CatalogException, match="coherent_edges"):
            osc.attach(con, store)
        assert con.execute("FROM coherent_edges").fetchall() == [(42,)]
        for sql in ("FROM coherent_anchors", "SELECT coherent_topk('cake')"):
            with pytest.raises(duckdb.CatalogException, match="does not exist"):
                con.execute(sql)


def test_a_closed_connection(store: osc.Store) -> None:
    con = duckdb.connect()
    con.close()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        osc.attach(con, store)
