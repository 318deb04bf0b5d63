"""A cluster on this machine: what executors bring, and whether the sizing arithmetic holds.

python benchmarks/cluster.py
python benchmarks/cluster.py --anchors 100000 --executors serial processes:2 --json figures.json

Eight shards are filled and searched by each executor, once its workers are warm. Then stores of
growing size are measured against what the arithmetic of docs/ray.md says of memory, and settles of
growing size against what it says of time. Set RAY_USAGE_STATS_ENABLED=0 to keep Ray from reporting.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
from common import memory_mib, milliseconds
from rich.console import Console
from rich.table import Table
from rows import DIMENSION, Rows, question_sample
from scipy.optimize import nnls

import oscillink_store as osc
from oscillink_store.cluster.executors import make_executor

SEARCHER = """
import json, sys
import numpy as np
import oscillink_store as osc
store = osc.connect(sys.argv[1], read_only=True)
for psi in np.load(sys.argv[2]):
    store.search("open a file for reading", vector=psi, k=10)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({name: int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}))
"""


def warm(store: Path, psi: Any) -> None:
    """Let a worker import, compile and open what it needs."""
    with osc.connect(store, read_only=True) as opened:
        opened.search("open a file", vector=psi)
    time.sleep(2.0)  # so that every worker takes one


def executors(options: argparse.Namespace, rows: Rows, console: Console) -> list[dict[str, Any]]:
    texts, psi = question_sample(rows, options.anchors, options.queries)
    told = []
    for name in options.executors:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            with osc.connect(root / "warm.osc") as store:
                store.ingest(rows.table(0, 200))
            executor, _ = make_executor(name)
            started = time.perf_counter()
            wait([executor.submit(warm, root / "warm.osc", psi[0]) for _ in range(2)])
            ready = time.perf_counter() - started - 2.0
            with osc.create_cluster(
                root / "cluster", shards=options.shards, by="tenant", executor=executor
            ) as cluster:
                report = cluster.ingest(rows.table(0, options.anchors), batch=options.batch)
                taken = [
                    milliseconds(lambda i=i: cluster.search(texts[i], vector=psi[i], k=10))
                    for i in range(-5, options.queries)
                ][5:]
                seconds = milliseconds(cluster.verify) / 1000
            executor.shutdown()
        told.append(
            {
                "executor": name,
                "workers ready s": round(ready, 1),
                "ingest s": round(report.seconds, 1),
                "anchors/s": round(report.added / report.seconds),
                "search median ms": round(statistics.median(taken), 1),
                "search 95 % ms": round(float(np.quantile(taken, 0.95)), 1),
                "verify s": round(seconds, 1),
            }
        )
        console.print(told[-1])
    return told


def memory(options: argparse.Namespace, rows: Rows) -> list[dict[str, Any]]:
    """Stores of one shard, by the bytes of their mapped segments and by those of a searcher."""
    _, psi = question_sample(rows, min(options.sizes), 30)
    told = []
    with tempfile.TemporaryDirectory() as folder:
        query = Path(folder) / "queries.npy"
        np.save(query, psi)
        for count in options.sizes:
            path = Path(folder) / f"{count}.osc"
            with osc.connect(path) as store:
                parameters = store.parameters
                store.ingest(rows.table(0, count))
                figures = store.stats()
            entries = 2 * sum(figures["edges"].values())
            lists = parameters.knn_neighbors + parameters.knn_spares
            predicted = {
                # float32 and a code of a byte per number; index, weight and relation per entry
                # of the lattice; index and similarity per neighbour that upkeep remembers
                "vectors": 5 * count * DIMENSION,
                "lattice": 9 * entries,
                "neighbours": 8 * count * lists,
            }
            command = [sys.executable, "-c", SEARCHER, str(path), str(query)]
            done = subprocess.run(command, check=True, capture_output=True)
            resident = json.loads(done.stdout)
            segments = figures["bytes"]["segments"]
            told.append(
                {
                    "anchors": count,
                    "edges/anchor": figures["edges_per_anchor"],
                    "predicted MiB": round(sum(predicted.values()) / 2**20, 1),
                    "segments MiB": round(segments / 2**20, 1),
                    "ratio": round(segments / sum(predicted.values()), 2),
                    "anchors.lance MiB": round(figures["bytes"]["anchors.lance"] / 2**20, 1),
                    "RssAnon MiB": round(resident["RssAnon"]),
                    "RssFile MiB": round(resident["RssFile"]),
                }
            )
    return told


def solves() -> list[dict[str, Any]]:
    """Settles, fitted as D · N · (iterations · (a + b · degree) + c + d · degree) seconds.

    The degree is entries per anchor; c and d are what the energy costs, once.
    """
    rng = np.random.default_rng(3)
    told = []
    for count, dimension, k, coherence in (
        (4000, 64, 8, 0.5), (16_000, 64, 8, 0.5), (4000, 384, 8, 0.5), (16_000, 384, 8, 0.5),
        (4000, 384, 16, 0.5), (16_000, 384, 16, 0.5), (16_000, 384, 32, 0.5),
        (4000, 384, 16, 50.0), (16_000, 384, 8, 50.0), (16_000, 384, 32, 50.0),
    ):  # fmt: skip
        Y = rng.standard_normal((count, dimension)).astype(np.float32)
        lattice = osc.Lattice(Y, kneighbors=k, parameters=osc.Parameters(coherence_term=coherence))
        taken = []
        for run in range(8):
            lattice.set_query(Y[run])
            taken.append(milliseconds(lattice.settle))
        settled = lattice.settle()
        entries = 2 * len(settled.pairs)
        told.append(
            {
                "anchors": count,
                "D": dimension,
                "entries/anchor": round(entries / count, 1),
                "λ_C": coherence,
                "iterations": settled.iterations,
                "least ms": round(min(taken[1:]), 1),
            }
        )
    ms = np.array([each["least ms"] for each in told])
    N, D, iterations, degree = (
        np.array([each[name] for each in told], float)
        for name in ("anchors", "D", "iterations", "entries/anchor")
    )
    work = np.stack(
        [N * D * iterations, N * D * iterations * degree, N * D, N * D * degree], axis=1
    )
    # least squares of the relative errors: small systems count as much as large ones
    slopes, _ = nnls(work / ms[:, None], np.ones(len(ms)))
    for each, predicted in zip(told, (work @ slopes).tolist(), strict=True):
        each["predicted ms"] = round(predicted, 1)
        each["measured / predicted"] = round(each["least ms"] / predicted, 2)
    for name, slope in zip(("a", "b", "c", "d"), slopes.tolist(), strict=True):
        told[0][f"{name} ns"] = round(1e6 * slope, 2)
    return told


def shown(title: str, told: list[dict[str, Any]]) -> Table:
    names = dict.fromkeys(name for each in told for name in each)
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    for each in told:
        table.add_row(*(str(each.get(name, "")) for name in names))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--anchors", type=int, default=40_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--executors", nargs="*", default=["serial", "processes:2", "ray:2"])
    parser.add_argument("--sizes", type=int, nargs="*", default=[5000, 10_000, 20_000, 40_000])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console(width=140)
    rows = Rows()
    rows.table(0, options.anchors)
    figures = {
        f"{options.shards} shards, {options.anchors:,} anchors": executors(options, rows, console),
        "Memory of one shard": memory(options, rows),
        "Settle": solves(),
    }
    for title, told in figures.items():
        console.print(shown(title, told))
    console.print(f"this process: {memory_mib('VmHWM'):,.0f} MiB at most")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
