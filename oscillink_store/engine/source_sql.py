"""Rows of a DuckDB query, run on a database in memory, so that it can read files."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from oscillink_store.engine.source_arrow import BATCH_ROWS, one_line
from oscillink_store.engine.source_files import file_identity
from oscillink_store.errors import InputError

__all__ = ["Query", "query_identity", "read_query"]

_LITERAL = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True)
class Query:
    """A SELECT statement as a source of rows, as in ``SELECT * FROM 'notes/*.parquet'``."""

    sql: str


def read_query(query: Query) -> Iterator[pa.RecordBatch]:
    """Batches of the query's rows, in the order in which DuckDB gives them.

    Raises:
        InputError: the query cannot be run, or has no rows to give.
    """
    import duckdb

    try:
        with closing(duckdb.connect()) as con:
            relation = con.sql(query.sql)
            if relation is None:
                raise InputError("the query gives no rows: pass one SELECT statement")
            yield from relation.to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, pa.ArrowException) as error:
        # DuckDB draws the statement below its sentence
        sentence = str(error).partition("\n\nLINE ")[0]
        raise InputError(
            f"the query cannot be run ({one_line(ValueError(sentence))}): correct it"
        ) from error


def query_identity(query: Query) -> str:
    """The query with the files that its string literals name, as they are now."""
    named = {literal.replace("''", "'") for literal in _LITERAL.findall(query.sql)}
    files = sorted({path for name in named for path in glob.glob(name, recursive=True)})  # noqa: PTH207
    return json.dumps([query.sql, [file_identity(path) for path in files]])
