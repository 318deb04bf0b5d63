"""What a receipt says about a search and about an ingest: the members of its content.

Texts, queries and predicates enter as digests only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oscillink_store.receipts.canonical import text_digest, vector_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

__all__ = ["ingest_content", "search_content"]


def search_content(
    *,
    generation: int,
    text: str | None,
    vector: ArrayLike | None,
    where: str | None,
    k: int,
    parameters: Mapping[str, Any],
    parameter_version: int,
    kernel_version: int,
    candidates: Sequence[str],
    results: Sequence[str],
    scores: Sequence[float],
    first_evidence: float | None,
    fifth_evidence: float | None,
    best_cosine: float | None,
    delta_h: float | None,
    energy: Mapping[str, float],
    iterations: int | None,
    residual: float | None,
    converged: bool | None,
    knn_recall: float | None,
) -> dict[str, Any]:
    """Put together the content of a search's receipt.

    ``candidates`` are the ids that the lattice was solved over, ``results`` and ``scores``
    the hits, best first. ``energy`` holds the terms of ΔH by name, ``residual`` is relative.
    What was not measured is None: ΔH and the solver's figures when nothing was settled, an
    evidence or a cosine when there is none. ``vector`` is the float32 query vector as it was
    used, of shape (D,). ``knn_recall`` is the audited recall of the lattice's nearest
    neighbours, 1 where they are exact.
    """
    return {
        "kind": "search",
        "generation": generation,
        "query": {
            "text": None if text is None else text_digest(text),
            "vector": None if vector is None else vector_digest(vector),
        },
        "where": None if where is None else text_digest(where),
        "k": k,
        "parameters": parameters,
        "parameter_version": parameter_version,
        "kernel_version": kernel_version,
        "candidates": candidates,
        "results": results,
        "scores": scores,
        "first_evidence": first_evidence,
        "fifth_evidence": fifth_evidence,
        "best_cosine": best_cosine,
        "delta_h": delta_h,
        "energy": energy,
        "iterations": iterations,
        "residual": residual,
        "converged": converged,
        "knn_recall": knn_recall,
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
) -> dict[str, Any]:
    """Put together the content of the receipt of an ingest or a delete.

    ``batch`` is a digest of what was written (for example of the manifest's table versions
    and segment checksums); ``added``, ``updated``, ``unchanged`` and ``deleted`` count
    anchors of the batch, ``anchors`` those of the new generation, ``edges`` its edges by
    relation, ``knn_recall`` the audited recall of its nearest neighbours, 1 where exact.
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
    }
