"""From similarities and full-text scores to evidence, sources and the final order.

Everything is elementwise or a fixed-order reduction over at most a few thousand numbers,
hence the same to the bit on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

import numpy as np
import numpy.typing as npt

from oscillink_store.model import Parameters

__all__ = [
    "evidence",
    "final_scores",
    "order",
    "pooled",
    "scale_of",
    "scaled",
    "scaled_to",
    "score_sums",
    "shares",
    "source_rows",
    "source_weights",
    "standardize",
    "text_moments",
    "trusted",
]

Floats = npt.NDArray[np.float64]

# A source whose evidence is no more than the 50th's still counts as one.
_LEAST_SOURCE = 1e-3


def standardize(values: Floats, mean: float, deviation: float) -> Floats:
    """(x − mean) / deviation, or zeros where the deviation vanishes."""
    if deviation <= 0.0:
        return np.zeros_like(values)
    return (values - mean) / deviation


def text_moments(scores: Floats, anchors: int) -> tuple[float, float]:
    """Mean and standard deviation of BM25 over ``anchors`` anchors.

    ``scores`` (m,) are those of the matches found; every other anchor counts as 0.
    """
    if anchors == 0 or len(scores) == 0:
        return 0.0, 0.0
    ascending = np.sort(scores)  # the sum must not depend on the order of the matches
    mean = float(ascending.sum()) / anchors
    variance = float((ascending * ascending).sum()) / anchors - mean * mean
    return mean, max(variance, 0.0) ** 0.5


def pooled(groups: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Mean and standard deviation over groups of so many anchors, each with its own.

    Of the groups' means m and variances v the variance is Σ n(v + (m − mean)²) / Σ n (Chan,
    Golub and LeVeque 1983). A single group keeps its numbers to the bit.
    """
    present = [group for group in groups if group[0] > 0]
    if len(present) < 2:
        return present[0][1:] if present else (0.0, 0.0)
    total = sum(count for count, _, _ in present)
    mean = fsum(count * of for count, of, _ in present) / total
    square = fsum(count * (off * off + (of - mean) ** 2) for count, of, off in present)
    return mean, (square / total) ** 0.5


def evidence(
    dense: Floats | None, text: Floats | None, named: npt.NDArray[np.bool_], parameters: Parameters
) -> Floats:
    """E = z(cosine) + w·z(BM25) + bonus of a named title, (n,).

    ``dense`` and ``text`` are standardized already; None leaves that part out.
    """
    total = np.where(named, parameters.name_bonus, 0.0)
    if dense is not None:
        total = total + dense
    if text is not None:
        total = total + parameters.text_weight * text
    return total


def trusted(evidence: Floats, trust: Floats) -> Floats:
    """What speaks for an anchor, as far as it is trusted; what speaks against it, whole, (n,)."""
    return np.where(evidence > 0.0, evidence * trust, evidence)


def order(scores: Floats, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of ``scores`` from best to worst; at equal scores the lower row comes first."""
    return np.lexsort((rows, -scores)).astype(np.int64)


def scale_of(scores: Floats, parameters: Parameters) -> tuple[float, float]:
    """The best of some scores (n ≥ 1), which becomes 1, and the 50th (or the last), which is 0."""
    descending = np.sort(scores)[::-1]
    floor = descending[min(parameters.evidence_floor_rank, len(descending)) - 1]
    return float(descending[0]), float(floor)


def scaled_to(scores: Floats, top: float, floor: float) -> Floats:
    """Evidence e' on a scale of :func:`scale_of`, (n,)."""
    return (scores - floor) / (top - floor) if top > floor else np.ones_like(scores)


def scaled(scores: Floats, parameters: Parameters) -> Floats:
    """Evidence e' scaled so that the best is 1 and the 50th (or the last) is 0, (n,)."""
    return scaled_to(scores, *scale_of(scores, parameters)) if len(scores) else scores


def source_rows(
    scores: Floats, rows: npt.NDArray[np.int64], parameters: Parameters
) -> npt.NDArray[np.int64]:
    """The sources: places of the best few anchors by evidence, best first."""
    return order(scores, rows)[: parameters.sources]


def source_weights(scaled_evidence: Floats, sources: npt.NDArray[np.int64]) -> Floats:
    """The right-hand side s (n,): e' at the sources, else 0."""
    weights = np.zeros(len(scaled_evidence))
    weights[sources] = np.maximum(scaled_evidence[sources], _LEAST_SOURCE)
    return weights


def shares(gates: Floats) -> Floats:
    """Diffusion gates h (n,) as shares h/max(h) of the largest."""
    peak = gates.max(initial=0.0)
    return gates / peak if peak > 0.0 else gates


def score_sums(
    scaled_evidence: Floats,
    shares: Floats,
    faceted: npt.NDArray[np.bool_],
    parameters: Parameters,
) -> Floats:
    """E' + 4·h/max(h) + 1.5 for a named facet, (n,); ``shares`` are h/max(h)."""
    lifted = scaled_evidence + parameters.gate_weight * shares
    return lifted + np.where(faceted, parameters.facet_bonus, 0.0)


def final_scores(
    scaled_evidence: Floats,
    gates: Floats,
    faceted: npt.NDArray[np.bool_],
    parameters: Parameters,
) -> Floats:
    """The :func:`score_sums` (n,) of diffusion gates h (n,) that are all there are."""
    return score_sums(scaled_evidence, shares(gates), faceted, parameters)
