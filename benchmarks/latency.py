"""Search latency at 10k and 100k anchors beside LanceDB's hybrid search on the same rows.

    python benchmarks/latency.py [--anchors 10000,100000] [--queries 100] [--json FILE]

Both stores live in one process and answer the same questions (six words of a text and a
perturbed copy of its vector) in turn, so that a drift of the machine meets both. LanceDB has
an IVF_RQ vector index, a full-text index and its reciprocal-rank reranker, with the fewest
probes that reach recall@10 of 0.95 against exact search. Texts are paragraphs of the standard
library's docstrings; vectors are of low rank with noise, which is hard for partitioned indices.
Figures are medians in milliseconds; every speed stands beside its recall or residual.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from common import exact_top, first_search, interleaved, medians, recall
from lancedb_peer import LanceDb, build
from rich.console import Console
from rich.table import Table
from rows import DIMENSION, paragraphs, questions, vector_column, vectors_of

import oscillink_store as osc
from oscillink_store.engine.candidates import dense_matches


def make_rows(anchors: int) -> pa.Table:
    rng, words = np.random.default_rng(7), random.Random(7)
    texts = paragraphs()
    vectors = rng.standard_normal((anchors, 64)) @ rng.standard_normal((64, DIMENSION))
    vectors += 2.0 * rng.standard_normal((anchors, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.table(
        {
            "id": [f"d{row}" for row in range(anchors)],
            "text": [
                " ".join(words.sample(texts, words.choice((1, 2, 3)))) for _ in range(anchors)
            ],
            "tenant": pa.array(np.arange(anchors) % 100, pa.int32()),
            "bucket": pa.array(np.arange(anchors) % 10, pa.int32()),
            "vector": vector_column(vectors.astype(np.float32)),
        }
    )


def make_queries(
    rows: pa.Table, count: int
) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng, words = np.random.default_rng(11), random.Random(11)
    picked = rng.integers(0, rows.num_rows, count)
    texts, psi = questions(rows.take(pa.array(picked)), rng, words)
    return texts, psi, vectors_of(rows)


def measure(anchors: int, count: int, console: Console) -> dict[str, Any]:
    rows = make_rows(anchors)
    texts, psi, vectors = make_queries(rows, count)
    truth = exact_top(vectors, psi)
    figures: dict[str, Any] = {"anchors": anchors, "queries": count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            console.status(f"{anchors:,} anchors: ingest"),
            osc.connect(folder / "store.osc") as store,
        ):
            report = store.ingest(rows)
        lattice = report.seconds["lattice"]
        figures["ingest"] = {
            "seconds": dict(report.seconds),
            "anchors per second besides the lattice": round(
                anchors / (report.seconds["total"] - lattice)
            ),
            "lattice share": round(lattice / report.seconds["total"], 3),
            "edges": dict(report.edges),
        }
        with console.status(f"{anchors:,} anchors: LanceDB indices"):
            figures["lancedb build seconds"] = round(build(folder / "lancedb", rows), 1)
            peer = LanceDb(folder / "lancedb")
            peer.tune(psi, truth)
        figures["first search"] = first_search(folder / "store.osc", psi[0])
        with osc.connect(folder / "store.osc") as store:
            figures.update(compare(store, peer, texts, psi, truth, console))
    return figures


def compare(
    store: osc.Store,
    peer: LanceDb,
    texts: list[str],
    psi: npt.NDArray[np.float32],
    truth: list[set[int]],
    console: Console,
) -> dict[str, Any]:
    snapshot = store.current()
    candidates = [set(dense_matches(snapshot, one, 10, None).rows.tolist()) for one in psi]
    con = duckdb.connect()
    osc.attach(con, store)
    sql = "SELECT coherent_topk($text, k := 10)"
    calls: dict[str, Callable[[int], object]] = {
        "search": lambda i: store.search(texts[i], vector=psi[i], k=10),
        "LanceDB hybrid": lambda i: peer.hybrid(texts[i], psi[i]),
        "search, 30 % filter": lambda i: store.search(
            texts[i], vector=psi[i], k=10, where="bucket < 3"
        ),
        "LanceDB hybrid, 30 % filter": lambda i: peer.hybrid(texts[i], psi[i], "bucket < 3"),
        "search, 1 % filter": lambda i: store.search(
            texts[i], vector=psi[i], k=10, where="tenant = 7"
        ),
        "LanceDB hybrid, 1 % filter": lambda i: peer.hybrid(texts[i], psi[i], "tenant = 7"),
        "search, 30 % filter never seen": lambda i: store.search(
            texts[i], vector=psi[i], k=10, where=f"bucket < 3 AND tenant <> {1000 + i}"
        ),
        "search, 1 % filter never seen": lambda i: store.search(
            texts[i], vector=psi[i], k=10, where=f"tenant = {i % 100} AND bucket <> {1000 + i}"
        ),
        "search by vector": lambda i: store.search(vector=psi[i], k=10),
        "search by text": lambda i: store.search(texts[i], k=10),
        "SQL by text": lambda i: con.execute(sql, {"text": texts[i]}).fetchall(),
    }
    taken = interleaved(calls, len(texts), console)
    receipts = store.receipts()
    typical = medians(taken)
    osc.detach(con)
    con.close()
    return {
        "median ms": typical,
        "95th percentile ms": {
            name: round(float(np.percentile(values, 95)), 2) for name, values in taken.items()
        },
        "search / LanceDB hybrid": round(typical["search"] / typical["LanceDB hybrid"], 3),
        "30 % filter / search": round(typical["search, 30 % filter"] / typical["search"], 3),
        "1 % filter / search": round(typical["search, 1 % filter"] / typical["search"], 3),
        "30 % filter never seen / search": round(
            typical["search, 30 % filter never seen"] / typical["search"], 3
        ),
        "1 % filter never seen / search": round(
            typical["search, 1 % filter never seen"] / typical["search"], 3
        ),
        "SQL - Python ms": round(typical["SQL by text"] - typical["search by text"], 2),
        "candidate recall@10": round(recall(candidates, truth), 4),
        "LanceDB recall@10": round(peer.recall, 4),
        "LanceDB probes": peer.probes,
        "largest residual": max(receipts["residual"].drop_null().to_pylist()),
    }


def print_table(figures: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{figures['anchors']:,} anchors x {DIMENSION}, k = 10")
    table.add_column("call")
    table.add_column("median ms", justify="right")
    table.add_column("95 % ms", justify="right")
    for name, value in figures["median ms"].items():
        table.add_row(name, f"{value:.2f}", f"{figures['95th percentile ms'][name]:.2f}")
    console.print(table)
    for name, value in figures.items():
        if not name.endswith(" ms") or name.startswith("SQL"):
            console.print(f"{name}: {value}", highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--anchors", default="10000,100000", help="comma-separated sizes")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    console = Console()
    results = []
    for anchors in map(int, arguments.anchors.split(",")):
        results.append(measure(anchors, arguments.queries, console))
        print_table(results[-1], console)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
