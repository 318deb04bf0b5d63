"""Tables and plots of benchmarks/ingest.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import MUTED, OURS, THEIRS, WARM, figure, save
from rich.console import Console
from rich.table import Table


def print_size(figures: Mapping[str, Any], batch: int, console: Console) -> None:
    table = Table(title=f"{batch:,} new anchors into {figures['anchors']:,}, seconds")
    for name in ("stage", "batch (median)", "from nothing, with the batch"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, value in figures["batch"].items():
        whole = figures["build with one batch more"][name]
        style = "bold" if name in ("wall", "overhead") else None
        table.add_row(name, f"{value:.3f}", f"{whole:.2f}", style=style)
    console.print(table)
    for name in ("batch / build", "slowest batch", "largest overhead", "after the batches"):
        console.print(f"{name}: {figures[name]}", highlight=False)


def print_figures(title: str, figures: Mapping[str, Any], console: Console) -> None:
    """One line per figure; series are left to the plots."""
    table = Table(title=title, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    for name, value in _flat(figures):
        table.add_row(name, str(value))
    console.print(table)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}: ")
        elif not isinstance(value, list) or len(value) <= 10:
            lines.append((f"{prefix}{name}", value))
    return lines


def plot(figures: Mapping[str, Any], folder: Path) -> None:
    """Draw ``batch_cost.png`` and ``single_upserts.png``."""
    _plot_batches(figures, folder / "batch_cost.png")
    _plot_upserts(figures["single upserts"], folder / "single_upserts.png")


def _plot_batches(figures: Mapping[str, Any], path: Path) -> None:
    sizes = figures["sizes"]
    anchors = [size["anchors"] for size in sizes]
    drawn, (left, right) = figure(1, 2, size=(13, 5))
    whole = [size["build with one batch more"]["wall"] for size in sizes]
    left.plot(anchors, whole, "s--", color=MUTED, label="store from nothing")
    lines = (("wall", OURS, "o-"), ("k-NN", THEIRS, "o-"), ("overhead", WARM, "o-"))
    for name, color, marks in lines:
        left.plot(anchors, [size["batch"][name] for size in sizes], marks, color=color,
                  label="batch" if name == "wall" else f"batch: {name}")  # fmt: skip
        for size in sizes:
            each = [run[name] for run in size["batches"]]
            left.plot([size["anchors"]] * len(each), each, ".", color=color, alpha=0.3)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xticks(anchors, [f"{size:,}" for size in anchors])
    left.set_xticks([], minor=True)
    left.set_xlabel("anchors in the store")
    left.set_ylabel("seconds")
    left.set_title(f"A batch of {figures['batch']:,} new anchors", loc="left", fontsize=11)
    left.legend(frameon=False)
    stages = ("read", "relation next", "relation mention", "relation link", "relation shared",
              "commit")  # fmt: skip
    bottom = np.zeros(len(sizes))
    colors = ("#9aa5b1", "#c3ccd5", "#6c8ebf", "#d6b656", "#cc8478", "#2d7d46")
    for name, color in zip(stages, colors, strict=True):
        heights = np.array([1000 * size["batch"][name] for size in sizes])
        right.bar(range(len(sizes)), heights, 0.6, bottom=bottom, color=color, label=name)
        bottom += heights
    others = np.array([1000 * size["batch"]["overhead"] for size in sizes]) - bottom
    right.bar(range(len(sizes)), np.maximum(others, 0.0), 0.6, bottom=bottom, color="#e6e6e6",
              label="indices, records, other")  # fmt: skip
    right.set_xticks(range(len(sizes)), [f"{size:,}" for size in anchors])
    right.set_xlabel("anchors in the store")
    right.set_ylim(0, 1.5 * max(size["batch"]["overhead"] for size in sizes) * 1000)
    right.set_title("Its overhead (all but k-NN), ms, medians", loc="left", fontsize=11)
    right.legend(frameon=False, ncols=2, loc="upper left")
    save(drawn, path)


def _plot_upserts(figures: Mapping[str, Any], path: Path) -> None:
    drawn, (left, right) = figure(1, 2, size=(13, 4.5))
    taken = figures["ms of each upsert"]
    left.plot(range(1, len(taken) + 1), taken, ".", color=MUTED, markersize=3)
    width = min(len(taken), max(10, len(taken) // 40))
    middles = range(width, len(taken) + 1, width)
    rolling = [float(np.median(taken[at - width : at])) for at in middles]
    left.plot(list(middles), rolling, color=OURS, linewidth=2, label=f"median of {width}")
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.set_xlabel("upserts")
    left.set_title("One-row upserts, ms each", loc="left", fontsize=11)
    left.legend(frameon=False)
    done, mib = zip(*figures["memory over upserts"], strict=True)
    right.plot(done, mib, "o-", color=OURS)
    right.set_ylim(0, 1.2 * max(mib))
    right.set_xlabel("upserts")
    right.set_title("Memory that is not a file's, MiB", loc="left", fontsize=11)
    save(drawn, path)
