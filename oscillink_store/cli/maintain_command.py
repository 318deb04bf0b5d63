"""``maintain``, ``delete`` and ``tag``: a store kept tidy, smaller, and as it was."""

from dataclasses import asdict
from typing import Annotated

import typer

from oscillink_store.cli.console import bars, print_json, show
from oscillink_store.cli.ingest_command import report_document
from oscillink_store.cli.inspect_commands import AsJson, StorePath, size
from oscillink_store.cli.opening import open_existing

__all__ = ["delete", "maintain", "tag"]


def maintain(
    store: StorePath,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="When files of the live generation are damaged, first go back to the newest "
            "whole one; what came after it is lost.",
        ),
    ] = False,
    divide: Annotated[
        bool, typer.Option("--divide", help="Divide the store into shards, whatever its size.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fold, merge and compact what many batches left behind, and remove what nobody needs.

    The content stays the same. Searches go on meanwhile; stopping it does no harm.
    """
    with open_existing(store) as opened, bars() as progress:
        report = opened.maintain(repair=repair, divide=divide, progress=progress)
    if as_json:
        print_json({"store": str(store), **asdict(report)})
        return
    if report.repaired is not None:
        show(f"went back to generation {report.repaired}, the newest whole one", style="yellow")
    change = f"{size(abs(report.bytes))} {'larger' if report.bytes < 0 else 'smaller'}"
    show(
        f"generation {report.generation}: {report.corrections:,} corrections folded, "
        f"{report.slots:,} slots taken back, {report.parts:,} parts merged, "
        f"{report.files:,} files removed, {change}, {report.seconds:.2f} s"
    )


def delete(
    store: StorePath,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="The anchors to delete.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Delete those that satisfy a predicate over metadata."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete anchors by id, or by a predicate, in one commit."""
    if not ids and where is None:
        raise typer.BadParameter("name anchors by their ids, or choose them with --where")
    if ids and where is not None:
        raise typer.BadParameter("pass either ids or --where")
    with open_existing(store) as opened:
        report = opened.delete(ids, where=where) if ids else opened.delete(where=where)
    if as_json:
        print_json({"store": str(store), **report_document(report)})
    else:
        show(
            f"generation {report.generation}: {report.deleted:,} anchors deleted, "
            f"{report.anchors:,} left"
        )


def tag(
    store: StorePath,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The tag; without one, all are listed.")
    ] = None,
    generation: Annotated[
        int | None, typer.Option(metavar="N", help="The generation to keep. [dim]\\[live][/dim]")
    ] = None,
    receipt: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Keep the generation of this receipt, for a replay."),
    ] = None,
    remove: Annotated[bool, typer.Option("--delete", help="Give the tag up.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a generation under a name, so that it can be read later; or list the tags."""
    given = [option for option in (generation, receipt, remove or None) if option is not None]
    if name is None and given:
        raise typer.BadParameter("name the tag")
    if len(given) > 1:
        raise typer.BadParameter("pass one of --generation, --receipt and --delete")
    with open_existing(store, read_only=name is None) as opened:
        if name is not None and remove:
            opened.untag(name)
        elif name is not None:
            if receipt is not None:
                generation = opened.receipt(receipt).generation
            generation = opened.tag(name, generation)
        tags = opened.tags()
    if as_json:
        print_json({"store": str(store), "tags": tags})
    elif name is None:
        for known, kept in tags.items():
            show(f"{known}  generation {kept}", wrap=False)
        if not tags:
            show(f"{store} has no tags")
    elif remove:
        show(f"tag {name} is gone")
    else:
        show(f"tag {name} keeps generation {generation}")
