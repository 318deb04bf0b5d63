"""The strongest paths against all simple paths of small graphs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.graph import Adjacency
from oscillink_store.lattice.paths import Paths, strongest_paths

SCREENING = 0.5


def csr(n: int, edges: dict[tuple[int, int], float]) -> Adjacency:
    both = sorted(
        [(i, j, w) for (i, j), w in edges.items()] + [(j, i, w) for (i, j), w in edges.items()]
    )
    indptr = np.zeros(n + 1, np.int64)
    for i, _, _ in both:
        indptr[i + 1] += 1
    return Adjacency(
        np.cumsum(indptr),
        np.array([j for _, j, _ in both], np.int32),
        np.array([w for _, _, w in both], np.float64),
    )


def factor(adjacency: Adjacency, scale: np.ndarray, i: int, j: int) -> float:
    entries = slice(adjacency.indptr[i], adjacency.indptr[i + 1])
    (at,) = np.flatnonzero(adjacency.indices[entries] == j)
    return float(adjacency.weights[entries][at] * scale[i] * scale[j] / (1.0 + SCREENING))


def best_by_hand(adjacency: Adjacency, scale: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The largest strength of each node over every simple path that passes no other source."""
    best = sources.copy()

    def walk(node: int, strength: float, passed: set[int]) -> None:
        for other in adjacency.indices[
            adjacency.indptr[node] : adjacency.indptr[node + 1]
        ].tolist():
            if other not in passed and sources[other] == 0.0:
                onward = strength * factor(adjacency, scale, node, other)
                best[other] = max(best[other], onward)
                walk(other, onward, passed | {other})

    for source in np.flatnonzero(sources).tolist():
        walk(source, float(sources[source]), {source})
    return best


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Adjacency, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 6))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    # few different weights, so that there are ties
    weight = st.sampled_from([0.125, 0.25, 1.0]) | st.floats(0.01, 3.0)
    edges = draw(st.dictionaries(st.sampled_from(pairs), weight)) if pairs else {}
    adjacency = csr(n, edges)
    degrees = np.array(
        [adjacency.weights[adjacency.indptr[i] : adjacency.indptr[i + 1]].sum() for i in range(n)]
    ) + np.array(draw(st.lists(st.sampled_from([0.0, 2.0]), min_size=n, max_size=n)))
    trust = np.array(draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n)))
    scale = np.where(degrees > 0.0, trust / np.sqrt(np.where(degrees > 0.0, degrees, 1.0)), 0.0)
    sources = st.sampled_from([0.0, 0.0, 1.0]) | st.floats(0.001, 1.0)
    return adjacency, scale, np.array(draw(st.lists(sources, min_size=n, max_size=n)))


@given(graphs())
def test_no_path_is_stronger(drawn: tuple[Adjacency, np.ndarray, np.ndarray]) -> None:
    adjacency, scale, sources = drawn
    paths = strongest_paths(adjacency, scale, sources, SCREENING)
    assert paths.strength.tolist() == best_by_hand(adjacency, scale, sources).tolist()


@given(graphs())
def test_each_path_is_as_strong_as_it_says(
    drawn: tuple[Adjacency, np.ndarray, np.ndarray],
) -> None:
    adjacency, scale, sources = drawn
    paths = strongest_paths(adjacency, scale, sources, SCREENING)
    for node in range(len(sources)):
        path = paths.to(node)
        assert paths.hops[node] == len(path) - 1
        if not path:
            assert paths.strength[node] == 0.0
            continue
        assert path[-1] == node
        assert [sources[step] > 0.0 for step in path] == [True] + [False] * (len(path) - 1)
        strength = sources[path[0]]
        for one, other in pairwise(path):
            strength = strength * factor(adjacency, scale, one, other)
        assert paths.strength[node] == strength


def chain(*edges: tuple[int, int, float], sources: dict[int, float]) -> Paths:
    n = 1 + max(max(i, j) for i, j, _ in edges)
    weights = np.zeros(n)
    weights[list(sources)] = list(sources.values())
    adjacency = csr(n, {(i, j): w for i, j, w in edges})
    return strongest_paths(adjacency, np.full(n, 0.5), weights, SCREENING)


def test_a_detour_over_strong_edges_beats_a_weak_edge() -> None:
    paths = chain((0, 1, 3.0), (1, 2, 3.0), (0, 2, 0.5), sources={0: 1.0})
    assert paths.to(2) == [0, 1, 2]
    assert paths.strength[2] == pytest.approx((3.0 * 0.25 / 1.5) ** 2)


def test_of_equal_paths_the_one_with_fewer_edges_is_taken() -> None:
    # 0-3-4 has the strength of 1-2-5-4, whose source is as much stronger
    step = 1.5 * 0.25 / 1.5
    paths = chain(
        (0, 3, 1.5), (3, 4, 1.5), (1, 2, 1.5), (2, 5, 1.5), (5, 4, 1.5),
        sources={0: step, 1: 1.0},
    )  # fmt: skip
    assert paths.to(4) == [0, 3, 4]


def test_of_equal_paths_the_one_over_the_lower_node_is_taken() -> None:
    assert chain((0, 1, 1.0), (0, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0), sources={0: 1.0}).to(3) == [
        0, 1, 3,
    ]  # fmt: skip


def test_a_path_begins_at_the_last_source_on_it() -> None:
    paths = chain((0, 1, 3.0), (1, 2, 3.0), sources={0: 1.0, 1: 0.001})
    assert paths.to(2) == [1, 2]
    assert paths.hops.tolist() == [0, 0, 1]
