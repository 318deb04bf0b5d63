"""What a receipt says about a search, an ingest or a change of gates: its content's members.

Texts enter as digests; the question too, unless the receipt is an extended one.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

from oscillink_store.receipts.canonical import text_digest, vector_digest
from oscillink_store.receipts.composed import composed_state, total_delta_h
from oscillink_store.receipts.state import state_signature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

__all__ = ["asked_of", "gates_content", "ingest_content", "many_content", "search_content"]


def search_content(
    *,
    generation: int,
    text: str | None,
    vector: ArrayLike | None,
    where: str | None,
    asked: Mapping[str, Any] | None,
    k: int,
    only: bool,
    detail: str,
    parameters: Mapping[str, Any],
    parameter_version: int,
    kernel_version: int,
    state: Mapping[str, str],
    candidates: Sequence[str],
    results: Sequence[str],
    scores: Sequence[float],
    first_evidence: float | None,
    fifth_evidence: float | None,
    best_cosine: float | None,
    delta_h: float | None,
    terms: Mapping[str, Any],
    iterations: int | None,
    residual: float | None,
    converged: bool | None,
    knn_recall: float | None,
    coherence: Sequence[float] | None,
    null_points: Sequence[Any] | None,
    null_point_count: int | None = None,
    contested: Sequence[Any] | None,
    layers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put together the content of a search's receipt.

    ``candidates`` are the ids that the lattice was solved over, left out of a receipt of
    ``detail`` "light"; ``results`` and ``scores`` the hits, best first. ``only`` says that the
    candidates were given. ``terms`` holds those of ΔH by name, ``residual`` is relative.
    What was not measured is None: ΔH and the solver's figures when nothing was settled, an
    evidence or a cosine when there is none. ``vector`` is the float32 query vector as it was
    used, of shape (D,). ``knn_recall`` is the audited recall of the lattice's nearest
    neighbours, 1 where they are exact.

    ``asked`` is the question itself, of :func:`asked_of`, or None where digests are to be all
    that is kept of it. ``state`` are the digests of :mod:`oscillink_store.receipts.state`.

    ``layers`` are those of a store with shards, left out in others; see
    :func:`oscillink_store.engine.route.layers_of`.

    ``coherence`` is per candidate, ``null_points`` are [id, id, names of relations, z],
    ``contested`` are mappings of ids, cosine, ratio and differs; None where not asked for.
    """
    content = {
        "kind": "search",
        "generation": generation,
        "query": {
            "text": None if text is None else text_digest(text),
            "vector": None if vector is None else vector_digest(vector),
        },
        "where": None if where is None else text_digest(where),
        "asked": asked,
        "k": k,
        "only": only,
        "detail": detail,
        "parameters": parameters,
        "parameter_version": parameter_version,
        "kernel_version": kernel_version,
        "state": state,
        "candidates": candidates if detail == "full" else None,
        "candidate_count": len(candidates),
        "results": results,
        "scores": scores,
        "first_evidence": first_evidence,
        "fifth_evidence": fifth_evidence,
        "best_cosine": best_cosine,
        "delta_h": delta_h,
        "terms": terms,
        "iterations": iterations,
        "residual": residual,
        "converged": converged,
        "knn_recall": knn_recall,
        "coherence": coherence,
        "null_points": null_points,
        "null_point_count": null_point_count,
        "contested": contested,
    }
    if layers is not None:
        content["layers"] = layers
    content["state_sig"] = state_signature(content)
    return content


