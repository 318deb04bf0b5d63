"""What upkeep costs: batches, single upserts and deletions into stores of several sizes.

    python benchmarks/ingest.py [--sizes 10000,30000,100000,300000] [--batch 1000]
        [--anchors 100000] [--upserts 2000] [--json FILE] [--plots DIR] [--skip-lancedb]

For each size a store is built from nothing, takes some batches, and a store of that size and
one batch is built from nothing for comparison. The other figures are taken at ``--anchors``:
a batch beside LanceDB's add and optimize of the same rows (vector and text index caught up);
single upserts, half of them new, with memory and search latency along the way; searches over
uncompacted corrections beside the folded store; deletions. Rows come with vectors
(see rows.py), so that nothing is embedded. Everything is durable when its time is taken.

Overhead of a batch is its wall time without k-NN and embedding. Latencies of two stores are
measured in turn, so that a drift of the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ingest_report
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from common import clone, in_process, interleaved, medians
from rich.console import Console
from rich.progress import track
from rows import Rows, question_sample
from single_upserts import single_upserts, state

import oscillink_store as osc
from oscillink_store.lattice.relations import knn, link, mention, sequence, shared

RELATIONS = {"next": sequence, "mention": mention, "link": link, "shared": shared, "knn": knn}


@contextmanager
def relations_timed() -> Iterator[dict[str, float]]:
    """Add up the seconds that the block spends in the upkeep of each relation."""
    seconds = dict.fromkeys(RELATIONS, 0.0)

    def timed(name: str, update: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return update(*arguments, **options)
            finally:
                seconds[name] += time.perf_counter() - started

        return run

    originals = {name: module.update for name, module in RELATIONS.items()}
    for name, module in RELATIONS.items():
        module.update = timed(name, module.update)
    try:
        yield seconds
    finally:
        for name, module in RELATIONS.items():
            module.update = originals[name]


def ingest_timed(store: osc.Store, rows: Any) -> dict[str, float]:
    """Ingest as one commit; seconds of its stages."""
    with relations_timed() as relations:
        started = time.perf_counter()
        report = store.ingest(rows)
        wall = time.perf_counter() - started
    stages = report.seconds
    besides = {f"relation {name}": value for name, value in relations.items() if name != "knn"}
    return {
        "wall": wall,
        "k-NN": relations["knn"],
        "read": stages["read"],
        "embed": stages["embed"],
        "lattice besides k-NN": stages["lattice"] - relations["knn"],
        "commit": stages["commit"],
        "overhead": wall - relations["knn"] - stages["embed"],
        **besides,
    }


def build(path: Path, rows: pa.Table) -> dict[str, float]:
    with osc.connect(path) as store:
        return ingest_timed(store, rows)


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def typical(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians of each figure."""
    return rounded({name: statistics.median(run[name] for run in runs) for name in runs[0]})


class Bench:
    """A folder with stores built from nothing, each once."""

    def __init__(self, folder: Path, rows: Rows, batch: int, console: Console) -> None:
        self.folder, self.rows, self.batch, self.console = folder, rows, batch, console
        self.built: dict[int, dict[str, float]] = {}
        self._copies = 0

    def base(self, anchors: int) -> Path:
        """The store of the first rows; it is not to be changed."""
        path = self.folder / f"{anchors}.osc"
        if anchors not in self.built:
            table = self.rows.table(0, anchors)
            with self.console.status(f"{anchors:,} anchors: building from nothing"):
                self.built[anchors] = build(path, table)
        return path

    def copy(self, anchors: int) -> Path:
        """A copy of that store."""
        self._copies += 1
        return clone(self.base(anchors), self.folder / f"copy-{self._copies}.osc")

    def batches(self, first: int, count: int) -> list[pa.Table]:
        """Rows that follow the first ones, batch by batch."""
        table = self.rows.table(first, count * self.batch)
        return [table.slice(start, self.batch) for start in range(0, len(table), self.batch)]

    def numbers(self, anchors: int, count: int) -> npt.NDArray[np.int64]:
        """Distinct numbers of rows in a store, shuffled."""
        rng = np.random.default_rng(23)
        return rng.permutation(anchors)[:count].astype(np.int64)


