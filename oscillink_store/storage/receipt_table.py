"""Receipts as rows of ``receipts.lance``: typed columns for SQL, and the whole line in ``body``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from oscillink_store.receipts.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RECEIPT_SCHEMA", "from_arrow", "to_arrow"]

RECEIPT_SCHEMA = pa.schema(
    [
        pa.field("hash", pa.string(), nullable=False),
        pa.field("previous", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("writer", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("generation", pa.int64()),
        pa.field("label", pa.string()),
        pa.field("k", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("result_ids", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("first_evidence", pa.float64()),
        pa.field("fifth_evidence", pa.float64()),
        pa.field("best_cosine", pa.float64()),
        pa.field("delta_h", pa.float64()),
        pa.field("iterations", pa.int64()),
        pa.field("residual", pa.float64()),
        pa.field("converged", pa.bool_()),
        pa.field("body", pa.string(), nullable=False),
    ]
)
"""``candidates`` is their number; all else that a receipt says stands in ``body``."""

_OF_CONTENT = (
    "generation", "k", "first_evidence", "fifth_evidence", "best_cosine", "delta_h",
    "iterations", "residual", "converged",
)  # fmt: skip


def to_arrow(receipts: Sequence[Receipt]) -> pa.Table:
    """Lay verified receipts out as a table of :data:`RECEIPT_SCHEMA`, in their order."""
    return pa.Table.from_pylist([_row(receipt) for receipt in receipts], RECEIPT_SCHEMA)


def from_arrow(rows: pa.Table | pa.RecordBatch) -> Iterator[Receipt]:
    """Read the receipts back from the ``body`` column.

    Raises IntegrityError at the first body that is no receipt.
    """
    for body in rows["body"].to_pylist():
        yield Receipt.from_json(body)


def _row(receipt: Receipt) -> dict[str, Any]:
    content = receipt.content
    search = receipt.kind == "search"
    return {
        **{name: content.get(name) for name in _OF_CONTENT},
        "hash": receipt.hash,
        "previous": receipt.previous,
        "content_hash": receipt.content_hash,
        "writer": receipt.writer,
        "sequence": receipt.sequence,
        "time": datetime.fromisoformat(receipt.time),
        "kind": receipt.kind,
        "label": receipt.label,
        "candidates": len(receipt.candidate_ids) if search else None,
        "result_ids": receipt.result_ids if search else None,
        "scores": receipt.scores if search else None,
        "body": receipt.to_json(),
    }
