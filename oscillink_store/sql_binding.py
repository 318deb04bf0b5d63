"""The DuckDB face: a store's searches as SQL functions and its contents as views.

DuckDB knows Python functions (scalar, one set per database) and registered Arrow sources (per
connection). The SQL names are temporary macros over the former and views on the latter; their
text is in ``oscillink_store.sql``. What that leads to:

- The functions are registered through a cursor, whose transaction is its own: a rollback in
  the caller's connection takes the macros and views back and leaves them whole.
- DuckDB keeps plain pointers to the functions, so they are never let go.
- Their result type is fixed, so the function behind ``coherent_search`` exists once for each
  set of metadata columns, with a digest of its type in the name.
- The functions find a store by its number in a weak dictionary; it is the views that keep an
  attached store alive, until it is detached or the connection is closed.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import re
import threading
from collections.abc import Callable
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple
from weakref import WeakSet, WeakValueDictionary

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.store import Store
from oscillink_store.errors import ClosedError, QueryError
from oscillink_store.model import Hit, SearchResult
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA
from oscillink_store.storage.schemas import RESERVED_COLUMNS, anchors_schema, metadata_schema

__all__ = ["attach", "detach"]

_stores: WeakValueDictionary[int, Store] = WeakValueDictionary()
_numbers = itertools.count(1)
_functions: dict[str, Callable[..., pa.Array]] = {}
_attaching = threading.Lock()

# Until the process ends; see _release.
_sources: WeakSet[_Source] = WeakSet()

_RANKED = [("id", pa.string()), ("score", pa.float64()), ("rank", pa.int64())]
_DETAILS = [
    ("text", pa.string()),
    ("title", pa.string()),
    ("evidence", pa.float64()),
    ("gate", pa.float64()),
    ("coherence", pa.float64()),
    ("cosine", pa.float64()),
]

_Vector = npt.NDArray[Any]
_Search = Callable[[Store, str | None, _Vector | None, Any, Any], SearchResult]


def attach(con: duckdb.DuckDBPyConnection, store: Store, *, name: str | None = None) -> None:
    """Make a store queryable from a DuckDB connection.

    With the default name these appear, temporary and for this connection only::

        coherent_topk(q, k := 10, filter := NULL, vector := NULL)    LIST of STRUCT(id, score, rank)
        coherent_rerank(q, ids, k := 10, vector := NULL)             the same, over ids alone
        FROM coherent_search(q, k := 10, filter := NULL, vector := NULL)
        FROM coherent_anchors, coherent_edges, coherent_summaries, coherent_receipts

    ``q`` is text or a list of numbers, ``vector`` the embedding that goes with a text,
    ``filter`` a predicate as in :meth:`Store.search`. ``coherent_search`` has the columns id,
    score, rank, text, title, evidence, gate, coherence, cosine, metadata and receipt (the hash
    by which ``coherent_receipts`` knows it). ``metadata`` is a STRUCT of the metadata columns
    that the store has now; attach again after an ingest that brought further ones. Everything
    else follows the store by itself: each query sees the generation that is live when it runs.

    A cursor is a connection of its own and inherits neither macros nor views: attach to it
    too. The store stays open and alive as long as the connection has it; the embedder must
    not query this database.

    Args:
        con: The connection or cursor.
        store: An open store.
        name: What the SQL names begin with in place of ``coherent``, to attach several stores
            to one connection. Attaching under a name that is taken replaces what was there.

    Raises:
        QueryError: the name is not a plain identifier, or the store is something else.
        ClosedError: the store has been closed.
        duckdb.Error: the connection is closed, or has tables of its own under these names.
    """
    name = _checked(name)
    if not isinstance(store, Store):
        raise QueryError(f"store is a {type(store).__name__}: call attach(con, store)")
    metadata = _metadata(store.current())
    with _attaching, con.cursor() as cursor:
        _register(cursor, "__oscillink_topk", _search, _RANKED)
        _register(cursor, "__oscillink_rerank", _rerank, _RANKED)
        hit = [*_RANKED, *_DETAILS, ("metadata", metadata), ("receipt", pa.string())]
        search = f"__oscillink_search_{hashlib.sha256(repr(hit).encode()).hexdigest()[:16]}"
        _register(cursor, search, _search, hit)
    number = next(_numbers)
    _stores[number] = store
    try:
        for suffix, view in _VIEWS.items():
            con.register(f"{name}_{suffix}", _Source(store, view))
        con.execute(_sql("attach", name=name, store=str(number), search=search))
    except duckdb.Error:
        detach(con, name=name)
        raise


def detach(con: duckdb.DuckDBPyConnection, *, name: str | None = None) -> None:
    """Take away what :func:`attach` made under this name; nothing happens if nothing is there.

    Raises:
        QueryError: the name is not a plain identifier.
        duckdb.Error: the connection is closed.
    """
    name = _checked(name)
    for suffix in _VIEWS:
        con.unregister(f"{name}_{suffix}")
    con.execute(_sql("detach", name=name))


def _checked(name: str | None) -> str:
    if name is None:
        return "coherent"
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) is None:
        raise QueryError(
            f"name is {name!r}: use letters, digits and underscores, beginning with a letter"
        )
    return name


def _sql(file: str, **values: str) -> str:
    text = files("oscillink_store.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    return Template(text).substitute(values)


class _Source:
    """What a view scans: a table that is asked of the store at every query.

    DuckDB asks for the schema when it binds a statement and for the rows when it runs it.
    """

    def __init__(self, store: Store, view: _View) -> None:
        self._store: Store | None = store
        self._view = view
        _sources.add(self)

    def __arrow_c_schema__(self) -> object:
        schema = self._view.schema or self._table().schema
        return schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table().__arrow_c_stream__(requested_schema)

    def release(self) -> None:
        self._store = None

    def _table(self) -> pa.Table:
        if self._store is None:
            raise ClosedError("the process is ending: no store can be read any more")
        return self._view.table(self._store)


@atexit.register
def _release() -> None:
    # A store's embedder may be a function of the main module, whose variables hold the
    # connection: a circle through DuckDB that the interpreter could not break at its end.
    for source in list(_sources):
        source.release()


def _anchors(store: Store) -> pa.Table:
    """The live generation's anchors, all columns memory-mapped: only what is used is read."""
    snapshot = store.current()
    if len(snapshot) == 0:
        rows = anchors_schema(None).empty_table()
        vectors = pa.array([], pa.list_(pa.float32()))
    else:
        rows = snapshot.rows
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(snapshot.vectors.reshape(-1)), snapshot.vectors.shape[1]
        )
    rows = rows.drop_columns([name for name in RESERVED_COLUMNS if name in rows.schema.names])
    return rows.add_column(rows.schema.get_field_index("gate") + 1, "vector", vectors)


