"""What the relations are built from: all anchors of a generation, column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Corpus", "Progress"]

Progress = Callable[[str, int, int | None], None]
"""Told the relation's name, how many anchors are done, and how many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """The anchors in store order; every column has ``anchors`` entries.

    ``vectors`` (N, D) float32 are unit rows and may be a read-only memory map. Within a
    sequence a missing position means order of arrival. ``links`` holds ids of anchors.
    """

    anchors: int
    ids: Sequence[str]
    titles: Sequence[str | None]
    texts: Sequence[str]
    vectors: npt.NDArray[np.float32]
    sequences: Sequence[str | None]
    positions: Sequence[float | None]
    links: Sequence[Sequence[str] | None]
