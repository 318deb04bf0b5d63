"""Connections, cursors, threads, transactions, prepared statements; attach and detach."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

import oscillink_store as osc

QUESTION = "who owned The Collegian?"
NAMES = (
    "SELECT coherent_topk('cake')",
    "FROM coherent_search('cake')",
    "SELECT coherent_rerank('cake', ['hbu'])",
    "FROM coherent_anchors",
    "FROM coherent_edges",
    "FROM coherent_summaries",
    "FROM coherent_receipts",
)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        yield con


def found(con: duckdb.DuckDBPyConnection, name: str = "coherent") -> list[str]:
    rows = con.execute(f"SELECT id FROM {name}_search('{QUESTION}', k := 3)").fetchall()
    return [id_ for (id_,) in rows]


def works(con: duckdb.DuckDBPyConnection) -> bool:
    for sql in NAMES:
        con.execute(sql).fetchall()
    return True


def gone(con: duckdb.DuckDBPyConnection) -> bool:
    for sql in NAMES:
        with pytest.raises(duckdb.CatalogException, match="does not exist"):
            con.execute(sql)
    return True


def test_attach_again_and_detach(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    assert gone(con)
    for _ in range(3):
        osc.attach(con, store)
        assert works(con)
    osc.detach(con)
    assert gone(con)
    osc.detach(con)
    osc.attach(con, store)
    assert works(con)


def test_detach_leaves_other_things_alone(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    con.execute("CREATE TABLE coherent_anchors AS SELECT 1 AS mine")
    con.execute("CREATE MACRO coherent_topk(a) AS a + 1")
    osc.attach(con, store)
    assert works(con)
    osc.detach(con)
    assert con.execute("SELECT mine, coherent_topk(mine) FROM coherent_anchors").fetchall() == [
        (1, 2)
    ]


def test_two_stores_under_two_names(
    con: duckdb.DuckDBPyConnection, make_store: Callable[..., osc.Store], store: osc.Store
) -> None:
    mail = make_store("mail.osc")
    mail.ingest([{"id": "m1", "text": "a mail about cake", "year": 2020}])
    osc.attach(con, store)
    osc.attach(con, mail, name="mail")
    assert found(con) == store.search(QUESTION, k=3).ids
    assert found(con, "mail") == ["m1"]
    both = "SELECT c.id, m.id FROM coherent_search('cake', k := 1) c, mail_search('cake') m"
    assert con.execute(both).fetchall() == [("cake", "m1")]
    assert con.execute("SELECT metadata.year FROM mail_search('cake')").fetchall() == [(2020,)]
    assert con.execute("SELECT id, year FROM mail_anchors").fetchall() == [("m1", 2020)]
    osc.detach(con, name="mail")
    assert works(con)
    with pytest.raises(duckdb.CatalogException, match="mail_search"):
        con.execute("FROM mail_search('cake')")


def test_another_store_under_the_same_name_replaces_the_first(
    con: duckdb.DuckDBPyConnection, make_store: Callable[..., osc.Store], store: osc.Store
) -> None:
    osc.attach(con, store)
    other = make_store("other.osc")
    other.ingest([{"id": "other", "text": "another cake"}])
    osc.attach(con, other)
    assert found(con) == ["other"]
    assert con.execute("SELECT id FROM coherent_anchors").fetchall() == [("other",)]
    other.close()
    osc.attach(con, store)
    assert works(con)


def test_stores_with_equal_columns_share_one_function(
    con: duckdb.DuckDBPyConnection, make_store: Callable[..., osc.Store]
) -> None:
    count = "SELECT count(*) FROM duckdb_functions() WHERE starts_with(function_name, '__osc')"
    for name in ("one", "two"):
        store = make_store(name)
        store.ingest([{"id": name, "text": f"text {name}", "lang": "en"}])
        osc.attach(con, store, name=name)
    assert con.execute(count).fetchone() == (5,)
    assert (found(con, "one"), found(con, "two")) == (["one"], ["two"])


def test_a_cursor_is_attached_by_itself(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    osc.attach(con, store)
    cursor = con.cursor()
    assert gone(cursor)
    osc.attach(cursor, store)
    assert works(cursor)
    osc.detach(con)
    assert gone(con)
    assert works(cursor)
    cursor.close()


def test_two_connections_to_one_database(tmp_path: Path, store: osc.Store) -> None:
    path = tmp_path / "some.db"
    first, second = duckdb.connect(path), duckdb.connect(path)
    osc.attach(first, store)
    osc.attach(second, store)
    assert found(first) == found(second)
    # the functions were registered through the first one
    first.close()
    assert works(second)
    second.close()


def test_a_database_file_keeps_nothing_of_it(tmp_path: Path, store: osc.Store) -> None:
    path = tmp_path / "some.db"
    with duckdb.connect(path) as con:
        osc.attach(con, store)
        con.execute("CREATE VIEW cakes AS SELECT id FROM coherent_search('cake', k := 1)")
        con.execute("CREATE TABLE kept AS FROM coherent_search('cake', k := 2)")
    for read_only in (False, True):
        with duckdb.connect(path, read_only=read_only) as con:
            assert con.execute("SELECT id, metadata.lang FROM kept").fetchone() == ("cake", "en")
            with pytest.raises(duckdb.CatalogException, match="coherent_search"):
                con.execute("FROM cakes")
            osc.attach(con, store)
            assert con.execute("FROM cakes").fetchall() == [("cake",)]
            assert works(con)


def test_attaching_neither_commits_nor_needs_the_callers_transaction(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    con.begin()
    con.execute("CREATE TABLE mine AS SELECT 1 AS a")
    osc.attach(con, store)
    assert works(con)
    con.rollback()
    assert gone(con)
    with pytest.raises(duckdb.CatalogException, match="mine"):
        con.execute("FROM mine")
    osc.attach(con, store)
    assert works(con)


def test_a_transaction_that_began_before(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    early = con.cursor()
    early.begin()
    early.execute("SELECT 1").fetchall()
    osc.attach(con, store)
    osc.attach(early, store)
    assert works(early)
    early.commit()
    early.close()


@pytest.mark.parametrize("statement", ["SQL", "Python"])
def test_a_second_execution_sees_the_new_generation(
    con: duckdb.DuckDBPyConnection, store: osc.Store, statement: str
) -> None:
    osc.attach(con, store)
    con.execute("PREPARE top AS SELECT coherent_topk($1, k := $2)")
    con.execute("PREPARE search AS SELECT id FROM coherent_search($1, k := $2)")

    def ids() -> list[str]:
        if statement == "SQL":
            (top,) = con.execute("EXECUTE top('a zebra', 1)").fetchone()
            rows = con.execute("EXECUTE search('a zebra', 1)").fetchall()
        else:
            values = ["a zebra", 1]
            (top,) = con.execute("SELECT coherent_topk($1, k := $2)", values).fetchone()
            rows = con.execute("SELECT id FROM coherent_search(?, k := ?)", values).fetchall()
        return [hit["id"] for hit in top] + [id_ for (id_,) in rows]

    assert "zebra" not in ids()
    store.ingest([{"id": "zebra", "text": "a zebra in the zoo"}])
    assert ids() == ["zebra", "zebra"]


def test_a_prepared_question_may_be_text_or_a_vector(
    con: duckdb.DuckDBPyConnection, make_store: Callable[..., osc.Store]
) -> None:
    store = make_store(embedder=None)
    store.ingest([{"id": "a", "text": "one", "vector": [1, 0]}])
    osc.attach(con, store)
    con.execute("PREPARE p AS SELECT coherent_topk($1)[1].id")
    for question in ("'one'", "[1.0, 2.0]", "[1, 2]::FLOAT[2]"):
        assert con.execute(f"EXECUTE p({question})").fetchall() == [("a",)]
    with pytest.raises(duckdb.InvalidInputException, match="q is NULL"):
        con.execute("EXECUTE p(NULL)").fetchall()


def test_binding_and_explaining_search_nothing(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    osc.attach(con, store)
    before = store.receipts().num_rows
    for sql in NAMES[:3]:
        con.execute(f"EXPLAIN {sql}").fetchall()
        con.execute(f"DESCRIBE {sql}").fetchall()
        con.execute(f"PREPARE p AS {sql}")
        con.sql(sql)
    con.execute("CREATE VIEW cakes AS FROM coherent_search('cake')")
    assert store.receipts().num_rows == before
    con.execute("SELECT coherent_topk('cake')").fetchall()
    con.execute("FROM coherent_search('cake')").fetchall()
    assert store.receipts().num_rows == before + 2


def test_equal_calls_in_one_query_are_not_merged(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    osc.attach(con, store)
    before = store.receipts().num_rows
    same = con.execute("SELECT coherent_topk('cake') = coherent_topk('cake')").fetchall()
    assert same == [(True,)]
    assert store.receipts().num_rows == before + 2


def test_threads_with_a_cursor_each(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    titles = [hit.title for hit in store.search("the of a", k=6)]
    expected = {title: store.search(title, k=3).ids for title in titles}
    together = threading.Barrier(4)
    wrong: list[object] = []

    def run() -> None:
        try:
            with con.cursor() as cursor:
                together.wait()
                osc.attach(cursor, store)
                for title in titles * 3:
                    rows = cursor.execute("SELECT id FROM coherent_search(?, k := 3)", [title])
                    if (ids := [id_ for (id_,) in rows.fetchall()]) != expected[title]:
                        wrong.append((title, ids))
                cursor.execute("SELECT count(*) FROM coherent_anchors").fetchall()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            wrong.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_query_on_several_threads(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    osc.attach(con, store)
    con.execute("SET threads = 2")
    # several row groups, a few rows of each
    con.execute(
        "CREATE TABLE questions AS SELECT i, 'cake number ' || i AS text FROM range(400000) t(i)"
    )
    rows = con.execute(
        "SELECT i, text, coherent_topk(text, k := 2) FROM questions WHERE i % 5000 = 0 ORDER BY i"
    ).fetchall()
    assert len(rows) == 80
    for _, text, top in rows:
        assert [hit["id"] for hit in top] == store.search(text, k=2).ids


def test_searching_while_another_thread_ingests(
    con: duckdb.DuckDBPyConnection, store: osc.Store
) -> None:
    osc.attach(con, store)
    failures: list[BaseException] = []

    def grow() -> None:
        try:
            for i in range(4):
                store.ingest([{"id": f"zebra{i}", "text": f"a zebra, the {i}th", "lang": "en"}])
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    thread = threading.Thread(target=grow)
    thread.start()
    seen = []
    while thread.is_alive():
        seen.append(con.execute("SELECT count(*) FROM coherent_anchors").fetchone()[0])
        assert len(con.execute("FROM coherent_search('cake', k := 2)").fetchall()) == 2
    thread.join()
    assert failures == []
    assert seen == sorted(seen)
    assert con.execute("SELECT count(*) FROM coherent_anchors").fetchone() == (10,)


@pytest.mark.parametrize("release", ["detach", "close", "forget"])
def test_the_connection_keeps_the_store_until_it_lets_go(
    tmp_path: Path, rows: list[dict[str, object]], release: str
) -> None:
    con = duckdb.connect()
    store = osc.connect(tmp_path / "s.osc", embedder="hash")
    store.ingest(rows)
    osc.attach(con, store)
    alive = weakref.ref(store)
    del store
    gc.collect()
    assert works(con)
    if release == "detach":
        osc.detach(con)
    elif release == "close":
        con.close()
    else:
        del con
    gc.collect()
    assert alive() is None


def test_duckdbs_own_default_connection(store: osc.Store) -> None:
    con = duckdb.default_connection()
    osc.attach(con, store)
    try:
        assert len(duckdb.sql("FROM coherent_search('cake', k := 2)").fetchall()) == 2
    finally:
        osc.detach(con)
