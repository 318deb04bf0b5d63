"""The value that a search is run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.model import Parameters

__all__ = ["Query"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """One question, checked: text or a unit vector ψ (D,) float32 or both."""

    text: str | None
    vector: npt.NDArray[np.float32] | None
    k: int
    where: str | None
    label: str | None
    parameters: Parameters
    only: npt.NDArray[np.int64] | None = None
    """Rank exactly these rows (sorted, unique) instead of gathering candidates."""
