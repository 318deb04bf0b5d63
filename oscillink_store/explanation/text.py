"""An explanation in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oscillink_store.hypertext import clean

if TYPE_CHECKING:
    from oscillink_store.explanation.values import Explanation, Node, Step

__all__ = [
    "as_text", "energy_line", "heading", "null_lines", "reason", "receipt_line", "score_parts",
]  # fmt: skip

_ORDINALS = ("highest", "second highest", "third highest")
# As read from the hit back to its source: "via mention ← X" when X mentions it.
_ARROWS = {"forward": "←", "backward": "→", "both": "↔", "neither": "—"}
_FLAT = {
    "hybrid": "by its evidence",
    "dense": "by its cosine",
    "text": "by its full-text relevance",
    "mmr": "by its cosine, and unlike the hits before it",
}


def reason(nodes: Sequence[Node], place: int, path: Sequence[Step], ranking: str) -> str:
    """Say why a candidate is a hit, its strongest path backwards: ``via mention ← Title``."""
    node = nodes[place]
    if ranking != "lattice":
        told = _FLAT[ranking]
    elif node.source is not None:
        known = node.source <= len(_ORDINALS)
        told = f"source: {_ORDINALS[node.source - 1] if known else 'high'} evidence"
    elif not path:
        told = "by its own evidence (no path from a source)"
    else:
        steps = (
            f"via {step.relations[0]} {_ARROWS[step.points]} {clean(nodes[step.source].name)}"
            for step in reversed(path)
        )
        told = ", ".join(steps)
        if (node.own or 0.0) > (node.connected or 0.0):
            told = f"by its own evidence, and {told}"
    if node.named:
        told += "; named in the question"
    if node.faceted:
        told += "; has the facet that the question names"
    return told


def heading(explanation: Explanation) -> str:
    """Say what was asked."""
    question = explanation.question
    return "a search by vector" if question is None else clean(question)


def score_parts(node: Node) -> str:
    """Say what a score is the sum of; nothing without the lattice."""
    parts = {"own evidence": node.own, "edges": node.connected, "facet": node.faceted or None}
    return " + ".join(f"{name} {value:.2f}" for name, value in parts.items() if value is not None)


def energy_line(explanation: Explanation) -> str:
    """Say what ΔH is the sum of."""
    if explanation.delta_h is None:
        return "ΔH none: this ranking settles nothing"
    parts = (f"{name} {value:.3g}" for name, value in explanation.energy.items() if value)
    return f"ΔH {explanation.delta_h:.4g} = " + (" + ".join(parts) or "0")


def receipt_line(explanation: Explanation) -> str:
    """Say which search this is."""
    return (
        f"receipt {explanation.receipt}: {len(explanation.reasons)} of {len(explanation.nodes)} "
        f"candidates, generation {explanation.generation}"
    )


def null_lines(explanation: Explanation) -> list[str]:
    """Say between which anchors the settled state disagrees."""
    nodes = explanation.nodes
    return [
        f"null point: {clean(nodes[edge.source].name)} and {clean(nodes[edge.target].name)} "
        f"disagree along {edge.relation} (z {edge.z:.1f})"
        for edge in explanation.null_points
    ]


def as_text(explanation: Explanation) -> str:
    """Write the question, the hits with why each is there, null points, ΔH and the receipt."""
    nodes = explanation.nodes
    lines = [heading(explanation)]
    if not explanation.reasons:
        lines.append("  no anchor matches")
    for why in explanation.reasons:
        node = nodes[why.node]
        lines.append(f"{node.rank:>3}  {node.score:7.3f}  {clean(node.name)}")
        lines.append(f"{'':14}{why.sentence}")
    lines += null_lines(explanation)
    lines.append(energy_line(explanation))
    lines.append(receipt_line(explanation))
    return "\n".join(lines)
