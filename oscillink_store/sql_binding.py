"""The DuckDB face: a store's searches as SQL functions and its contents as views.

DuckDB knows Python functions (scalar, one set per database) and registered Arrow sources (per
connection). The SQL names are temporary macros over the former and views on the latter; their
text is in ``oscillink_store.sql``. What that leads to:

- The functions are registered through a cursor, whose transaction is its own: a rollback in
  the caller's connection takes the macros and views back and leaves them whole.
- DuckDB keeps plain pointers to the functions, so they are never let go.
- Native functions cost less per call, Arrow functions keep every type exactly: the latter is
  behind ``coherent_search``, whose result has metadata. As a result type is fixed, there is
  one for each set of metadata columns, with a digest of the type in its name.
- The functions find a store by its number in a weak dictionary; it is the views that keep an
  attached store alive, until it is detached or the connection is closed.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib.resources import files
from operator import attrgetter
from string import Template
from typing import Any, NamedTuple
from weakref import WeakSet, WeakValueDictionary

import duckdb
import pyarrow as pa
import pyarrow.dataset

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.store import Store
from oscillink_store.errors import ClosedError, QueryError
from oscillink_store.model import SearchResult
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA
from oscillink_store.storage.schemas import RESERVED_COLUMNS, anchors_schema, metadata_schema

__all__ = ["attach", "detach"]

_stores: WeakValueDictionary[int, Store] = WeakValueDictionary()
_numbers = itertools.count(1)
_tables: dict[str, Callable[..., pa.Array]] = {}
_attaching = threading.Lock()

# Until the process ends; see _release.
_sources: WeakSet[_OfStore] = WeakSet()

_RANKED = [("id", pa.string()), ("score", pa.float64()), ("rank", pa.int64())]
_DETAILS = [
    ("text", pa.string()),
    ("title", pa.string()),
    ("evidence", pa.float64()),
    ("gate", pa.float64()),
    ("coherence", pa.float64()),
    ("cosine", pa.float64()),
]

_VERIFIED = [
    ("generation", pa.int64()),
    ("files", pa.int64()),
    ("receipts", pa.int64()),
    ("ok", pa.bool_()),
    ("problem", pa.string()),
]

_Vector = list[float] | tuple[float, ...]


def attach(con: duckdb.DuckDBPyConnection, store: Store, *, name: str | None = None) -> None:
    """Make a store queryable from a DuckDB connection.

    With the default name these appear, temporary and for this connection only::

        coherent_topk(q, k := 10, filter := NULL, vector := NULL)    LIST of STRUCT(id, score, rank)
        coherent_rerank(q, ids, k := 10, vector := NULL)             the same, over ids alone
        coherent_gate(ids, gate)                                     BIGINT, how many changed
        FROM coherent_search(q, k := 10, filter := NULL, vector := NULL)
        FROM coherent_anchors, coherent_edges, coherent_summaries, coherent_receipts
        FROM coherent_verify()

    ``q`` is text or a list of numbers, ``vector`` the embedding that goes with a text,
    ``filter`` a predicate as in :meth:`Store.search`. ``coherent_search`` has the columns id,
    score, rank, text, title, evidence, gate, coherence, cosine, metadata, payload (as JSON) and
    receipt, the hash by which ``coherent_receipts`` (whose times are UTC) knows the search.
    ``coherent_verify`` reads the whole store and has one row when everything is what was
    written, else one for each problem: generation, files, receipts, ok, problem.
    ``metadata`` is a STRUCT of the metadata columns that the store has now; attach again after
    an ingest that brought further ones. ``coherent_gate`` sets the trust gates of anchors as
    :meth:`Store.set_gates` does, to one number or to a list of them, one for each id. A call is
    a commit, so gather the ids of a query: ``SELECT coherent_gate(list(id), 0.02) FROM ...``.
    Everything else follows the store by itself: each query sees the generation that is live
    when it runs.

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
    columns = [
        *_RANKED, *_DETAILS, ("metadata", metadata), ("payload", pa.string()),
        ("receipt", pa.string()),
    ]  # fmt: skip
    search = f"__oscillink_search_{hashlib.sha256(repr(columns).encode()).hexdigest()[:16]}"
    with _attaching, con.cursor() as cursor:
        _register(cursor, "__oscillink_topk", _topk, _rows_of(_RANKED), "native")
        _register(cursor, "__oscillink_rerank", _rerank, _rows_of(_RANKED), "native")
        _register(cursor, "__oscillink_gate", _gate, pa.int64(), "native")
        _register(cursor, "__oscillink_verify", _verify, _rows_of(_VERIFIED), "native")
        table = _tables.setdefault(search, _table(columns, metadata))
        _register(cursor, search, table, _rows_of(columns), "arrow")
    number = next(_numbers)
    _stores[number] = store
    try:
        for suffix, view in _VIEWS.items():
            con.register(f"{name}_{suffix}", _Source(store, view))
        con.register(f"{name}_receipts", _Receipts(store))
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
    for suffix in _NAMES:
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


