"""The picture of an explanation, as PNG or as SVG, by one and the same code."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oscillink_store.errors import DependencyError
from oscillink_store.explanation.choice import path_pairs, shown_edges, shown_nodes
from oscillink_store.explanation.layout import (
    DETAIL_SIZE,
    LABEL_SIZE,
    RING,
    WIDTH,
    Box,
    Lattice,
    place,
    shortened,
)
from oscillink_store.explanation.palette import (
    GATE_STEPS,
    GATES,
    INK,
    MUTED,
    NULL,
    PAPER,
    RELATIONS,
    TERMS,
    gate_step,
)
from oscillink_store.explanation.text import energy_line, heading
from oscillink_store.hypertext import escaped

try:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, get_font_names
    from matplotlib.patches import Circle, PathPatch, Rectangle
    from matplotlib.path import Path as Curve
except ImportError as error:
    raise DependencyError(
        "a picture of an explanation needs the package matplotlib: "
        "pip install 'oscillink-store[explain]'"
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from oscillink_store.explanation.values import Edge, Explanation

__all__ = ["png", "svg"]

DPI = 150
MARGIN = 0.3
_FINE = 400  # letters are measured at this resolution
_TOP, _HEADINGS, _LEGEND, _ENERGY, _FOOT = 0.9, 0.38, 0.72, 0.58, 0.32
# Other scripts than the first font's, where one of these is installed.
_FAMILIES = (
    "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Zen Hei", "Arial Unicode MS",
)  # fmt: skip


def png(explanation: Explanation) -> bytes:
    """Draw the picture as a PNG image, 1800 pixels wide."""
    written = io.BytesIO()
    with _style(explanation):
        _Drawing(explanation).figure.savefig(written, format="png", dpi=DPI)
    return written.getvalue()


def svg(explanation: Explanation) -> str:
    """Draw the picture as an ``<svg>`` element, whose texts are texts and nodes have tooltips."""
    written = io.StringIO()
    with _style(explanation):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _Drawing(explanation).figure.savefig(written, format="svg", metadata=nothing)
    drawn = written.getvalue()
    drawn = drawn[drawn.index("<svg") :]  # the document type names a place on the network
    # a style element would be that of everything on the page
    drawn = re.sub(r"\s*<(metadata|defs)>.*?</\1>", "", drawn, count=2, flags=re.DOTALL)
    title = escaped(heading(explanation))
    root = f'<svg role="img" aria-label="{title}" style="stroke-linejoin: round"'
    drawn = root + drawn[len("<svg") :]

    def told(match: re.Match[str]) -> str:
        node = explanation.nodes[int(match[2])]
        gate = "" if node.gate is None else f", gate {node.gate:.2f}"
        tip = (
            f"{node.name}: {node.text} (score {node.score:.2f}, evidence {node.evidence:.2f}{gate})"
        )
        return f"{match[1]}<title>{escaped(tip)}</title>"

    return re.sub(rf'(<g id="{_prefix(explanation)}-(\d+)">)', told, drawn)


def _prefix(explanation: Explanation) -> str:
    return f"node-{explanation.receipt}"


@contextmanager
def _style(explanation: Explanation) -> Iterator[None]:
    known = set(get_font_names())
    families = [name for name in _FAMILIES if name in known]
    settings: dict[str, Any] = {
        "font.family": families or ["sans-serif"],
        "svg.fonttype": "none",
        "svg.hashsalt": explanation.receipt,  # the same bytes again, and no other figure's ids
        "text.hinting": "no_hinting",  # letters as wide as they were measured
    }
    with rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


class _Drawing:
    """One picture; its axes count inches from the upper left corner."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.nodes = shown_nodes(explanation)
        self.edges = shown_edges(explanation, self.nodes)
        self.paths = path_pairs(explanation)
        self._pen = FigureCanvasAgg(Figure(dpi=_FINE)).get_renderer()  # type: ignore[no-untyped-call]
        self._widths: dict[tuple[str, float, bool], float] = {}
        lattice = place(explanation, self.nodes, self._width)
        flat = explanation.ranking != "lattice"
        below = 2 * _FOOT if flat else _LEGEND + _ENERGY + _FOOT
        height = _TOP + _HEADINGS + max(lattice.height, 0.5) + below
        self.figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
        FigureCanvasAgg(self.figure)
        self.axes: Axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set(xlim=(0.0, WIDTH), ylim=(height, 0.0))
        self.axes.set_axis_off()
        self._heading()
        if not self.nodes:
            self._text(MARGIN, _TOP + 0.4, "no anchor matches", LABEL_SIZE, MUTED)
        self._lattice(lattice, _TOP + _HEADINGS)
        y = _TOP + _HEADINGS + max(lattice.height, 0.5)
        if not flat:
            self._legend(y + 0.3)
            self._energy(y + _LEGEND)
        self._caption(height - 0.2)

    # letters

    def _width(self, text: str, size: float, bold: bool) -> float:
        """The width of a text in inches."""
        key = text, size, bold
        if key not in self._widths:
            font = FontProperties(size=size, weight="bold" if bold else "normal")
            width, _, _ = self._pen.get_text_width_height_descent(text, font, ismath=False)
            self._widths[key] = width / _FINE
        return self._widths[key]

    def _text(
        self, x: float, y: float, text: str, size: float, color: str = INK, *,
        bold: bool = False, align: str = "left", backed: bool = False, order: float = 5.0,
    ) -> float:  # fmt: skip
        """Write one line around the height ``y``, and return where it ends."""
        box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
        self.axes.text(
            x, y, text, size=size, color=color, weight="bold" if bold else "normal",
            ha=align, va="center_baseline", bbox=box if backed else None, zorder=order,
            parse_math=False,
        )  # fmt: skip
        return x + self._width(text, size, bold)

    def _fitted(self, text: str, room: float, size: float, *, bold: bool = False) -> str:
        return shortened(text, room, lambda s: self._width(s, size, bold), middle=False)

    # parts

    def _heading(self) -> None:
        told = self.explanation
        room = WIDTH - 2 * MARGIN
        title = self._fitted(heading(told), room, 15, bold=True)
        self._text(MARGIN, 0.36, title, 15, bold=True)
        counted = f"{len(told.reasons)} hits of {len(told.nodes)} candidates"
        what = "" if told.ranking == "lattice" else f"ranking {told.ranking} · "
        line = f"{what}{counted} · generation {told.generation} · receipt {told.receipt}"
        self._text(MARGIN, 0.66, self._fitted(line, room, 9), 9, MUTED)

    def _lattice(self, lattice: Lattice, top: float) -> None:
        for x, title in lattice.headings:
            self._text(x, top - 0.22, title, 8.5, MUTED)
        boxes = {at: box._replace(y=box.y + top) for at, box in lattice.boxes.items()}
        parallel: dict[tuple[int, int], int] = {}
        for edge in self.edges:
            ends = edge.source, edge.target
            nth = parallel[ends] = parallel.get(ends, -1) + 1
            self._edge(boxes[edge.source], boxes[edge.target], edge, nth)
        for at, box in boxes.items():
            self._node(at, box)

    def _edge(self, one: Box, other: Box, edge: Edge, nth: int) -> None:
        bold = (edge.source, edge.target) in self.paths and nth == 0
        width = 0.7 + 1.5 * min(edge.weight, 1.0) ** 0.5
        shift = 0.05 * nth
        curve = _curve(one, other, shift)
        self.axes.add_patch(
            PathPatch(
                curve, fill=False, edgecolor=RELATIONS[edge.relation], capstyle="round",
                linewidth=width + 1.3 if bold else width, alpha=1.0 if bold else 0.4,
                zorder=2.0 if bold else 1.0,
            )
        )  # fmt: skip
        if edge.z is not None and nth == 0:
            self.axes.add_patch(
                PathPatch(
                    _curve(one, other, shift + 0.04), fill=False, edgecolor=NULL, linewidth=1.4,
                    linestyle=(0, (4, 2.5)), zorder=3.0,
                )
            )  # fmt: skip

    def _node(self, at: int, box: Box) -> None:
        node = self.explanation.nodes[at]
        step = gate_step(node.gate)
        if node.source is not None:
            ring = Circle((box.x, box.y), box.radius + RING, fill=False, ec=INK, lw=0.9, zorder=4.0)
            self.axes.add_patch(ring)
        circle = Circle(
            (box.x, box.y), box.radius, facecolor=GATES[step], zorder=4.0,
            edgecolor=INK if node.rank is not None else MUTED,
            linewidth=1.4 if node.rank is not None else 0.7,
        )  # fmt: skip
        circle.set_gid(f"{_prefix(self.explanation)}-{at}")
        self.axes.add_patch(circle)
        if node.rank is not None:
            color = PAPER if step >= len(GATES) // 2 else INK
            self._text(box.x, box.y, str(node.rank), 8, color, bold=True, align="center", order=6.0)
        color, bold = (INK, True) if node.rank is not None else (MUTED, False)
        two = len(box.lines) > 1 or box.detail
        for y, line in zip(
            (box.y - 0.078 if two else box.y, box.y + 0.078), box.lines, strict=False
        ):
            self._text(box.left, y, line, LABEL_SIZE, color, bold=bold, backed=True)
        if box.detail:
            self._text(box.left, box.y + 0.088, box.detail, DETAIL_SIZE, MUTED, backed=True)

    def _legend(self, y: float) -> None:
        x = MARGIN
        found = {edge.relation for edge in self.explanation.edges}
        for relation in (name for name in RELATIONS if name in found):
            self._line(x, y, RELATIONS[relation], 2.2)
            x = self._text(x + 0.4, y, relation, 8.5, MUTED) + 0.22
        self._line(x, y, INK, 4.0)
        x = self._text(x + 0.4, y, "strongest path to a hit", 8.5, MUTED) + 0.22
        if self.explanation.null_points:
            self._line(x, y, NULL, 1.4, dashed=True)
            x = self._text(x + 0.4, y, "null point", 8.5, MUTED) + 0.22
        for radius in (0.06, 0.09, 0.12):
            circle = Circle((x + radius, y), radius, facecolor=GATES[1], edgecolor=MUTED, lw=0.7)
            self.axes.add_patch(circle)
            x += 2 * radius + 0.03
        x = self._text(x + 0.06, y, "evidence", 8.5, MUTED) + 0.22
        x = self._text(x, y, "gate", 8.5, MUTED) + 0.08
        for step, color in enumerate(GATES):
            swatch = Rectangle((x, y - 0.09), 0.3, 0.18, facecolor=color, edgecolor=MUTED, lw=0.5)
            self.axes.add_patch(swatch)
            x += 0.3
            end = f"{(*GATE_STEPS, 1)[step]:g}"
            self._text(x, y + 0.17, end, 6.5, MUTED, align="center")

    def _line(self, x: float, y: float, color: str, width: float, *, dashed: bool = False) -> None:
        style: Any = (0, (4, 2.5)) if dashed else "solid"
        self.axes.plot(
            [x, x + 0.32], [y, y], color=color, linewidth=width, linestyle=style,
            solid_capstyle="butt",
        )  # fmt: skip

    def _energy(self, y: float) -> None:
        told = self.explanation
        terms = {name: value for name, value in told.energy.items() if value > 0.0}
        total = sum(terms.values())
        room = WIDTH - 2 * MARGIN
        x = MARGIN
        for name, value in terms.items():
            wide = room * value / total
            color = TERMS.get(name) or RELATIONS[name]
            bar = Rectangle((x, y), wide, 0.26, facecolor=color, edgecolor=PAPER, lw=1.0)
            self.axes.add_patch(bar)
            label = f"{name} {value:.3g}"
            if self._width(label, 8.5, False) + 0.12 <= wide:
                self._text(x + wide / 2, y + 0.13, label, 8.5, _on(color), align="center")
            x += wide
        line = self._fitted(f"energy freed by settling: {energy_line(told)}", room, 8.5)
        self._text(MARGIN, y + 0.44, line, 8.5, MUTED)

    def _caption(self, y: float) -> None:
        told = self.explanation
        hidden, edges = len(told.nodes) - len(self.nodes), len(told.edges) - len(self.edges)
        parts = []
        if hidden:
            parts.append(f"{hidden} more candidates")
        if edges:
            parts.append(f"{edges} more edges")
        if parts:
            self._text(MARGIN, y, f"Not shown: {' and '.join(parts)}.", 8.5, MUTED)


def _curve(one: Box, other: Box, shift: float) -> Curve:
    """From the end of one label to the other's node; in one column, an arc left of it."""
    if one.column > other.column:
        one, other = other, one
    end = other.x - other.radius - 0.05, other.y + shift
    if one.column == other.column:
        start = one.x - one.radius - 0.05, one.y + shift
        bulge = min(start[0], end[0]) - min(0.12 + 0.12 * abs(other.y - one.y), 0.65) - shift
        points = [start, (bulge, one.y + shift), (bulge, other.y + shift), end]
        codes = [Curve.MOVETO]
    else:
        # first past the other labels of the column
        start = one.end + 0.08, one.y + shift
        reach = 0.5 * (end[0] - start[0])
        points = [
            (one.right + 0.08, start[1]), start,
            (start[0] + reach, start[1]), (end[0] - reach, end[1]), end,
        ]  # fmt: skip
        codes = [Curve.MOVETO, Curve.LINETO]
    return Curve(points, [*codes, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])


def _on(color: str) -> str:
    """Black or white, whichever is legible on a colour, by day and by night."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "#fffffe"
