"""From a batch of rows to everything a commit writes, as pure data; nothing touches disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.moments import moments
from oscillink_store.kernels.scan import quantize
from oscillink_store.lattice.graph import build_csr
from oscillink_store.lattice.names import name_index
from oscillink_store.lattice.relations import build
from oscillink_store.lattice.relations.corpus import Corpus
from oscillink_store.lattice.relations.link import dangling
from oscillink_store.model import RELATIONS, Fields, Parameters
from oscillink_store.storage.commit import AnchorChange
from oscillink_store.storage.schemas import anchors_schema, conform, merge_metadata, metadata_schema

__all__ = ["CARRIED", "Comparison", "compare", "plan"]

Progress = Callable[[str, int, int | None], None]

# Columns of the anchors table that the rows segment leaves out: the vectors have a segment
# of their own, and the full-text column repeats title and text.
_NOT_IN_ROWS = ("vector", "fulltext")

CARRIED = ("rows", "vectors", "gates", "row_ids")
"""The segments whose surviving rows go into the next generation as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A batch held against a generation: the rows that are new to it, and what they replace.

    ``survivors`` (N,) says which of the generation's rows stay.
    """

    fresh: pa.Table
    survivors: npt.NDArray[np.bool_]
    added: int
    updated: int
    unchanged: int


def compare(snapshot: Snapshot, incoming: pa.Table) -> Comparison:
    """Find the rows that change something.

    A row whose id and content are in the store already is left alone; one whose id is there
    with other content replaces it.

    Raises:
        InputError: a metadata column of the store cannot take the batch's type or value.
    """
    count = incoming.num_rows
    if len(snapshot) == 0:
        return Comparison(
            fresh=incoming, survivors=np.empty(0, np.bool_), added=count, updated=0, unchanged=0
        )
    added = incoming.select(metadata_schema(incoming.schema).names)
    # here, where rows still have the numbers that they have in their source
    conform(added, merge_metadata(metadata_schema(snapshot.rows.schema), added.schema))
    existing = snapshot.rows.select(["id", "digest"]).combine_chunks()
    survivors = np.ones(existing.num_rows, np.bool_)
    places = pc.index_in(_one(incoming["id"]), value_set=_one(existing["id"]))
    known = pc.is_valid(places).to_numpy(zero_copy_only=False)
    rows = places.drop_null()
    same = pc.equal(
        _one(existing["digest"]).take(rows), _one(incoming["digest"]).filter(pa.array(known))
    ).to_numpy(zero_copy_only=False)
    survivors[rows.to_numpy()[~same]] = False
    fresh = ~known
    fresh[np.flatnonzero(known)[~same]] = True
    return Comparison(
        fresh=incoming.filter(pa.array(fresh)),
        survivors=survivors,
        added=count - int(known.sum()),
        updated=int((~same).sum()),
        unchanged=int(same.sum()),
    )


def plan(
    snapshot: Snapshot,
    batch: Comparison,
    *,
    fields: Fields,
    parameters: Parameters,
    embedder: Mapping[str, Any] | None,
    progress: Progress,
) -> AnchorChange:
    """Plan what the fresh rows, their vectors included, make of a generation."""
    fresh = batch.fresh
    fresh_rows = fresh.drop_columns([name for name in _NOT_IN_ROWS if name in fresh.schema.names])
    vectors = _vectors(fresh, snapshot.manifest.dimension or 0)
    gates = fresh["gate"].to_numpy().astype(np.float32)
    removed = np.empty(0, np.uint64)
    rows = fresh_rows
    if len(snapshot):
        survivors = batch.survivors
        existing = snapshot.rows
        removed = snapshot.row_ids(np.flatnonzero(~survivors))
        schema = merge_metadata(existing.schema, fresh_rows.schema)
        rows = pa.concat_tables(
            [
                conform(existing.filter(pa.array(survivors)), schema),
                conform(fresh_rows, schema),
            ]
        )
        vectors = np.concatenate([snapshot.vectors[survivors], vectors])
        gates = np.concatenate([snapshot.gates[survivors], gates])
    corpus = _corpus(rows, vectors)
    arrays, values, statistics = derive(corpus, gates, rows, fields, parameters, progress)
    stored = anchors_schema(vectors.shape[1], metadata_schema(rows.schema))
    return AnchorChange(
        added=conform(fresh, stored),
        removed=removed,
        rows=rows,
        arrays=arrays,
        values=values,
        statistics=statistics,
        dimension=vectors.shape[1],
        embedder=embedder,
        fields=asdict(fields),
    )


def derive(
    corpus: Corpus,
    gates: npt.NDArray[np.float32],
    rows: pa.Table,
    fields: Fields,
    parameters: Parameters,
    progress: Progress,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any], dict[str, Any]]:
    """The arrays, JSON values and statistics that follow from all rows of a generation."""
    codes, scales = quantize(corpus.vectors)
    mean, covariance = moments(corpus.vectors)
    edges = build(corpus, parameters, progress=progress)
    lattice = build_csr(corpus.anchors, edges)
    names = name_index(corpus.titles, parameters)
    arrays: dict[str, npt.NDArray[Any]] = {
        "vectors": corpus.vectors,
        "codes": codes,
        "scales": scales,
        "gates": gates,
        "mean": mean,
        "covariance": covariance,
        **lattice._asdict(),
        **{f"names_{part}": array for part, array in names._asdict().items()},
    }
    values = {"facets": {column: _distinct(rows[column]) for column in fields.facets}}
    statistics = {
        "anchors": corpus.anchors,
        "edges": {RELATIONS[part.relation]: len(part.source) for part in edges},
        "dangling_links": dangling(corpus),
    }
    return arrays, values, statistics


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _vectors(table: pa.Table, dimension: int) -> npt.NDArray[np.float32]:
    if table.num_rows == 0:
        return np.empty((0, dimension), np.float32)
    column = table["vector"]
    size = column.type.list_size
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.ascontiguousarray(np.concatenate(flat).reshape(-1, size), dtype=np.float32)


def _corpus(rows: pa.Table, vectors: npt.NDArray[np.float32]) -> Corpus:
    return Corpus(
        anchors=rows.num_rows,
        ids=rows["id"].to_pylist(),
        titles=rows["title"].to_pylist(),
        texts=rows["text"].to_pylist(),
        vectors=vectors,
        sequences=rows["sequence"].to_pylist(),
        positions=rows["position"].to_pylist(),
        links=rows["links"].to_pylist(),
    )


def _distinct(column: pa.ChunkedArray) -> list[str]:
    values = pc.unique(column.combine_chunks()).to_pylist()
    return sorted({str(value) for value in values if value is not None and str(value).strip()})