class _OfStore:
    """What a view scans, until the process ends."""

    _store: Store | None

    def release(self) -> None:
        self._store = None

    def opened(self) -> Store:
        if self._store is None:
            raise ClosedError("the process is ending: no store can be read any more")
        return self._store


class _Source(_OfStore):
    """A table that is asked of the store at every query.

    DuckDB asks for the schema when it binds a statement and for the rows when it runs it.
    """

    def __init__(self, store: Store, view: _View) -> None:
        self._store = store
        self._view = view
        _sources.add(self)

    def __arrow_c_schema__(self) -> object:
        schema = self._view.schema or self._table().schema
        return schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table().__arrow_c_stream__(requested_schema)

    def _table(self) -> pa.Table:
        return self._view.table(self.opened())


class _Receipts(pa.dataset.Dataset, _OfStore):  # type: ignore[misc]
    """The receipts, of which only columns that a query uses are read: ``body`` is long."""

    def __init__(self, store: Store) -> None:
        # nothing of the base class is used but what DuckDB knows it by
        self._store = store
        _sources.add(self)

    @property
    def schema(self) -> pa.Schema:
        return _RECEIPTS

    def scanner(
        self,
        columns: list[str] | None = None,
        filter: pa.dataset.Expression | None = None,  # noqa: A002 - DuckDB's name for it
    ) -> pa.dataset.Scanner:
        wanted = _RECEIPTS.names if columns is None else columns
        # a filter that mentions a name stands for more than it, should that be part of another
        read = [name for name in _RECEIPTS.names if name in wanted or name in str(filter)]
        rows = self.opened().receipts(read)
        rows = rows.cast(pa.schema([_RECEIPTS.field(name) for name in read]))
        return pa.dataset.dataset(rows).scanner(columns=wanted, filter=filter)


@atexit.register
def _release() -> None:
    # A store's embedder may be a function of the main module, whose variables hold the
    # connection: a circle through DuckDB that the interpreter could not break at its end.
    for source in list(_sources):
        source.release()


def _anchors(store: Store) -> pa.Table:
    """The live generation's anchors, all columns memory-mapped: only what is used is read."""
    snapshot = store.current()
    if len(snapshot):
        return snapshot.present()
    rows = anchors_schema(None).empty_table()
    vectors = pa.array([], pa.list_(pa.float32()))
    rows = rows.drop_columns([name for name in RESERVED_COLUMNS if name in rows.schema.names])
    return rows.add_column(rows.schema.get_field_index("gate") + 1, "vector", vectors)


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
}
_NAMES = (*_VIEWS, "receipts")


def _metadata(snapshot: Snapshot) -> pa.StructType:
    """The type of the ``metadata`` column: a generation's metadata columns."""
    return pa.struct(list(metadata_schema(snapshot.schema)) if len(snapshot) else [])


def _rows_of(columns: list[tuple[str, pa.DataType]]) -> pa.DataType:
    """A LIST of STRUCTs with these columns."""
    return pa.list_(pa.struct(columns))


def _register(
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    function: Callable[..., Any],
    type_: pa.DataType,
    kind: str,
) -> None:
    """Add a function to the database, with the type of its answers, unless it has it."""
    answer = pa.array([], type_)
    try:
        cursor.create_function(
            name,
            function,
            None,  # any number of arguments of any types
            cursor.from_arrow(pa.table([answer], ["answer"])).types[0],
            type=kind,
            null_handling="special",
            side_effects=True,  # else it would run when a statement is bound or explained
        )
    except duckdb.CatalogException as error:
        if "already exists" not in str(error):
            raise


