"""What trust gates do about traps: wrong and useless texts that look like answers.

    python benchmarks/traps.py --data DIR [--sets a,b] [--markdown FILE]

DIR holds collections as for retrieval.py, of which those with a ``traps.tsv`` are taken: query
id, corpus id, and kind, which is ``misinfo`` or ``counterfactual`` for a text that supports a
wrong answer (shown as "false"), or ``noise`` for one on the topic that supports none.

Each query is asked by cosine, by hybrid evidence and by the lattice, the last also after 10, 30
and 100 % of the trap anchors were gated to 0.02: all that are a trap of some query and relevant to
none, in an order drawn once, so that what is gated at 10 % is gated at 30 % too. The last line
is what a mistake costs: the same gate on 10 % of the relevant texts, and on no trap. Told are

- how many of the five best hits are traps of the query at hand: all, by kind, and those that
  nobody has gated, in % of the hits;
- how many of the query's ungated traps are among the five best, in % of these traps;
- recall@5 and nDCG@10 of the relevant texts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from retrieval import fields, load, measure
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oscillink_store as osc

GATE = 0.02
SHARES = (0.0, 0.1, 0.3, 1.0)
SEED = 13
NAMES = ("traps", "false", "noise", "ungated", "of ungated", "recall@5", "nDCG@10")

Traps = Mapping[str, Mapping[str, str]]
"""Query → anchor → kind."""
Figures = dict[str, dict[str, float]]


def read_traps(path: Path) -> Traps:
    traps: dict[str, dict[str, str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, anchor, kind = line.split("\t")
        traps.setdefault(query, {})[anchor] = "noise" if kind == "noise" else "false"
    return traps


def shuffled(anchors: Collection[str]) -> list[str]:
    """Anchors in the order in which they are gated."""
    ascending = sorted(anchors)
    order = np.random.default_rng(SEED).permutation(len(ascending))
    return [ascending[place] for place in order.tolist()]


def percentages(
    rankings: Mapping[str, list[str]],
    traps: Traps,
    relevant: Mapping[str, set[str]],
    gated: Collection[str],
) -> dict[str, float]:
    hits, ungated = 0, 0
    counts = dict.fromkeys(("false", "noise", "ungated"), 0)
    measured = []
    for query, ranking in rankings.items():
        mine = traps.get(query, {})
        open_ = {anchor for anchor in mine if anchor not in gated}
        best = ranking[:5]
        hits += len(best)
        ungated += len(open_)
        counts["ungated"] += sum(anchor in open_ for anchor in best)
        for anchor in best:
            if anchor in mine:
                counts[mine[anchor]] += 1
        measured.append(measure(ranking, relevant[query]))
    recall, _, _, ndcg = np.mean(measured, axis=0)
    return {
        "traps": 100 * (counts["false"] + counts["noise"]) / hits,
        **{name: 100 * count / hits for name, count in counts.items()},
        "of ungated": 100 * counts["ungated"] / ungated if ungated else float("nan"),
        "recall@5": 100 * float(recall),
        "nDCG@10": 100 * float(ndcg),
    }


def evaluate(folder: Path, console: Console) -> Figures:
    collection = load(folder)
    traps = read_traps(folder / "traps.tsv")
    asked = [
        (query, psi)
        for query, psi in zip(collection.queries, collection.query_vectors, strict=True)
        if query["id"] in collection.relevant
    ]
    figures: Figures = {}

    def ask(name: str, ranking: str, gated: Collection[str] = ()) -> None:
        rankings = {
            query["id"]: store.search(query["text"], vector=psi, k=10, ranking=ranking).ids
            for query, psi in track(
                asked, f"{collection.name}: {name}", console=console, transient=True
            )
        }
        figures[name] = percentages(rankings, traps, collection.relevant, gated)

    with (
        tempfile.TemporaryDirectory() as place,
        osc.connect(Path(place) / "store.osc", durability="off") as store,
    ):
        store.ingest(collection.rows, fields=fields(collection))
        ask("cosine", "dense")
        ask("hybrid", "hybrid")
        wanted = {anchor for anchors in collection.relevant.values() for anchor in anchors}
        order = shuffled({anchor for mine in traps.values() for anchor in mine} - wanted)
        for share in SHARES:
            gated = set(order[: round(share * len(order))])
            store.set_gates(GATE, ids=list(gated))
            ask(f"lattice, {share:.0%} gated", "lattice", gated)
        store.set_gates(1.0, where="gate < 1")
        mistaken = shuffled(wanted)
        store.set_gates(GATE, ids=mistaken[: len(mistaken) // 10])
        ask("lattice, 10% of relevant", "lattice")
    return figures


def cell(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1f}"


def print_table(results: Mapping[str, Figures], console: Console) -> None:
    table = Table(title=f"Traps among the five best hits (%), gates of {GATE}")
    table.add_column("collection")
    table.add_column("ranking")
    for name in NAMES:
        table.add_column(name, justify="right")
    for collection, figures in results.items():
        for place, (ranking, values) in enumerate(figures.items()):
            cells = [cell(values[name]) for name in NAMES]
            table.add_row("" if place else collection, ranking, *cells,
                          end_section=place == len(figures) - 1)  # fmt: skip
    console.print(table)


def markdown(results: Mapping[str, Figures]) -> str:
    lines = [
        f"| {' | '.join([collection, ranking, *(cell(values[name]) for name in NAMES)])} |"
        for collection, figures in results.items()
        for ranking, values in figures.items()
    ]
    return (
        f"# Traps among the five best hits (%), gates of {GATE}\n\n"
        "`python benchmarks/traps.py --data DIR`; the script says what the columns are.\n\n"
        f"| collection | ranking | {' | '.join(NAMES)} |\n|---|---|{'---:|' * len(NAMES)}\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of collections")
    parser.add_argument("--sets", help="comma-separated names; by default all with traps")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    folders = sorted(path.parent for path in arguments.data.glob("*/traps.tsv"))
    if arguments.sets:
        folders = [folder for folder in folders if folder.name in arguments.sets.split(",")]
    if not folders:
        parser.error(f"{arguments.data} holds no such folder with a traps.tsv")
    results = {folder.name: evaluate(folder, console) for folder in folders}
    print_table(results, console)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
