"""A million anchors: what the build takes, and searches beside LanceDB's on the same rows.

    python benchmarks/scale.py [--anchors 1000000] [--hard] [--queries 200] [--json FILE]
        [--plots DIR] [--markdown FILE] [--folder DIR]

The rows (see rows.py) go to a Parquet file a few thousand at a time. Both stores are built from
that file, each in one run in a process of its own whose memory is watched. Vectors are as models
of text give them: 4,000 clusters of unequal size in 64 fields, each of 30 intrinsic dimensions,
and noise (``rows.Clustered``); with ``--hard`` they are of low rank with much noise and no
clusters (``rows.LowRank``), which is hard for partitioned indices. A question is six words of a
row's text and its vector with noise of length 0.4 (``--hard``: 1.0).

Both answer the same questions in turn. LanceDB has an IVF_RQ vector index, a full-text index and
its reciprocal-rank reranker, with the fastest setting of its vector search (probes, refinement)
that reaches recall@10 of 0.95 against exact search. Recall of the store is that of its dense
candidates; recall of its k-NN relation is audited at the build and kept in the manifest.

A store so large is divided into shards, and searches without a filter are routed to some; in
turn with these the same searches look at all shards (``route=False``). What routed searches
visit are the anchors of their shards and those that the lattice leads to, or all, where it leads
away from the shards. Memory is watched while a process of its own asks all questions.

With ``--folder`` rows, stores and figures of finished stages stay there, and a further run goes
on from them.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb_peer
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scale_report
from common import (
    Report,
    Run,
    clone,
    first_search,
    in_process,
    interleaved,
    medians,
    on_disk,
    recall,
)
from pyarrow import parquet
from rich.console import Console
from rich.progress import track
from rows import Rows, questions, vectors_of

import oscillink_store as osc
from oscillink_store.engine.candidates import dense_matches
from oscillink_store.engine.route import route
from oscillink_store.engine.snapshot import Snapshot

FILTERS = {"": None, ", 30 % filter": "bucket < 3", ", 1 % filter": "tenant = 7"}
WHOLE = "search of all shards"
REFINEMENTS = (0, 4, 16)
BATCH, BATCHES = 1000, 3


def write_rows(path: Path, anchors: int, hard: bool, console: Console) -> dict[str, Any]:
    rows = Rows(hard=hard)
    # codecs do nothing for vectors but take time
    options = {"use_dictionary": False, "compression": dict.fromkeys(("title", "text"), "zstd")}
    with parquet.ParquetWriter(path, rows.schema, **options) as writer:
        size = 20_000
        steps = -(-anchors // size)
        batches = rows.batches(anchors, size)
        for batch in track(batches, "rows", total=steps, console=console, transient=True):
            writer.write_batch(batch)
    return {"anchors": anchors, "hard": hard}


def exact_tops(
    path: Path, psi: npt.NDArray[np.float32], console: Console, k: int = 10
) -> dict[str, list[set[int]]]:
    """By filter, the numbers of the k rows of each query's largest inner products."""
    best = {name: np.full((len(psi), k), -np.inf, np.float32) for name in FILTERS}
    number = {name: np.full((len(psi), k), -1, np.int64) for name in FILTERS}
    first = 0
    with parquet.ParquetFile(path) as file:
        batches = file.iter_batches(20_000, columns=["vector", "bucket", "tenant"])
        total = -(-file.metadata.num_rows // 20_000)
        for batch in track(batches, "exact", total=total, console=console, transient=True):
            similar = psi @ vectors_of(batch).T
            passes = {
                "": np.ones(batch.num_rows, np.bool_),
                ", 30 % filter": batch["bucket"].to_numpy() < 3,
                ", 1 % filter": batch["tenant"].to_numpy() == 7,
            }
            for name, mask in passes.items():
                rows = np.flatnonzero(mask)
                values = np.hstack([best[name], similar[:, rows]])
                numbers = np.hstack([number[name], np.tile(first + rows, (len(psi), 1))])
                order = np.argpartition(-values, k - 1, axis=1)[:, :k]
                best[name] = np.take_along_axis(values, order, axis=1)
                number[name] = np.take_along_axis(numbers, order, axis=1)
            first += batch.num_rows
    return {name: [set(row.tolist()) for row in found] for name, found in number.items()}


# what runs in processes of its own


def build_store(path: Path, rows: Path, report: Report) -> dict[str, Any]:
    with osc.connect(path) as store:
        ingested = store.ingest(str(rows), progress=report)
        stats = store.stats()
    return {
        "stages": dict(ingested.seconds),
        "edges": dict(ingested.edges),
        "edges per anchor": stats["edges_per_anchor"],
        "k-NN": stats.get("knn", {}),
        "bytes": stats["bytes"],
        "disk": on_disk(path),
    }


def build_peer(path: Path, rows: Path, report: Report) -> dict[str, Any]:
    report("rows and indices", 0, None)
    with parquet.ParquetFile(rows) as file:
        batches = file.iter_batches(20_000)
        seconds = lancedb_peer.build(
            path, pa.RecordBatchReader.from_batches(file.schema_arrow, batches)
        )
    return {"seconds": round(seconds, 1), "disk": on_disk(path)}


def ask(
    path: Path, texts: list[str], psi: npt.NDArray[np.float32], report: Report
) -> dict[str, Any]:
    """Every question in turn, as it comes."""
    with osc.connect(path) as store:
        for place, text in enumerate(texts):
            report("questions", place, len(texts))
            store.search(text, vector=psi[place], k=10)
    return {}


def add_batches(path: Path, anchors: int, hard: bool, report: Report) -> list[dict[str, float]]:
    """A few batches of new rows, one commit each; seconds of their stages."""
    rows, taken = Rows(hard=hard), []
    with osc.connect(path) as store:
        for place in range(BATCHES):
            report("batches", place, BATCHES)
            batch = rows.table(anchors + place * BATCH, BATCH)
            started = time.perf_counter()
            seconds = store.ingest(batch).seconds
            taken.append({**seconds, "wall": round(time.perf_counter() - started, 4)})
    return taken


def told(run: Run) -> dict[str, Any]:
    """A run's figures as plain JSON values."""
    every = max(1, len(run.anonymous) // 500)
    return {
        **run.result,
        "process seconds": round(run.seconds, 1),
        "memory": run.memory(),
        "anonymous MiB over seconds": [
            (seconds, round(mib)) for seconds, mib in run.anonymous[::every]
        ],
    }


# the stages


class Stages:
    """Stages whose figures stay in a folder, so that none is done twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once(self, name: str, output: Path, make: Callable[[], Any]) -> Any:
        """The figures of a stage; it is done (anew) unless it was finished before."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        if output.is_dir():
            shutil.rmtree(output)
        figures = make()
        path.write_text(json.dumps(figures), encoding="utf-8")
        return figures


def routed(
    snapshot: Snapshot, psi: npt.NDArray[np.float32], truth: list[set[int]]
) -> tuple[float, dict[str, Any]]:
    """Recall@10 of routed searches' dense candidates, and what they visit."""
    sharded = snapshot.sharded
    assert sharded is not None
    count = snapshot.parameters.dense_candidates
    found, visited, astray = [], [], 0
    for one in psi:
        chosen = route(snapshot, sharded, one, count, snapshot.parameters)
        dense = dense_matches(snapshot, one, count, None, chosen)
        found.append(set(dense.rows[:10].tolist()))
        share = 1.0
        if dense.routed is not None:
            share = (len(chosen.slots) + dense.routed.walked) / len(snapshot)
        astray += dense.routed is None
        visited.append(100 * share)
    return round(recall(found, truth), 4), {
        "shards": len(sharded.levels[0].items),
        "mean % of the anchors visited": round(float(np.mean(visited)), 2),
        "median % of the anchors visited": round(float(np.median(visited)), 2),
        "% of the questions led astray": round(100 * astray / len(psi), 1),
    }


def compare(
    store_path: Path, peer_path: Path, queries: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Searches of both in turn, with and without filters."""
    texts, psi, truth = queries["texts"], queries["psi"], queries["truth"]
    with osc.connect(store_path) as store:
        snapshot = store.current()
        recalls, calls, visited = {}, {}, {}
        peer = lancedb_peer.LanceDb(peer_path)
        with console.status("tuning LanceDB"):
            peer.tune(psi, truth[""], REFINEMENTS)
        for name, where in FILTERS.items():
            allowed = None if where is None else snapshot.allowed(where)
            found = [set(dense_matches(snapshot, one, 10, allowed).rows.tolist()) for one in psi]
            recalls[f"search{name}"] = round(recall(found, truth[name]), 4)
            theirs = [peer.near(one, where) for one in psi]
            recalls[f"LanceDB hybrid{name}"] = round(recall(theirs, truth[name]), 4)
            calls[f"search{name}"] = lambda i, where=where: store.search(
                texts[i], vector=psi[i], k=10, where=where
            )
            calls[f"LanceDB hybrid{name}"] = lambda i, where=where: peer.hybrid(
                texts[i], psi[i], where
            )
        if snapshot.sharded is not None:
            recalls[WHOLE] = recalls["search"]
            recalls["search"], visited = routed(snapshot, psi, truth[""])
            calls[WHOLE] = lambda i: store.search(texts[i], vector=psi[i], k=10, route=False)
        taken = interleaved(calls, len(texts), console)
        residuals = store.receipts()["residual"].drop_null().to_pylist()
    typical = medians(taken)
    return {
        "median ms": typical,
        "95th percentile ms": {
            name: round(float(np.percentile(values, 95)), 2) for name, values in taken.items()
        },
        "recall@10": recalls,
        "routing": visited,
        "search / LanceDB hybrid": {
            name or "no filter": round(
                typical[f"search{name}"] / typical[f"LanceDB hybrid{name}"], 3
            )
            for name in FILTERS
        },
        "LanceDB probes": peer.probes,
        "LanceDB refinement": peer.refine,
        "largest residual": max(residuals),
        "all ms": {name: [round(value, 2) for value in values] for name, values in taken.items()},
    }


def measure(arguments: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    anchors, hard = arguments.anchors, arguments.hard
    rows, store, peer = (folder / name for name in ("rows.parquet", "store.osc", "lancedb"))
    stages = Stages(folder)
    written = stages.once("rows", rows, lambda: write_rows(rows, anchors, hard, console))
    if written != {"anchors": anchors, "hard": hard}:
        raise SystemExit(f"{folder} holds other rows: choose another folder, or remove it")
    figures: dict[str, Any] = {**written, "queries": arguments.queries}
    figures["build"] = stages.once(
        "build", store,
        lambda: told(in_process(build_store, store, rows, title="build", console=console)),
    )  # fmt: skip
    figures["LanceDB build"] = stages.once(
        "lancedb-build", peer,
        lambda: told(in_process(build_peer, peer, rows, title="LanceDB", console=console)),
    )  # fmt: skip
    rng = np.random.default_rng(11)
    picked = Rows(hard=hard).take(rng.integers(0, anchors, arguments.queries))
    texts, psi = questions(picked, rng, random.Random(11), noise=0.05 if hard else 0.02)
    queries = {"texts": texts, "psi": psi, "truth": exact_tops(rows, psi, console)}
    figures["first search"] = first_search(store, psi[0])
    figures["asking"] = told(
        in_process(ask, store, texts, psi, title="memory", console=console)
    )  # fmt: skip
    figures["search"] = compare(store, peer, queries, console)
    grown = folder / "grown.osc"
    shutil.rmtree(grown, ignore_errors=True)
    run = in_process(
        add_batches, clone(store, grown), anchors, hard, title="batches", console=console
    )
    figures["batches"] = {"rows": BATCH, "seconds": run.result, "memory": run.memory()}
    shutil.rmtree(grown)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--anchors", type=int, default=1_000_000)
    parser.add_argument("--hard", action="store_true", help="vectors of low rank, no clusters")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plots", type=Path, help="draw PNG files into this folder")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--folder", type=Path, help="keep rows and stores here")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 100))
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        figures = measure(arguments, arguments.folder, console)
    else:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(arguments, Path(folder), console)
    scale_report.print_table(figures, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(scale_report.markdown(figures), encoding="utf-8")
    if arguments.plots:
        scale_report.plot(figures, arguments.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
