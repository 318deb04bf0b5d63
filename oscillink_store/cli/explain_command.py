"""``explain``: why a search gave what it gave, as a table, a page or a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oscillink_store.cli.asking import (
    Count,
    EmbedderName,
    Question,
    ReadOnly,
    Vector,
    Where,
    read_vector,
    say_words_only,
)
from oscillink_store.cli.console import print_json, show
from oscillink_store.cli.inspect_commands import AsJson, StorePath
from oscillink_store.cli.opening import open_existing
from oscillink_store.errors import QueryError
from oscillink_store.explanation.values import FORMATS

if TYPE_CHECKING:
    from oscillink_store.explanation.values import Explanation

__all__ = ["explain"]


def explain(
    store: StorePath,
    question: Question = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a page (.html) or a picture (.png)."),
    ] = None,
    k: Count = 5,
    where: Where = None,
    vector: Vector = None,
    embedder: EmbedderName = None,
    read_only: ReadOnly = False,
    as_json: AsJson = False,
) -> None:
    """Search a store and tell why each hit is there: its own evidence, or the edges to it.

    The page and the picture show the candidates as a graph, and what settling it did.
    """
    if out is not None and out.suffix.lower() not in FORMATS:
        raise typer.BadParameter(
            f"--out {out.name} ends in none of {', '.join(FORMATS)}: name a file that does"
        )
    psi = read_vector(vector)
    with open_existing(store, read_only=read_only, embedder=embedder) as opened:
        say_words_only(opened, psi)
        explained = opened.search(question, vector=psi, k=k, where=where).explain()
    if out is not None:
        _save(explained, out)
    if as_json:
        print_json(explained.to_dict())
    elif out is not None:
        show(f"wrote {out}", wrap=False)
    else:
        _print(explained)


def _save(explained: "Explanation", out: Path) -> None:
    try:
        explained.save(out)
    except OSError as error:
        raise QueryError(
            f"--out: {out} cannot be written ({error.strerror}): name another place"
        ) from error


def _print(explained: "Explanation") -> None:
    from rich.table import Table
    from rich.text import Text

    from oscillink_store.explanation.text import energy_line, null_lines, receipt_line, score_parts
    from oscillink_store.hypertext import clean

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column(justify="right")
    table.add_column(ratio=1, overflow="fold")
    for why in explained.reasons:
        node = explained.nodes[why.node]
        told = Text(clean(node.name), style="bold cyan")
        told.append(f"\n{why.sentence}", "green not bold")
        parts = score_parts(node)
        told.append(f"\n{parts}" if parts else "", "dim not bold")
        table.add_row(str(node.rank), f"{node.score:.3f}", told)
    show(table if explained.reasons else "No anchor matches.")
    for line in null_lines(explained):
        show(line, style="red")
    show(energy_line(explained), style="dim")
    show(receipt_line(explained), style="dim")
