"""``cluster``: many stores behind one catalogue, filled by placement and searched as one."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.asking import Count, Question, Vector, Where, read_vector
from oscillink_store.cli.console import bars, note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson, size
from oscillink_store.cli.opening import sealing_key
from oscillink_store.cli.search_command import hit_table

if TYPE_CHECKING:
    from oscillink_store.cluster.cluster import Cluster
    from oscillink_store.many.result import ManyResult
    from oscillink_store.reports import ClusterReport

__all__ = ["cluster"]

ClusterPath = Annotated[Path, typer.Argument(metavar="CLUSTER", help="The cluster's folder.")]
ExecutorName = Annotated[
    str,
    typer.Option(help="Where shards are worked on: serial, processes, processes:N or ray."),
]
EmbedderName = Annotated[
    str | None, typer.Option(help="hash, model2vec:MODEL or sentence-transformers:MODEL.")
]

cluster = typer.Typer(help="Many stores behind one catalogue: fill them, search them as one.")


def _opened(path: Path, executor: str, embedder: str | None = None) -> "Cluster":
    from oscillink_store.cluster.opening import connect_cluster

    return connect_cluster(path, executor=executor, embedder=embedder, key=sealing_key())


def create(
    path: ClusterPath,
    shards: Annotated[int, typer.Option(min=1, help="How many stores rows are placed in.")] = 8,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Rows with one value here stay together. [dim]\\[id][/dim]"
        ),
    ] = None,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Make an empty cluster, whose rows are placed by a column such as a tenant or a document."""
    from oscillink_store.cluster.opening import create_cluster

    with create_cluster(path, shards=shards, by=by, embedder=embedder) as made:
        placement = made.catalogue().placement
        assert placement is not None
        told = {"cluster": str(path), "shards": placement.shards, "by": placement.by}
    if as_json:
        print_json(told)
    else:
        show(f"{path}: {told['shards']} empty shards, rows are placed by {told['by']!r}")