def batch_cost(bench: Bench, anchors: int, count: int) -> dict[str, Any]:
    """Batches into a store of some size, beside building that store with one batch from nothing."""
    path = bench.copy(anchors)
    batches = bench.batches(anchors, count)
    with osc.connect(path) as store:
        title = f"{anchors:,} anchors: batches"
        runs = [
            ingest_timed(store, rows)
            for rows in track(batches, title, console=bench.console, transient=True)
        ]
        after = state(store)
    table = bench.rows.table(0, anchors + bench.batch)
    with bench.console.status(f"{table.num_rows:,} anchors: building from nothing"):
        whole = build(bench.folder / f"whole-{anchors}.osc", table)
    batch = typical(runs)
    return {
        "anchors": anchors,
        "build": rounded(bench.built[anchors]),
        "build with one batch more": rounded(whole),
        "batch": batch,
        "slowest batch": round(max(run["wall"] for run in runs), 4),
        "largest overhead": round(max(run["overhead"] for run in runs), 4),
        "batch / build": round(batch["wall"] / whole["wall"], 4),
        "batches": [rounded(run) for run in runs],
        "after the batches": after,
    }


def beside_lancedb(bench: Bench, anchors: int, count: int) -> dict[str, Any]:
    """Batches into a store and a LanceDB table of the same rows, in turn, until searchable."""
    import lancedb_peer

    folder = bench.folder / "lancedb"
    with bench.console.status(f"{anchors:,} anchors: LanceDB indices"):
        seconds = lancedb_peer.build(folder, bench.rows.table(0, anchors))
        peer = lancedb_peer.LanceDb(folder)
    ours, theirs, found = [], [], []
    with osc.connect(bench.copy(anchors)) as store:
        title = f"{anchors:,} anchors: batches beside LanceDB"
        batches = bench.batches(anchors, count)
        for rows in track(batches, title, console=bench.console, transient=True):
            ours.append(ingest_timed(store, rows)["wall"])
            started = time.perf_counter()
            peer.add(rows)
            theirs.append(time.perf_counter() - started)
            newest = rows.slice(rows.num_rows - 1).to_pylist()[0]
            both = (
                newest["id"] in store.search(vector=newest["vector"], k=10).ids,
                int(newest["id"][1:]) in peer.near(newest["vector"]),
            )
            found.append(both)
    return {
        "anchors": anchors,
        "LanceDB build seconds": round(seconds, 2),
        "seconds": round(statistics.median(ours), 3),
        "LanceDB seconds": round(statistics.median(theirs), 3),
        "ours / LanceDB": round(statistics.median(ours) / statistics.median(theirs), 3),
        "newest row found": [sum(mine for mine, _ in found), sum(its for _, its in found)],
        "all seconds": [round(value, 3) for value in ours],
        "all LanceDB seconds": [round(value, 3) for value in theirs],
    }