def many_content(
    *,
    text: str | None,
    vector: ArrayLike | None,
    where: str | None,
    asked: Mapping[str, Any] | None,
    k: int,
    detail: str,
    route: bool,
    parameters: Mapping[str, Any],
    parameter_version: int,
    kernel_version: int,
    statistics: Mapping[str, Any] | None,
    cosine: tuple[float, float] | None,
    bm25: tuple[float, float] | None,
    scale: tuple[float, float] | None,
    stores: Sequence[Mapping[str, Any]],
    missing: Sequence[Mapping[str, Any]],
    results: Sequence[str],
    result_stores: Sequence[str],
    scores: Sequence[float],
    overlap: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Put together the content of the composed receipt of a search of several stores.

    The question is told as of :func:`search_content`, ``route`` tells whether stores
    with shards looked into some of them alone. ``statistics`` are anchors, words and
    frequencies as the parts were told them, ``cosine`` and ``bm25`` mean and deviation over all
    anchors, ``scale`` what evidence counts as 1 and as 0. ``stores`` are the parts, ``missing``
    the stores that were left out. ``result_stores`` are those of the ``results``, ``overlap`` is
    that of :func:`oscillink_store.receipts.composed.overlap_of`.
    """
    content = {
        "kind": "many",
        "query": {
            "text": None if text is None else text_digest(text),
            "vector": None if vector is None else vector_digest(vector),
        },
        "where": None if where is None else text_digest(where),
        "asked": asked,
        "k": k,
        "detail": detail,
        "route": route,
        "parameters": parameters,
        "parameter_version": parameter_version,
        "kernel_version": kernel_version,
        "statistics": statistics,
        "cosine": cosine,
        "bm25": bm25,
        "scale": scale,
        "stores": stores,
        "missing": missing,
        "candidate_count": sum(store["candidates"] for store in stores),
        "results": results,
        "result_stores": result_stores,
        "scores": scores,
        "delta_h": total_delta_h([store["delta_h"] for store in stores], overlap),
        "overlap": overlap,
        "state": composed_state(parameters, stores),
    }
    content["state_sig"] = state_signature(content)
    return content


def asked_of(text: str | None, vector: ArrayLike | None, where: object) -> dict[str, Any]:
    """The question as an extended receipt keeps it, so that it can be asked again.

    ``vector`` becomes the base64 of its little-endian float32 bytes; ``where`` is SQL text or
    the JSON of a filter.
    """
    numbers = None if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return {
        "text": text,
        "vector": None if numbers is None else b64encode(numbers).decode(),
        "where": where,
    }


def ingest_content(
    *,
    generation: int,
    parent: int | None,
    batch: str,
    added: int,
    updated: int,
    unchanged: int,
    deleted: int,
    anchors: int,
    edges: Mapping[str, int],
    embedder: str | None,
    dimension: int | None,
    parameters: Mapping[str, Any],
    parameter_version: int,
    kernel_version: int,
    knn_recall: float | None,
    manifest: str,
    change: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together the content of the receipt of an ingest or a delete.

    ``batch`` is a digest of what was written (for example of the manifest's table versions
    and segment checksums); ``added``, ``updated``, ``unchanged`` and ``deleted`` count
    anchors of the batch, ``anchors`` those of the new generation, ``edges`` its edges by
    relation, ``knn_recall`` the audited recall of its nearest neighbours, 1 where exact,
    ``manifest`` the SHA-256 of its manifest. ``change`` is what differs from the generation
    before: ``edges_added`` and ``edges_removed`` by relation, ``mean_drift`` of the embeddings,
    and ``delta_h`` of so many ``sampled`` new anchors among their neighbours.
    """
    return {
        "kind": "ingest",
        "generation": generation,
        "parent": parent,
        "batch": batch,
        "added": added,
        "updated": updated,
        "unchanged": unchanged,
        "deleted": deleted,
        "anchors": anchors,
        "edges": edges,
        "embedder": embedder,
        "dimension": dimension,
        "parameters": parameters,
        "parameter_version": parameter_version,
        "kernel_version": kernel_version,
        "knn_recall": knn_recall,
        "manifest": manifest,
        "change": change,
    }


def gates_content(
    *,
    generation: int,
    parent: int | None,
    where: str | None,
    count: int,
    gates: str,
    anchors: int,
    manifest: str,
    nodes: bool = False,
) -> dict[str, Any]:
    """Put together the content of the receipt of a change of trust gates.

    ``where`` is the digest of the predicate that chose the anchors, if one did, ``count`` how
    many got another gate, ``gates`` the digest of their [id, gate] pairs, sorted, ``anchors``
    how many the store holds, and ``manifest`` the SHA-256 of the new generation's manifest.
    With ``nodes`` these are the gates of summary nodes, by their names.
    """
    return {
        **({"nodes": True} if nodes else {}),
        "kind": "gates",
        "generation": generation,
        "parent": parent,
        "where": where,
        "count": count,
        "gates": gates,
        "anchors": anchors,
        "manifest": manifest,
    }
