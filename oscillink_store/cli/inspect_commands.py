"""``stats`` and ``verify``: what a store holds, and whether it still holds what was written."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from oscillink_store.cli.console import bars, print_json, show
from oscillink_store.cli.opening import open_existing, require_store, sealing_key
from oscillink_store.reports import VerifyReport

__all__ = ["AsJson", "StorePath", "size", "stats", "verify"]

StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and no more.")]


def stats(store: StorePath, as_json: AsJson = False) -> None:
    """Show what a store holds: anchors, edges of each relation, columns, sizes."""
    with open_existing(store, read_only=True) as opened:
        figures = opened.stats()
    if as_json:
        print_json(figures)
        return
    from rich.table import Table

    table = Table(title=str(store), title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _shown(name, value))
    show(table)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, dict):
        unit = size if name == "bytes" else _number
        return ", ".join(f"{key} {unit(item)}" for key, item in value.items()) or "none"
    return _number(value)


def _number(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def size(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def verify(store: StorePath, as_json: AsJson = False) -> None:
    """Check every checksum of the live generation and every chain of receipts.

    Ends with exit code 1 when anything is not what was written.
    """
    # not opened first: a store without a whole generation left is to be looked at too
    from oscillink_store.engine.verify import verify as verify_store

    require_store(store)
    key = sealing_key()
    with bars() as progress:
        report = verify_store(store, progress, None if key is None else {key.id: key})
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        checked = (
            f"generation {report.generation}: {report.files:,} files ({size(report.bytes)}), "
            f"{report.receipts:,} receipts{_sealed(report)}"
        )
        if report.ok:
            show(f"whole: {checked}", style="green")
        else:
            show(f"damaged: {checked}", style="bold red")
            for problem in report.problems:
                show(f"  {problem}", wrap=False)
    if not report.ok:
        raise typer.Exit(1)


def _sealed(report: VerifyReport) -> str:
    """What became of the macs of receipts, if there are any."""
    told = []
    if report.sealed:
        told.append(f"{report.sealed:,} checked with the key")
    if report.unchecked:
        told.append(f"{report.unchecked:,} sealed with a key, which --key would check")
    if told and report.unsealed:
        told.append(f"{report.unsealed:,} not sealed")
    return f" ({', '.join(told)})" if told else ""
