"""The value that a search is run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.filters import Filter
from oscillink_store.model import Detail, Parameters
from oscillink_store.receipts.receipt import Payload

__all__ = ["Query"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """One question, checked: text or a unit vector ψ (D,) float32 or both."""

    text: str | None
    vector: npt.NDArray[np.float32] | None
    k: int
    where: str | Filter | None
    label: str | None
    parameters: Parameters
    only: npt.NDArray[np.int64] | None = None
    """Rank exactly these rows (sorted, unique) instead of gathering candidates."""
    detail: Detail = "full"
    payload: Payload = "extended"
    route: bool = False
    """Go into the shards alone that the question's vector is routed to."""

    @property
    def words(self) -> str | None:
        """What to look for in the full text; None where the ranking does not ask."""
        return None if self.parameters.ranking in ("dense", "mmr") else self.text

    @property
    def dense_count(self) -> int:
        """How many candidates the vector brings."""
        least = {"dense": 1, "mmr": self.parameters.mmr_fetch}
        return max(least.get(self.parameters.ranking, self.parameters.dense_candidates), self.k)

    @property
    def text_count(self) -> int:
        """How many candidates the full text brings."""
        least = 1 if self.parameters.ranking == "text" else self.parameters.text_candidates
        return max(least, self.k)

    @property
    def text_limit(self) -> int:
        """Of how many full-text matches the scores are looked at."""
        return max(self.parameters.text_matches, self.k)

    @property
    def looks_for_names(self) -> bool:
        """Whether anchors count that are named in the question."""
        return self.words is not None and self.parameters.ranking != "text"
