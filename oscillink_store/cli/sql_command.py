"""``sql``: a store queried from DuckDB, in memory, in one go."""

import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.console import print_json, width
from oscillink_store.cli.inspect_commands import AsJson, StorePath
from oscillink_store.cli.opening import open_existing
from oscillink_store.errors import QueryError

if TYPE_CHECKING:
    import duckdb

__all__ = ["run_sql", "sql"]


def sql(
    store: StorePath,
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="The SQL to run; - reads it from standard input.")
    ],
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Rows to show at most; --json has them all.")
    ] = 40,
    embedder: Annotated[
        str | None, typer.Option(help="The store's embedder, when it is not the built-in one.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Record no receipts of the searches.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Query a store with DuckDB's SQL.

    There are the functions coherent_topk, coherent_search, coherent_rerank and coherent_verify,
    and the views coherent_anchors, coherent_edges, coherent_summaries and coherent_receipts.
    """
    import duckdb

    from oscillink_store.sql_binding import attach

    if statement == "-":
        statement = sys.stdin.read()
    with open_existing(store, read_only=read_only, embedder=embedder) as opened:
        con = duckdb.connect()

        def run() -> None:
            relation = con.sql(statement)
            if as_json:
                print_json([] if relation is None else run_sql(relation))
            elif relation is not None:
                relation.show(max_width=width(), max_rows=rows)

        try:
            attach(con, opened)
            _interruptible(con, run)
        except duckdb.Error as error:
            raise QueryError(_line(error)) from error
        finally:
            con.close()


def _interruptible(con: "duckdb.DuckDBPyConnection", run: Callable[[], None]) -> None:
    """Let Ctrl-C end the queries of ``run``.

    A query in the main thread at times misses the signal, and every later one; an interrupt
    from another thread reaches it. One that comes between two queries is forgotten, so it is
    repeated until ``run`` has ended. The thread is there before it has anything to do, and is
    not waited for at the end, since what interrupts its start leaves it behind.
    """
    begin, ended, failures = Event(), Event(), list[BaseException]()

    def work() -> None:
        begin.wait()
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - raised below, where it is waited for
            failures.append(error)
        finally:
            ended.set()

    Thread(target=work, daemon=True).start()
    try:
        begin.set()
        ended.wait()  # not join(), which takes a thread for ended when it is interrupted
    except KeyboardInterrupt:
        while begin.is_set() and not ended.wait(0.05):
            begin.set()  # it may have been interrupted itself
            con.interrupt()
        raise
    if failures:
        raise failures[0]


def run_sql(relation: "duckdb.DuckDBPyRelation") -> list[dict[str, Any]]:
    """Fetch the rows of a relation; a column name that comes again gets a number behind it."""
    names: list[str] = []
    for name in relation.columns:
        again = sum(1 for earlier in names if earlier.partition(":")[0] == name)
        names.append(f"{name}:{again}" if again else name)
    return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def _line(error: Exception) -> str:
    # DuckDB draws the statement below its sentence, and puts words of its own before ours
    sentence = str(error).partition("\n\nLINE ")[0]
    return sentence.rpartition("while executing the UDF: ")[2]
