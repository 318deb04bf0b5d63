"""``gate``: how far anchors are to be trusted, set for many of them at once."""

from pathlib import Path
from typing import Annotated

import typer

from oscillink_store.cli.console import print_json, show
from oscillink_store.cli.ingest_command import report_document
from oscillink_store.cli.inspect_commands import AsJson, StorePath
from oscillink_store.cli.opening import open_existing

__all__ = ["gate"]


def gate(
    store: StorePath,
    value: Annotated[
        float | None, typer.Argument(metavar="VALUE", help="Their trust, 0 to 1.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="The anchors that satisfy a predicate over metadata."),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="An anchor; may be repeated.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A gate for each anchor: .csv, .jsonl, .parquet or .arrow with the columns id "
            "and gate.",
        ),
    ] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(
            "--shard", metavar="NODE", help="A shard or another summary node; may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far anchors are to be trusted, in one commit.

    What speaks for an anchor, and what flows through it to others, counts by its gate: 1 is
    full trust, which all have at first, 0 is none. The gate of a summary node counts for all
    anchors below it, besides their own.
    """
    if (value is None) == (file is None):
        raise typer.BadParameter("pass either VALUE, one for all, or --from with one for each")
    chosen = sum((bool(ids), where is not None, bool(shards)))
    if file is not None and chosen:
        raise typer.BadParameter(
            "--from names the anchors itself: leave out --id, --where and --shard"
        )
    if file is None and chosen != 1:
        raise typer.BadParameter("choose the anchors with one of --where, --id and --shard")
    with open_existing(store) as opened:
        report = opened.set_gates(
            value if file is None else file, ids=ids or None, where=where, shards=shards or None
        )
    if as_json:
        print_json({"store": str(store), **report_document(report)})
    else:
        show(
            f"generation {report.generation}: {report.changed:,} gates changed, "
            f"{report.unchanged:,} were so already"
        )
