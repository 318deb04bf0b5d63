"""Receipts as rows of ``receipts.lance``: typed columns for SQL, and the whole line in ``body``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from math import fsum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from oscillink_store.errors import QueryError
from oscillink_store.receipts.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oscillink_store.storage.tables import Table

__all__ = ["RECEIPT_SCHEMA", "from_arrow", "stored", "to_arrow"]

_Value: TypeAlias = Callable[[Receipt], Any]

RECEIPT_SCHEMA = pa.schema(
    [
        pa.field("hash", pa.string(), nullable=False),
        pa.field("previous", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("writer", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("version", pa.int64()),
        pa.field("label", pa.string()),
        pa.field("key_id", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("generation", pa.int64()),
        pa.field("parent", pa.int64()),
        # of a search: what was asked, found, and settled
        pa.field("detail", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("state_sig", pa.string()),
        pa.field("has_text", pa.bool_()),
        pa.field("has_vector", pa.bool_()),
        pa.field("filtered", pa.bool_()),
        pa.field("only", pa.bool_()),
        pa.field("k", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("results", pa.int64()),
        pa.field("result_ids", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("first_evidence", pa.float64()),
        pa.field("fifth_evidence", pa.float64()),
        pa.field("margin", pa.float64()),
        pa.field("best_cosine", pa.float64()),
        pa.field("delta_h", pa.float64()),
        pa.field("delta_h_anchor", pa.float64()),
        pa.field("delta_h_graph", pa.float64()),
        pa.field("delta_h_query", pa.float64()),
        pa.field("delta_h_chain", pa.float64()),
        pa.field("iterations", pa.int64()),
        pa.field("residual", pa.float64()),
        pa.field("converged", pa.bool_()),
        pa.field("null_points", pa.int64()),
        pa.field("contested", pa.int64()),
        # of an ingest: anchors of the batch, and those of the generation that it made
        pa.field("added", pa.int64()),
        pa.field("updated", pa.int64()),
        pa.field("unchanged", pa.int64()),
        pa.field("deleted", pa.int64()),
        pa.field("anchors", pa.int64()),
        pa.field("body", pa.string(), nullable=False),
    ]
)
"""``candidates``, ``null_points`` and ``contested`` are their numbers, ``margin`` is the first
evidence less the fifth; all else that a receipt says stands in ``body``. What a receipt does
not say is null: version 1 knows no ``seconds`` and splits ΔH into other terms."""


def to_arrow(
    receipts: Sequence[Receipt],
    columns: Sequence[str] | None = None,
    *,
    bodies: Sequence[str] | None = None,
) -> pa.Table:
    """Lay verified receipts out as columns of :data:`RECEIPT_SCHEMA`, in their order.

    ``bodies`` are their lines, where they are at hand.
    """
    schema = _schema_of(columns)
    arrays = [
        pa.array(
            bodies
            if bodies is not None and field.name == "body"
            else [_VALUES[field.name](receipt) for receipt in receipts],
            field.type,
        )
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def from_arrow(rows: pa.Table | pa.RecordBatch) -> Iterator[Receipt]:
    """Read the receipts back from the ``body`` column.

    Raises IntegrityError at the first body that is no receipt.
    """
    for body in rows["body"].to_pylist():
        yield Receipt.from_json(body)


def stored(table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """The receipts of a store of any format as columns of :data:`RECEIPT_SCHEMA`.

    Raises IntegrityError when a file is damaged, or when a column is missing and a body that
    would tell is no receipt.
    """
    schema = _schema_of(columns)
    if set(schema.names) <= set(table.schema.names):
        return table.read(schema.names).cast(schema)
    return to_arrow(list(from_arrow(table.read(["body"]))), columns)


def _schema_of(columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return RECEIPT_SCHEMA
    if unknown := [name for name in columns if name not in RECEIPT_SCHEMA.names]:
        raise QueryError(
            f"columns: {unknown[0]!r} is no column of receipts: they have "
            f"{', '.join(RECEIPT_SCHEMA.names)}"
        )
    return pa.schema([RECEIPT_SCHEMA.field(name) for name in columns])


def _said(name: str) -> _Value:
    return lambda receipt: receipt.content.get(name)


def _of_search(value: Callable[[Mapping[str, Any]], Any]) -> _Value:
    return lambda receipt: value(receipt.content) if receipt.kind == "search" else None


def _is_there(*path: str) -> _Value:
    def is_there(content: Mapping[str, Any]) -> bool:
        found: Any = content
        for name in path:
            found = (found or {}).get(name)
        return found is not None

    return _of_search(is_there)


def _number(name: str) -> _Value:
    def number(content: Mapping[str, Any]) -> int | None:
        found = content.get(name)
        return None if found is None else len(found)

    return _of_search(number)


def _candidates(content: Mapping[str, Any]) -> int:
    named = content.get("candidates") or ()  # all of them in version 1, which has no number
    return int(content.get("candidate_count", len(named)))


def _term(name: str) -> _Value:
    def term(content: Mapping[str, Any]) -> float | None:
        found = (content.get("terms") or {}).get(name)
        return fsum(found.values()) if isinstance(found, Mapping) else found

    return _of_search(term)


def _margin(content: Mapping[str, Any]) -> float | None:
    if content.get("part") is not None:  # one of several stores, which do not tell by themselves
        return None
    first, fifth = content.get("first_evidence"), content.get("fifth_evidence")
    return None if first is None or fifth is None else first - fifth


_ENVELOPE = (
    "hash", "previous", "content_hash", "writer", "sequence", "kind", "version", "label",
    "key_id", "seconds", "payload",
)  # fmt: skip
_VALUES: dict[str, _Value] = {
    **{name: _said(name) for name in RECEIPT_SCHEMA.names},
    **{name: attrgetter(name) for name in _ENVELOPE},
    "time": lambda receipt: datetime.fromisoformat(receipt.time),
    "has_text": _is_there("query", "text"),
    "has_vector": _is_there("query", "vector"),
    "filtered": _is_there("where"),
    "candidates": _of_search(_candidates),
    **{name: _number(name) for name in ("results", "contested")},
    "null_points": _said("null_point_count"),
    "result_ids": _said("results"),
    "margin": _of_search(_margin),
    **{f"delta_h_{name}": _term(name) for name in ("anchor", "graph", "query", "chain")},
    "body": Receipt.to_json,
}
