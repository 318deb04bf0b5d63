"""Whether the diagnostics of receipts tell anything, and what they cost.

    python benchmarks/diagnostics.py --data DIR [--anchors 20000,100000] [--markdown FILE]

DIR holds collections as for retrieval.py; a ``pairs.tsv`` (query id, true id, false id) names
texts beside the same texts with the answer replaced.

- null points: their share of the candidates' edges over the collection's own questions; and,
  in a second store where 100 anchors link to 100 strangers drawn at random, how many of those
  links among the candidates are null points (recall), and how many null points are such links
  (precision), over 100 searches for a linking anchor. About one edge in 400 is such a link.
- contested twins: over all pairs of a collection, against ``pairs.tsv``; and which share of the
  anchors of the other collections is in such a pair.
- chains: sequences of 3, 5 and 8 turns or paragraphs in a row against the same in another order,
  with one anchor replaced, and anchors drawn at random. AUC is that of the least reach; the
  share is of those called coherent. Beside it stands what the robust z-score of the gaps in the
  settled state says, the in-memory lattice's own verdict.
- confidence: recall@5 by quartile of ``result.confidence``, once all questions have been asked.
- cost: searches with light and full receipts in turn, on rows as in latency.py, among which
  there are no near duplicates, and on the collections, some of which are full of them.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import interleaved
from latency import make_queries, make_rows
from retrieval import Collection, fields, load, measure
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oscillink_store as osc
from oscillink_store.lattice.settle import NULL_POINT_Z
from oscillink_store.lattice.twins import find_twins
from oscillink_store.stdlib_docs import stdlib_docs

SEED, PLANTED, CHAINS, AT_A_TIME = 13, 100, 100, 256
LENGTHS = (3, 5, 8)
QUARTILES = ("lowest", "second", "third", "highest")

Line = dict[str, Any]
Sequences = list[list[str]]


@contextmanager
def filled(rows: Any, **options: Any) -> Iterator[osc.Store]:
    ingest = {name: options.pop(name) for name in ("fields",) if name in options}
    with (
        tempfile.TemporaryDirectory() as folder,
        osc.connect(Path(folder) / "store.osc", durability="off", **options) as store,
    ):
        store.ingest(rows, **ingest)
        yield store


def asked(store: osc.Store, collection: Collection, console: Console) -> Iterator[Any]:
    """Every judged question with its result."""
    pairs = list(zip(collection.queries, collection.query_vectors, strict=True))
    for query, psi in track(pairs, collection.name, console=console, transient=True):
        if query["id"] in collection.relevant and query.get("category") != 5:
            where = f"\"group\" = '{query['group']}'" if "group" in query else None
            yield query, store.search(query["text"], vector=psi, k=10, where=where)


def edge_count(store: osc.Store, ids: Sequence[str]) -> int:
    """How many pairs of anchors the lattice joins among some."""
    from oscillink_store.lattice.graph import induced

    snapshot = store.current()
    entries = snapshot.lattice.entries(np.sort(snapshot.slots_of_ids(list(ids))))
    return len(induced(entries, store.parameters.relation_weights).weights) // 2


# null points and confidence


def questions(collection: Collection, console: Console) -> tuple[Line, Line]:
    """Shares of null points and of contested hits, and recall by quartile of confidence."""
    found = edges = contested = hits = 0
    results = []
    with filled(collection.rows, fields=fields(collection)) as store:
        for query, result in asked(store, collection, console):
            content = result.receipt.content
            found += len(content["null_points"])
            edges += edge_count(store, content["candidates"])
            contested += sum(bool(hit.contested) for hit in result)
            hits += len(result)
            results.append((result, measure(result.ids, collection.relevant[query["id"]])[0]))
        recalls: dict[int, list[float]] = {}
        for result, recall in results:
            if result.confidence is not None:
                quartile = min(math.ceil(4 * result.confidence), 4) - 1
                recalls.setdefault(quartile, []).append(recall)
    shares = {
        "collection": collection.name,
        "edges flagged": f"{found / edges:.1%}",
        "contested hits": f"{contested / hits:.1%}",
    }
    by_quartile = {
        name: f"{100 * statistics.fmean(recalls[place]):.1f}" if place in recalls else ""
        for place, name in enumerate(QUARTILES)
    }
    return shares, {"collection": collection.name, **by_quartile}


def planted(collection: Collection) -> Line:
    """Recall and precision of links between strangers."""
    rng = np.random.default_rng(SEED)
    ids = collection.rows["id"].to_pylist()
    ends = rng.permutation(len(ids))[: 2 * PLANTED].reshape(2, -1)
    links: list[list[str]] = [[] for _ in ids]
    for one, other in ends.T.tolist():
        links[one] = [ids[other]]
    rows = collection.rows.append_column("links", pa.array(links, pa.list_(pa.string())))
    wrong = {frozenset((ids[one], ids[other])) for one, other in ends.T.tolist()}
    here = right = found = 0
    with filled(rows, fields=fields(collection)) as store:
        for one in ends[0].tolist():
            content = store.search(vector=collection.vectors[one], k=10).receipt.content
            candidates = set(content["candidates"])
            points = {frozenset(point[:2]) for point in content["null_points"]}
            here += sum(pair <= candidates for pair in wrong)
            right += len(points & wrong)
            found += len(points)
    return {"planted: recall": f"{right / here:.2f}", "precision": f"{right / max(found, 1):.2f}"}


# contested twins


def twins(collection: Collection, folder: Path) -> Line:
    texts, ids = (collection.rows[name].to_pylist() for name in ("text", "id"))
    found = set()
    for start in range(0, len(texts), AT_A_TIME):
        rows = np.arange(start, min(start + AT_A_TIME, len(texts)))
        for pair in find_twins(
            collection.vectors, rows, lambda places: [texts[place] for place in places]
        ):
            found.add(frozenset((ids[pair.first], ids[pair.second])))
    anchors = {anchor for pair in found for anchor in pair}
    line = {
        "collection": collection.name,
        "pairs": f"{len(found):,}",
        "anchors in one": f"{len(anchors) / len(texts):.2%}",
        "precision": "",
        "recall": "",
    }
    if (folder / "pairs.tsv").exists():
        lines = (folder / "pairs.tsv").read_text(encoding="utf-8").splitlines()
        true = {frozenset(told.split("\t")[1:]) for told in lines}
        line["precision"] = f"{len(found & true) / len(found):.3f}"
        line["recall"] = f"{len(found & true) / len(true):.3f}"
    return line


# chains


def sequences(rows: list[dict[str, Any]], names: Sequence[str], position: str) -> Sequences:
    runs: dict[tuple[Any, ...], list[tuple[Any, str]]] = {}
    for row in rows:
        runs.setdefault(tuple(row[name] for name in names), []).append((row[position], row["id"]))
    return [[anchor for _, anchor in sorted(run)] for run in runs.values()]


def chains(name: str, store: osc.Store, runs: Sequences, console: Console) -> Iterator[Line]:
    rng = np.random.default_rng(SEED)
    everyone = [anchor for run in runs for anchor in run]
    for length in LENGTHS:
        long = [run for run in runs if len(run) >= length]
        paths: dict[str, list[list[str]]] = {
            kind: [] for kind in ("true", "shuffled", "one replaced", "random")
        }
        for _ in range(CHAINS):
            run = long[rng.integers(len(long))]
            start = rng.integers(len(run) - length + 1)
            path = run[start : start + length]
            order = rng.permutation(length)
            while abs(np.diff(order)).max() == 1:  # as it was, or backwards
                order = rng.permutation(length)
            replaced = list(path)
            replaced[rng.integers(length)] = str(rng.choice(everyone))
            paths["true"].append(path)
            paths["shuffled"].append([path[at] for at in order])
            paths["one replaced"].append(replaced)
            paths["random"].append(rng.choice(everyone, length, replace=False).tolist())
        told = {
            kind: [
                store.chain_receipt(path)
                for path in track(
                    some, f"{name}, {length}: {kind}", console=console, transient=True
                )
            ]
            for kind, some in paths.items()
        }
        reach = {
            kind: [min(link.reach for link in chain.links) for chain in some]
            for kind, some in told.items()
        }
        for kind, some in told.items():
            gaps = [max(link.structural_z for link in chain.links) for chain in some]
            yield {
                "sequences": f"{name}, {length} in a row",
                "paths": kind,
                "AUC": "" if kind == "true" else f"{auc(reach['true'], reach[kind]):.3f}",
                "coherent": f"{statistics.fmean(chain.coherent for chain in some):.0%}",
                "by gaps": f"{statistics.fmean(gap <= NULL_POINT_Z for gap in gaps):.0%}",
            }


def auc(above: Sequence[float], below: Sequence[float]) -> float:
    a, b = np.array(above)[:, None], np.array(below)
    return float((a > b).mean() + 0.5 * (a == b).mean())


def all_chains(collections: Sequence[Collection], console: Console) -> list[Line]:
    lines = []
    for collection in collections:
        if "turn" in collection.rows.schema.names:
            runs = sequences(collection.rows.to_pylist(), ("group", "session"), "turn")
            with filled(collection.rows, fields=fields(collection)) as store:
                lines += chains(collection.name, store, runs, console)
    rows = list(stdlib_docs())
    with filled(rows, embedder="hash:256") as store:
        runs = sequences(rows, ("sequence",), "position")
        lines += chains("standard library", store, runs, console)
    return lines


# cost


def cost(
    name: str, store: osc.Store, texts: Sequence[str], psi: Any, count: int, console: Console
) -> Line:
    def search(detail: Any) -> Callable[[int], object]:
        def run(i: int) -> object:
            at = i % len(texts)
            return store.search(texts[at], vector=psi[at], k=10, detail=detail)

        return run

    taken = interleaved({detail: search(detail) for detail in ("light", "full")}, count, console)
    light, full = (statistics.median(taken[detail]) for detail in ("light", "full"))
    return {
        "rows": name,
        "anchors": f"{len(store):,}",
        "light, median ms": f"{light:.2f}",
        "full": f"{full:.2f}",
        "more": f"{full / light - 1:.1%}",
    }


def costs(
    sizes: Sequence[int], collections: Sequence[Collection], count: int, console: Console
) -> Iterator[Line]:
    for size in sizes:
        rows = make_rows(size)
        texts, psi, _ = make_queries(rows, count)
        with filled(rows) as store:
            yield cost("made", store, texts, psi, count, console)
    for collection in collections:
        texts = [query["text"] for query in collection.queries]
        with filled(collection.rows, fields=fields(collection)) as store:
            yield cost(collection.name, store, texts, collection.query_vectors, count, console)


# tables


def shown(title: str, lines: Sequence[Line], console: Console) -> str:
    """Print a table, and give it as Markdown."""
    table = Table(title=title)
    names = list(lines[0])
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place == 0 else "right")
    for line in lines:
        table.add_row(*(str(line[name]) for name in names))
    console.print(table)
    body = [
        names,
        ["---", *["---:"] * (len(names) - 1)],
        *([line[n] for n in names] for line in lines),
    ]
    told = "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in body)
    return f"## {title}\n\n{told}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of collections")
    parser.add_argument("--anchors", default="20000,100000", help="sizes to time")
    parser.add_argument("--queries", type=int, default=300, help="searches to time; 0 for none")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 100))
    folders = sorted(path.parent for path in arguments.data.glob("*/corpus.jsonl"))
    if not folders:
        parser.error(f"{arguments.data} holds no folder with a corpus.jsonl")
    collections = [load(folder) for folder in folders]
    shares, by_quartile = zip(*(questions(one, console) for one in collections), strict=True)
    null_points = [share | planted(one) for share, one in zip(shares, collections, strict=True)]
    tables = [
        shown("Null points", null_points, console),
        shown(
            "Contested twins",
            [twins(*pair) for pair in zip(collections, folders, strict=True)],
            console,
        ),
        shown("Chains", all_chains(collections, console), console),
        shown("recall@5 by quartile of confidence", by_quartile, console),
    ]
    if arguments.queries:
        sizes = [int(size) for size in arguments.anchors.split(",") if size]
        lines = list(costs(sizes, collections, arguments.queries, console))
        tables.append(shown("A search with each kind of receipt", lines, console))
    if arguments.markdown:
        head = (
            "# What the diagnostics of receipts tell\n\n`python benchmarks/diagnostics.py "
            "--data DIR`; the script says how each is measured.\n"
        )
        arguments.markdown.write_text("\n".join([head, *tables]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
