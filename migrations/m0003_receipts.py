"""Format 3: what a receipt says gets typed columns in receipts.lance, beside ``body``.

In format 2 all folded receipts are of version 1, and tell a question by its digests, as a
``payload`` of "minimal" does. Of what they do not know, a column stays null: ``seconds``,
``detail``, ``key_id``, ``state_sig``, ``only``, null points and contested twins, and the terms
of ΔH, which version 1 splits otherwise (each as its term of H(Y) − H(U*)).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from oscillink_store.errors import IntegrityError
from oscillink_store.storage.commit import Change
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.tables import Derived, TableChange

__all__ = ["DESCRIPTION", "FROM", "TO", "change"]

FROM, TO = 2, 3
_TABLE = "receipts"
_COLUMNS = pa.schema(
    [
        ("version", pa.int64()),
        ("key_id", pa.string()),
        ("seconds", pa.float64()),
        ("parent", pa.int64()),
        ("detail", pa.string()),
        ("payload", pa.string()),
        ("state_sig", pa.string()),
        ("has_text", pa.bool_()),
        ("has_vector", pa.bool_()),
        ("filtered", pa.bool_()),
        ("only", pa.bool_()),
        ("results", pa.int64()),
        ("margin", pa.float64()),
        ("delta_h_anchor", pa.float64()),
        ("delta_h_graph", pa.float64()),
        ("delta_h_query", pa.float64()),
        ("delta_h_chain", pa.float64()),
        ("null_points", pa.int64()),
        ("contested", pa.int64()),
        ("added", pa.int64()),
        ("updated", pa.int64()),
        ("unchanged", pa.int64()),
        ("deleted", pa.int64()),
        ("anchors", pa.int64()),
    ]
)
DESCRIPTION = f"receipts.lance gets {len(_COLUMNS)} typed columns for what receipts say"
_OF_INGEST = ("parent", "added", "updated", "unchanged", "deleted", "anchors")


def change(manifest: Manifest, report: Callable[[int], None]) -> Change:
    """What becomes of a generation of format 2."""
    version = {"format_version": TO}
    if _TABLE not in manifest.tables:  # nothing was folded yet
        return Change(manifest=version)
    done = 0

    def work_out(batch: pa.RecordBatch) -> pa.RecordBatch:
        nonlocal done
        rows = [_row(body) for body in batch["body"].to_pylist()]
        done += len(rows)
        report(done)
        return pa.RecordBatch.from_pylist(rows, _COLUMNS)

    derived = Derived(schema=_COLUMNS, of=("body",), work_out=work_out)
    return Change(tables={_TABLE: TableChange(derived=derived)}, manifest=version)


def _row(body: str) -> dict[str, Any]:
    try:
        receipt = json.loads(body)
        content = receipt["content"]
        row = {"version": receipt["version"], "payload": "minimal"}
        if content["kind"] == "search":
            return row | _search(content)
        return row | {name: content.get(name) for name in _OF_INGEST}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{_TABLE}.lance: a receipt cannot be read ({type(error).__name__}: {error}): verify "
            "the store and restore the folder from a backup"
        ) from error


def _search(content: dict[str, Any]) -> dict[str, Any]:
    first, fifth = content["first_evidence"], content["fifth_evidence"]
    return {
        "has_text": content["query"]["text"] is not None,
        "has_vector": content["query"]["vector"] is not None,
        "filtered": content["where"] is not None,
        "results": len(content["results"]),
        "margin": None if first is None or fifth is None else first - fifth,
    }
