"""What routing to shards costs in quality, on labelled collections cut into 16 shards.

    python benchmarks/shards.py --data DIR [--sets a,b] [--queries N] [--json FILE]
        [--markdown FILE]

DIR holds collections as for retrieval.py. Every collection becomes one store that is divided
although it is small (``shards_from=1``, a sixteenth of the anchors to a shard); the same store
with ``route=False`` is what it is compared with. Filtered questions are never routed, so here
none is filtered: the conversations of a collection with groups are searched together.

- ranking: the measures of retrieval.py without routing, and by how many points they differ with
  it at some ``route_shards`` (``route_share=0``), for questions of words with their vector, and
  of the vector alone. Beside it what the dense candidates hold of the exact ten nearest anchors,
  and the share of the anchors that they are chosen from; all, for the questions that the lattice
  leads away from the chosen shards (astray, in per cent of the questions). A search looks at 200
  anchors at least, which in collections with shards of a few dozen are more than one shard.
- rules: at exactly as many shards, how much of the exact ten nearest anchors is in these shards,
  and how much among the candidates (recall@10), once the lattice was followed from there. An
  anchor that is as similar as the tenth counts, whichever it is. By the nearest centre; by the
  summaries' own vectors, those of the cores; and with evidence that flows through the summary
  nodes' lattice, at several weights of ``route_flow``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from retrieval import MEASURES, Collection, fields, load, measure
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oscillink_store as osc
from oscillink_store.engine.candidates import dense_matches
from oscillink_store.engine.route import route
from oscillink_store.engine.sharded import Sharded
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.dense import products
from oscillink_store.lattice.routing import Routed, descend

SHARDS, ROUTED = 16, (1, 2, 4, 8)
ASKED = ("words and vector", "vector alone")
COMPARED = 4  # shards at which the rules' rankings are compared

Figures = dict[str, Any]
Psi = npt.NDArray[np.float32]
Question = tuple[dict[str, Any], Psi]


@dataclass(frozen=True)
class Rule:
    """How shards are chosen: by which vectors of theirs, and with what weight of the flow."""

    name: str
    cores: bool = False
    flow: float = 0.0


RULES = (
    Rule("nearest centre"),
    Rule("core vectors", cores=True),
    Rule("flow 0.5", flow=0.5),
    Rule("flow 1", flow=1.0),
    Rule("flow 2", flow=2.0),
    Rule("flow 4", flow=4.0),
)


@contextmanager
def chosen_by(rule: Rule, snapshot: Snapshot) -> Iterator[Sharded]:
    """Route by the cores' vectors in place of the centres, if that is the rule."""
    known = snapshot.sharded
    assert known is not None
    routed = known
    if rule.cores:
        levels = tuple(level._replace(centres=level.vectors) for level in known.levels)
        told = {"by": known.by, "names": known.names}
        hierarchy = known.hierarchy._replace(levels=levels)
        routed = Sharded(told, known.parts, hierarchy, snapshot.parameters)
    snapshot.sharded = routed
    try:
        yield routed
    finally:
        snapshot.sharded = known


