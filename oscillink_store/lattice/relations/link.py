"""``link``: whatever the user says belongs together, as ids of other anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.keyindex import find
from oscillink_store.lattice.upkeep import Arcs
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.corpus import Change, Corpus, Mask, Progress
    from oscillink_store.model import Parameters

__all__ = ["dangling_change", "update"]

Slots = npt.NDArray[np.int64]

_NAME = "link"


def update(
    change: Change,
    parameters: Parameters,  # noqa: ARG001 - the relations share one signature
    progress: Progress | None = None,
) -> Arcs:
    """Point each anchor at the anchors it links to, weight 1, never at itself.

    Links to ids that are not in the store make no arc; :func:`dangling_change` counts them.
    """
    if progress is not None:
        progress(_NAME, 0, len(change.added))
    rows = _holders(change.corpus, change.added, change.after)
    links = _resolved(change.corpus, rows, change.after)
    joined = (links.target >= 0) & (links.target != links.source)
    if progress is not None:
        progress(_NAME, len(change.added), len(change.added))
    return Arcs(
        relation=RELATIONS.index(_NAME),
        rows=rows,
        source=links.source[joined],
        target=links.target[joined],
        weight=np.ones(int(joined.sum()), np.float32),
    )


def dangling_change(change: Change) -> int:
    """By how much the number of links grows whose target is not in the store.

    Links of one anchor to one id count once.
    """
    changed = np.concatenate([change.added, change.removed])
    missing = []
    for present in (change.before, change.after):
        rows = _holders(change.corpus, changed, present)
        missing.append(int((_resolved(change.corpus, rows, present).target < 0).sum()))
    return missing[1] - missing[0]


class _Links(NamedTuple):
    """Each anchor's links, each id once: ``target`` is −1 where there is no such anchor."""

    source: Slots
    target: Slots


def _holders(corpus: Corpus, changed: Slots, present: Mask) -> Slots:
    """The anchors with links to or from those that change, ascending."""
    indices = corpus.indices("links")
    if not any(len(index.keys) for _, index in indices):
        return np.empty(0, np.int64)
    _, holders = find(indices, np.unique(keys_of(corpus.values("id", changed))))
    rows: Slots = np.unique(np.concatenate([changed, holders]))
    return rows[present[rows].astype(np.bool_)]


def _resolved(corpus: Corpus, rows: Slots, present: Mask) -> _Links:
    """The links of ``rows``, by source."""
    source: list[int] = []
    wanted: list[str] = []
    for row, links in zip(rows.tolist(), corpus.values("links", rows), strict=True):
        if links:
            each = dict.fromkeys(links)
            source += [row] * len(each)
            wanted += each
    target = np.full(len(wanted), -1, np.int64)
    which, slots = find(corpus.indices("ids"), keys_of(wanted))
    there = present[slots] != 0
    which, slots = which[there], slots[there]
    # keys may be shared, ids are not
    same = np.fromiter(
        (
            wanted[place] == name
            for place, name in zip(which.tolist(), corpus.values("id", slots), strict=True)
        ),
        np.bool_,
        len(which),
    )
    target[which[same]] = slots[same]
    return _Links(np.array(source, np.int64), target)
