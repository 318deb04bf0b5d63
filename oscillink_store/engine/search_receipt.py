"""What the receipt of a search says, taken from what its ranking found."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from oscillink_store.engine.diagnose import Contested, Diagnosis, NullPoint
from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import Ranked
from oscillink_store.engine.route import layers_of
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.filters import Filter
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, Hit, Parameters
from oscillink_store.receipts.canonical import digest
from oscillink_store.receipts.content import asked_of, search_content
from oscillink_store.receipts.state import arrays_digest, candidates_digest

__all__ = ["asked_by", "receipt_content"]

# What is longer is told by its digest alone: a receipt is no place for whole documents.
_LONGEST = 1 << 16


def receipt_content(
    snapshot: Snapshot,
    query: Query,
    ranked: Ranked,
    diagnosis: Diagnosis,
    hits: tuple[Hit, ...],
) -> dict[str, Any]:
    """The content of the receipt of a search."""
    descending = np.sort(ranked.evidence)[::-1]
    cosine, settled = ranked.cosine, ranked.settled
    candidates = snapshot.values("id", ranked.rows)
    return search_content(
        generation=snapshot.generation,
        text=query.text,
        vector=query.vector,
        where=query.where.text if isinstance(query.where, Filter) else query.where,
        asked=asked_by(query) if query.payload == "extended" else None,
        k=query.k,
        only=query.only is not None,
        detail=query.detail,
        parameters=query.parameters.to_dict(),
        parameter_version=PARAMETER_VERSION,
        kernel_version=KERNEL_VERSION,
        state=_state(snapshot, query.parameters, ranked, candidates),
        candidates=candidates,
        results=[hit.id for hit in hits],
        scores=[hit.score for hit in hits],
        first_evidence=float(descending[0]) if len(descending) else None,
        fifth_evidence=float(descending[4]) if len(descending) > 4 else None,
        best_cosine=float(cosine.max()) if cosine is not None and len(cosine) else None,
        delta_h=None if settled is None else settled.delta_h,
        terms=diagnosis.terms,
        iterations=None if settled is None else settled.iterations,
        residual=None if settled is None else settled.residual,
        converged=None if settled is None else settled.converged,
        knn_recall=snapshot.knn_recall,
        coherence=diagnosis.coherence,
        null_points=_told(diagnosis.null_points),
        null_point_count=diagnosis.null_point_count,
        contested=_told(diagnosis.contested),
        layers=layers_of(snapshot, ranked, query),
    )


def _state(
    snapshot: Snapshot, parameters: Parameters, ranked: Ranked, candidates: list[str]
) -> dict[str, str]:
    """Digests of what determined the answer, besides the question."""
    rows = ranked.rows
    return {
        "candidates": candidates_digest(candidates, snapshot.values("digest", rows)),
        "edges": arrays_digest(*(ranked.adjacency or ())),
        "gates": arrays_digest(snapshot.trust(rows) if len(rows) else np.empty(0, np.float32)),
        "generation": snapshot.digest,
        "parameters": _parameters_digest(parameters),
    }


@lru_cache(maxsize=64)
def _parameters_digest(parameters: Parameters) -> str:
    return digest(parameters.to_dict())


def asked_by(query: Query) -> dict[str, Any]:
    """The question itself, as far as it is no whole document."""
    where: dict[str, str] | None = None
    if isinstance(query.where, Filter):
        where = {"filter": query.where.text}
    elif query.where is not None:
        where = {"sql": query.where}
    if where is not None and any(len(text) > _LONGEST for text in where.values()):
        where = None
    text = query.text if query.text is not None and len(query.text) <= _LONGEST else None
    return asked_of(text, query.vector, where)


def _told(found: tuple[NullPoint, ...] | tuple[Contested, ...] | None) -> list[Any] | None:
    return None if found is None else [each.to_json() for each in found]
