"""What the receipt of a search says, taken from what its ranking found."""

from __future__ import annotations

from typing import Any

import numpy as np

from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import Ranked
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.filters import Filter
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, Hit
from oscillink_store.receipts.content import search_content

__all__ = ["receipt_content"]


def receipt_content(
    snapshot: Snapshot, query: Query, ranked: Ranked, hits: tuple[Hit, ...]
) -> dict[str, Any]:
    """The content of the receipt of a search."""
    descending = np.sort(ranked.evidence)[::-1]
    cosine, settled = ranked.cosine, ranked.settled
    terms = {} if settled is None else {
        name: energy - settled.energy_stationary[name]
        for name, energy in settled.energy_anchors.items()
    }  # fmt: skip
    return search_content(
        generation=snapshot.generation,
        text=query.text,
        vector=query.vector,
        where=query.where.text if isinstance(query.where, Filter) else query.where,
        k=query.k,
        parameters=query.parameters.to_dict(),
        parameter_version=PARAMETER_VERSION,
        kernel_version=KERNEL_VERSION,
        candidates=snapshot.values("id", ranked.rows),
        results=[hit.id for hit in hits],
        scores=[hit.score for hit in hits],
        first_evidence=float(descending[0]) if len(descending) else None,
        fifth_evidence=float(descending[4]) if len(descending) > 4 else None,
        best_cosine=float(cosine.max()) if cosine is not None and len(cosine) else None,
        delta_h=None if settled is None else settled.delta_h,
        energy=terms,
        iterations=None if settled is None else settled.iterations,
        residual=None if settled is None else settled.residual,
        converged=None if settled is None else settled.converged,
        knn_recall=snapshot.knn_recall,
    )
