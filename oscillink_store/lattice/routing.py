"""From a question to the shards that are worth a look: down the levels of summary nodes.

A node's evidence is the cosine of its centre with ψ, times its gate where that speaks for it.
Over the last level's lattice evidence can flow from the best few nodes to those near them, as it
does between anchors; ``route_flow`` weighs what comes of it against the evidence itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.dense import products
from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.levels import Hierarchy, flow
from oscillink_store.lattice.rank import order, scaled, source_rows, source_weights, trusted
from oscillink_store.model import Parameters

__all__ = ["Layer", "Routed", "descend"]

_WIDER = 4  # times the anchors that are wanted are under the nodes that are followed further down

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Nodes = npt.NDArray[np.int64]


class Layer(NamedTuple):
    """What was looked at of one level, and what was chosen.

    ``nodes`` (n,) ascend and have the ``evidence`` (n,), the diffusion ``gates`` (n,), of the
    last level alone and where they count, and ``scores`` (n,); ``chosen`` are nodes, best first.
    """

    level: int
    nodes: Nodes
    evidence: Float64
    gates: Float64 | None
    scores: Float64
    chosen: Nodes


@dataclass(frozen=True, kw_only=True, eq=False)
class Routed:
    """The shards that a question went into: their ``slots``, ascending, and the ``layers``.

    Layers come from the last level down, that of the shards at the end. ``walked`` counts the
    anchors of other shards that the lattice led to.
    """

    slots: Nodes
    layers: tuple[Layer, ...]
    walked: int = 0


def descend(
    hierarchy: Hierarchy, graph: Csr, psi: Float32, least: int, parameters: Parameters
) -> tuple[Layer, ...]:
    """Choose shards for ψ (D,), from the last level down; the shards' layer comes last.

    At least ``route_shards`` shards that have anchors, and more until ``route_share`` of the
    anchors, and ``least`` of them, are in these. ``graph`` is the last level's lattice.
    """
    levels = hierarchy.levels
    wanted = max(parameters.route_share * float(levels[-1].anchors.sum()), float(least))
    held = [level.anchors > 0 for level in levels]
    layers: list[Layer] = []
    nodes = np.arange(len(levels[-1].items))
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        evidence = trusted(products(level.centres[nodes], psi), level.gates[nodes])
        gates, scores = None, evidence
        if number == len(levels) - 1 and parameters.route_flow:
            gates = _flow(hierarchy, graph, nodes, evidence, parameters)
            peak = gates.max(initial=0.0)
            if peak > 0.0:
                scores = scaled(evidence, parameters) + parameters.route_flow * gates / peak
        best = nodes[order(scores, nodes)]
        best = best[held[number][best]]
        below = np.ones(len(best), np.int64)
        if number:
            parents = levels[number - 1].parents[held[number - 1]]
            below = np.bincount(parents, minlength=len(level.items))[best]
        chosen = best[: _enough(level.anchors[best], below, number, wanted, parameters)]
        layers.append(Layer(number, nodes, evidence, gates, scores, chosen))
        if number:
            under = np.zeros(len(level.items), np.bool_)
            under[chosen] = True
            nodes = np.flatnonzero(under[levels[number - 1].parents])
    return tuple(layers)


def _flow(
    hierarchy: Hierarchy, graph: Csr, nodes: Nodes, evidence: Float64, parameters: Parameters
) -> Float64:
    sources = source_rows(evidence, nodes, parameters)
    weights = source_weights(scaled(evidence, parameters), sources)[sources]
    return flow(hierarchy.inverse, graph, nodes[sources], weights, parameters.screening)


def _enough(
    anchors: Nodes, below: Nodes, number: int, wanted: float, parameters: Parameters
) -> int:
    # How many of the best nodes have as many anchors, and nodes ``below``, as are wanted.
    factor = _WIDER if number else 1
    enough = (np.cumsum(anchors) >= factor * wanted) & (
        np.cumsum(below) >= factor * parameters.route_shards
    )
    return int(np.argmax(enough)) + 1 if enough.any() else len(anchors)
