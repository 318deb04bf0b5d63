"""``next``: neighbours in a sequence, as chunks of a document or turns of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["edges"]

_NAME = "next"


def edges(
    corpus: Corpus,
    parameters: Parameters,  # noqa: ARG001 - the relations share one signature
    *,
    progress: Progress | None = None,
) -> Edges:
    """Join each anchor to the one that follows it in its sequence, weight 1.

    Anchors are ordered by position; those without one come behind the others, and equal
    positions stay in order of arrival. Anchors without a sequence have no neighbours.
    """
    if progress is not None:
        progress(_NAME, 0, corpus.anchors)
    numbers: dict[str, int] = {}
    rows, codes, positions = [], [], []
    for row, sequence in enumerate(corpus.sequences):
        if sequence is not None:
            position = corpus.positions[row]
            rows.append(row)
            codes.append(numbers.setdefault(sequence, len(numbers)))
            positions.append(np.nan if position is None else position)
    code = np.array(codes, np.int64)
    # NaN sorts last, and lexsort is stable
    order = np.lexsort((np.array(positions, np.float64), code))
    row_at = np.array(rows, np.int64)[order]
    together = np.flatnonzero(code[order][1:] == code[order][:-1])
    if progress is not None:
        progress(_NAME, corpus.anchors, corpus.anchors)
    return Edges(
        source=row_at[together],
        target=row_at[together + 1],
        weight=np.ones(len(together), np.float32),
        relation=RELATIONS.index(_NAME),
    ).canonical()
