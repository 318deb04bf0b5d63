"""A lattice kept up through any changes is the one built from nothing on what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upkeep_model import Model, Row, built, same_arrays, survivors

from oscillink_store.lattice import corpus as corpora
from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.relations import knn, link, sequence, shared
from oscillink_store.model import RELATION_MASK, Parameters

IDS = [f"a{number}" for number in range(9)]
NAMES = ["Red fox", "Red fox (2)", "Grand Hotel", "Hotel", "New York", "New York City", None]
WORDS = ["Red Fox", "Grand Hotel", "New York City", "New York", "Blue Note", "and", "\n\n", "."]
# unit rows that tie, differ by a bit, oppose and are orthogonal to one another
VECTORS = [
    (1.0, 0.0), (0.0, 1.0), (0.6, 0.8), (0.8, 0.6), (0.6, 0.8000001), (-0.6, 0.8), (-1.0, 0.0),
    (0.28, 0.96),
]  # fmt: skip

anchors = st.builds(
    Row,
    id=st.sampled_from(IDS),
    text=st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
    title=st.sampled_from(NAMES),
    vector=st.sampled_from(VECTORS),
    sequence=st.sampled_from(["s", "t", None]),
    position=st.sampled_from([None, 0.0, 1.0, 2.5]),
    links=st.none() | st.lists(st.sampled_from([*IDS, "nobody"]), max_size=3),
)
steps = st.tuples(
    st.lists(anchors, max_size=5, unique_by=lambda row: row.id),
    st.lists(st.sampled_from(IDS), max_size=3),
    st.sampled_from(["", "", "", "fold", "merge", "compact"]),
)
parameters = st.builds(
    Parameters,
    knn_neighbors=st.integers(1, 4),
    knn_spares=st.integers(0, 2),
    title_max_anchors=st.integers(1, 3),
    shared_min_frequency=st.integers(1, 3),
    shared_max_frequency=st.integers(2, 5),
)


def check(model: Model, seed: int) -> None:
    """The same lattice, operator and count of loose links as from nothing."""
    anew = model.rebuilt()
    ours, theirs = survivors(model.graph, model.alive), survivors(anew.graph, anew.alive)
    same_arrays(ours, theirs)
    assert model.dangling == anew.dangling
    x = np.random.default_rng(seed).standard_normal(len(model.rows))
    kept = laplacian_times(model.graph.base, x)
    for terms in model.terms:
        flow = terms.delta * (x[terms.source] - x[terms.target])
        np.add.at(kept, terms.source, flow)
        np.add.at(kept, terms.target, -flow)
    there = model.alive != 0
    assert np.abs(kept[~there]).max(initial=0.0) < 1e-9
    np.testing.assert_allclose(kept[there], laplacian_times(theirs, x[there]), atol=1e-9)


def laplacian_times(graph: Csr, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(D − A)x over all relations, for a graph over the first anchors or all of them."""
    rows = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
    flow = graph.weights * (x[rows] - x[graph.indices])
    # of nothing it counts whole numbers
    return np.bincount(rows, flow, minlength=len(x)).astype(np.float64)


def act(model: Model, action: str) -> None:
    if action == "fold":
        model.fold()
    elif action == "merge":
        model.merge(2)
    elif action == "compact":
        model.compact()


@settings(max_examples=80)
@given(parameters, st.lists(steps, min_size=1, max_size=7), st.integers(0, 99))
def test_any_changes_give_the_lattice_built_from_nothing(
    chosen: Parameters, changes: list[tuple[list[Row], list[str], str]], seed: int
) -> None:
    model = Model(parameters=chosen)
    for added, removed, action in changes:
        model.apply(added, removed)
        check(model, seed)
        if action:
            act(model, action)
            check(model, seed)


@settings(max_examples=30)
@given(parameters, st.lists(steps, min_size=1, max_size=5))
def test_keys_that_collide_change_nothing(
    chosen: Parameters, changes: list[tuple[list[Row], list[str], str]]
) -> None:
    """Ids and sequences are told apart by themselves: keys only find them."""
    expected, found = [], []
    for results, few in ((expected, False), (found, True)):
        with pytest.MonkeyPatch.context() as patch:
            if few:
                collide(patch)
            model = Model(parameters=chosen)
            for added, removed, action in changes:
                model.apply(added, removed)
                act(model, action)
                results.append((survivors(model.graph, model.alive), model.dangling))
    for (ours, dangling), (theirs, expected_dangling) in zip(found, expected, strict=True):
        assert dangling == expected_dangling
        for code in (0, 2):  # next, link
            mine, other = (
                ours.relation & RELATION_MASK == code,
                theirs.relation & RELATION_MASK == code,
            )
            assert np.array_equal(ours.indices[mine], theirs.indices[other])
            assert np.array_equal(ours.relation[mine], theirs.relation[other])


