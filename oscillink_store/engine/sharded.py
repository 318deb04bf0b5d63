"""The shards of a generation and the summary nodes over them, as they are stored.

Each part of the store has a segment ``shards/<first slot>``: the shard ``own`` (n,) of each of
its slots, and for each shard its rows, ``order[starts[g]:starts[g + 1]]``. A level of summary
nodes is a segment ``summaries/<level>``, the inverse for the last one's lattice
``super/base`` and ``super/corrections``; ``shards`` tells what the anchors are divided by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.levels import Grouped, Hierarchy, Inverse, Level, node_graph
from oscillink_store.model import Parameters

__all__ = [
    "BASE",
    "CORRECTED",
    "SHARDS",
    "Sharded",
    "posted",
    "shards_name",
    "summaries_name",
    "summaries_schema",
]

SHARDS, BASE, CORRECTED = "shards", "super/base", "super/corrections"

Arrays = dict[str, npt.NDArray[Any]]
Slots = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


def shards_name(first: int) -> str:
    """The segment that tells the shards of the part from slot ``first``."""
    return f"{SHARDS}/{first:010d}"


def summaries_name(level: int) -> str:
    """The segment of a level's summary nodes; 0 are the shards'."""
    return f"summaries/{level}"


def summaries_schema(dimension: int) -> pa.Schema:
    """The columns of summaries.lance: a row per summary node."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("level", pa.int32(), nullable=False),
            pa.field("parent", pa.string()),
            pa.field("anchors", pa.int64(), nullable=False),
            pa.field("items", pa.int64(), nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
            pa.field("gate", pa.float64(), nullable=False),
            pa.field("held", pa.float32(), nullable=False),
            pa.field("coherence", pa.float64(), nullable=False),
            pa.field("edges", pa.int64(), nullable=False),
            pa.field("null_points", pa.int64(), nullable=False),
            pa.field("anomaly", pa.float64(), nullable=False),
            pa.field("delta_h", pa.float64(), nullable=False),
            pa.field("generation", pa.int64(), nullable=False),
            pa.field("changed", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def posted(own: Int32, groups: int) -> Arrays:
    """The arrays of a part whose slots have the shards ``own`` (n,), −1 for none."""
    order = np.argsort(own, kind="stable").astype(np.int32)
    nowhere = int((own < 0).sum())
    ends = np.cumsum(np.bincount(own[own >= 0], minlength=groups))
    return {"own": own, "order": order[nowhere:], "starts": np.append(0, ends)}


class Sharded:
    """Which shard each slot is in, and the summary nodes.

    ``by`` is the column whose values divide the store, None when the embeddings do, and
    ``names`` are these values by shard. ``parts`` are first slots and the arrays of
    :func:`posted`.
    """

    def __init__(
        self,
        told: Mapping[str, Any],
        parts: Sequence[tuple[int, Arrays]],
        hierarchy: Hierarchy,
        parameters: Parameters,
    ) -> None:
        self.by: str | None = told["by"]
        self.names: list[str | None] = told["names"]
        self.parts = parts
        self.hierarchy = hierarchy
        self._parameters = parameters

    @classmethod
    def opened(
        cls, told: Mapping[str, Any], segments: Mapping[str, Arrays], parameters: Parameters
    ) -> Sharded:
        """The shards that a generation's segments tell of."""
        parts = [
            (int(name.split("/")[1]), segments[name])
            for name in sorted(segments)
            if name.startswith(f"{SHARDS}/")
        ]
        levels: list[Level] = []
        while (name := summaries_name(len(levels))) in segments:
            levels.append(Level(**segments[name]))
        inverse = Inverse(**segments[BASE], **segments[CORRECTED])
        return cls(told, parts, Hierarchy(tuple(levels), inverse), parameters)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of summary nodes, the shards' first."""
        return self.hierarchy.levels

    @property
    def own(self) -> Int32:
        """The shard of each slot, (S,), those of anchors that are gone included."""
        return np.concatenate([np.empty(0, np.int32), *(part["own"] for _, part in self.parts)])

    def grouped(self) -> Grouped:
        """Shards and hierarchy together, as their upkeep takes them."""
        return Grouped(self.own, self.hierarchy)

    def shards_of(self, slots: Slots) -> npt.NDArray[np.int64]:
        """The shard of each of some slots, (n,)."""
        firsts = np.array([first for first, _ in self.parts])
        homes = np.searchsorted(firsts, slots, side="right") - 1
        found = np.empty(len(slots), np.int64)
        for home in np.unique(homes).tolist():
            mine = homes == home
            first, arrays = self.parts[home]
            found[mine] = arrays["own"][slots[mine] - first]
        return found

    def slots_in(self, shards: Sequence[int], alive: npt.NDArray[np.uint8] | None) -> Slots:
        """The slots of some shards that hold an anchor, ascending."""
        pieces = [np.empty(0, np.int64)]
        for first, arrays in self.parts:
            starts, order = arrays["starts"], arrays["order"]
            pieces += [
                order[starts[shard] : starts[shard + 1]] + np.int64(first)
                for shard in shards
                if shard < len(starts) - 1
            ]
        slots = np.sort(np.concatenate(pieces))
        return slots if alive is None else slots[alive[slots] == 1]

    @cached_property
    def top_graph(self) -> Csr:
        """The lattice of the last level's nodes."""
        return node_graph(self.levels[-1].lists(), self._parameters).base

    @cached_property
    def held(self) -> npt.NDArray[np.float32] | None:
        """By shard the product of the gates set on it and on the nodes above; None if all are 1."""
        total = np.ones(len(self.levels[-1].held), np.float32)
        for level in reversed(self.levels):
            total = level.held * (total[level.parents] if level is not self.levels[-1] else 1)
        return None if (total == 1.0).all() else total

    def name(self, level: int, node: int) -> str:
        """What a summary node is called: ``tenant=7`` by a column's value, else by its number."""
        if level:
            return f"node-{level + 1}-{node}"
        if self.by is None:
            return f"shard-{node}"
        value = self.names[node]
        return f"{self.by} is null" if value is None else f"{self.by}={value}"

    @cached_property
    def numbers(self) -> dict[str, tuple[int, int]]:
        """Level and number of every summary node by its name."""
        return {
            self.name(level, node): (level, node)
            for level, nodes in enumerate(self.levels)
            for node in range(len(nodes.items))
        }