class Store:
    """A collection's store with its questions."""

    def __init__(self, store: osc.Store, collection: Collection, questions: list[Question]) -> None:
        self.store, self.collection, self.questions = store, collection, questions
        self.snapshot = store.current()
        self.exact = [self._tenth(psi) for _, psi in questions]

    def _tenth(self, psi: Psi) -> float:
        rows = dense_matches(self.snapshot, psi, 10, None).rows
        return float(products(self.snapshot.vectors(rows), psi).min())

    def found(self, rows: npt.NDArray[np.int64], question: int) -> float:
        """The share of the ten nearest that some rows hold."""
        similar = products(self.snapshot.vectors(rows), self.questions[question][1])
        return min(int((similar >= self.exact[question]).sum()), 10) / 10

    def ranking(self, asked: str, **options: Any) -> Figures:
        """The measures of the lattice's ranking."""
        values = []
        for query, psi in self.questions:
            words = query["text"] if asked == ASKED[0] else None
            ids = self.store.search(words, vector=psi, k=10, detail="light", **options).ids
            values.append(measure(ids, self.collection.relevant[query["id"]]))
        means = (100 * np.mean(values, axis=0)).round(2).tolist()
        return dict(zip(MEASURES, means, strict=True))

    def candidates(self, choose: Callable[[Psi], Routed]) -> Figures:
        """What is in the shards of a choice, and what is found from there."""
        lines = []
        for place, (_, psi) in enumerate(self.questions):
            routed = choose(psi)
            dense = dense_matches(self.snapshot, psi, 50, None, routed)
            scanned = visited = 1.0  # as where the lattice leads astray
            if dense.routed is not None:
                scanned = len(routed.slots) / len(self.snapshot)
                visited = scanned + dense.routed.walked / len(self.snapshot)
            lines.append(
                [
                    self.found(routed.slots, place), self.found(dense.rows, place), scanned,
                    visited, float(dense.routed is None),
                ]
            )  # fmt: skip
        means = (100 * np.mean(lines, axis=0)).round(2).tolist()
        names = ("in the shards", "recall@10", "scanned", "visited", "astray")
        return dict(zip(names, means, strict=True))

    def by_rule(self, rule: Rule, shards: int) -> Figures:
        """The candidates from exactly so many shards."""
        parameters = self.parameters(rule, shards)
        with chosen_by(rule, self.snapshot) as sharded:

            def choose(psi: Psi) -> Routed:
                layers = descend(sharded.hierarchy, sharded.top_graph, psi, 0, parameters)
                chosen = layers[-1].chosen.tolist()
                return Routed(slots=sharded.slots_in(chosen, self.snapshot.alive), layers=layers)

            return self.candidates(choose)

    def as_searched(self, shards: int) -> Figures:
        """The candidates as a search gathers them."""
        parameters, sharded = self.parameters(RULES[0], shards), self.snapshot.sharded
        assert sharded is not None
        return self.candidates(lambda psi: route(self.snapshot, sharded, psi, 50, parameters))

    def parameters(self, rule: Rule, shards: int) -> osc.Parameters:
        return replace(
            self.store.parameters, route_shards=shards, route_share=0.0, route_flow=rule.flow
        )