def _receipts(store: Store) -> pa.Table:
    return store.receipts().cast(_RECEIPTS)


class _View(NamedTuple):
    table: Callable[[Store], pa.Table]
    schema: pa.Schema | None = None
    """Where making the table only to see its schema would cost something."""


_EDGES = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("relation", pa.string()),
        ("weight", pa.float32()),
    ]
)
# In UTC without a zone: to fetch values with one, DuckDB needs a package that may be missing.
_RECEIPTS = RECEIPT_SCHEMA.set(
    RECEIPT_SCHEMA.get_field_index("time"), pa.field("time", pa.timestamp("us"), nullable=False)
)
_VIEWS = {
    "anchors": _View(_anchors),
    "edges": _View(Store.edges, _EDGES),
    "summaries": _View(Store.summaries),
    "receipts": _View(_receipts, _RECEIPTS),
}


def _metadata(snapshot: Snapshot) -> pa.StructType:
    """The type of the ``metadata`` column: a generation's metadata columns."""
    fields = metadata_schema(snapshot.rows.schema) if len(snapshot) else []
    return pa.struct([(field.name, _known(field.type)) for field in fields])


def _known(type_: pa.DataType) -> pa.DataType:
    """A type for a column without values, which has none yet."""
    return pa.string() if pa.types.is_null(type_) else type_


