"""Which of an explanation's candidates and edges a picture shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oscillink_store.explanation.values import Edge, Explanation

__all__ = ["path_pairs", "shown_edges", "shown_nodes"]

MOST_NODES, MOST_HITS, MOST_NULL_POINTS, MOST_EDGES = 30, 20, 3, 70


def shown_nodes(explanation: Explanation) -> list[int]:
    """Choose the nodes to show, ascending, which is best first.

    The hits, the sources, what lies on the hits' strongest paths and at the ends of the worst
    null points as far as there is room; then the next best, until there are
    :data:`MOST_NODES`.
    """
    hits = explanation.reasons[:MOST_HITS]
    chosen = {why.node for why in hits}
    chosen.update(at for at, node in enumerate(explanation.nodes) if node.source is not None)
    chosen.update(step.source for why in hits for step in why.path)
    for edge in explanation.null_points[:MOST_NULL_POINTS]:
        with_ends = chosen | {edge.source, edge.target}
        chosen = with_ends if len(with_ends) <= MOST_NODES else chosen
    for at in range(len(explanation.nodes)):
        if len(chosen) >= MOST_NODES:
            break
        chosen.add(at)
    return sorted(chosen)


def path_pairs(explanation: Explanation) -> set[tuple[int, int]]:
    """Which pairs of nodes, the lower first, the hits' strongest paths go along."""
    return {
        (min(step.source, step.target), max(step.source, step.target))
        for why in explanation.reasons[:MOST_HITS]
        for step in why.path
    }


def shown_edges(explanation: Explanation, nodes: list[int]) -> list[Edge]:
    """Choose the edges to show among some nodes: paths, null points, then the heaviest."""
    inside, paths = set(nodes), path_pairs(explanation)
    among = [edge for edge in explanation.edges if {edge.source, edge.target} <= inside]
    among.sort(
        key=lambda edge: (
            (edge.source, edge.target) not in paths, edge.z is None, -edge.weight,
            edge.source, edge.target,
        )
    )  # fmt: skip
    least = sum((e.source, e.target) in paths or e.z is not None for e in among)
    return among[: max(MOST_EDGES, least)]
