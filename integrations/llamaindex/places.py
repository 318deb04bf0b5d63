"""Relationships between nodes as places in a sequence and as links.

A node parser says of each node which one precedes and which one follows it. Where the order of
those chains is that of the nodes' ``start_char_idx``, the nodes make a sequence: it is named by
their parent or else their source, ``start_char_idx`` is the position, and the lattice joins
neighbours by ``next`` edges. What decides is what is written together; a chunk that is written
alone, now or again, finds its place by its own offset.

Where it is not (no offsets, two ways of splitting one document, a chain across documents),
PREVIOUS and NEXT become links. SOURCE, PARENT, CHILD and an IndexNode's target always do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from llama_index.core.schema import BaseNode, IndexNode, NodeRelationship

__all__ = ["Place", "places"]

_ALONG = (NodeRelationship.PREVIOUS, NodeRelationship.NEXT)


class Place(NamedTuple):
    """Where an anchor stands: its sequence and position if it has any, and ids it is linked to."""

    sequence: str | None
    position: int | None
    links: list[str]


def places(nodes: Sequence[BaseNode]) -> list[Place]:
    """The places of nodes that are written together, in their order."""
    ids = {node.node_id for node in nodes}
    groups: dict[str, list[BaseNode]] = defaultdict(list)
    for node in nodes:
        name = _sequence(node)
        if name is not None:
            groups[name].append(node)
    ordered = {name for name, members in groups.items() if _in_order(members, ids)}
    return [_place(node, ordered) for node in nodes]


def _place(node: BaseNode, ordered: set[str]) -> Place:
    name = _sequence(node)
    placed = name in ordered
    links = [
        key
        for relationship in node.relationships
        if not (placed and relationship in _ALONG)
        for key in _related(node, relationship)
    ]
    if isinstance(node, IndexNode):
        links.append(node.index_id)
    links = [key for key in dict.fromkeys(links) if key.strip() and key != node.node_id]
    return Place(name if placed else None, _start(node) if placed else None, links)


def _sequence(node: BaseNode) -> str | None:
    """The sequence of a node by what it says of itself; None where it has no place in one."""
    if _start(node) is None:
        return None
    for above in (NodeRelationship.PARENT, NodeRelationship.SOURCE):
        for key in _related(node, above):
            return key
    return None


def _in_order(members: list[BaseNode], ids: set[str]) -> bool:
    """Whether neighbours by position are neighbours in the chain, as far as they are here."""
    line = sorted(members, key=lambda node: _start(node) or 0)
    # what leads out of the line must lead to a node that is not here
    if ids.intersection(_related(line[0], NodeRelationship.PREVIOUS)) or ids.intersection(
        _related(line[-1], NodeRelationship.NEXT)
    ):
        return False
    for node, follower in pairwise(line):
        after = _related(node, NodeRelationship.NEXT)
        before = _related(follower, NodeRelationship.PREVIOUS)
        if _start(node) == _start(follower):
            return False
        if after not in ([], [follower.node_id]) or before not in ([], [node.node_id]):
            if ids.intersection(after) or ids.intersection(before):
                return False
        elif not after and not before:
            return False  # two chains
    return True


def _start(node: BaseNode) -> int | None:
    return getattr(node, "start_char_idx", None)


def _related(node: BaseNode, relationship: NodeRelationship) -> list[str]:
    related = node.relationships.get(relationship)
    if related is None:
        return []
    return [one.node_id for one in (related if isinstance(related, list) else [related])]
