"""``link``: whatever the user says belongs together, as ids of other anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["dangling", "edges"]

_NAME = "link"


def edges(
    corpus: Corpus,
    parameters: Parameters,  # noqa: ARG001 - the relations share one signature
    *,
    progress: Progress | None = None,
) -> Edges:
    """Join each anchor to the anchors it links to, weight 1, in whichever direction.

    Targets that are not in the store make no edge; :func:`dangling` counts them.
    """
    if progress is not None:
        progress(_NAME, 0, corpus.anchors)
    sources, targets, _ = _resolved(corpus)
    if progress is not None:
        progress(_NAME, corpus.anchors, corpus.anchors)
    return Edges(
        source=np.array(sources, np.int64),
        target=np.array(targets, np.int64),
        weight=np.ones(len(sources), np.float32),
        relation=RELATIONS.index(_NAME),
    ).canonical()


def dangling(corpus: Corpus) -> int:
    """How many links point to ids that are not in the store, each once per anchor."""
    return _resolved(corpus)[2]


def _resolved(corpus: Corpus) -> tuple[list[int], list[int], int]:
    """Both ends of every link that has two, and the number of those that have one."""
    linked = [(row, links) for row, links in enumerate(corpus.links) if links]
    if not linked:
        return [], [], 0
    rows = {anchor: row for row, anchor in enumerate(corpus.ids)}
    sources, targets, missing = [], [], 0
    for row, links in linked:
        for anchor in dict.fromkeys(links):
            target = rows.get(anchor)
            if target is None:
                missing += 1
            else:
                sources.append(row)
                targets.append(target)
    return sources, targets, missing
