"""Ranking quality on labelled collections, through the public API, with one default setting.

    python benchmarks/retrieval.py --data DIR [--sets a,b] [--json FILE] [--plot FILE.png]

DIR holds one folder per collection: ``corpus.jsonl`` (id, title, text, maybe group, session,
turn, speaker, label), ``queries.jsonl`` (id, text, maybe group, category, label), ``qrels.tsv``
(query id, corpus id, grade; without it the anchors of the query's ``label`` are relevant), and
``corpus.f16.npy`` and ``queries.f16.npy`` with row i for line i.

A query with a ``group`` searches its own group only; category 5 (adversarial) is left out;
the sequence is group and session, the position the turn; a ``speaker`` column is a facet.
Gains are binary: an anchor is relevant or not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oscillink_store as osc
from oscillink_store.kernels.mmr import mmr
from oscillink_store.lattice.memory import blend_order

METHODS = ("cosine", "bm25", "hybrid", "mmr 0.7", "original blend", "lattice")
MEASURES = ("recall@5", "recall@10", "all in 5", "nDCG@10")
DEPTH = 50


@dataclass(frozen=True, kw_only=True)
class Collection:
    name: str
    rows: pa.Table
    vectors: npt.NDArray[np.float32]
    queries: list[dict[str, Any]]
    query_vectors: npt.NDArray[np.float32]
    relevant: dict[str, set[str]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def unit(path: Path) -> npt.NDArray[np.float32]:
    vectors = np.load(path).astype(np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def load(folder: Path) -> Collection:
    corpus, queries = read_lines(folder / "corpus.jsonl"), read_lines(folder / "queries.jsonl")
    relevant: dict[str, set[str]] = {}
    if (folder / "qrels.tsv").exists():
        for line in (folder / "qrels.tsv").read_text(encoding="utf-8").split("\n"):
            if line:
                query, anchor, grade = line.split("\t")
                if float(grade) > 0:
                    relevant.setdefault(query, set()).add(anchor)
    else:
        of_label: dict[str, set[str]] = {}
        for row in corpus:
            of_label.setdefault(row["label"], set()).add(row["id"])
        relevant = {query["id"]: of_label.get(query["label"], set()) for query in queries}
    vectors = unit(folder / "corpus.f16.npy")
    names = [name for name in ("group", "session", "speaker", "turn") if name in corpus[0]]
    table = pa.table(
        {name: [row.get(name) for row in corpus] for name in ("id", "title", "text", *names)}
    ).append_column(
        "vector", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    )
    return Collection(
        name=folder.name,
        rows=table,
        vectors=vectors,
        queries=queries,
        query_vectors=unit(folder / "queries.f16.npy"),
        relevant={query: anchors for query, anchors in relevant.items() if anchors},
    )


def fields(collection: Collection) -> osc.Fields:
    names = collection.rows.schema.names
    sequence = tuple(name for name in ("group", "session") if name in names)
    return osc.Fields(
        sequence=sequence or "sequence",
        position="turn" if "turn" in names else "position",
        facets=["speaker"] if "speaker" in names else [],
    )


def measure(ranking: Sequence[str], relevant: set[str]) -> tuple[float, float, float, float]:
    found = [anchor in relevant for anchor in ranking[:10]]
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(found) if hit)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
    return (
        sum(found[:5]) / len(relevant),
        sum(found) / len(relevant),
        float(sum(found[:5]) == len(relevant)),
        gain / ideal,
    )


def rankers(
    store: osc.Store, collection: Collection
) -> dict[str, Callable[[str, npt.NDArray[np.float32], str | None], list[str]]]:
    plain = osc.Parameters(gate_weight=0.0, name_bonus=0.0, facet_bonus=0.0)
    place = {anchor: row for row, anchor in enumerate(collection.rows["id"].to_pylist())}

    def cosine(_: str, psi: npt.NDArray[np.float32], where: str | None) -> list[str]:
        return store.search(vector=psi, k=DEPTH, where=where, parameters=plain).ids

    def reordered(
        order: Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], Sequence[int]],
    ) -> Callable[[str, npt.NDArray[np.float32], str | None], list[str]]:
        def rank(text: str, psi: npt.NDArray[np.float32], where: str | None) -> list[str]:
            best = cosine(text, psi, where)
            vectors = collection.vectors[[place[anchor] for anchor in best]]
            return [best[at] for at in order(vectors, psi)]

        return rank

    return {
        "cosine": cosine,
        "bm25": lambda text, _, where: store.search(text, k=10, where=where, parameters=plain).ids,
        "hybrid": lambda text, psi, where: (
            store.search(text, vector=psi, k=10, where=where, parameters=plain).ids
        ),
        "mmr 0.7": reordered(lambda Y, psi: mmr(Y, Y @ psi, 10, 0.7)),
        "original blend": reordered(lambda Y, psi: blend_order(Y, psi, k=10)),
        "lattice": lambda text, psi, where: store.search(text, vector=psi, k=10, where=where).ids,
    }


def evaluate(collection: Collection, console: Console) -> dict[str, Any]:
    asked = [
        (query, psi)
        for query, psi in zip(collection.queries, collection.query_vectors, strict=True)
        if query["id"] in collection.relevant and query.get("category") != 5
    ]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with osc.connect(Path(folder) / "store.osc", durability="off") as store:
            report = store.ingest(collection.rows, fields=fields(collection))
            ingest_seconds = time.perf_counter() - started
            figures = {}
            for method, rank in rankers(store, collection).items():
                values, seconds = [], []
                for query, psi in track(
                    asked, f"{collection.name}: {method}", console=console, transient=True
                ):
                    where = f"\"group\" = '{query['group']}'" if "group" in query else None
                    begun = time.perf_counter()
                    ranking = rank(query["text"], psi, where)
                    seconds.append(time.perf_counter() - begun)
                    values.append(measure(ranking, collection.relevant[query["id"]]))
                means = 100 * np.mean(values, axis=0)
                figures[method] = {
                    **dict(zip(MEASURES, means.round(2).tolist(), strict=True)),
                    "median ms": round(1000 * float(np.median(seconds)), 2),
                }
    return {
        "anchors": report.anchors,
        "queries": len(asked),
        "edges": dict(report.edges),
        "ingest seconds": round(ingest_seconds, 2),
        "methods": figures,
    }


def print_table(results: dict[str, Any], console: Console) -> None:
    table = Table(title="ranking quality, one default setting for every collection (%)")
    for name in ("collection", "method", *MEASURES, "median ms"):
        table.add_column(name, justify="left" if name in ("collection", "method") else "right")
    for name, result in results.items():
        for method, figures in result["methods"].items():
            style = "bold" if method == "lattice" else None
            cells = [f"{figures[measure]:.1f}" for measure in MEASURES]
            table.add_row(
                name if method == METHODS[0] else "", method, *cells,
                f"{figures['median ms']:.2f}", style=style, end_section=method == METHODS[-1],
            )  # fmt: skip
    console.print(table)


def plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colors = dict(
        zip(METHODS, ("#9aa5b1", "#c3ccd5", "#6c8ebf", "#d6b656", "#cc8478", "#2d7d46"),
            strict=True)
    )  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(13, 8), sharex=True, layout="constrained")
    width = 0.8 / len(METHODS)
    for axis, name in zip(axes.flat, MEASURES, strict=True):
        for place, method in enumerate(METHODS):
            heights = [result["methods"][method][name] for result in results.values()]
            at = np.arange(len(results)) + (place - (len(METHODS) - 1) / 2) * width
            axis.bar(at, heights, width, label=method, color=colors[method])
        axis.set_title(name, loc="left", fontsize=11)
        axis.set_ylim(0, 100)
        axis.set_xticks(range(len(results)), list(results), rotation=20)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=6)
    figure.suptitle("Ranking quality (%), one default setting", x=0.01, ha="left")
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of collections")
    parser.add_argument("--sets", help="comma-separated names; all by default")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the figures to this PNG file")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 100))
    folders = sorted(path.parent for path in arguments.data.glob("*/corpus.jsonl"))
    if arguments.sets:
        wanted = arguments.sets.split(",")
        unknown = set(wanted) - {folder.name for folder in folders}
        if unknown:
            parser.error(f"no collection named {', '.join(sorted(unknown))} in {arguments.data}")
        folders = [folder for folder in folders if folder.name in wanted]
    if not folders:
        parser.error(f"{arguments.data} holds no folder with a corpus.jsonl")
    results = {folder.name: evaluate(load(folder), console) for folder in folders}
    print_table(results, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if arguments.plot:
        plot(results, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
