"""How much clearer than usual an answer is: margins of evidence, and their quantiles.

The margin of a search is its first evidence less its fifth. What is a large one depends on the
collection, its texts and their embeddings, so it is compared with those of the store's own
ledger, among searches of the same kind: with words or a vector or both, in the whole store or
among given anchors.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.fold import all_receipts
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.manifest import read_current

__all__ = ["FEWEST", "Kind", "Margins"]

FEWEST = 20
"""Of fewer searches of its kind nothing can be said."""

MOST = 100_000
"""So many searches of a process are remembered, as it may go on for years."""

Values: TypeAlias = npt.NDArray[np.float64]


class Kind(NamedTuple):
    """Searches whose margins can be compared."""

    has_text: bool
    has_vector: bool
    only: bool


class Margins:
    """The margins of a store's recorded searches.

    Those of this process, the newest :data:`MOST` of each kind, are added as they come, which is
    all that a search spends on it; those of others are read from the ledger at the first
    question.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._added: dict[Kind, deque[float]] = {}
        self._writers: set[str] = set()
        self._others: dict[Kind, Values] | None = None

    def add(self, receipt: Receipt) -> None:
        """Count a search of this process in."""
        self._writers.add(receipt.writer)
        margin = margin_of(receipt.content)
        if margin is not None:
            kind = kind_of(receipt.content)
            added = self._added.get(kind)
            if added is None:  # another thread may have been quicker
                added = self._added.setdefault(kind, deque(maxlen=MOST))
            added.append(margin)

    def confidence(self, content: Mapping[str, Any], snapshot: Snapshot) -> float | None:
        """The share of recorded searches of a search's kind whose margin is no larger.

        ``content`` is what the search's receipt says; what ``snapshot`` has open is not opened
        again. None when the search has no margin or fewer than :data:`FEWEST` are known.
        """
        margin = margin_of(content)
        if margin is None:
            return None
        known = self._known(kind_of(content), snapshot)
        return float((known <= margin).mean()) if len(known) >= FEWEST else None

    def _known(self, kind: Kind, snapshot: Snapshot) -> Values:
        with self._guard:
            if self._others is None:
                self._others = self._read(snapshot)
        # a copy, as other threads go on searching
        own = np.array(list(self._added.get(kind, deque[float]()).copy()), np.float64)
        return np.concatenate([self._others.get(kind, own[:0]), own])

    def _read(self, snapshot: Snapshot) -> dict[Kind, Values]:
        """The margins that other processes have recorded."""

        def latest() -> Snapshot:
            # what was folded since the search is in a later generation than its own
            return Snapshot(self._root, read_current(self._root), snapshot)

        own = pa.array(sorted(self._writers), pa.string())
        rows = all_receipts(self._root, latest, [*Kind._fields, "kind", "writer", "margin"])
        rows = rows.filter(
            (pc.field("kind") == "search")
            & pc.field("margin").is_valid()
            & ~pc.field("writer").isin(own)
        )
        margins = rows["margin"].to_numpy()
        flags = np.stack([pc.fill_null(rows[name], False).to_numpy() for name in Kind._fields])
        return {
            kind: margins[(np.array(kind) == flags.T).all(axis=1)]
            for kind in map(Kind._make, product((False, True), repeat=len(Kind._fields)))
        }


def margin_of(content: Mapping[str, Any]) -> float | None:
    """First less fifth evidence; None where there were fewer than five candidates.

    Nor has the part of a search of several stores one, whose best may be in another of them.
    """
    if content.get("part") is not None:
        return None
    first, fifth = content.get("first_evidence"), content.get("fifth_evidence")
    return None if first is None or fifth is None else float(first - fifth)


def kind_of(content: Mapping[str, Any]) -> Kind:
    """The kind of a search, by what its receipt says."""
    asked = content["query"]
    return Kind(
        has_text=asked["text"] is not None,
        has_vector=asked["vector"] is not None,
        only=bool(content.get("only")),
    )
