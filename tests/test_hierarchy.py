"""The upkeep of levels by itself: anchors that come and go, without a store around them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from oscillink_store import Parameters
from oscillink_store.lattice import hierarchy, summary
from oscillink_store.lattice.graph import empty_graph
from oscillink_store.lattice.hierarchy import Anchors, Shift, stale, updated
from oscillink_store.lattice.levels import Grouped, node_graph
from oscillink_store.lattice.summary import Items, summarize

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

PARAMETERS = Parameters(shard_anchors=4, max_nodes=4, knn_neighbors=3)
NONE = np.empty(0, np.int64)


def unit(rng: np.random.Generator, count: int, dimension: int = 6) -> Floats:
    vectors = rng.standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Anchors without edges of their own; ``asked`` are the rows that vectors were asked for."""

    def __init__(self, vectors: Floats) -> None:
        self.vectors = vectors
        self.present = np.zeros(len(vectors), np.bool_)
        self.asked = NONE
        self.grouped: Grouped | None = None
        self.generation = 0

    def take(self, rows: Rows) -> Floats:
        self.asked = np.concatenate([self.asked, rows])
        return self.vectors[rows]

    def change(
        self, came: Rows = NONE, gone: Rows = NONE, *, thorough: bool = False,
        codes: npt.NDArray[np.int32] | None = None, values: int = 0,
    ) -> Grouped:  # fmt: skip
        self.present[came], self.present[gone] = True, False
        self.generation += 1
        ones = np.ones(len(self.vectors), np.float32)
        below = Anchors(empty_graph(), self.take, lambda rows: ones[rows])
        self.grouped = updated(
            self.grouped, below, Shift(self.present.copy(), came, gone, NONE, codes, values),
            generation=self.generation, parameters=PARAMETERS, thorough=thorough,
        )  # fmt: skip
        return self.grouped


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchy, "CHILDREN", 8)
    monkeypatch.setattr(hierarchy, "_AT_ONCE", 2)


@pytest.mark.parametrize("seed", range(4))
def test_nodes_above_know_the_edges_below_them(seed: int) -> None:
    """An edge between two nodes goes when a third one comes near, which neither is."""
    rng = np.random.default_rng(seed)
    world = World(unit(rng, 400))
    world.change(np.arange(300))
    for start in range(300, 340, 5):
        gone = np.sort(rng.choice(300, 2, replace=False))
        world.change(np.arange(start, start + 5), gone[world.present[gone]])
    found = world.change(thorough=True)
    assert not stale(found.hierarchy)
    assert len(found.hierarchy.levels) >= 3
    for below, level in pairwise(found.hierarchy.levels):
        graph = node_graph(below.lists(), PARAMETERS)
        for node in range(len(level.items)):
            rows = np.flatnonzero(below.parents == node)
            gates = below.gates[rows].astype(np.float32)
            wanted = summarize(Items(rows, below.vectors[rows], gates, graph), PARAMETERS)
            assert (level.edges[node], level.null_points[node]) == wanted[2:4]
            assert level.coherence[node] == pytest.approx(wanted.coherence, abs=1e-6)


def test_what_changed_most_is_settled_first_and_the_rest_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hierarchy, "_AT_ONCE", 1)
    monkeypatch.setattr(hierarchy, "_MUCH", 0)
    centres = np.eye(6, dtype=np.float32)
    world = World(np.concatenate([np.repeat(centres, 4, axis=0), centres[[0, 0, 1, 2]]]))
    world.change(np.arange(24))
    shard = world.change(np.arange(24, 28)).own[24:]
    shards = [int(own) for own in shard[[0, 2, 3]]]
    for settled in ([2, 1, 1], [2, 3, 1], [2, 3, 4]):  # generations, as they go by
        levels = (world.grouped or world.change()).hierarchy.levels
        assert levels[0].generation[shards].tolist() == settled
        changed = [0 if generation > 1 else 1 for generation in settled]
        assert levels[0].changed[shards].tolist() == changed
        world.change()
    assert not stale((world.grouped or world.change()).hierarchy)


def test_a_gate_set_on_a_group_holds_for_its_pieces() -> None:
    rng = np.random.default_rng(0)
    world = World(unit(rng, 60))
    first = world.change(np.arange(8))
    assert len(first.hierarchy.levels[0].items) == 1
    held = first.hierarchy.levels[0]._replace(held=np.array([0.25], np.float32))
    world.grouped = first._replace(hierarchy=first.hierarchy._replace(levels=(held,)))
    level = world.change(np.arange(8, 12)).hierarchy.levels[0]
    assert len(level.items) > 1
    assert level.held.tolist() == [0.25] * len(level.items)
    np.testing.assert_allclose(level.gates, 0.25)


def test_nothing_grows_out_from_under_a_gate() -> None:
    """Wherever shards and regions are divided, their pieces hang below the same gates."""
    rng = np.random.default_rng(1)
    world = World(unit(rng, 700, 3))
    levels = list(world.change(np.arange(100)).hierarchy.levels)
    assert len(levels) > 1
    suppressed = np.zeros(len(levels[1].items), np.float32)
    suppressed[1:] = 1.0
    levels[1] = levels[1]._replace(held=suppressed)
    grouped = world.change()
    world.grouped = grouped._replace(hierarchy=grouped.hierarchy._replace(levels=tuple(levels)))
    below = set(np.flatnonzero(through(world) == 0.0).tolist())
    assert 0 < len(below) < 100
    for start in range(100, 700, 75):
        world.change(np.arange(start, start + 75))
        now = set(np.flatnonzero(through(world) == 0.0).tolist())
        assert below <= now
        assert not (now - below) & set(range(start))
        below = now
    assert world.grouped is not None
    assert len(world.grouped.hierarchy.levels) > 2


def through(world: World) -> npt.NDArray[np.float64]:
    """By anchor the product of the gates above it; 1 where there is none."""
    assert world.grouped is not None
    gates, own = np.ones(len(world.vectors)), world.grouped.own.copy()
    for level in world.grouped.hierarchy.levels:
        gates[own >= 0] *= level.held[own[own >= 0]]
        own[own >= 0] = level.parents[own[own >= 0]]
    return gates


def test_of_a_large_group_by_value_few_vectors_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "_MOST", 30)
    world = World(unit(np.random.default_rng(0), 2000))
    codes = np.zeros(2000, np.int32)
    world.change(np.arange(1990), codes=codes, values=1)
    world.asked = NONE
    found = world.change(np.arange(1990, 2000), codes=codes, values=1)
    assert found.hierarchy.levels[0].items.tolist() == [2000]
    assert found.hierarchy.levels[0].changed.tolist() == [0]
    assert len(world.asked) <= 100


def test_many_shards_have_a_level_above_them_which_grows_with_them() -> None:
    world = World(unit(np.random.default_rng(2), 900, 3))
    found = world.change(np.arange(12))
    assert len(found.hierarchy.levels) == 1
    for start in range(12, 900, 74):
        found = world.change(np.arange(start, start + 74))
        levels = found.hierarchy.levels
        assert len(levels[-1].items) <= PARAMETERS.max_nodes
        assert levels[0].items.sum() == levels[-1].anchors.sum() == start + 74
        assert levels[0].items.max() <= 8
        for below, level in pairwise(levels):
            assert level.items.max() <= 16
            assert (
                level.items.tolist()
                == np.bincount(below.parents, minlength=len(level.items)).tolist()
            )
        assert len(found.hierarchy.inverse.indptr) - 1 <= len(levels[-1].items)
    assert len(levels) > 2
