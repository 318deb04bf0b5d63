"""``ingest``: rows from files or standard input into a store, in one commit."""

import contextlib
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.console import bars, note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson
from oscillink_store.errors import EmbedderError, InputError
from oscillink_store.model import Fields, IngestReport

if TYPE_CHECKING:
    from oscillink_store.engine.store import Store

__all__ = ["ingest", "print_report"]

_STDIN = "-"
_STDIN_FILE = "standard-input.jsonl"


def _column(name: str, meaning: str) -> Any:
    return typer.Option(f"--{name}", metavar="COLUMN", help=meaning, rich_help_panel="Columns")


def ingest(
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="The store's folder; made if there is none.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files or quoted globs: .jsonl, .csv, .tsv, .parquet, .arrow; "
            "- reads JSON Lines from standard input.",
        ),
    ],
    embedder: Annotated[
        str | None,
        typer.Option(
            help="hash, model2vec:MODEL or sentence-transformers:MODEL. A new store takes hash "
            "(lexical: it knows spellings, not meanings) unless the source has vectors.",
        ),
    ] = None,
    id_: Annotated[str | None, _column("id", "The key. [dim]\\[id][/dim]")] = None,
    text: Annotated[str | None, _column("text", "The text. [dim]\\[text][/dim]")] = None,
    title: Annotated[str | None, _column("title", "A name. [dim]\\[title][/dim]")] = None,
    vector: Annotated[str | None, _column("vector", "Embedding. [dim]\\[vector][/dim]")] = None,
    sequence: Annotated[
        list[str] | None,
        _column("sequence", "What a row is a part of; may be repeated. [dim]\\[sequence][/dim]"),
    ] = None,
    position: Annotated[
        str | None, _column("position", "Place in the sequence. [dim]\\[position][/dim]")
    ] = None,
    links: Annotated[
        str | None, _column("links", "Ids it is linked to. [dim]\\[links][/dim]")
    ] = None,
    gate: Annotated[str | None, _column("gate", "Trust, 0 to 1. [dim]\\[gate][/dim]")] = None,
    facet: Annotated[
        list[str] | None,
        _column("facet", "Rows with the one value that a question names rise; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add rows to a store, in one commit: all of them or none.

    A row whose id is there already replaces it, or is left alone if nothing changed. Every
    column that has no part becomes metadata to filter by.
    """
    given = {
        "id": id_, "text": text, "title": title, "vector": vector,
        "sequence": tuple(sequence) if sequence else None, "position": position,
        "links": links, "gate": gate, "facets": tuple(facet) if facet else None,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    with _readable(sources) as paths:
        opened, fields, lexical = _open(store, paths, embedder, chosen)
        with opened, bars() as progress:
            report = opened.ingest(paths, fields=fields, progress=progress)
    if lexical and report.added:
        note(
            "the vectors come from the embedder 'hash', which is lexical: it sees words and their "
            "spelling, not their meaning; --embedder names another one"
        )
    if as_json:
        print_json({"store": str(store), **report_document(report)})
    else:
        print_report(report, str(store))


def _open(
    store: Path, paths: list[str], embedder: str | None, chosen: dict[str, Any]
) -> "tuple[Store, Fields, bool]":
    """Give the store, the fields to read with, and whether ``hash`` was chosen for the person."""
    from oscillink_store.engine.sources import open_source
    from oscillink_store.engine.store import connect
    from oscillink_store.storage.manifest import is_store

    recorded, of, fields = 0, None, Fields()
    if is_store(store):
        with connect(store, read_only=True) as there:
            recorded, of, fields = len(there), there.stats()["embedder"], there.fields
            if there.has_embedder:
                embedder = embedder or of
    fields = replace(fields, **chosen)
    # a source that cannot be read is refused before a folder is made
    first = next(iter(open_source(paths, fields)), None)
    without = first is not None and fields.vector not in first.data.schema.names
    if recorded and without and embedder is None:
        remedy = "the source needs a column of vectors" if of is None else f"pass --embedder {of}"
        raise EmbedderError(
            f"{store}: the rows have no column {fields.vector!r} and the store's vectors come from "
            f"{of or 'outside'}: {remedy}"
        )
    lexical = embedder is None and without
    return connect(store, embedder="hash" if lexical else embedder, fields=fields), fields, lexical


@contextlib.contextmanager
def _readable(sources: list[str]) -> Iterator[list[str]]:
    """Give the sources as paths; standard input goes to a file first, for a commit needs it all."""
    if _STDIN not in sources:
        yield sources
        return
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, _STDIN_FILE)
        with spool.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield [str(spool) if source == _STDIN else source for source in sources]
        except InputError as error:
            message = str(error).replace(str(spool), "standard input")
            raise InputError(message, field=error.field, row=error.row) from error


def report_document(report: IngestReport) -> dict[str, Any]:
    """Give the report as plain values, the receipt by its id and hash."""
    document = {name: getattr(report, name) for name in report.__dataclass_fields__}
    receipt = report.receipt
    document["receipt"] = None if receipt is None else {"id": receipt.id, "hash": receipt.hash}
    return document


def print_report(report: IngestReport, name: str) -> None:
    """Print what an ingest did."""
    from rich.table import Table

    table = Table(title=f"{name}, generation {report.generation}", title_justify="left", box=None)
    for heading in ("anchors", "", "edges", "", "seconds", ""):
        if heading:
            table.add_column(heading)
        else:
            table.add_column(justify="right")
    anchors = [
        ("added", f"{report.added:,}"),
        ("updated", f"{report.updated:,}"),
        ("unchanged", f"{report.unchanged:,}"),
        ("now in all", f"{report.anchors:,}"),
    ]
    edges = [(relation, f"{count:,}") for relation, count in report.edges.items()]
    if report.dangling_links:
        edges.append(("dangling links", f"{report.dangling_links:,}"))
    seconds = [(stage, f"{spent:.2f}") for stage, spent in report.seconds.items()]
    for cells in itertools.zip_longest(anchors, edges, seconds, fillvalue=("", "")):
        table.add_row(*itertools.chain.from_iterable(cells))
    show(table)
