"""An explanation as a page: the picture, and a table of why each hit is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from oscillink_store.errors import DependencyError
from oscillink_store.explanation.palette import FAINT, INK, MUTED, NIGHT, PAPER
from oscillink_store.explanation.text import energy_line, heading, receipt_line, score_parts
from oscillink_store.hypertext import escaped, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oscillink_store.explanation.values import Explanation, Node, Reason

__all__ = ["fragment", "page"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ margin: 0 auto; max-width: 1200px; padding: 16px }}
@media (prefers-color-scheme: dark) {{ body {{ background: {night} }} }}</style>
</head>
<body>
{body}
</body>
</html>
"""

_STYLE = """
.{scope} {{ color: {ink}; background: {paper}; overflow-x: auto;
  font: 14px/1.45 system-ui, sans-serif }}
.{scope} svg {{ display: block; width: 100%; min-width: 760px; max-width: 1200px; height: auto }}
.{scope} svg text {{ font-family: "DejaVu Sans", Verdana, system-ui, sans-serif !important }}
.{scope} table {{ border-collapse: collapse; width: 95%; min-width: 760px; margin: 12px 2.5% }}
.{scope} th, .{scope} td {{ text-align: left; vertical-align: top; padding: 6px 12px 6px 0;
  border-top: 1px solid {faint}; overflow-wrap: break-word; font-variant-numeric: tabular-nums }}
.{scope} th {{ color: {muted}; font-weight: 600; border-top: 0 }}
.{scope} .text, .{scope} .parts {{ color: {muted} }}
.{scope} .parts {{ font-size: 12px; white-space: nowrap }}
"""


def page(explanation: Explanation) -> str:
    """Write the whole page; it needs nothing from anywhere.

    Raises DependencyError when matplotlib is not installed.
    """
    from oscillink_store.explanation.drawing import svg

    body = _body(explanation, svg(explanation))
    return _PAGE.format(title=escaped(heading(explanation)), body=body, night=NIGHT[PAPER])


def fragment(explanation: Explanation) -> str:
    """Write the page's body, for a notebook; without matplotlib it lacks the picture."""
    try:
        from oscillink_store.explanation.drawing import svg
    except DependencyError as error:
        lines = heading(explanation), energy_line(explanation), receipt_line(explanation), error
        return _body(explanation, "".join(f"<p>{escaped(str(line))}</p>" for line in lines))
    return _body(explanation, svg(explanation))


def _body(explanation: Explanation, picture: str) -> str:
    scope = f"explanation-{explanation.receipt}"
    names = {color: f"--{scope}-{color[1:]}" for color in NIGHT}
    day = "; ".join(f"{name}: {color}" for color, name in names.items())
    night = "; ".join(f"{name}: {NIGHT[color]}" for color, name in names.items())
    style = _STYLE.format(
        scope=scope, ink=f"var({names[INK]})", paper=f"var({names[PAPER]})",
        muted=f"var({names[MUTED]})", faint=f"var({names[FAINT]})",
    )  # fmt: skip
    return (
        f'<div class="{scope}">\n<style>\n.{scope} {{ {day} }}\n'
        f"@media (prefers-color-scheme: dark) {{ .{scope} {{ {night} }} }}{style}</style>\n"
        f"{_nightly(picture, names)}\n"
        f"{_hits(explanation)}\n{_null_points(explanation)}</div>"
    )


def _nightly(picture: str, names: dict[str, str]) -> str:
    """Let the colours of a picture's styles follow the page's."""

    def styled(match: re.Match[str]) -> str:
        return re.sub(
            "#[0-9a-f]{6}",
            lambda color: f"var({names[color[0]]})" if color[0] in names else color[0],
            match[0],
        )

    return re.sub(r'(?<= )style="[^"<>]*"', styled, picture)


def _hits(explanation: Explanation) -> str:
    if not explanation.reasons:
        return "<p>No anchor matches.</p>"
    rows = [_row(explanation, why) for why in explanation.reasons]
    return table(("rank", "score", "anchor", "why it is here"), rows, frozenset({"rank", "score"}))


def _row(explanation: Explanation, why: Reason) -> list[str]:
    node = explanation.nodes[why.node]
    identity = f" <code>{escaped(node.id)}</code>" if node.title not in (None, node.id) else ""
    return [
        str(node.rank),
        f'{node.score:.3f}<div class="parts">{escaped(score_parts(node))}</div>',
        f'<b>{escaped(node.name)}</b>{identity}<div class="text">{escaped(node.text)}</div>',
        f'{escaped(why.sentence)}<div class="parts">{" · ".join(_measures(node))}</div>',
    ]


def _measures(node: Node) -> Iterator[str]:
    yield f"evidence {node.evidence:.2f}"
    for name, value in (
        ("gate", node.gate), ("coherence", node.coherence), ("cosine", node.cosine),
        ("trust", node.trust if node.trust != 1.0 else None),
    ):  # fmt: skip
        if value is not None:
            yield f"{name} {value:.2f}"


def _null_points(explanation: Explanation) -> str:
    if not explanation.null_points:
        return ""
    nodes = explanation.nodes
    rows = [
        [
            escaped(nodes[edge.source].name),
            escaped(edge.relation),
            escaped(nodes[edge.target].name),
            f"{edge.z:.1f}",
        ]
        for edge in explanation.null_points
    ]
    told = table(("null point", "relation", "disagrees with", "z"), rows, frozenset({"z"}))
    return f"{told}\n"
