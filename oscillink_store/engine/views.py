"""A generation as tables and figures for people: edges, summaries, statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from oscillink_store.engine.sharded import summaries_schema
from oscillink_store.engine.snapshot import SUMMARIES, Snapshot
from oscillink_store.model import RELATION_MASK, RELATIONS
from oscillink_store.storage.schemas import metadata_schema

__all__ = ["edge_table", "statistics", "summary_table"]

_EDGES = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("relation", pa.string()),
        ("weight", pa.float32()),
    ]
)


def edge_table(snapshot: Snapshot) -> pa.Table:
    """Every undirected edge once: source and target ids, relation name, raw weight."""
    if len(snapshot) == 0:
        return _EDGES.empty_table()
    lattice = snapshot.lattice.entries(np.arange(snapshot.slots))
    rows = lattice.sources()
    once = lattice.indices > rows
    ids = snapshot.rows["id"].combine_chunks()
    names = pa.array(RELATIONS, pa.string())
    return pa.table(
        [
            ids.take(pa.array(rows[once])),
            ids.take(pa.array(lattice.indices[once])),
            names.take(pa.array(lattice.relation[once] & RELATION_MASK)),
            pa.array(lattice.weights[once]),
        ],
        schema=_EDGES,
    )


def summary_table(snapshot: Snapshot) -> pa.Table:
    """The summary nodes, those of the shards first; none in a store without shards."""
    table = snapshot.table(SUMMARIES)
    if table is None:
        return summaries_schema(snapshot.manifest.dimension or 1).empty_table()
    return table.read()


def statistics(snapshot: Snapshot) -> dict[str, Any]:
    """Counts and sizes of a generation, as plain JSON values."""
    manifest = snapshot.manifest
    edges = dict(manifest.statistics["edges"])
    anchors = len(snapshot)
    return {
        "path": str(Path(snapshot.root).resolve()),
        "format_version": manifest.format_version,
        "generation": manifest.generation,
        "created": manifest.created,
        "anchors": anchors,
        "records": len(snapshot.records),
        "dimension": manifest.dimension,
        "embedder": None if manifest.embedder is None else manifest.embedder["name"],
        "edges": edges,
        "edges_per_anchor": round(sum(edges.values()) / anchors, 2) if anchors else 0.0,
        "knn": manifest.statistics.get("knn"),
        "dangling_links": manifest.statistics["dangling_links"],
        "facets": {name: len(values) for name, values in snapshot.facets.items()}
        if anchors
        else {},
        "metadata": _metadata(snapshot),
        "shards": 0 if snapshot.sharded is None else len(snapshot.sharded.levels[0].items),
        "parts": len(snapshot.parts),
        "deleted_slots": len(snapshot.dead),
        "corrections": sum(len(run.rows) for _, run in snapshot.runs("corrections")) // 2,
        "folded_receipts": manifest.tables["receipts"].rows if "receipts" in manifest.tables else 0,
        "bytes": {
            **{
                f"{name}.lance": sum(file.bytes for file in table.files)
                for name, table in manifest.tables.items()
            },
            "segments": sum(file.bytes for file in manifest.segments.values()),
        },
    }


def _metadata(snapshot: Snapshot) -> dict[str, str]:
    if len(snapshot) == 0:
        return {}
    return {field.name: str(field.type) for field in metadata_schema(snapshot.schema)}
