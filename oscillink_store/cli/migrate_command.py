"""``migrate``: a store of an earlier format brought to that of this release."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from oscillink_store.cli.console import bars, note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson, StorePath, size
from oscillink_store.cli.opening import require_store
from oscillink_store.reports import MigrationReport

__all__ = ["migrate"]


def migrate(
    store: StorePath,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell what would be done and change nothing."),
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="First copy the store to a new folder, with hard links where that is safe: "
            "what an earlier release can open again.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a store of an earlier format to the one that this release writes.

    Until then it can be searched but not written to. Stopped anywhere, it is as before or
    done; run it again to go on. The generation before stays readable under a tag.
    """
    from oscillink_store.engine.migrate import migrate as migrate_store

    require_store(store)
    with bars() as progress:
        report = migrate_store(store, dry_run=dry_run, backup=backup, progress=progress)
    if as_json:
        print_json({"store": str(store), **asdict(report)})
    elif not report.steps:
        show(f"nothing to do: {store} has format version {report.after}", wrap=False)
    else:
        _tell(store, report)


def _tell(store: Path, report: MigrationReport) -> None:
    done = "would go" if report.dry_run else "went"
    show(f"{store} {done} from format version {report.before} to {report.after}:", wrap=False)
    for step in report.steps:
        show(f"  {step}")
    work = f"{report.rows:,} rows, {size(report.bytes)}"
    if report.dry_run:
        show(f"{work} to work through; nothing was changed")
    else:
        show(f"generation {report.generation}: {work} worked through, {report.seconds:.2f} s")
        for tag in report.tags:
            show(
                f"the generation before is kept; give it up with: "
                f"oscillink-store tag {store} {tag} --delete",
                wrap=False,
            )
    if report.backup is not None:
        show(f"backup: {report.backup}; to go back, put it in the place of {store}", wrap=False)
    elif report.dry_run:
        note("only a copy can be opened by an earlier release again: --backup DIR makes one")
    else:
        note("there is no backup: an earlier release cannot open the store any more")
