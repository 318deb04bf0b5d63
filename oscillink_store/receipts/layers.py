"""The layers of a search in a store with shards, and how they add up.

``layers.shards`` tells of each shard that candidates come from the ΔH of its anchors and of all
edges at them. An edge between two shards is in both, so what such edges amount to, the
``overlap``, is taken off the sum: that is ``delta_h`` of the search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["composed", "layers_problem"]

_TOLERANCE = 1e-6  # vectors are float32, and their squares are not summed in one order


def composed(layers: Mapping[str, Any]) -> float | None:
    """ΔH as the layers give it: Σ shards − overlap; None where nothing was settled."""
    if layers.get("overlap") is None:
        return None
    parts = [float(shard["delta_h"]) for shard in layers.get("shards") or ()]
    return math.fsum([*parts, -float(layers["overlap"]["delta_h"])])


def layers_problem(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the layers that a content tells of, if it tells of any."""
    layers = content.get("layers")
    if layers is None:
        return None
    try:
        total = composed(layers)
        told = content.get("delta_h")
        if total is None:
            return None
        if told is None or not math.isclose(total, told, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            return f"its shards' ΔH less their overlap is {total:.9g}, and not {told}"
    except (AttributeError, KeyError, TypeError, ValueError):
        return "its layers are none that can be added up"
    return None
