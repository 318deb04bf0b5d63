"""Where the nodes of a picture stand: columns by their distance from the sources; in inches."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from oscillink_store.hypertext import clean

if TYPE_CHECKING:
    from oscillink_store.explanation.values import Explanation, Node

__all__ = ["DETAIL_SIZE", "LABEL_SIZE", "WIDTH", "Box", "Lattice", "place", "shortened"]

WIDTH = 12.0
LABEL_SIZE, DETAIL_SIZE = 9.0, 7.5
"""Sizes of the letters in points."""

SIDE, GUTTER, GAP = 0.75, 0.85, 0.1
ROW, TALL_ROW, RING = 0.31, 0.42, 0.04
FLAT_ROWS, FLAT_GUTTER = 15, 0.3
_LEAST_RADIUS, _LEAST_NUMBERED, _MOST_RADIUS = 0.055, 0.1, 0.17
_FARTHEST = 2  # columns of their own
_MOST_COLUMNS, _LONG = 4, 15  # as long as there is room, longer columns are parted

# Between two characters: behind punctuation, or before a capital within a name.
_ENDS = re.compile(r"[\s.,:;/_-].|[a-z0-9](?=[A-Z])")

Measure = Callable[[str, float, bool], float]
"""The width of a text in inches, by its size in points and whether it is bold."""


class Box(NamedTuple):
    """A node's circle around (``x``, ``y``), and its label of one or two lines from ``left``.

    The label ends at ``right``, the longest of its column at ``end``. A second line that is
    the beginning of the text, not the end of a long name, is ``detail``.
    """

    x: float
    y: float
    radius: float
    lines: tuple[str, ...]
    detail: str
    left: float
    right: float
    end: float
    column: int


class Lattice(NamedTuple):
    """The boxes by node, the columns' headings by their left edge, and the height of it all.

    y is 0 at the top and goes down.
    """

    boxes: dict[int, Box]
    headings: list[tuple[float, str]]
    height: float


def place(explanation: Explanation, nodes: Sequence[int], measure: Measure) -> Lattice:
    """Place nodes, given best first, in columns; labels are cut to the room that they have."""
    columns = _columns(explanation, nodes)
    flat = explanation.ranking != "lattice"
    side, gutter = (FLAT_GUTTER, FLAT_GUTTER) if flat else (SIDE, GUTTER)
    wide = (WIDTH - side - 0.2 - gutter * (len(columns) - 1)) / max(len(columns), 1)
    boxes: dict[int, Box] = {}
    headings, heights = [], []
    for number, (heading, held) in enumerate(columns):
        start = side + number * (wide + gutter)
        headings.append((start, heading))
        y = 0.0
        for at in held:
            box = _box(explanation.nodes[at], start, wide, measure)
            row = TALL_ROW if box.detail or len(box.lines) > 1 else ROW
            row = max(row, 2 * (box.radius + RING) + 0.05)
            boxes[at] = box._replace(y=y + row / 2, column=number)
            y += row
        heights.append(y)
    height = max(heights, default=0.0)
    for _, held in columns:
        end = max(boxes[at].right for at in held)
        for at in held:  # each column in the middle
            box = boxes[at]
            lower = 0.0 if flat else (height - heights[box.column]) / 2
            boxes[at] = box._replace(y=box.y + lower, end=end)
    return Lattice(boxes, headings, height)


def _box(node: Node, start: float, wide: float, measure: Measure) -> Box:
    """A node's box in a column that begins at ``start``."""
    bold = node.rank is not None

    def width(text: str) -> float:
        return measure(text, LABEL_SIZE, bold)

    def detail_width(text: str) -> float:
        return measure(text, DETAIL_SIZE, False)

    least = _LEAST_NUMBERED if bold else _LEAST_RADIUS
    size = min(max(node.own or 0.0, 0.0), 1.0) ** 0.5
    left = start + 2 * _MOST_RADIUS + GAP
    room = start + wide - left
    told, beside = (node.name, node.text) if node.title else (node.text or node.id, node.id)
    lines, detail = _lines(clean(told), room, width, middle=bool(node.title)), ""
    if len(lines) == 1 and (bold or node.source is not None):
        detail = shortened(clean(beside), room, detail_width, middle=False)
    return Box(
        x=start + _MOST_RADIUS,
        y=0.0,
        radius=least + (_MOST_RADIUS - least) * size,
        lines=lines,
        detail=detail,
        left=left,
        right=left + max(*map(width, lines), detail_width(detail)),
        end=0.0,
        column=0,
    )


def _lines(
    name: str, room: float, width: Callable[[str], float], *, middle: bool
) -> tuple[str, ...]:
    """A name on one or two lines, broken where a word or a part of it ends."""
    if width(name) <= room:
        return (name,)
    fits = max(len(_fitting(name, room, width)), 1)
    ends = (at for at in range(fits, fits // 3, -1) if _ENDS.search(name, at - 1, at + 1))
    end = next(ends, fits)
    return name[:end].rstrip(), shortened(name[end:].lstrip(), room, width, middle=middle)


def _fitting(text: str, room: float, width: Callable[[str], float]) -> str:
    """As much of a text's beginning as fits."""
    return text[: bisect_right(range(len(text) + 1), room, key=lambda n: width(text[:n])) - 1]


def shortened(text: str, room: float, width: Callable[[str], float], *, middle: bool = True) -> str:
    """Cut a text to a width, in its middle (names differ at both ends) or at its end."""
    if width(text) <= room:
        return text
    kept = bisect_right(range(len(text)), room, key=lambda n: width(_cut(text, n, middle))) - 1
    return _cut(text, max(kept, 0), middle)


def _cut(text: str, kept: int, middle: bool) -> str:
    tail = kept * 2 // 5 if middle else 0
    head = text[: kept - tail].rstrip()
    return f"{head}…{text[len(text) - tail :].lstrip()}" if tail else f"{head}…"


def _columns(explanation: Explanation, nodes: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Headings and nodes of the columns, from the left."""
    if explanation.ranking != "lattice":
        parts = [list(nodes[at : at + FLAT_ROWS]) for at in range(0, len(nodes), FLAT_ROWS)]
        return [("best first" if at == 0 else "", part) for at, part in enumerate(parts)]
    held: dict[int, list[int]] = {}
    for at in nodes:
        hops = explanation.nodes[at].hops
        held.setdefault(_FARTHEST + 1 if hops is None else min(hops, _FARTHEST), []).append(at)
    headings = {
        0: "sources: the best by evidence", 1: "one edge from a source",
        _FARTHEST: "two edges or more", _FARTHEST + 1: "no path from a source",
    }  # fmt: skip
    columns = [(headings[number], held[number]) for number in sorted(held)]
    while len(columns) < _MOST_COLUMNS:
        at = max(range(len(columns)), key=lambda at: len(columns[at][1]), default=0)
        if not columns or len(columns[at][1]) <= _LONG:
            break
        heading, nodes = columns[at]
        half = (len(nodes) + 1) // 2
        columns[at : at + 1] = [(heading, nodes[:half]), ("… and these", nodes[half:])]
    return columns