def _topk(*arguments: Any) -> list[dict[str, Any]]:
    number, q, vector, k, where = arguments
    store, text, psi = _asked(number, q, vector)
    return _ranked(store.search(text, vector=psi, k=k, where=where))


def _rerank(*arguments: Any) -> list[dict[str, Any]]:
    number, q, vector, k, ids = arguments
    store, text, psi = _asked(number, q, vector)
    # list() over no rows is NULL: no candidates, no hits
    return _ranked(store.rerank(ids or [], text, vector=psi, k=k))


def _gate(*arguments: Any) -> int:
    number, ids, gate = arguments
    store = _attached(number)
    if not ids:  # list() over no rows is NULL
        return 0
    if isinstance(gate, int | float | Decimal):
        return store.set_gates(float(gate), ids=ids).changed
    if not isinstance(gate, list | tuple):
        raise QueryError(f"gate is {gate!r}: pass a number from 0 to 1, or a list of them")
    if len(gate) != len(ids):
        raise QueryError(
            f"gate is a list of {len(gate)} for {len(ids)} ids: pass one number, or one for each"
        )
    return store.set_gates([{"id": i, "gate": g} for i, g in zip(ids, gate, strict=True)]).changed


def _verify(number: int) -> list[dict[str, Any]]:
    report = _attached(number).verify()
    return [
        {
            "generation": report.generation,
            "files": report.files,
            "receipts": report.receipts,
            "ok": report.ok,
            "problem": problem,
        }
        for problem in report.problems or (None,)
    ]


def _ranked(result: SearchResult) -> list[dict[str, Any]]:
    return [{"id": hit.id, "score": hit.score, "rank": hit.rank} for hit in result]


def _table(
    columns: list[tuple[str, pa.DataType]], metadata: pa.StructType
) -> Callable[..., pa.Array]:
    """The function behind ``coherent_search``: Arrow in and out, which keeps every type."""
    answer = _rows_of(columns)
    values = attrgetter(*(name for name, _ in columns[:-2]))
    agreeing: WeakSet[Snapshot] = WeakSet()

    def search(*arguments: pa.ChunkedArray) -> pa.Array:
        hits = []
        for number, q, vector, k, where in zip(*(a.to_pylist() for a in arguments), strict=True):
            store, text, psi = _asked(number, q, vector)
            result = store.search(text, vector=psi, k=k, where=where)
            hash_ = result.receipt.hash
            hits.append([(*values(hit), _json(hit.payload), hash_) for hit in result])
            if (snapshot := store.current()) not in agreeing:
                _check_metadata(snapshot, metadata)
                agreeing.add(snapshot)
        return pa.array(hits, answer)

    return search


def _json(payload: Mapping[str, Any] | None) -> str | None:
    return None if payload is None else json.dumps(payload, ensure_ascii=False)


def _check_metadata(snapshot: Snapshot, declared: pa.StructType) -> None:
    # Arrow would cut a number short to make it fit; columns that are new are left out.
    for field in _metadata(snapshot):
        place = declared.get_field_index(field.name)
        if place >= 0 and declared.field(place).type != field.type:
            raise QueryError(
                f"{snapshot.root}: metadata column {field.name!r} is {field.type} now and was "
                f"{declared.field(place).type} when the store was attached: attach it again"
            )


def _attached(number: int) -> Store:
    store = _stores.get(number)
    if store is None:
        raise ClosedError("the store behind this function is gone: attach it again")
    return store


def _asked(number: int, q: object, vector: object) -> tuple[Store, str | None, _Vector | None]:
    """The store with text and vector to search for."""
    store = _attached(number)
    if q is None:
        raise QueryError("q is NULL: pass text or a list of numbers, and leave out rows without")
    if not isinstance(q, str | list | tuple):
        raise QueryError(f"q is {q!r}: pass text or a list of numbers")
    if not isinstance(vector, list | tuple | None):
        raise QueryError(f"vector is {vector!r}: pass a list of numbers")
    if isinstance(q, str):
        return store, q, vector
    if vector is not None:
        raise QueryError("q and vector are both vectors: pass the text as q, or one of them alone")
    return store, None, q
