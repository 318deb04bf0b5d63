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
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oscillink_store as osc
from oscillink_store.engine.candidates import dense_matches
from oscillink_store.stdlib_docs import stdlib_docs

DIMENSION = 384
WANTED_RECALL = 0.95

FIRST_SEARCH = """
import json, sys, time
started = time.perf_counter()
import oscillink_store as osc
import numpy as np
store = osc.connect(sys.argv[1])
vector = np.load(sys.argv[2])
result = store.search("open a file for reading", vector=vector, k=10)
seconds = time.perf_counter() - started
for _ in range(200):
    store.search("open a file for reading", vector=vector, k=10)
memory = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("RssAnon", "VmHWM", "RssFile"):
        memory[name] = int(value.split()[0]) / 1024
store.close()
print(json.dumps({"seconds": seconds, "memory": memory}))
"""


def make_rows(anchors: int) -> pa.Table:
    rng, words = np.random.default_rng(7), random.Random(7)
    paragraphs = (part for doc in stdlib_docs() for part in doc["text"].split("\n\n"))
    texts = [" ".join(part.split()) for part in paragraphs if len(part) > 20]
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
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.astype(np.float32).ravel()), DIMENSION
            ),
        }
    )


def make_queries(
    rows: pa.Table, count: int
) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng, words = np.random.default_rng(11), random.Random(11)
    vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSION)
    picked = rng.integers(0, rows.num_rows, count)
    texts = []
    for row in picked.tolist():
        tokens = rows["text"][row].as_py().split()
        texts.append(" ".join(words.sample(tokens, min(6, len(tokens)))))
    psi = vectors[picked] + 0.05 * rng.standard_normal((count, DIMENSION)).astype(np.float32)
    psi /= np.linalg.norm(psi, axis=1, keepdims=True)
    return texts, psi.astype(np.float32), vectors


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def exact_top(
    vectors: npt.NDArray[np.float32], psi: npt.NDArray[np.float32], k: int = 10
) -> list[set[int]]:
    similar = psi @ vectors.T
    return [set(np.argpartition(-row, k)[:k].tolist()) for row in similar]


def recall(found: Sequence[set[int]], truth: Sequence[set[int]]) -> float:
    return statistics.fmean(len(a & b) / len(b) for a, b in zip(found, truth, strict=True))


class LanceDb:
    """LanceDB with its own indices over the same rows, tuned to the wanted recall."""

    def __init__(self, folder: Path, rows: pa.Table, psi: Any, truth: list[set[int]]) -> None:
        import lancedb
        from lancedb.rerankers import RRFReranker

        started = time.perf_counter()
        self.table = lancedb.connect(folder).create_table("anchors", rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.table.create_index(
                metric="cosine", vector_column_name="vector", index_type="IVF_RQ"
            )
            self.table.create_fts_index("text")
        self.build_seconds = time.perf_counter() - started
        self.reranker = RRFReranker()
        self.probes, self.recall = 0, 0.0
        for probes in (10, 20, 40, 80, 160, 320, 640):
            found = [
                {int(name[1:]) for name in self._vector(one, probes)["id"].to_pylist()}
                for one in psi
            ]
            self.probes, self.recall = probes, recall(found, truth)
            if self.recall >= WANTED_RECALL:
                break

    def _vector(self, psi: Any, probes: int) -> pa.Table:
        query = self.table.search(psi, vector_column_name="vector").distance_type("cosine")
        return query.nprobes(probes).limit(10).select(["id"]).to_arrow()

    def hybrid(self, text: str, psi: Any, where: str | None = None) -> pa.Table:
        query = self.table.search(query_type="hybrid").vector(psi).text(text)
        query = query.distance_type("cosine").nprobes(self.probes).rerank(self.reranker)
        if where is not None:
            query = query.where(where)
        return query.limit(10).select(["id", "text"]).to_arrow()


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
            peer = LanceDb(folder / "lancedb", rows, psi, truth)
        figures["lancedb build seconds"] = round(peer.build_seconds, 1)
        figures["first search"] = first_search(folder, psi[0])
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
    for call in calls.values():
        for warm in range(3):
            call(warm)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for i in track(range(len(texts)), "timing", console=console, transient=True):
        for name, call in calls.items():
            taken[name].append(milliseconds(lambda call=call, i=i: call(i)))
    receipts = store.receipts()
    medians = {name: round(statistics.median(values), 2) for name, values in taken.items()}
    osc.detach(con)
    con.close()
    return {
        "median ms": medians,
        "95th percentile ms": {
            name: round(float(np.percentile(values, 95)), 2) for name, values in taken.items()
        },
        "search / LanceDB hybrid": round(medians["search"] / medians["LanceDB hybrid"], 3),
        "30 % filter / search": round(medians["search, 30 % filter"] / medians["search"], 3),
        "1 % filter / search": round(medians["search, 1 % filter"] / medians["search"], 3),
        "30 % filter never seen / search": round(
            medians["search, 30 % filter never seen"] / medians["search"], 3
        ),
        "1 % filter never seen / search": round(
            medians["search, 1 % filter never seen"] / medians["search"], 3
        ),
        "SQL - Python ms": round(medians["SQL by text"] - medians["search by text"], 2),
        "candidate recall@10": round(recall(candidates, truth), 4),
        "LanceDB recall@10": round(peer.recall, 4),
        "LanceDB probes": peer.probes,
        "largest residual": max(receipts["residual"].drop_null().to_pylist()),
    }


def first_search(folder: Path, psi: npt.NDArray[np.float32]) -> dict[str, Any]:
    np.save(folder / "query.npy", psi)
    command = [sys.executable, "-c", FIRST_SEARCH, folder / "store.osc", folder / "query.npy"]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(5)
    ]
    seconds = [run["seconds"] for run in runs]
    return {
        "import, open, first search: median seconds": round(statistics.median(seconds), 3),
        "least seconds": round(min(seconds), 3),
        "anonymous memory MiB after 200 searches": round(runs[-1]["memory"]["RssAnon"]),
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