def over_corrections(bench: Bench, anchors: int, least: int, searches: int) -> dict[str, Any]:
    """Searches over a store with uncompacted corrections beside its folded copy, in turn."""
    path = bench.copy(anchors)
    step = 50
    with osc.connect(path) as store:
        replaced = bench.numbers(anchors, 20 * step)
        for at in range(0, len(replaced) - step + 1, step):
            if store.stats()["corrections"] >= least:
                break
            rows = bench.rows.table(anchors + at, step)
            # half of them in place of rows that are there
            ids = rows["id"].to_pylist()
            ids[::2] = [f"d{number}" for number in replaced[at : at + step : 2].tolist()]
            store.ingest(rows.set_column(0, "id", pa.array(ids)))
    folded_path = clone(path, bench.folder / "folded.osc")
    texts, psi = question_sample(bench.rows, anchors, searches)
    with osc.connect(path) as store, osc.connect(folded_path) as folded:
        began = time.perf_counter()
        folded.maintain()
        seconds = time.perf_counter() - began
        calls: dict[str, Callable[[int], object]] = {
            "with corrections": lambda i: store.search(texts[i], vector=psi[i], k=10),
            "folded": lambda i: folded.search(texts[i], vector=psi[i], k=10),
        }
        taken = medians(interleaved(calls, searches, bench.console))
        same = sum(
            store.search(texts[i], vector=psi[i]).ids == folded.search(texts[i], vector=psi[i]).ids
            for i in range(searches)
        )
        return {
            "anchors": anchors,
            "corrections": store.stats()["corrections"],
            "median ms": taken,
            "with corrections / folded": round(taken["with corrections"] / taken["folded"], 3),
            "searches": searches,
            "same answers": same,
            "maintain seconds": round(seconds, 3),
            "state": state(store),
            "state when folded": state(folded),
        }


def deletions(bench: Bench, anchors: int) -> dict[str, Any]:
    """Delete as many anchors as a batch has, by id, then those of one tenant."""
    numbers = bench.numbers(anchors, min(bench.batch, anchors // 10))
    with osc.connect(bench.copy(anchors)) as store:
        started = time.perf_counter()
        by_id = store.delete([f"d{number}" for number in numbers.tolist()])
        middle = time.perf_counter()
        by_where = store.delete(where="tenant = 7")
        return {
            "anchors": anchors,
            "by id": {"deleted": by_id.deleted, "seconds": round(middle - started, 3)},
            "by predicate": {
                "deleted": by_where.deleted,
                "seconds": round(time.perf_counter() - middle, 3),
            },
        }


def measure(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    bench = Bench(folder, Rows(), arguments.batch, console)
    warm = build(folder / "warm.osc", bench.rows.table(0, 100))  # kernels are loaded from here on
    console.print(f"first store of this process: {warm['wall']:.1f} s", highlight=False)
    figures: dict[str, Any] = {"batch": arguments.batch, "sizes": []}
    for anchors in map(int, arguments.sizes.split(",")):
        figures["sizes"].append(batch_cost(bench, anchors, arguments.batches))
        ingest_report.print_size(figures["sizes"][-1], arguments.batch, console)
    anchors = arguments.anchors
    if not arguments.skip_lancedb:
        figures["beside LanceDB"] = beside_lancedb(bench, anchors, arguments.batches)
        ingest_report.print_figures(
            "a batch, searchable and durable", figures["beside LanceDB"], console
        )
    figures["corrections"] = over_corrections(bench, anchors, 5000, arguments.searches)
    ingest_report.print_figures("search over corrections", figures["corrections"], console)
    figures["deletions"] = deletions(bench, anchors)
    ingest_report.print_figures("deletions", figures["deletions"], console)
    run = in_process(
        single_upserts, bench.copy(anchors), bench.copy(anchors), anchors, arguments.upserts,
        arguments.searches, title="single upserts", console=console,
    )  # fmt: skip
    figures["single upserts"] = {**run.result, "memory": run.memory()}
    ingest_report.print_figures("single upserts", figures["single upserts"], console)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", default="10000,30000,100000,300000", help="comma-separated")
    parser.add_argument("--batch", type=int, default=1000, help="rows in a batch")
    parser.add_argument("--batches", type=int, default=7, help="batches into each store")
    parser.add_argument("--anchors", type=int, default=100_000, help="size for all other figures")
    parser.add_argument("--upserts", type=int, default=2000)
    parser.add_argument("--searches", type=int, default=100, help="per median")
    parser.add_argument("--skip-lancedb", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plots", type=Path, help="draw PNG files into this folder")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder), console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if arguments.plots:
        ingest_report.plot(figures, arguments.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
