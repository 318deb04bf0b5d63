"""Each relation on small corpora whose edges are known by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upkeep_model import Model, Row, built, edges_of

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.relations import shared
from oscillink_store.model import IN, OUT, RELATION_MASK, RELATIONS, Parameters

Pairs = dict[tuple[int, int], float]


def rows(
    texts: Sequence[str] = (),
    *,
    count: int | None = None,
    titles: Sequence[str | None] | None = None,
    vectors: np.ndarray | None = None,
    sequences: Sequence[str | None] | None = None,
    positions: Sequence[float | None] | None = None,
    links: Sequence[Sequence[str] | None] | None = None,
) -> list[Row]:
    """Anchors a0, a1, … from columns, of which any may be left out."""
    columns = {
        "text": texts or None, "title": titles, "vector": vectors, "sequence": sequences,
        "position": positions, "links": links,
    }  # fmt: skip
    given = {name: column for name, column in columns.items() if column is not None}
    size = count if count is not None else max(map(len, given.values()))
    return [
        Row(id=f"a{at}", **{name: column[at] for name, column in given.items()})
        for at in range(size)
    ]


def joined(relation: str, given: Sequence[Row], parameters: Parameters | None = None) -> Pairs:
    """The edges of one relation, by their ends."""
    edges = edges_of(built(given, parameters), relation)
    assert edges.weight.dtype == np.float32
    pairs = zip(edges.source.tolist(), edges.target.tolist(), strict=True)
    return dict(zip(pairs, edges.weight.tolist(), strict=True))


def arcs(relation: str, model: Model) -> set[tuple[int, int]]:
    """Who points at whom."""
    whole = model.graph.entries(np.arange(len(model.rows)))
    mine = (whole.relation & RELATION_MASK) == RELATIONS.index(relation)
    out = mine & ((whole.relation & OUT) != 0)
    into = mine & ((whole.relation & IN) != 0)
    found = set(zip(whole.sources()[out].tolist(), whole.indices[out].tolist(), strict=True))
    assert found == set(
        zip(whole.indices[into].tolist(), whole.sources()[into].tolist(), strict=True)
    )
    return found


# next


def test_next_joins_neighbours_by_position_within_each_sequence() -> None:
    given = rows(
        sequences=["a", "b", "a", None, "a", "b", None], positions=[3, 1.5, 1, 1, 2, -4, 2]
    )
    assert joined("next", given) == {(2, 4): 1, (0, 4): 1, (1, 5): 1}
    assert arcs("next", built(given)) == {(2, 4), (4, 0), (5, 1)}


def test_next_takes_the_order_of_arrival_where_positions_are_missing_or_equal() -> None:
    assert joined("next", rows(sequences=["a"] * 3)) == {(0, 1): 1, (1, 2): 1}
    mixed = rows(sequences=["a"] * 5, positions=[None, 7, 7, float("nan"), 1])
    # 4 (1), 1 (7), 2 (7), 0, 3
    assert joined("next", mixed) == {(1, 4): 1, (1, 2): 1, (0, 2): 1, (0, 3): 1}


# link


def test_link_is_undirected_and_counts_what_dangles() -> None:
    links = [["a1", "a2", "a2"], ["a0"], None, ["a3", "gone", "gone"], ["gone"], []]
    given = rows(links=links)
    assert joined("link", given) == {(0, 1): 1, (0, 2): 1}
    model = built(given)
    assert arcs("link", model) == {(0, 1), (0, 2), (1, 0)}
    assert model.dangling == 2
    assert built(rows(count=3)).dangling == 0


# shared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He met Barack Obama there.", {"barack obama"}),
        (
            "New York City Hall",
            {
                "new york", "york city", "city hall", "new york city", "york city hall",
                "new york city hall",
            },
        ),
        ("Paris, France. Rome", set()),
        ("New\nYork", {"new york"}),
        ("New\n\nYork", set()),
        ("McDonald's Corporation", {"mcdonald's corporation"}),
        ("Jean-Luc Picard", {"jean-luc picard"}),
        ("eBay Inc and xNew York", set()),
        ("Élan Vital and ΑΘΗΝΑ ΕΛΛΑΣ", {"élan vital", "αθηνα ελλασ"}),
        ("no capitals at all", set()),
        ("東京 京都", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_phrases(text: str, expected: set[str]) -> None:
    assert shared.phrases(text) == expected


@given(st.lists(st.text("AbZ9é \n\t\x1c-\u2019'_.", max_size=30), max_size=5))
def test_keys_of_phrases(texts: list[str]) -> None:
    """Of texts of ASCII, in which a kernel finds them, and of others."""
    keys, counts = shared.phrase_keys(texts)
    assert len(keys) == counts.sum()
    found = np.split(keys, np.cumsum(counts)[:-1]) if texts else []
    for text, mine in zip(texts, found, strict=True):
        assert set(mine.tolist()) == set(keys_of(list(shared.phrases(text))).tolist())


def test_shared_joins_texts_by_their_rarest_common_phrase() -> None:
    given = rows(
        ["Marie Curie won."] * 2 + ["It was marie curie's. Marie Curie!", "x", "MARIE CURIE", "y"],
        titles=[None, None, "Nobel Prize", "Nobel Prize", None, "Nobel prize"],
    )
    # four texts: 2^−2, and two: 2^−1
    four = {(0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (2, 4)}
    assert joined("shared", given) == dict.fromkeys(four, 0.25) | {(2, 3): 0.5}
    assert all(later > earlier for later, earlier in arcs("shared", built(given)))
    both = rows(["Ada Lovelace met Charles Babbage"] * 2 + ["Ada Lovelace"] * 2)
    assert joined("shared", both)[0, 1] == 0.5
    assert joined("shared", both)[0, 2] == 0.25


@pytest.mark.parametrize(("count", "weight"), [(2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (20, 4)])
def test_shared_weights_halve_with_every_doubling(count: int, weight: int) -> None:
    assert set(joined("shared", rows(["Grand Hotel"] * count)).values()) == {2.0**-weight}


def test_phrases_that_are_too_frequent_or_too_rare_join_nothing() -> None:
    assert len(joined("shared", rows(["Grand Hotel"] * 21))) == 0
    assert len(joined("shared", rows(["Grand Hotel"] * 20))) == 190
    few = Parameters(shared_min_frequency=3, shared_max_frequency=4)
    texts = ["Grand Hotel, Blue Note", "Grand Hotel, Blue Note", "Grand Hotel", "Grand Hotel"]
    assert set(joined("shared", rows(texts), few).values()) == {0.25}
    alone = Parameters(shared_min_frequency=1, shared_max_frequency=1)
    assert len(joined("shared", rows(["Grand Hotel", "Blue Note"]), alone)) == 0


def test_a_title_is_not_run_together_with_the_text() -> None:
    given = rows(["Capital of France", "Is Paris Capital"], titles=["Paris", None])
    assert len(joined("shared", given)) == 0


# knn


def test_knn_is_the_union_of_both_directions_with_cubed_cosines() -> None:
    angles = np.array([0.0, 0.1, 0.3, np.pi])
    given = rows(vectors=np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    # 3 points away from all others: negative cosines make no edge
    assert joined("knn", given, Parameters(knn_neighbors=1)) == {
        (0, 1): pytest.approx(np.cos(0.1) ** 3, rel=1e-5),
        (1, 2): pytest.approx(np.cos(0.2) ** 3, rel=1e-5),
    }
    assert arcs("knn", built(given, Parameters(knn_neighbors=1))) == {(0, 1), (1, 0), (2, 1)}
    plain = joined("knn", given, Parameters(knn_neighbors=9, knn_power=1))
    assert plain[0, 2] == pytest.approx(np.cos(0.3), rel=1e-5)


# all together


def test_one_entry_of_arcs_per_relation_in_order() -> None:
    given = rows(
        ["Alpha Beta", "Alpha Beta", "gamma delta"],
        titles=[None, None, "Alpha beta"],
        vectors=np.tile(np.array([[1, 0]], np.float32), (3, 1)),
        sequences=["s"] * 3,
        links=[["a2"], None, None],
    )
    done = Model(parameters=Parameters()).apply(given)
    assert [arcs.relation for arcs in done.arcs] == list(range(len(RELATIONS)))
    assert [len(joined(name, given)) for name in RELATIONS] == [2, 2, 1, 1, 3]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_stores(count: int) -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (count, 1))
    given = rows(count=count, vectors=vectors)
    found = [len(joined(name, given)) for name in RELATIONS]
    assert found == [0, 0, 0, 0, 1 if count == 2 else 0]


def test_progress_names_the_relation_and_reaches_the_end() -> None:
    told: list[tuple[str, int, int | None]] = []
    given = rows(["Alpha beta"] * 3, titles=["Alpha beta"] * 3, vectors=np.eye(3, dtype="f4"))
    Model(parameters=Parameters()).apply(given, progress=lambda *report: told.append(report))
    assert list(dict.fromkeys(name for name, _, _ in told)) == list(RELATIONS)
    for name in RELATIONS:
        done = [count for relation, count, _ in told if relation == name]
        assert done == sorted(done)
        assert done[-1] == 3


def digest() -> str:
    rng = np.random.default_rng(7)
    pool = ["Red Fox", "Blue Whale", "grey wolf", "Old Oak Tree", "new moon", "High Tide", "x"]
    texts = [f"House N{row % 40}: " + " and ".join(rng.choice(pool, 4)) for row in range(300)]
    titles = [pool[row % 7] if row % 60 < 7 else None for row in range(300)]
    vectors = rng.standard_normal((300, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sequences = [f"{at % 9}" for at in range(300)]
    given = rows(texts, titles=titles, vectors=vectors, sequences=sequences)
    total = hashlib.sha256()
    for piece in Model(parameters=Parameters()).apply(given).arcs:
        assert len(piece.source) or RELATIONS[piece.relation] == "link"
        for array in (piece.rows, piece.source, piece.target, piece.weight):
            total.update(array.tobytes())
    return total.hexdigest()


def test_arcs_depend_on_neither_hash_seed_nor_threads() -> None:
    program = "import test_relations; print(test_relations.digest())"
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads,
                       "OPENBLAS_NUM_THREADS": threads}  # fmt: skip
        told = subprocess.run(
            [sys.executable, "-c", program], cwd=Path(__file__).parent, env=environment,
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert told.stdout.strip() == digest()
