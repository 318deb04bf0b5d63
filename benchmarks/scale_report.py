"""Tables and plots of benchmarks/scale.py."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import OURS, THEIRS, figure, save
from rich.console import Console
from rich.table import Table
from rows import DIMENSION

Line = tuple[str, str, str]


def title(figures: Mapping[str, Any]) -> str:
    kind = "of low rank, with much noise" if figures["hard"] else "clustered"
    return f"{figures['anchors']:,} anchors × {DIMENSION}, vectors {kind}"


def lines(figures: Mapping[str, Any]) -> list[Line]:
    """Figure, oscillink_store's, LanceDB's."""
    build, peer = figures["build"], figures["LanceDB build"]
    search, first = figures["search"], figures["first search"]
    stages, memory, knn = build["stages"], build["memory"], build["k-NN"]
    walls = [batch["wall"] for batch in figures["batches"]["seconds"]]
    told: list[Line] = [
        ("build, minutes", f"{stages['total'] / 60:.1f}", f"{peer['seconds'] / 60:.1f}"),
        *(
            (f"– {name}, minutes", f"{stages[name] / 60:.1f}", "")
            for name in ("read", "lattice", "commit")
        ),
        *(
            (f"build, {name.removesuffix(' MiB')}, GiB", f"{memory[name] / 1024:.2f}",
             f"{peer['memory'][name] / 1024:.2f}")
            for name in ("peak of all pages MiB", "peak of anonymous memory MiB")
        ),
        ("on disk, GiB", f"{build['disk']['MiB'] / 1024:.2f}", f"{peer['disk']['MiB'] / 1024:.2f}"),
        *(
            (f"– {name}, GiB", f"{size / 2**30:.2f}", "")
            for name, size in build["bytes"].items()
        ),
        ("edges per anchor", f"{build['edges per anchor']}", ""),
        *((f"– {name}", f"{count:,}", "") for name, count in build["edges"].items()),
    ]  # fmt: skip
    if knn:
        how = "exact" if knn["exact"] else "approximate"
        recall = f"{knn['recall']:.4f} ({how}, {knn['audited']} audited, k = {knn['neighbors']})"
        told.append(("recall of the k-NN relation", recall, ""))
    for name in filter(lambda name: name.startswith("search"), search["median ms"]):
        theirs = name.replace("search", "LanceDB hybrid", 1)
        for what, digits in (("median ms", 1), ("95th percentile ms", 1), ("recall@10", 4)):
            peers = f"{search[what][theirs]:.{digits}f}" if theirs in search[what] else ""
            told.append((f"{name}, {what}", f"{search[what][name]:.{digits}f}", peers))
    told += [(f"routing: {name}", f"{value:,}", "") for name, value in search["routing"].items()]
    return [
        *told,
        ("largest relative residual of a settle", f"{search['largest residual']:.1e}", ""),
        ("setting", "default", f"{search['LanceDB probes']} probes, refinement "
         f"{search['LanceDB refinement'] or 'none'}"),
        ("import, open, first search, seconds",
         f"{first['import, open, first search: median seconds']:.2f}", ""),
        ("memory besides mapped files after 200 searches, MiB",
         f"{first['anonymous memory MiB after 200 searches']}", ""),
        ("peak of the same over all questions, MiB",
         f"{figures['asking']['memory']['peak of anonymous memory MiB']}", ""),
        (f"a batch of {figures['batches']['rows']:,} more, seconds (median of {len(walls)})",
         f"{statistics.median(walls):.2f}", ""),
        ("– the first one, in a new process", f"{walls[0]:.2f}", ""),
    ]  # fmt: skip


def print_table(figures: Mapping[str, Any], console: Console) -> None:
    table = Table(title=title(figures))
    table.add_column("figure")
    table.add_column("oscillink_store", justify="right")
    table.add_column("LanceDB", justify="right")
    for line in lines(figures):
        table.add_row(*line)
    console.print(table)


def markdown(figures: Mapping[str, Any]) -> str:
    """The table as a page of its own."""
    command = f"python benchmarks/scale.py --anchors {figures['anchors']}"
    if figures["hard"]:
        command += " --hard"
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines(figures))
    return (
        f"# {title(figures)}\n\n`{command}`, {figures['queries']} questions, k = 10, both stores "
        "in turn in one process; the\nscript says how rows and questions are made. LanceDB's "
        "vector search has its fastest setting with\nrecall@10 of at least 0.95, if it has one.\n\n"
        f"| | oscillink_store | LanceDB |\n|---|---:|---:|\n{rows}\n"
    )


def plot(figures: Mapping[str, Any], folder: Path) -> None:
    """Draw ``scale_memory.png`` and ``scale_latency.png``."""
    drawn, axis = figure(size=(9, 4.5))
    for name, label, color in (
        ("build", "oscillink_store", OURS),
        ("LanceDB build", "LanceDB", THEIRS),
    ):
        seconds, mib = zip(*figures[name]["anonymous MiB over seconds"], strict=True)
        axis.plot(np.array(seconds) / 60, np.array(mib) / 1024, color=color, label=label)
    axis.set_xlabel("minutes")
    axis.set_ylim(bottom=0)
    axis.set_title(f"Build: memory that is not a file's, GiB; {title(figures)}", loc="left",
                   fontsize=11)  # fmt: skip
    axis.legend(frameon=False)
    save(drawn, folder / "scale_memory.png")

    drawn, axes = figure(1, 3, size=(13, 4.5))
    for axis, name in zip(axes, ("", ", 30 % filter", ", 1 % filter"), strict=True):
        for kind, color in (("search", OURS), ("LanceDB hybrid", THEIRS)):
            taken = np.sort(figures["search"]["all ms"][kind + name])
            axis.plot(taken, np.linspace(0, 1, len(taken)), color=color, label=kind)
        axis.set_xscale("log")
        axis.set_xlabel("ms")
        axis.set_title(f"share of searches done{name}", loc="left", fontsize=11)
        axis.legend(frameon=False)
    save(drawn, folder / "scale_latency.png")
