"""``search``: a question, its ranked coherent set, and the receipt."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

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
from oscillink_store.model import Hit, SearchResult
from oscillink_store.snippet import snippet, words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from oscillink_store.receipts.receipt import Payload

__all__ = ["hit_table", "search"]

_SNIPPET = 170


def search(
    store: StorePath,
    question: Question = None,
    k: Count = 5,
    where: Where = None,
    vector: Vector = None,
    label: Annotated[str | None, typer.Option(help="A note to keep in the receipt.")] = None,
    route: Annotated[
        bool | None,
        typer.Option(
            "--route/--no-route",
            help="Look for vectors in the best shards alone, or in all. [dim]\\[where there are "
            "shards][/dim]",
        ),
    ] = None,
    embedder: EmbedderName = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Show the whole receipt.")] = False,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Keep only digests of the question in the receipt.")
    ] = False,
    read_only: ReadOnly = False,
    as_json: AsJson = False,
) -> None:
    """Search a store: candidates by vector and words, ranked by what connects them."""
    psi = read_vector(vector)
    payload: Payload = "minimal" if minimal else "extended"
    with open_existing(store, read_only=read_only, embedder=embedder, payload=payload) as opened:
        say_words_only(opened, psi)
        result = opened.search(question, vector=psi, k=k, where=where, label=label, route=route)
    if as_json:
        print_json(_document(question, where, result, whole_receipt=receipt))
    else:
        _print(question, result, recorded=not read_only, whole_receipt=receipt)


def _document(
    question: str | None, where: str | None, result: SearchResult, *, whole_receipt: bool
) -> dict[str, Any]:
    receipt = result.receipt
    return {
        "question": question,
        "where": where,
        "generation": receipt.generation,
        "seconds": result.seconds,
        "hits": [asdict(hit) for hit in result],
        "receipt": json.loads(receipt.to_json())
        if whole_receipt
        else {
            "id": receipt.id,
            "hash": receipt.hash,
            "content_hash": receipt.content_hash,
            "delta_h": receipt.delta_h,
            "candidates": len(receipt.candidate_ids),
        },
    }


def _print(
    question: str | None, result: SearchResult, *, recorded: bool, whole_receipt: bool
) -> None:
    if not result.hits:
        show("No anchor matches.")
    else:
        show(hit_table(result, question))
    receipt = result.receipt
    if whole_receipt:
        show(receipt.summary(), style="dim", wrap=False)
    else:
        delta_h = "none" if receipt.delta_h is None else f"{receipt.delta_h:.4g}"
        show(
            f"receipt {receipt.id}{'' if recorded else ' (not recorded)'}: {len(result)} of "
            f"{len(receipt.candidate_ids)} candidates, ΔH {delta_h}, "
            f"{result.seconds * 1000:.1f} ms",
            style="dim",
        )


def hit_table(result: SearchResult, question: str | None) -> "Table":
    """Lay the hits out, the question's words marked."""
    from rich.table import Table

    sought = words(question or "")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column(justify="right")
    table.add_column(ratio=1, overflow="fold")
    for hit in result:
        table.add_row(str(hit.rank), f"{hit.score:.3f}", _body(hit, sought))
    return table


def _body(hit: Hit, sought: list[str]) -> "RenderableType":
    from rich.text import Text

    body = Text(hit.title or hit.id, style="bold cyan")
    if hit.title is not None and hit.title != hit.id:
        body.append(f"  {hit.id}", style="dim not bold")
    piece = Text(snippet(hit.text, sought, _SNIPPET), style="default not bold")
    for word in sought:
        piece.highlight_regex(rf"(?i)\b{word}\w*", "yellow")
    measures = [f"evidence {hit.evidence:.2f}", f"gate {hit.gate:.2f}"]
    measures.append(f"coherence {hit.coherence:.2f}")
    if hit.cosine is not None:
        measures.append(f"cosine {hit.cosine:.2f}")
    return body.append("\n").append_text(piece).append(f"\n{' · '.join(measures)}", "dim not bold")