def collide(patch: pytest.MonkeyPatch) -> None:
    from oscillink_store.kernels.hashing import keys_of
    from oscillink_store.lattice import indexing

    for module in (indexing, sequence, link):
        patch.setattr(module, "keys_of", lambda strings: keys_of(strings) % np.uint64(2))


def count_calls(patch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """What a function is called with first, from now on."""
    calls: list[Any] = []
    real = getattr(module, name)

    def counted(first: Any, *rest: Any) -> Any:
        calls.append(first)
        return real(first, *rest)

    patch.setattr(module, name, counted)
    return calls


def random_rows(rng: np.random.Generator, numbers: npt.ArrayLike, pool: npt.NDArray) -> list[Row]:
    return [
        Row(id=f"a{number}", vector=pool[rng.integers(len(pool))]) for number in np.unique(numbers)
    ]


@pytest.mark.parametrize("copies", [1, 6, 40])
@pytest.mark.parametrize("spares", [0, 3])
def test_nearest_neighbours_among_many_equal_vectors(
    copies: int, spares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = count_calls(monkeypatch, knn, "research")
    rng = np.random.default_rng(copies + spares)
    pool = rng.standard_normal((240 // copies, 5)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    model = Model(parameters=Parameters(knn_neighbors=4, knn_spares=spares))
    # a few first, whose lists hold all others, then many at once, then many fewer
    for batch, (came, gone) in enumerate(
        [(3, 0), (1, 0), (90, 0), (1, 1), (5, 40), (0, 12), (150, 4), (2, 60), (90, 20), (0, 60)]
    ):
        numbers = rng.integers(0, 200, came)
        there = np.flatnonzero(model.alive)
        lost = rng.choice(there, min(gone, len(there)), replace=False)
        model.apply(random_rows(rng, numbers, pool), [model.rows[slot].id for slot in lost])
        check(model, batch)
        if batch % 4 == 3:
            model.merge(3)
        if batch == 6:
            model.compact()
        check(model, batch)
    assert np.count_nonzero(model.alive) > 10
    assert searched


def test_lists_stay_short_and_logs_do_not_grow_with_every_arrival() -> None:
    rng = np.random.default_rng(3)
    pool = rng.standard_normal((2000, 6)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    model = Model(parameters=Parameters(knn_neighbors=3, knn_spares=2))
    for first in range(0, 600, 20):
        model.apply([Row(id=f"a{n}", vector=pool[n]) for n in range(first, first + 20)])
    per_row = np.bincount(model.log.rows, minlength=600)
    # the first anchors' lists held everybody: they took the floor of the best K in time
    assert per_row[:20].max() < 60
    check(model, 0)


@pytest.mark.parametrize("relation", [sequence, shared, knn])
def test_a_change_concerns_few_rows(relation: object) -> None:
    rng = np.random.default_rng(8)
    pool = rng.standard_normal((3000, 12)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    rows = [
        Row(
            id=f"a{n}", vector=pool[n], sequence=f"s{n % 5}", position=float(n),
            text=f"House N{n % 700} and Grand Hotel",
        )
        for n in range(2000)
    ]  # fmt: skip
    model = built(rows)
    done = model.apply(
        [Row(id="new", vector=pool[2500], sequence="s1", position=500.5, text="House N3 is Blue")]
    )
    code = (sequence, None, link, shared, knn).index(relation)
    assert 0 < len(done.arcs[code].rows) < 100
    check(model, 1)


def test_a_corpus_gives_rows_of_its_parts_in_any_order() -> None:
    model = Model(parameters=Parameters())
    for first in (0, 3, 7):
        model.apply([Row(id=f"a{first + n}", position=float(first + n)) for n in range(3)])
    slots = np.array([8, 0, 3, 3, 5])
    corpus = model.corpus()
    assert corpus.slots == 9
    expected = np.array([9.0, 0.0, 3.0, 3.0, 5.0])
    np.testing.assert_array_equal(corpus.per_slot("positions", slots), expected)
    assert corpus.per_slot("vectors", slots).shape == (5, 2)
    before, after = np.array([1, 1, 0, 0], np.uint8), np.array([0, 1, 0, 1], np.uint8)
    change = corpora.Change(corpus=corpus, before=before, after=after)
    assert (change.removed.tolist(), change.added.tolist()) == ([0], [3])