def ingest(
    path: ClusterPath,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="Files or quoted globs: .jsonl, .csv, .tsv, .parquet, .arrow."
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Rows that are placed at a time.")] = 20_000,
    executor: ExecutorName = "processes",
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Add rows, each to the shard that its column says; run it again to go on after a failure."""
    with _opened(path, executor, embedder) as opened, bars() as progress:
        report = opened.ingest(sources, batch=batch, progress=progress)
    if as_json:
        print_json({"cluster": str(path), **asdict(report)})
    else:
        _print_report(report, str(path))


def _print_report(report: "ClusterReport", name: str) -> None:
    from rich.table import Table

    show(f"{name}, {report.rows:,} rows", style="italic", wrap=False)
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    for kind in ("added", "updated", "unchanged", "moved"):
        table.add_row(kind, f"{getattr(report, kind):,}")
    table.add_row("now in all", f"{sum(report.anchors.values()):,}")
    table.add_row("seconds", f"{report.seconds:.2f}")
    show(table)


def search(
    path: ClusterPath,
    question: Question = None,
    k: Count = 5,
    where: Where = None,
    vector: Vector = None,
    label: Annotated[str | None, typer.Option(help="A note to keep in the receipts.")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds; shards that take longer are left out.")
    ] = None,
    executor: ExecutorName = "serial",
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Search all shards as if they were one store; those that fail are named."""
    psi = read_vector(vector)
    with _opened(path, executor, embedder) as opened:
        result = opened.search(question, vector=psi, k=k, where=where, label=label, timeout=timeout)
    for left in result.missing:
        note(f"{left.store} was left out of the search: {left.reason}")
    if as_json:
        print_json(_document(question, where, result))
        return
    if not result.hits:
        show("No anchor matches.")
    else:
        show(hit_table(result, question))
    receipt = result.receipt
    delta_h = "none" if receipt.delta_h is None else f"{receipt.delta_h:.4g}"
    asked = len(result.parts) + len(result.missing)
    show(
        f"receipt {receipt.id}: {len(result)} hits, {len(result.parts)} of {asked} shards "
        f"answered, ΔH {delta_h}, {result.seconds * 1000:.1f} ms",
        style="dim",
    )


def _document(question: str | None, where: str | None, result: "ManyResult") -> dict[str, Any]:
    receipt = result.receipt
    return {
        "question": question,
        "where": where,
        "seconds": result.seconds,
        "hits": [asdict(hit) for hit in result],
        "missing": {left.store: left.reason for left in result.missing},
        "receipt": {
            "id": receipt.id,
            "hash": receipt.hash,
            "content_hash": receipt.content_hash,
            "delta_h": receipt.delta_h,
            "parts": {name: part.hash for name, part in result.parts.items()},
        },
    }


def verify(
    path: ClusterPath, executor: ExecutorName = "processes", as_json: AsJson = False
) -> None:
    """Verify every shard, and that each row is in the shard where it belongs.

    Ends with exit code 1 when anything is not what was written.
    """
    with _opened(path, executor) as opened:
        report = opened.verify()
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        read = [each for each in report.shards.values() if each is not None]
        checked = (
            f"{len(report.shards)} shards: {sum(each.files for each in read):,} files "
            f"({size(sum(each.bytes for each in read))}), "
            f"{sum(each.receipts for each in read) + report.receipts:,} receipts"
        )
        if report.ok:
            show(f"whole: {checked}", style="green")
        else:
            show(f"damaged: {checked}", style="bold red")
            for problem in report.problems:
                show(f"  {problem}", wrap=False)
    if not report.ok:
        raise typer.Exit(1)


def resize(
    path: ClusterPath,
    shards: Annotated[int, typer.Argument(metavar="SHARDS", min=1, help="How many from now on.")],
    executor: ExecutorName = "processes",
    as_json: AsJson = False,
) -> None:
    """Share the rows out anew; only those move that must. Run it again if it was interrupted."""
    with _opened(path, executor) as opened:
        report = opened.resize(shards)
    if as_json:
        print_json({"cluster": str(path), **asdict(report)})
    else:
        show(
            f"{path}: {report.moved:,} of {sum(report.anchors.values()):,} anchors moved, "
            f"{shards} shards now"
        )


def stats(path: ClusterPath, executor: ExecutorName = "serial", as_json: AsJson = False) -> None:
    """Show what a cluster holds, shard by shard."""
    with _opened(path, executor) as opened:
        figures = opened.stats()
    if as_json:
        print_json(figures)
        return
    from rich.table import Table

    placed = "by others" if figures["by"] is None else f"by {figures['by']}"
    show(f"{path}, {figures['anchors']:,} anchors, placed {placed}", style="italic", wrap=False)
    if figures["resizing"] is not None:
        note(f"a resize to {figures['resizing']} shards was interrupted: run it again")
    table = Table(box=None)
    table.add_column("shard", style="bold")
    for heading in ("anchors", "edges", "generation", "size"):
        table.add_column(heading, justify="right")
    for name, each in figures["stores"].items():
        table.add_row(
            name,
            f"{each['anchors']:,}",
            f"{sum(each['edges'].values()):,}",
            str(each["generation"]),
            size(sum(each["bytes"].values())),
        )
    show(table)


_EXAMPLES: dict[Callable[..., None], str] = {
    create: "oscillink-store cluster create notes --shards 8 --by tenant --embedder hash",
    ingest: "oscillink-store cluster ingest notes 'export/*.jsonl' --executor processes:4",
    search: 'oscillink-store cluster search notes "who owned The Collegian?" --timeout 2',
    verify: "oscillink-store cluster verify notes",
    resize: "oscillink-store cluster resize notes 9",
    stats: "oscillink-store cluster stats notes",
}
for _command, _example in _EXAMPLES.items():
    cluster.command(epilog=f"Example: [bold]{_example}[/bold]")(_command)
