"""``knn``: the nearest neighbours by cosine, in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["edges"]

_NAME = "knn"


def edges(corpus: Corpus, parameters: Parameters, *, progress: Progress | None = None) -> Edges:
    """Join each anchor to its ``knn_neighbors`` nearest, weight cosine^``knn_power``.

    An edge stands if either end has the other among its nearest and the cosine is positive.
    """
    # compiled code, which a process that only searches need not load
    from oscillink_store.kernels.knn import knn_exact

    report = None if progress is None else lambda done: progress(_NAME, done, corpus.anchors)
    neighbours, cosine = knn_exact(corpus.vectors, parameters.knn_neighbors, progress=report)
    rows, columns = np.nonzero((neighbours >= 0) & (cosine > 0.0))
    similarity = cosine[rows, columns]
    weight = similarity
    for _ in range(parameters.knn_power - 1):
        weight = weight * similarity  # pow may differ between machines in the last bit
    return Edges(
        source=rows.astype(np.int64),
        target=neighbours[rows, columns].astype(np.int64),
        weight=weight,
        relation=RELATIONS.index(_NAME),
    ).canonical()
