"""The colours of pictures and pages, by day and by night."""

from __future__ import annotations

from bisect import bisect_right

__all__ = [
    "FAINT", "GATES", "GATE_STEPS", "INK", "MUTED", "NIGHT", "NULL", "PAPER", "RELATIONS",
    "TERMS", "gate_step",
]  # fmt: skip

PAPER, INK, MUTED, FAINT = "#ffffff", "#1f2329", "#5c6570", "#d4d9df"

# After Okabe and Ito, whose colours people tell apart whatever their eyes.
RELATIONS = {
    "next": "#0072b2", "mention": "#e69f00", "link": "#009e73", "shared": "#cc79a7",
    "knn": "#8f99a3",
}  # fmt: skip
NULL = "#d0021b"
TERMS = {"anchor": "#3d4f66", "query": "#56b4e9", "chain": "#f0e442", "graph": "#7a6a8f"}

GATES = ("#fcfcfd", "#d9dde2", "#b0b7c0", "#818b97", "#535e6b", "#2a323c")
"""How dark a node is, by the step that its gate falls into."""

GATE_STEPS = (0.01, 0.05, 0.15, 0.35, 0.7)
"""Where the steps end: most gates are small."""

NIGHT = {
    PAPER: "#14171b", INK: "#e8eaed", MUTED: "#a3abb5", FAINT: "#3a414a",
    GATES[0]: "#1b1f24", GATES[1]: "#39414a", GATES[2]: "#5a646f", GATES[3]: "#818c98",
    GATES[4]: "#b3bcc6", GATES[5]: "#eef0f2",
    NULL: "#ff5c6c",
}  # fmt: skip
"""What takes a colour's place on a dark page."""


def gate_step(gate: float | None) -> int:
    """The place in :data:`GATES` for a gate in [0, 1]."""
    return bisect_right(GATE_STEPS, gate or 0.0)
