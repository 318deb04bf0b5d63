"""What it takes to keep summary nodes up, and how far their lattice goes.

    python benchmarks/summaries.py [--store STORE | --anchors 100000] [--simulate 10000,100000]
        [--questions 100] [--json FILE] [--markdown FILE]

- upkeep: in the store (of scale.py, say; it is copied first), or in one of so many clustered
  rows in shards of 1,000, a change of one shard is worked out: some of its anchors go, come back,
  or get another gate. Counts, the settle of the shard, its nearest others and the inverse of
  the summary nodes' lattice are brought up to date, nothing is written. Commits of new rows, and
  of a row that is replaced, are timed in that store and, in turn, in one without shards.
- drift: after a few dozen random changes of 1 to 1,000 anchors, how far vectors, coherence,
  counts, and gates that flow are from those of a rebuild of the same shards, in which every
  node is settled anew, its nearest others are searched anew and the lattice is inverted anew;
  before and after all nodes that changed have been settled (``maintain``).
- many shards: see simulated_shards.py. Of the ten anchors nearest to a question, how many are in
  the shards that the levels of summary nodes lead to, and in as many nearest of all. The walk
  over the anchors' lattice, which finds most others, is not part of the simulation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import Report, clone, in_process
from rich.console import Console
from rich.table import Table
from rows import Rows
from simulated_shards import simulate

import oscillink_store as osc
from oscillink_store.engine.sharded import BASE, CORRECTED, SHARDS
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.lattice.hierarchy import Anchors, Shift, updated
from oscillink_store.lattice.levels import Grouped, flow, node_graph
from oscillink_store.lattice.superlattice import inverted, near_nodes
from oscillink_store.storage.commit import Change, commit
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import read_current

SHARD, CHANGES = 1000, 40
FEW = (1, 10, 100)
TIMED = 15
COMMITS = {1: 15, 10: 15, 1000: 5}  # rows, and how often

Figures = dict[str, Any]
Slots = npt.NDArray[np.int64]


# upkeep


class Upkeep:
    """The shards of a generation, changed in memory."""

    def __init__(self, snapshot: Snapshot) -> None:
        assert snapshot.sharded is not None
        self.sharded, self.parameters = snapshot.sharded, snapshot.parameters
        self.gates = np.array(snapshot.gates)
        self.below = Anchors(snapshot.lattice, snapshot.vectors, lambda rows: self.gates[rows])
        self.present = snapshot.alive_mask() == 1
        self.state = self.sharded.grouped()

    def changed(
        self,
        state: Grouped | None,
        *,
        came: Slots | None = None,
        gone: Slots | None = None,
        shaken: Slots | None = None,
        thorough: bool = False,
    ) -> Grouped:
        """What a change of some slots makes of the shards."""
        none = np.empty(0, np.int64)
        shift = Shift(
            self.present,
            none if came is None else came,
            none if gone is None else gone,
            none if shaken is None else shaken,
        )
        return updated(
            state, self.below, shift, generation=1, parameters=self.parameters, thorough=thorough
        )


def timed_updates(upkeep: Upkeep) -> Figures:
    """Milliseconds of changes of one shard, and of folding all corrections into a new base."""
    levels = upkeep.state.hierarchy.levels
    taken: dict[str, list[float]] = {}
    for shard in np.linspace(0, len(levels[0].items) - 1, TIMED).astype(int).tolist():
        held = upkeep.sharded.slots_in([shard], None)
        for count in FEW:
            some = held[:count]
            state = upkeep.state
            for name in ("go", "come back", "get another gate"):
                upkeep.present[some] = name != "go"
                upkeep.gates[some] *= 0.5 if name == "get another gate" else 1.0
                which = {"go": "gone", "come back": "came", "get another gate": "shaken"}[name]
                begun = time.perf_counter()
                state = upkeep.changed(state, **{which: some})
                spent = 1000 * (time.perf_counter() - begun)
                taken.setdefault(f"{count} anchors of a shard {name}", []).append(spent)
            upkeep.gates[some] *= 2.0
    graph = node_graph(levels[-1].lists(), upkeep.parameters).base
    for _ in range(3):
        begun = time.perf_counter()
        inverted(graph, upkeep.parameters.screening)
        taken.setdefault("the last level's lattice inverted anew", []).append(
            1000 * (time.perf_counter() - begun)
        )
    return {
        name: {"median ms": round(statistics.median(every), 1), "most ms": round(max(every), 1)}
        for name, every in taken.items()
    }


def drift(upkeep: Upkeep) -> Figures:
    """How far nodes are from a rebuild, after random changes and after the next maintenance."""
    rng = np.random.default_rng(29)
    known, folds = np.flatnonzero(upkeep.present), 0
    state, away = upkeep.state, np.empty(0, np.int64)
    for _ in range(CHANGES):
        count = int(rng.choice((1, 10, 100, 1000)))
        gone = np.sort(rng.choice(known[upkeep.present[known]], count, replace=False))
        came, away = away, gone  # what went comes back with the next change
        other = rng.choice(known, count, replace=False)
        shaken = np.sort(other[upkeep.present[other]])
        shaken = np.setdiff1d(shaken, gone)
        upkeep.gates[shaken] = rng.random(len(shaken)).astype(np.float32)
        upkeep.present[came], upkeep.present[gone] = True, False
        base = state.hierarchy.inverse.base
        state = upkeep.changed(state, came=came, gone=gone, shaken=shaken)
        folds += state.hierarchy.inverse.base is not base
    settled = upkeep.changed(state, thorough=True)
    levels = tuple(
        level._replace(changed=np.maximum(level.items, 1)) for level in state.hierarchy.levels
    )
    all_stale = state._replace(hierarchy=state.hierarchy._replace(levels=levels))
    begun = time.perf_counter()
    rebuilt = upkeep.changed(all_stale, thorough=True)
    seconds = time.perf_counter() - begun
    return {
        "changes": CHANGES,
        "nodes": [len(level.items) for level in levels],
        "nodes that changed since they were settled": int(
            sum((level.changed > 0).sum() for level in state.hierarchy.levels)
        ),
        "folds of the inverse": folds,
        "nodes corrected in the inverse": len(state.hierarchy.inverse.touched),
        "every node settled anew, seconds": round(seconds, 1),
        "largest difference": {
            "before maintenance": differences(state, rebuilt, upkeep),
            "after maintenance": differences(settled, rebuilt, upkeep),
        },
    }


def differences(state: Grouped, rebuilt: Grouped, upkeep: Upkeep) -> dict[str, float]:
    """The largest of each kind, between a state and a rebuild of the same shards."""
    assert (state.own == rebuilt.own).all()
    told: dict[str, float] = {}
    for mine, anew in zip(state.hierarchy.levels, rebuilt.hierarchy.levels, strict=True):
        lists = near_nodes(anew.vectors, upkeep.parameters)
        for name, here, there in (
            ("vectors", mine.vectors, anew.vectors),
            ("coherence", mine.coherence, anew.coherence),
            ("null points", mine.null_points, anew.null_points),
            ("anchors", mine.anchors, anew.anchors),
            ("gates, relative", mine.gates / np.maximum(anew.gates, 1e-9), 1.0),
            ("similarity of the nearest others", mine.cosine, lists.cosine),
        ):
            both = np.abs(np.nan_to_num(np.subtract(here, there)))
            told[name] = max(told.get(name, 0.0), float(both.max()))
    graphs = [
        node_graph(one.hierarchy.levels[-1].lists(), upkeep.parameters).base
        for one in (state, rebuilt)
    ]
    gamma = upkeep.parameters.screening
    fresh, own = inverted(graphs[1], gamma), inverted(graphs[0], gamma)
    rng = np.random.default_rng(31)
    for name, exact, graph in (
        ("flow", fresh, graphs[1]),
        ("flow, of the same nodes", own, graphs[0]),
    ):
        told[name] = 0.0
        for _ in range(20):
            sources = rng.choice(len(graph.indptr) - 1, 3, replace=False)
            weights = rng.random(3)
            mine = flow(state.hierarchy.inverse, graphs[0], sources, weights, gamma)
            anew = flow(exact, graph, sources, weights, gamma)
            told[name] = max(told[name], float(np.abs(mine - anew).max() / anew.max()))
    return told


# commits


def without_shards(path: Path) -> Path:
    """Take the shards off a store, which gets none by itself any more."""
    with writer_lock(path, 10.0) as clean:
        manifest = read_current(path)
        names = {name for name in manifest.segments if name.split("/")[0] in _OF_SHARDS}
        change = Change(
            dropped=frozenset(names),
            manifest={
                "parameters": {**manifest.parameters, "shards_from": 1 << 40},
                "features": {name: must for name, must in manifest.features.items()
                             if name != SHARDS},
            },
        )  # fmt: skip
        commit(path, manifest, [change], lambda _: None, clean=clean)
    return path


_OF_SHARDS = {SHARDS, "summaries", *(name.split("/")[0] for name in (BASE, CORRECTED))}


def timed_commits(stores: Mapping[str, osc.Store]) -> Figures:
    """Seconds of commits of new rows, in the stores in turn, and bytes of what is written."""
    first = {name: 2 * len(store) for name, store in stores.items()}
    rows = Rows()
    told: Figures = {}
    for count, repeats in COMMITS.items():
        taken: dict[str, list[float]] = {name: [] for name in stores}
        for repeat in range(repeats + 1):
            for name, store in stores.items():
                batch = rows.table(first[name], count)
                first[name] += count
                begun = time.perf_counter()
                store.ingest(batch)
                if repeat:  # the first one warms up
                    taken[name].append(1000 * (time.perf_counter() - begun))
        told[f"{count:,} rows"] = {
            name: {"median ms": round(statistics.median(every), 1), "most ms": round(max(every), 1)}
            for name, every in taken.items()
        }
    return told


def written_by_commit(store: osc.Store) -> dict[str, float]:
    """MiB of the segments of shards and summaries that the live generation has as its own."""
    manifest = store.current().manifest
    sizes = {
        name: round(entry.bytes / 2**20, 2)
        for name, entry in manifest.segments.items()
        if name.split("/")[0] in _OF_SHARDS and f"{manifest.generation:010d}" in entry.path
    }
    return dict(sorted(sizes.items()))


def keep_up(folder: Path, store: Path | None, anchors: int, report: Report) -> Figures:
    paths = {"with shards": folder / "sharded.osc", "without": folder / "plain.osc"}
    if store is None:
        report("rows and store", 0, None)
        parameters = osc.Parameters(shards_from=1, shard_anchors=SHARD)
        with osc.connect(paths["with shards"], parameters=parameters) as made:
            made.ingest(Rows().table(0, anchors))
    else:
        clone(store, paths["with shards"])
    clone(paths["with shards"], paths["without"])
    without_shards(paths["without"])
    with osc.connect(paths["with shards"]) as sharded, osc.connect(paths["without"]) as plain:
        snapshot = sharded.current()
        assert snapshot.sharded is not None
        report("updates", 0, None)
        upkeep = Upkeep(snapshot)
        figures: Figures = {
            "anchors": len(snapshot),
            "shards": len(snapshot.sharded.levels[0].items),
            "updates": timed_updates(upkeep),
        }
        report("drift", 0, None)
        figures["drift"] = drift(upkeep)
        report("commits", 0, None)
        figures["commits"] = timed_commits({"with shards": sharded, "without": plain})
        figures["MiB of shards in a commit"] = written_by_commit(sharded)
    return figures


# tables

Row = Sequence[str]


def tables(figures: Figures) -> list[tuple[str, Row, list[Row]]]:
    """Title, heading and lines."""
    upkeep = figures["upkeep"]
    size = f"{upkeep['anchors']:,} anchors in {upkeep['shards']:,} shards"
    told = []
    lines: list[Row] = [
        (name, f"{one['median ms']:.0f}", f"{one['most ms']:.0f}")
        for name, one in upkeep["updates"].items()
    ]
    told.append((f"Upkeep in memory, {size}", ("change", "median ms", "most ms"), lines))
    lines = [
        (
            name,
            *(f"{one[kind][what]:.0f}" for kind in ("with shards", "without")
              for what in ("median ms", "most ms")),
        )
        for name, one in upkeep["commits"].items()
    ]  # fmt: skip
    heading = ("commit of", "with shards, median ms", "most ms", "without, median ms", "most ms")
    told.append((f"Commits, {size}", heading, lines))
    drift = upkeep["drift"]["largest difference"]
    lines = [
        (
            name,
            f"{drift['before maintenance'][name]:.1e}",
            f"{drift['after maintenance'][name]:.1e}",
        )
        for name in drift["after maintenance"]
    ]
    title = (
        f"Largest difference to a rebuild of the same shards after {upkeep['drift']['changes']} "
        f"changes ({upkeep['drift']['nodes that changed since they were settled']} nodes stale, "
        f"{upkeep['drift']['nodes corrected in the inverse']} corrected in the inverse, "
        f"{upkeep['drift']['folds of the inverse']} folds)"
    )
    told.append((title, ("of", "before maintenance", "after"), lines))
    return [*told, *many(figures["many"])]


def many(simulated: Sequence[Figures]) -> list[tuple[str, Row, list[Row]]]:
    heading = ("figure", *(f"{one['shards']:,} shards" for one in simulated))
    lines: list[Row] = [
        ("anchors they stand for", *(f"{one['anchors in all']:,}" for one in simulated)),
        ("nodes by level", *(", ".join(f"{count:,}" for count in one["nodes by level"])
                             for one in simulated)),
        *(
            (f"build: {name}, seconds", *(f"{one['build seconds'][name]:.1f}" for one in simulated))
            for name in simulated[0]["build seconds"]
        ),
        *(
            (name, *(f"{one[name]:,.1f}" for one in simulated))
            for name in ("update of one shard: median ms",
                         "– its and its neighbours' nearest shards: median ms",
                         "levels in memory, which a commit writes, MiB",
                         "inverse in memory, MiB", "anonymous memory MiB", "peak MiB")
        ),
    ]  # fmt: skip
    routes: list[Row] = [
        (
            f"{one['shards']:,}", f"{setting['route_shards']}", f"{setting['route_share']}",
            f"{setting['shards']:.0f}", f"{setting['of all, %']:.3f}",
            f"{setting['recall of the shards']:.3f}", f"{setting['the same without levels']:.3f}",
            f"{setting['median ms']:.2f}",
        )
        for one in simulated
        for setting in one["routes"]["settings"]
    ]  # fmt: skip
    return [
        ("Very many shards", heading, lines),
        (
            "Routing among them",
            ("shards", "route_shards", "route_share", "visited", "% of all",
             "holds of the ten nearest", "by all centres", "median ms"),
            routes,
        ),
    ]  # fmt: skip


def print_tables(figures: Figures, console: Console) -> None:
    for title, heading, lines in tables(figures):
        table = Table(title=title)
        for place, name in enumerate(heading):
            table.add_column(name, justify="right" if place else "left")
        for line in lines:
            table.add_row(*line)
        console.print(table)


def markdown(figures: Figures) -> str:
    page = ["# Summary nodes: upkeep, and how far they go\n",
            "`python benchmarks/summaries.py`; the script says what the tables are.\n"]  # fmt: skip
    for title, heading, lines in tables(figures):
        rule = "|".join(["---", *["---:"] * (len(heading) - 1)])
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        page.append(f"## {title}\n\n| {' | '.join(heading)} |\n|{rule}|\n{rows}\n")
    return "\n".join(page)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--store", type=Path, help="a store with shards, in place of a new one")
    parser.add_argument("--anchors", type=int, default=100_000)
    parser.add_argument("--simulate", default="10000,100000", help="numbers of shards")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    with tempfile.TemporaryDirectory() as folder:
        run = in_process(
            keep_up, Path(folder), arguments.store, arguments.anchors, title="upkeep",
            console=console,
        )  # fmt: skip
    figures: Figures = {"upkeep": {**run.result, "memory": run.memory()}, "many": []}
    for shards in map(int, arguments.simulate.split(",")):
        run = in_process(
            simulate, shards, SHARD, arguments.questions, title=f"{shards:,} shards",
            console=console,
        )  # fmt: skip
        figures["many"].append({**run.result, "peak MiB": round(run.anonymous_peak_mib)})
    print_tables(figures, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
