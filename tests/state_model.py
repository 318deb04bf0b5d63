"""Two stores compared: one that was changed step by step, and one built from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

import oscillink_store as osc
from oscillink_store.engine.snapshot import CORRECTIONS, Snapshot
from oscillink_store.model import RELATION_MASK, RELATIONS

FIELDS = osc.Fields(facets=["speaker"])
PARAMETERS = osc.Parameters(
    knn_neighbors=2, knn_spares=1, title_max_anchors=2, shared_max_frequency=3,
    dense_candidates=4, text_candidates=4, evidence_floor_rank=4, tolerance=1e-12,
)  # fmt: skip
"""Limits so small that a handful of anchors crosses all of them."""

SHARDED = replace(PARAMETERS, shards_from=3, shard_anchors=2, max_nodes=2, route_share=1.0)
"""With shards, all of which are searched."""

QUESTIONS: tuple[dict[str, Any], ...] = (
    {"text": "who built the Blue House"},
    {"text": "what did Anna say of the Grand Hotel", "where": "n > 1"},
    {"vector": [1.0, 0.0, 0.0]},
    {"vector": [-1.0, 2.0, 0.5], "where": "lang = 'en' OR n IS NULL", "k": 3},
    {"text": "Marie Curie in Blue House Hotel", "vector": [0.0, 1.0, 1.0], "k": 30},
    {"text": "painter", "vector": [1.0, 1.0, 0.0], "where": "speaker = 'Anna'", "k": 30},
)

Matrix = npt.NDArray[np.float64]


def open_store(path: Path, parameters: osc.Parameters = PARAMETERS) -> osc.Store:
    return osc.connect(path, fields=FIELDS, parameters=parameters)


def rebuilt(path: Path, rows: pa.Table, parameters: osc.Parameters = PARAMETERS) -> osc.Store:
    """A store built from nothing in one ingest, if there is anything."""
    store = open_store(path, parameters)
    if rows.num_rows:
        store.ingest(rows)
    return store


def check_same(store: osc.Store, other: osc.Store) -> None:
    """Compare everything that a user can see of two stores, and the operator underneath."""
    one, two = store.current(), other.current()
    assert len(store) == len(other)
    assert store.to_arrow()["id"].to_pylist() == other.to_arrow()["id"].to_pylist()
    assert store.edges().equals(other.edges())  # weights too, to the bit
    _check_statistics(store.stats(), other.stats())
    if len(store) == 0:
        return
    assert np.array_equal(one.moments[0], two.moments[0])
    assert np.array_equal(one.moments[1], two.moments[1])
    _check_operators(one, two)
    for question in QUESTIONS:
        if question.get("where") is None or _known(question["where"], two):
            _check_answers(store.search(**question), other.search(**question))


def _known(where: str, snapshot: Snapshot) -> bool:
    """Whether a store has the columns of a predicate, whose values may all be gone."""
    schema = snapshot.schema
    named = [name for name in ("n", "lang", "speaker") if name in where]
    return all(name in schema.names and schema.field(name).type != pa.null() for name in named)


def _check_statistics(one: dict[str, Any], two: dict[str, Any]) -> None:
    for name in ("anchors", "dangling_links", "facets"):
        assert one[name] == two[name], name
    assert _present(one["edges"]) == _present(two["edges"])


def _present(edges: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in edges.items() if count}


def _check_operators(one: Snapshot, two: Snapshot) -> None:
    vectors = np.random.default_rng(len(two)).standard_normal((len(two), 4))
    expected = normalized(laplacian(two)) @ vectors
    np.testing.assert_allclose(normalized(laplacian(one)) @ vectors, expected, atol=1e-12)
    # the base and the signed rank-1 terms of the table, as any other program can read them
    np.testing.assert_allclose(normalized(corrected(one)) @ vectors, expected, atol=1e-6)


def laplacian(snapshot: Snapshot) -> Matrix:
    """D − A over the anchors present, from the lattice as searches read it."""
    slots = np.arange(snapshot.slots)
    found = snapshot.lattice.entries(slots)
    return _compact(snapshot, _dense(snapshot, found.sources(), found))


def corrected(snapshot: Snapshot) -> Matrix:
    """The same from the lattice of the last fold and the rows of corrections.lance."""
    base = snapshot.base
    rows = np.repeat(np.arange(len(base.indptr) - 1), np.diff(base.indptr))
    whole = _dense(snapshot, rows, base)
    entry = snapshot.manifest.tables.get(CORRECTIONS)
    if entry is not None:
        path = str(snapshot.root / f"{CORRECTIONS}.lance")
        for term in lance.dataset(path, version=entry.version).to_table().to_pylist():
            weight = _weights(snapshot)[RELATIONS.index(term["relation"])] * term["delta"]
            i, j = term["source"], term["target"]
            whole[[i, j], [i, j]] += weight
            whole[[i, j], [j, i]] -= weight
    return _compact(snapshot, whole)


def _weights(snapshot: Snapshot) -> npt.NDArray[np.float64]:
    return np.array(snapshot.parameters.relation_weights)


def _dense(snapshot: Snapshot, rows: npt.NDArray[np.int64], entries: Any) -> Matrix:
    matrix = np.zeros((snapshot.slots, snapshot.slots))
    weights = _weights(snapshot)[entries.relation & RELATION_MASK] * entries.weights
    np.add.at(matrix, (rows, entries.indices), -weights)
    np.add.at(matrix, (rows, rows), weights)
    return matrix


def _compact(snapshot: Snapshot, matrix: Matrix) -> Matrix:
    """Without the slots of anchors that are gone, which have no edges left."""
    alive = snapshot.alive_slots
    np.testing.assert_allclose(np.delete(matrix, alive, axis=0), 0.0, atol=1e-6)
    return matrix[np.ix_(alive, alive)]


def normalized(matrix: Matrix) -> Matrix:
    """S L S with S = diag(1/√d), 0 for an anchor without edges."""
    degrees = np.where(np.diag(matrix) > 1e-9, np.diag(matrix), np.inf)
    scale = 1.0 / np.sqrt(degrees)
    return scale[:, None] * matrix * scale


def _check_answers(one: osc.SearchResult, two: osc.SearchResult) -> None:
    assert one.ids == two.ids
    for hit, expected in zip(one, two, strict=True):
        assert abs(hit.score - expected.score) <= 1e-9
        for name in ("evidence", "gate", "coherence"):
            assert abs(getattr(hit, name) - getattr(expected, name)) <= 1e-6, name
        assert (hit.text, hit.title, hit.cosine) == (
            expected.text, expected.title, expected.cosine,
        )  # fmt: skip
    found, wanted = one.receipt.content, two.receipt.content
    for name in ("candidates", "results", "scores", "iterations", "best_cosine"):
        assert found[name] == wanted[name], name
    for name in ("delta_h", "first_evidence", "fifth_evidence"):
        if wanted[name] is None:
            assert found[name] is None, name
        else:
            assert abs(found[name] - wanted[name]) <= 1e-6 * max(1.0, abs(wanted[name])), name
