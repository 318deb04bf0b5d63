"""``jobs``: what a store's ingest jobs did last."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from oscillink_store.cli.console import note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson, StorePath
from oscillink_store.cli.opening import open_existing

if TYPE_CHECKING:
    from oscillink_store.reports import JobReport

__all__ = ["jobs", "print_job"]

_COUNTS = ("added", "updated", "deleted", "unchanged", "rejected")


def jobs(store: StorePath, as_json: AsJson = False) -> None:
    """Show the newest run of each ingest job, and where one that was interrupted will go on."""
    with open_existing(store, read_only=True) as opened:
        found = opened.jobs()
    if as_json:
        print_json([asdict(status) for status in found])
        return
    if not found:
        show(f"{store} has no jobs: oscillink-store ingest {store} SOURCE --job NAME starts one")
        return
    from rich.table import Table

    # on 80 columns names and times may take two lines, and nothing is cut short
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("job", style="bold", overflow="fold")
    table.add_column("run", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("read", justify="right", no_wrap=True)
    for heading in _COUNTS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("at", min_width=10)
    for status in found:
        table.add_row(
            status.name,
            str(status.run),
            "finished" if status.finished else "unfinished",
            f"{status.position:,}",
            *(f"{getattr(status, name):,}" for name in _COUNTS),
            f"{status.time:%Y-%m-%d %H:%M:%S}",
        )
    show(table)


def print_job(report: "JobReport", store: str, rejected: Any) -> None:
    """Print what a run of a job did."""
    from rich.table import Table

    title = f"{store}, job {report.name}, run {report.run}, generation {report.generation}"
    if report.resumed:
        title += " (went on where it was interrupted)"
    show(title, style="italic", wrap=False)
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    for name in (*_COUNTS, "batches"):
        table.add_row(name, f"{getattr(report, name):,}")
    table.add_row("seconds", f"{report.seconds:.2f}")
    show(table)
    if report.rejected:
        where = f"{rejected} says why" if rejected else "--rejected FILE keeps them and says why"
        note(f"{report.rejected:,} rows were left out: {where}")
    if report.withheld:
        note(
            f"{report.withheld:,} anchors that the source does not hold were kept: they may be "
            "those of rejected rows whose id cannot be read"
        )
