"""Pieces of HTML made of texts that may hold anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

__all__ = ["clean", "escaped", "table"]

# Control characters, which XML cannot hold, and those that turn the direction of what follows.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]+")


def clean(text: str) -> str:
    """Put a text on one line, without characters that are not for the eye."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def escaped(text: str) -> str:
    """Write a text so that it stands for itself in HTML, in attributes too."""
    return escape(clean(text))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[str] = frozenset()
) -> str:
    """Write a table of cells that are HTML already; the columns named ``numbers`` to the right."""
    styles = [' style="text-align:right"' if name in numbers else "" for name in header]
    head = "".join(
        f"<th{style}>{escaped(name)}</th>" for name, style in zip(header, styles, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, styles, strict=True))
        + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
