"""Very many shards without the anchors in them, for benchmarks/summaries.py.

There is a quarter as many clusters (``rows.Clustered``, with as many to a field as there) as
shards: each cluster is cut into four, around centres found among 256 of its anchors as a store
finds them among all. So shards lie next to each other, with anchors near to a question on both
sides. A core's vector is off its centre by what the mean of half of the anchors is. Anchors are
drawn when they are asked for, always the same, and have no lattice; those of a shard are the
ones of its cluster that are most similar to its centre.

What is nearest to a question is looked for among all anchors of the clusters whose centres are
nearest to it, so many that the last ones hold none of the ten. An anchor's shard is, as in a
store, the one whose centre, of all, is most similar.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from common import Report, memory_mib
from rows import DIMENSION, Clustered, Vectors

from oscillink_store.kernels.cells import make_cells
from oscillink_store.kernels.dense import products
from oscillink_store.lattice.graph import TypedGraph, empty_graph
from oscillink_store.lattice.hierarchy import Shift, updated
from oscillink_store.lattice.levels import Grouped, Hierarchy, Inverse, Level, node_graph
from oscillink_store.lattice.routing import descend
from oscillink_store.lattice.superlattice import near_nodes
from oscillink_store.model import Parameters

ROUTES = ((4, 0.0), (16, 0.0), (64, 0.0), (4, 0.02))
CUT, SAMPLE = 4, 256  # shards to a cluster, and anchors by which it is cut
LOOKED = 4  # clusters in which the nearest are looked for
SPREAD = 0.76  # the length of an anchor's deviation from its centre

Rows = npt.NDArray[np.int64]
Figures = dict[str, Any]


class World(Clustered):
    """Shards of so many anchors each; anchor i is in shard i // anchors."""

    def __init__(self, shards: int, anchors: int, report: Report) -> None:
        self.shards = shards
        self.clusters = -(-shards // CUT)
        self.fields = max(1, round(Clustered.fields * self.clusters / Clustered.clusters))
        super().__init__()
        self.anchors = anchors
        self.of_cluster = lru_cache(maxsize=64)(self._draw)
        self.centres = np.empty((CUT * self.clusters, DIMENSION), np.float32)
        for cluster in range(self.clusters):
            report("centres", cluster, self.clusters)
            sample = self._draw(cluster, SAMPLE)
            self.centres[CUT * cluster : CUT * cluster + CUT] = make_cells(sample, CUT).centres
        self.centres = self.centres[:shards]

    def _draw(self, cluster: int, count: int) -> Vectors:
        rng = np.random.default_rng([17, cluster])
        return self.around(rng, np.full(count, cluster))

    def of_shard(self, shard: int) -> Vectors:
        """The anchors of a shard."""
        vectors = self.of_cluster(shard // CUT, CUT * self.anchors)
        order = np.argsort(-products(vectors, self.centres[shard]), kind="stable")
        return vectors[order[: self.anchors]]

    def take(self, rows: Rows) -> Vectors:
        shards, places = np.divmod(rows, self.anchors)
        vectors = np.empty((len(rows), DIMENSION), np.float32)
        for shard in np.unique(shards).tolist():
            mine = shards == shard
            vectors[mine] = self.of_shard(shard)[places[mine]]
        return vectors

    def level(self) -> Level:
        """The shards' summary nodes, without their nearest others."""
        rng = np.random.default_rng(19)
        error = SPREAD / np.sqrt(self.anchors / 2 * DIMENSION)
        cores = self.centres + error * rng.standard_normal(self.centres.shape)
        count, none = self.shards, np.zeros(self.shards)
        whole = np.full(count, self.anchors)
        return Level(
            centres=self.centres, vectors=_unit(cores), items=whole, anchors=whole.copy(),
            weights=whole.astype(np.float64), held=np.ones(count, np.float32), coherence=none,
            edges=none.astype(np.int64), null_points=none.astype(np.int64), delta_h=none.copy(),
            generation=none.astype(np.int64), changed=none.astype(np.int64),
            parents=np.empty(0, np.int32), near=np.empty((0, 0), np.int32),
            cosine=np.empty((0, 0), np.float32),
        )  # fmt: skip


class _Anchors:
    """The anchors of a world as the items of the first level, all of them trusted."""

    def __init__(self, world: World) -> None:
        self.take = world.take

    def among(self, rows: Rows) -> TypedGraph:  # noqa: ARG002
        return empty_graph()

    def gates(self, rows: Rows) -> Vectors:
        return np.ones(len(rows), np.float32)

    def anchors(self, rows: Rows) -> Rows:
        return np.ones(len(rows), np.int64)

    def weights(self, rows: Rows) -> npt.NDArray[np.float64]:
        return np.ones(len(rows))


def _unit(rows: npt.NDArray[np.float64]) -> Vectors:
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def simulate(shards: int, anchors: int, questions: int, report: Report) -> Figures:
    """Build the levels over so many shards, update one shard, and route questions."""
    parameters = Parameters(shard_anchors=anchors)
    world = World(shards, anchors, report)
    level, seconds = world.level(), {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        report(name, 0, None)
        begun = time.perf_counter()
        made = work()
        seconds[name] = round(time.perf_counter() - begun, 3)
        return made

    lists = timed("nearest shards", lambda: near_nodes(level.vectors, parameters))
    level = level._replace(near=lists.nodes, cosine=lists.cosine)
    own = np.repeat(np.arange(shards, dtype=np.int32), anchors)
    present, none = np.ones(len(own), np.bool_), np.empty(0, np.int64)
    blank = Inverse(
        np.empty((0, 0)), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0), none,
        np.empty((0, 0)),
    )  # fmt: skip
    before = Grouped(own, Hierarchy((level,), blank))
    built = timed(
        "levels above",
        lambda: updated(
            before, _Anchors(world), Shift(present, none, none, none), generation=1,
            parameters=parameters,
        ),
    )  # fmt: skip
    taken = []
    for shard in np.linspace(0, shards - 1, 5).astype(int).tolist():
        world.of_shard(shard)  # to draw its cluster is no part of an update
        gone = shard * anchors + np.arange(10)
        left = present.copy()
        left[gone] = False
        begun = time.perf_counter()
        updated(
            built, _Anchors(world), Shift(left, none, gone, none), generation=2,
            parameters=parameters,
        )  # fmt: skip
        taken.append(1000 * (time.perf_counter() - begun))
    anonymous = round(memory_mib("RssAnon"))
    searched = []
    for shard in range(5):
        begun = time.perf_counter()
        near_nodes(level.vectors, parameters, lists, np.array([shard]))
        searched.append(1000 * (time.perf_counter() - begun))
    hierarchy = built.hierarchy
    written = sum(array.nbytes for each in hierarchy.levels for array in each)
    return {
        "shards": shards,
        "anchors in all": len(own),
        "nodes by level": [len(each.items) for each in hierarchy.levels],
        "build seconds": seconds,
        "update of one shard: median ms": round(float(np.median(taken)), 1),
        "– its and its neighbours' nearest shards: median ms": round(float(np.median(searched)), 1),
        "levels in memory, which a commit writes, MiB": round(written / 2**20, 1),
        "inverse in memory, MiB": round(hierarchy.inverse.base.nbytes / 2**20, 1),
        "anonymous memory MiB": anonymous,
        "routes": _routes(world, hierarchy, parameters, questions, report),
    }


def _routes(
    world: World, hierarchy: Hierarchy, parameters: Parameters, count: int, report: Report
) -> Figures:
    rng = np.random.default_rng(23)
    centres = hierarchy.levels[0].centres
    graph = node_graph(hierarchy.levels[-1].lists(), parameters).base
    asked, homes, ranks = [], [], []
    for place in range(count):
        report("questions", place, count)
        cluster = int(rng.integers(0, world.clusters))
        anchor = world.of_cluster(cluster, CUT * world.anchors)[rng.integers(0, world.anchors)]
        psi = anchor + 0.4 / np.sqrt(DIMENSION) * rng.standard_normal(DIMENSION)
        psi = (psi / np.linalg.norm(psi)).astype(np.float32)
        best = np.argsort(-(world.centers @ psi), kind="stable")[:LOOKED].tolist()
        vectors = np.concatenate([world.of_cluster(one, CUT * world.anchors) for one in best])
        top = np.argsort(-products(vectors, psi), kind="stable")[:10]
        ranks.append(1 + int(top.max()) // (CUT * world.anchors))
        asked.append(psi)
        homes.append((vectors[top] @ centres.T).argmax(axis=1))
    told: Figures = {
        "questions": count,
        f"the last cluster of {LOOKED} with one of the ten": max(ranks),
        "settings": [],
    }
    for few, share in ROUTES:
        setting = replace(parameters, route_shards=few, route_share=share)
        found, chosen, taken = [], [], []
        for psi, home in zip(asked, homes, strict=True):
            begun = time.perf_counter()
            layers = descend(hierarchy, graph, psi, 200, setting)
            taken.append(1000 * (time.perf_counter() - begun))
            found.append(float(np.isin(home, layers[-1].chosen).mean()))
            chosen.append(len(layers[-1].chosen))
        exact = [
            float(np.isin(home, np.argsort(-products(centres, psi), kind="stable")[:number]).mean())
            for psi, home, number in zip(asked, homes, chosen, strict=True)
        ]
        told["settings"].append(
            {
                "route_shards": few,
                "route_share": share,
                "shards": round(float(np.mean(chosen)), 1),
                "of all, %": round(100 * float(np.mean(chosen)) / world.shards, 3),
                "recall of the shards": round(float(np.mean(found)), 4),
                "the same without levels": round(float(np.mean(exact)), 4),
                "median ms": round(float(np.median(taken)), 2),
            }
        )
    return told
