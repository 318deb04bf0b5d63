"""What a batch changed since the generation before, as its receipt tells it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.dense import gather
from oscillink_store.kernels.moments import BITS, row_total
from oscillink_store.lattice.corpus import Change
from oscillink_store.lattice.graph import Entries, amended, induced, neighbors
from oscillink_store.lattice.records import Records
from oscillink_store.lattice.settle import settle
from oscillink_store.lattice.upkeep import Terms
from oscillink_store.model import RELATIONS, Parameters

__all__ = ["MOST_SAMPLED", "delta", "edges_changed"]

MOST_SAMPLED = 16
"""Of a batch's anchors so many are settled with their neighbours, which is some milliseconds."""


def delta(
    snapshot: Snapshot,
    change: Change,
    records: Records,
    terms: Terms,
    vectors: npt.NDArray[np.float32],
    parameters: Parameters,
) -> dict[str, Any]:
    """The members of a receipt's ``change``, from what was planned for a batch.

    ``mean_drift`` is how far the mean of all embeddings moved, None where there was or is none.
    ``delta_h`` is ΔH without a query of ``sampled`` new anchors, evenly spaced, with their
    neighbours in the new lattice: how far the batch is from agreeing with what it joins. None
    when the batch has no new anchor.
    """
    added, removed = edges_changed(terms)
    sample = _sample(change.added)
    return {
        "edges_added": added,
        "edges_removed": removed,
        "mean_drift": _mean_drift(snapshot, change, vectors),
        "delta_h": _delta_h(change, records, sample, parameters) if len(sample) else None,
        "sampled": len(sample),
    }


def edges_changed(terms: Terms) -> tuple[dict[str, int], dict[str, int]]:
    """How many edges came and how many went, by relation."""
    came, went = terms.weight == terms.delta, terms.weight == 0
    counts = [
        np.bincount(terms.relation[which], minlength=len(RELATIONS)) for which in (came, went)
    ]
    added, removed = (dict(zip(RELATIONS, count.tolist(), strict=True)) for count in counts)
    return added, removed


def _sample(added: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    count = min(len(added), MOST_SAMPLED)
    return added[np.arange(count) * len(added) // max(count, 1)]


def _mean_drift(
    snapshot: Snapshot, change: Change, vectors: npt.NDArray[np.float32]
) -> float | None:
    before, after = int(change.before.sum()), int(change.after.sum())
    if before == 0 or after == 0:
        return None
    old = snapshot.sums.total
    gone = snapshot.vectors(change.removed)
    new = old + row_total(vectors) - row_total(gone)
    moved = (new / after - old / before) / (1 << BITS)
    return float(np.sqrt((moved * moved).sum()))


def _delta_h(
    change: Change, records: Records, sample: npt.NDArray[np.int64], parameters: Parameters
) -> float:
    def entries(rows: npt.NDArray[np.int64]) -> Entries:
        return amended(change.corpus.graph.entries(rows), records)

    rows = np.union1d(sample, neighbors(entries(sample)))
    Y = gather([(part.first, part.vectors) for part in change.corpus.parts], rows)
    adjacency = induced(entries(rows), parameters.relation_weights)
    return settle(Y, Y[0], np.zeros(len(rows)), adjacency, parameters).delta_h
