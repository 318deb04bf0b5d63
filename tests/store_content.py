"""What a store holds, apart from how it came to hold it: equal for equal anchors in equal order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

import oscillink_store as osc
from oscillink_store.engine.compact import compact
from oscillink_store.engine.plan import MERGED
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.storage.manifest import read_current


def snapshot_of(path: Path) -> Snapshot:
    """The live generation, opened anew."""
    return Snapshot(path, read_current(path))


def held(snapshot: Snapshot) -> dict[str, Any]:
    """Every array, row and count of a generation as if its anchors had come in one part.

    Arrays are bytes, so two stores with the same content compare equal only to the bit.
    """
    segments = compact(snapshot).segments
    found: dict[str, Any] = {
        f"{name}/{array}": (values.dtype.str, values.shape, values.tobytes())
        for name, arrays in segments.arrays.items()
        for array, values in arrays.items()
        if not name.startswith("near/")  # spare neighbours depend on what came and went
    }
    found |= {name: rows.to_pylist() for name, rows in segments.rows.items()}
    found |= {f"{name}/schema": rows.schema for name, rows in segments.rows.items()}
    if snapshot.parts:
        found["moments"] = tuple(part.tobytes() for part in snapshot.moments)
    found["facets"] = snapshot.facets
    found["statistics"] = dict(snapshot.manifest.statistics)
    found["statistics"].pop(MERGED, None)  # tells of the way, not of what the store holds
    return found


def content(path: Path) -> dict[str, Any]:
    """:func:`held` of the live generation."""
    return held(snapshot_of(path))


def answered(receipt: osc.Receipt) -> dict[str, Any]:
    """What the receipt of a search says, but for what names the generation and its files."""
    told = {name: value for name, value in receipt.content.items() if name not in _NAMING}
    told["state"] = {**told["state"], "generation": None}
    return told


_NAMING = {"generation", "state_sig"}


def edges(snapshot_edges: pa.Table) -> set[tuple[str, str, str, float]]:
    """An edge table as a set of (source, target, relation, weight)."""
    rows = snapshot_edges.to_pylist()
    return {(r["source"], r["target"], r["relation"], r["weight"]) for r in rows}
