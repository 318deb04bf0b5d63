"""``ingest``: rows from files, a query or standard input into a store, at once or as a job."""

import itertools
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from oscillink_store.cli.console import bars, note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson
from oscillink_store.cli.job_commands import print_job
from oscillink_store.cli.opening import sealing_key
from oscillink_store.errors import EmbedderError
from oscillink_store.model import Fields
from oscillink_store.reports import GateReport, IngestReport, JobReport

if TYPE_CHECKING:
    from oscillink_store.engine.sources import Source
    from oscillink_store.engine.store import Store

__all__ = ["ingest", "print_report"]

_STDIN = "-"


def _column(name: str, meaning: str) -> Any:
    return typer.Option(f"--{name}", metavar="COLUMN", help=meaning, rich_help_panel="Columns")


def _job_option(option: str, meaning: str, **rules: Any) -> Any:
    return typer.Option(option, help=meaning, rich_help_panel="Jobs", **rules)


def ingest(
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="The store's folder; made if there is none.")
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Files or quoted globs: .jsonl, .csv, .tsv, .parquet, .arrow; "
            "- reads standard input.",
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--sql", metavar="QUERY", help="Take the rows of a DuckDB query, which may read files."
        ),
    ] = None,
    format_: Annotated[
        Literal["jsonl", "csv", "arrow"],
        typer.Option("--format", help="What standard input brings."),
    ] = "jsonl",
    embedder: Annotated[
        str | None,
        typer.Option(
            help="hash, model2vec:MODEL or sentence-transformers:MODEL. A new store takes hash "
            "(lexical: it knows spellings, not meanings) unless the source has vectors.",
        ),
    ] = None,
    job: Annotated[
        str | None,
        _job_option("--job", "Go batch by batch under this name; run it again to go on."),
    ] = None,
    sync: Annotated[
        bool,
        _job_option("--sync", "Delete what the job brought and the source does not hold any more."),
    ] = False,
    batch: Annotated[
        int | None, _job_option("--batch", "Rows per commit. [dim]\\[1000][/dim]", min=1)
    ] = None,
    on_error: Annotated[
        Literal["stop", "skip"] | None,
        _job_option("--on-error", "What a row that cannot be stored does. [dim]\\[stop][/dim]"),
    ] = None,
    rejected: Annotated[
        Path | None,
        _job_option("--rejected", "Write the rows that are left out, and why, to this file."),
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
    payload: Annotated[
        str | None, _column("payload", "JSON objects, kept exactly. [dim]\\[payload][/dim]")
    ] = None,
    facet: Annotated[
        list[str] | None,
        _column("facet", "Rows with the one value that a question names rise; may be repeated."),
    ] = None,
    shard: Annotated[
        str | None, _column("shard", "What divides the store into shards, such as a tenant.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add rows to a store: in one commit, all of them or none, or batch by batch with --job.

    A row whose id is there already replaces it, or is left alone if nothing changed. Every
    column that has no part becomes metadata to filter by. A job that was interrupted goes on
    where its last finished batch ended.
    """
    given = {
        "id": id_, "text": text, "title": title, "vector": vector,
        "sequence": tuple(sequence) if sequence else None, "position": position,
        "links": links, "gate": gate, "payload": payload, "facets": tuple(facet) if facet else None,
        "shard": shard,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    if job is None:
        asked = {
            "--sync": sync or None, "--batch": batch, "--on-error": on_error, "--rejected": rejected
        }  # fmt: skip
        for option, value in asked.items():
            if value is not None:
                raise typer.BadParameter(f"{option} needs --job, under whose name it goes on")
    elif rejected is not None and on_error != "skip":
        raise typer.BadParameter("--rejected needs --on-error skip")
    wanted = _wanted(sources, query, format_)
    opened, source, fields, lexical = _open(
        store, wanted, embedder, chosen, skip=on_error == "skip"
    )
    report: IngestReport | JobReport
    with opened, bars() as progress:
        if job is None:
            report = opened.ingest(source, fields=fields, progress=progress)
        else:
            report = opened.ingest_job(
                source, name=job, sync=sync, batch=batch or 1000, on_error=on_error or "stop",
                rejected=rejected, fields=fields, progress=progress,
            )  # fmt: skip
    if lexical and report.added:
        note(
            "the vectors come from the embedder 'hash', which is lexical: it sees words and their "
            "spelling, not their meaning; --embedder names another one"
        )
    if isinstance(report, JobReport):
        if as_json:
            print_json({"store": str(store), **asdict(report)})
        else:
            print_job(report, str(store), rejected)
    elif as_json:
        print_json({"store": str(store), **report_document(report)})
    else:
        print_report(report, str(store))


def _wanted(
    sources: list[str] | None, query: str | None, format_: Literal["jsonl", "csv", "arrow"]
) -> object:
    """Give what was asked for as the engine takes it."""
    from oscillink_store.engine.sources import Query, Stream

    if (query is None) == (not sources):
        raise typer.BadParameter("name the SOURCE, or pass a query with --sql")
    if query is not None:
        return Query(query)
    if sources and _STDIN in sources:
        if len(sources) > 1:
            raise typer.BadParameter("- (standard input) stands alone")
        return Stream(sys.stdin.buffer, format_)
    return sources


def _open(
    store: Path, wanted: object, embedder: str | None, chosen: dict[str, Any], *, skip: bool
) -> "tuple[Store, Source, Fields, bool]":
    """Give the store, the source, the fields to read with, and whether ``hash`` was chosen."""
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
    source = open_source(wanted, fields, skip=skip)
    first = source.peek()
    without = first is not None and fields.vector not in first.data.schema.names
    if recorded and without and embedder is None:
        remedy = "the source needs a column of vectors" if of is None else f"pass --embedder {of}"
        raise EmbedderError(
            f"{store}: the rows have no column {fields.vector!r} and the store's vectors come from "
            f"{of or 'outside'}: {remedy}"
        )
    lexical = embedder is None and without
    opened = connect(
        store, embedder="hash" if lexical else embedder, fields=fields, key=sealing_key()
    )
    return opened, source, fields, lexical


def report_document(report: IngestReport | GateReport) -> dict[str, Any]:
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