def _register(
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    search: _Search,
    hit: list[tuple[str, pa.DataType]],
) -> None:
    """Add a function to the database unless it has it; it answers a LIST of STRUCT ``hit``."""
    answer = pa.list_(pa.struct(hit))
    function = _functions.setdefault(name, _function(search, answer))
    returned = cursor.from_arrow(pa.table([pa.array([], answer)], ["answer"])).types[0]
    try:
        cursor.create_function(
            name,
            function,
            None,  # any number of arguments of any types
            returned,
            type="arrow",
            null_handling="special",
            side_effects=True,  # else it would run when a statement is bound or explained
        )
    except duckdb.CatalogException as error:
        if "already exists" not in str(error):
            raise


def _function(search: _Search, answer: pa.ListType) -> Callable[..., pa.Array]:
    """The function that DuckDB calls with a batch of rows: one search each, in their order."""
    names = [field.name for field in answer.value_type]
    agreeing: WeakSet[Snapshot] = WeakSet()

    def run(*columns: pa.ChunkedArray) -> pa.Array:
        number, *arguments = columns
        store = _stores.get(number[0].as_py())
        if store is None:
            raise ClosedError("the store behind this function is gone: attach it again")
        results = [
            search(store, *_question(q, vector), k, other)
            for q, vector, k, other in zip(*map(_values, arguments), strict=True)
        ]
        if "metadata" in names and (snapshot := store.current()) not in agreeing:
            _check_metadata(snapshot, answer.value_type.field("metadata").type)
            agreeing.add(snapshot)
        rows = [[_row(hit, result, names) for hit in result] for result in results]
        return pa.array(rows, answer)

    return run


def _check_metadata(snapshot: Snapshot, declared: pa.StructType) -> None:
    # Arrow would cut a number short to make it fit; columns that are new are left out.
    for field in _metadata(snapshot):
        place = declared.get_field_index(field.name)
        if place >= 0 and declared.field(place).type != field.type:
            raise QueryError(
                f"{snapshot.root}: metadata column {field.name!r} is {field.type} now and was "
                f"{declared.field(place).type} when the store was attached: attach it again"
            )


def _search(
    store: Store, text: str | None, vector: _Vector | None, k: int, where: str | None
) -> SearchResult:
    return store.search(text, vector=vector, k=k, where=where)


def _rerank(
    store: Store, text: str | None, vector: _Vector | None, k: int, ids: _Vector | None
) -> SearchResult:
    # list() over no rows is NULL: no candidates, no hits
    return store.rerank([] if ids is None else ids.tolist(), text, vector=vector, k=k)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values of an argument, a LIST or ARRAY as a numpy array."""
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return [
            None if scalar.values is None else scalar.values.to_numpy(zero_copy_only=False)
            for scalar in column
        ]
    values: list[Any] = column.to_pylist()
    return values


def _question(q: object, vector: object) -> tuple[str | None, _Vector | None]:
    """Text and vector to search with."""
    if q is None:
        raise QueryError("q is NULL: pass text or a list of numbers, and leave out rows without")
    if not isinstance(q, str | np.ndarray):
        raise QueryError(f"q is {q!r}: pass text or a list of numbers")
    if not isinstance(vector, np.ndarray | None):
        raise QueryError(f"vector is {vector!r}: pass a list of numbers")
    if isinstance(q, str):
        return q, vector
    if vector is not None:
        raise QueryError("q and vector are both vectors: pass the text as q, or one of them alone")
    return None, q


def _row(hit: Hit, result: SearchResult, names: list[str]) -> dict[str, Any]:
    return {
        name: result.receipt.hash if name == "receipt" else getattr(hit, name) for name in names
    }