def evaluate(collection: Collection, limit: int | None, console: Console) -> Figures:
    questions = [
        (query, psi)
        for query, psi in zip(collection.queries, collection.query_vectors, strict=True)
        if query["id"] in collection.relevant and query.get("category") != 5
    ][:limit]
    size = -(-len(collection.vectors) // SHARDS)
    parameters = osc.Parameters(shards_from=1, shard_anchors=size)
    with (
        tempfile.TemporaryDirectory() as folder,
        osc.connect(Path(folder) / "s.osc", durability="off", parameters=parameters) as store,
    ):
        report = store.ingest(collection.rows, fields=fields(collection))
        asked = Store(store, collection, questions)
        sharded = asked.snapshot.sharded
        assert sharded is not None
        figures: Figures = {
            "anchors": report.anchors,
            "queries": len(questions),
            "shards": len(sharded.levels[0].items),
            "anchors per shard": [
                int(sharded.levels[0].items.min()), int(sharded.levels[0].items.max()),
            ],
            "unrouted": {how: asked.ranking(how, route=False) for how in ASKED},
            "routed": {how: {} for how in ASKED},
            "candidates": {},
            "rules": {rule.name: {} for rule in RULES},
            "ranked by rule": {},
        }  # fmt: skip
        plain = RULES[0]
        steps = [(rule, shards) for rule in RULES for shards in ROUTED]
        for rule, shards in track(steps, collection.name, console=console, transient=True):
            figures["rules"][rule.name][str(shards)] = asked.by_rule(rule, shards)
            options = {"route": True, "parameters": asked.parameters(rule, shards)}
            if rule is plain:
                figures["candidates"][str(shards)] = asked.as_searched(shards)
                for how in ASKED:
                    figures["routed"][how][str(shards)] = asked.ranking(how, **options)
            if shards == COMPARED:
                with chosen_by(rule, asked.snapshot):
                    figures["ranked by rule"][rule.name] = asked.ranking(ASKED[1], **options)
    return figures


# tables

Row = list[str]


def differences(figures: Mapping[str, float], plain: Mapping[str, float]) -> Row:
    return [f"{figures[name] - plain[name]:+.2f}" for name in MEASURES]


def ranking_rows(results: Mapping[str, Figures]) -> tuple[Row, list[Row]]:
    heading = ["collection", "question", "shards", *MEASURES, "dense recall@10", "visited"]
    heading.append("astray")
    rows = []
    for name, result in results.items():
        for how in ASKED:
            plain = result["unrouted"][how]
            cells = [f"{plain[measure]:.2f}" for measure in MEASURES]
            rows.append([name, how, f"all {result['shards']}", *cells, "100.0", "100", ""])
            for shards, figures in result["routed"][how].items():
                dense = result["candidates"][shards]
                cells = [f"{dense['recall@10']:.1f}", f"{dense['visited']:.0f}"]
                cells.append(f"{dense['astray']:.0f}")
                rows.append([name, how, shards, *differences(figures, plain), *cells])
    return heading, rows


def rule_rows(results: Mapping[str, Figures]) -> tuple[Row, list[Row]]:
    """Means over the collections; in brackets the collection where it is least."""
    heading = ["rule", "shards", "in the shards", "recall@10", "scanned", "visited",
               "astray", f"largest loss of a measure at {COMPARED}"]  # fmt: skip
    rows = []
    for rule in RULES:
        losses = [
            (result["unrouted"][ASKED[1]][name] - result["ranked by rule"][rule.name][name],
             f"{collection}, {name}")
            for collection, result in results.items()
            for name in MEASURES
        ]  # fmt: skip
        for shards in map(str, ROUTED):
            told = [result["rules"][rule.name][shards] for result in results.values()]
            cells = [
                f"{np.mean([one[name] for one in told]):.1f} ({min(one[name] for one in told):.1f})"
                for name in ("in the shards", "recall@10")
            ]
            cells += [
                f"{np.mean([one[name] for one in told]):.0f}"
                for name in ("scanned", "visited", "astray")
            ]
            lost, where = max(losses)
            where = f" ({where})" if lost > 0 else ""
            loss = f"{lost:.2f}{where}" if int(shards) == COMPARED else ""
            rows.append([rule.name, shards, *cells, loss])
    return heading, rows


def print_tables(results: Mapping[str, Figures], console: Console) -> None:
    for title, (heading, rows), left in (
        ("ranking with routing, in points of the ranking without", ranking_rows(results), 2),
        ("rules: mean over the collections (and least), %", rule_rows(results), 1),
    ):
        table = Table(title=title)
        for place, name in enumerate(heading):
            table.add_column(name, justify="left" if place < left else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def page(heading: Sequence[str], rows: Sequence[Row], left: int) -> str:
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    rule = "|".join(["---"] * left + ["---:"] * (len(heading) - left))
    return f"| {' | '.join(heading)} |\n|{rule}|\n{lines}\n"


def markdown(results: Mapping[str, Figures]) -> str:
    counts = ", ".join(f"{name} {result['shards']}" for name, result in results.items())
    return (
        "# Routing to shards, on collections of a few thousand anchors\n\n"
        "`python benchmarks/shards.py --data DIR`; the script says what the columns are.\n"
        f"Shards that came of {SHARDS} wanted: {counts}.\n\n"
        "## Ranking\n\nWithout routing in per cent, with it the difference in points.\n\n"
        f"{page(*ranking_rows(results), 2)}\n"
        "## Rules\n\nIn per cent, mean over the collections and in brackets the least.\n\n"
        f"{page(*rule_rows(results), 1)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of collections")
    parser.add_argument("--sets", help="comma-separated names; all by default")
    parser.add_argument("--queries", type=int, help="no more than so many of each collection")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    folders = sorted(path.parent for path in arguments.data.glob("*/corpus.jsonl"))
    if arguments.sets:
        folders = [folder for folder in folders if folder.name in arguments.sets.split(",")]
    if not folders:
        parser.error(f"{arguments.data} holds no such folder with a corpus.jsonl")
    results = {
        folder.name: evaluate(load(folder), arguments.queries, console) for folder in folders
    }
    print_tables(results, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
