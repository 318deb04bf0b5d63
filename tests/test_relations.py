"""Each relation on small corpora whose edges are known by hand."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from oscillink_store.lattice.graph import Edges
from oscillink_store.lattice.relations import MODULES, build, knn, link, mention, sequence, shared
from oscillink_store.lattice.relations.corpus import Corpus
from oscillink_store.model import RELATIONS, Parameters

PARAMETERS = Parameters()


def corpus(
    texts: Sequence[str] = (),
    *,
    anchors: int | None = None,
    titles: Sequence[str | None] | None = None,
    vectors: np.ndarray | None = None,
    sequences: Sequence[str | None] | None = None,
    positions: Sequence[float | None] | None = None,
    links: Sequence[Sequence[str] | None] | None = None,
) -> Corpus:
    columns = (texts, titles, vectors, sequences, positions, links)
    count = anchors if anchors is not None else max(len(c) for c in columns if c is not None)
    nothing = [None] * count
    return Corpus(
        anchors=count,
        ids=[f"a{row}" for row in range(count)],
        titles=titles or nothing,
        texts=texts or [""] * count,
        vectors=np.zeros((count, 2), np.float32) if vectors is None else vectors,
        sequences=sequences or nothing,
        positions=positions or nothing,
        links=links or nothing,
    )


def weights(edges: Edges) -> dict[tuple[int, int], float]:
    assert np.all(edges.source < edges.target)
    assert edges.weight.dtype == np.float32
    pairs = list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    return dict(zip(pairs, edges.weight.tolist(), strict=True))


# next


def test_next_joins_neighbours_by_position_within_each_sequence() -> None:
    found = sequence.edges(
        corpus(
            sequences=["a", "b", "a", None, "a", "b", None],
            positions=[3, 1.5, 1, 1, 2, -4, 2],
        ),
        PARAMETERS,
    )
    assert weights(found) == {(2, 4): 1, (0, 4): 1, (1, 5): 1}


def test_next_takes_the_order_of_arrival_where_positions_are_missing_or_equal() -> None:
    found = sequence.edges(corpus(sequences=["a"] * 3), PARAMETERS)
    assert weights(found) == {(0, 1): 1, (1, 2): 1}
    mixed = corpus(sequences=["a"] * 5, positions=[None, 7, 7, float("nan"), 1])
    # 4 (1), 1 (7), 2 (7), 0, 3
    assert weights(sequence.edges(mixed, PARAMETERS)) == {
        (1, 4): 1, (1, 2): 1, (0, 2): 1, (0, 3): 1,
    }  # fmt: skip


# link


def test_link_is_undirected_and_counts_what_dangles() -> None:
    given = corpus(links=[["a1", "a2", "a2"], ["a0"], None, ["a3", "gone", "gone"], ["gone"], []])
    assert weights(link.edges(given, PARAMETERS)) == {(0, 1): 1, (0, 2): 1}
    assert link.dangling(given) == 2
    assert link.dangling(corpus(anchors=3)) == 0


# mention


def test_mention_joins_a_text_to_the_anchors_whose_title_it_contains() -> None:
    given = corpus(
        [
            "The Collegian was a newspaper of HOUSTON baptist university.",
            "It is owned by the Baptist General Convention.",
            "Founded in Dallas, long ago.",
            "Dallas's weather. Dallasite is no title.",
        ],
        titles=[
            "The Collegian", "Houston Baptist University", "Baptist General Convention",
            "Dallas (Texas)",
        ],
    )  # fmt: skip
    assert weights(mention.edges(given, PARAMETERS)) == {(0, 1): 1, (1, 2): 1, (2, 3): 1}


def test_a_title_within_a_longer_title_is_not_mentioned() -> None:
    titles = ["New York", "New York City", "York City Hall", None, None, None]
    texts = ["", "", "", "in New York City.", "New York is not New York City", "New York City Hall"]
    found = weights(mention.edges(corpus(texts, titles=titles), PARAMETERS))
    # overlapping titles, of which neither holds the other, both count
    assert set(found) == {(1, 3), (0, 4), (1, 4), (1, 5), (2, 5)}


def test_the_more_edges_a_title_makes_the_lighter_they_are() -> None:
    texts = ["", *["all about marble cake"] * 9, "", "plum tart"]
    titles = ["Marble cake", *[None] * 9, "Plum tart", None]
    found = weights(mention.edges(corpus(texts, titles=titles), PARAMETERS))
    # nine edges: 2^(−⌊log₂ 9⌋/2) = 2^(−3/2)
    assert found.pop((10, 11)) == 1.0
    assert len(found) == 9
    assert all(weight == pytest.approx(2**-1.5) for weight in found.values())


@pytest.mark.parametrize(
    ("count", "halvings"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (1023, 9), (1024, 10)]
)
def test_mention_weights_halve_with_every_fourfold(count: int, halvings: int) -> None:
    (weight,) = mention._weights(np.array([count])).tolist()
    assert weight == pytest.approx(math.sqrt(0.5) ** halvings, rel=1e-7)


def test_a_pair_joined_by_two_titles_gets_the_larger_weight() -> None:
    texts = ["see beta beta", "see alpha alpha", "alpha alpha once more"]
    titles = ["Alpha alpha", "Beta beta", None]
    found = weights(mention.edges(corpus(texts, titles=titles), PARAMETERS))
    assert found == {(0, 1): 1, (0, 2): pytest.approx(math.sqrt(0.5))}


def test_titles_that_are_short_or_of_many_anchors_mention_nothing() -> None:
    titles = ["It", *["Chapter one"] * 6, None, None]
    texts = [*[""] * 7, "it is in chapter one", "東京"]
    assert len(mention.edges(corpus(texts, titles=titles), PARAMETERS)) == 0
    many = Parameters(title_max_anchors=6, title_min_length=2)
    assert set(weights(mention.edges(corpus(texts, titles=titles), many))) == {
        (0, 7), *((row, 7) for row in range(1, 7)),
    }  # fmt: skip


def test_anchors_of_one_title_that_name_it_are_joined() -> None:
    given = corpus(["Ostara is a feast.", "More on ostara."], titles=["Ostara", "Ostara (2)"])
    # both texts hold the title of both anchors: two edges of one title, one pair
    assert weights(mention.edges(given, PARAMETERS)) == {(0, 1): pytest.approx(math.sqrt(0.5))}


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Straße", "in der STRASSE"),
        ("Café Müller", "cafe\u0301 mu\u0308ller"),
        ("東京", "東京都の人口"),
        ("ภาษาไทย", "ฉันพูดภาษาไทยได้"),
        ("हिन्दी", "वह हिन्दी बोलता है"),
        ("서울", "서울은 수도이다"),
        ("Ａｐｐｌｅ", "an apple a day"),
        ("İstanbul", "to İSTANBUL"),
        ("os.path", "see os.path.join"),
        ("2001: A Space Odyssey", "“2001 – a space odyssey”"),
    ],
)
def test_mention_in_many_scripts(title: str, text: str) -> None:
    given = corpus(["", text], titles=[title, None])
    assert weights(mention.edges(given, PARAMETERS)) == {(0, 1): 1}


def test_a_word_of_a_spaced_script_is_not_found_within_another() -> None:
    given = corpus(["", "Dallasite", "हिन्दीभाषा"], titles=["Dallas", "हिन्दी", None])
    assert len(mention.edges(given, PARAMETERS)) == 0


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


def test_shared_joins_texts_by_their_rarest_common_phrase() -> None:
    given = corpus(
        ["Marie Curie won.", "It was marie curie's. Marie Curie!", "x", "MARIE CURIE", "y"],
        titles=[None, "Nobel Prize", "Nobel Prize", None, "Nobel prize"],
    )
    assert weights(shared.edges(given, PARAMETERS)) == {
        (0, 1): pytest.approx(1 / 3), (0, 3): pytest.approx(1 / 3), (1, 3): pytest.approx(1 / 3),
        (1, 2): 0.5,
    }  # fmt: skip
    both = corpus(["Ada Lovelace met Charles Babbage"] * 2 + ["Ada Lovelace"])
    assert weights(shared.edges(both, PARAMETERS))[0, 1] == 0.5


def test_phrases_that_are_too_frequent_join_nothing() -> None:
    assert len(shared.edges(corpus(["Grand Hotel"] * 21), PARAMETERS)) == 0
    assert len(shared.edges(corpus(["Grand Hotel"] * 20), PARAMETERS)) == 190
    few = Parameters(shared_min_frequency=3, shared_max_frequency=3)
    texts = ["Grand Hotel, Blue Note", "Grand Hotel, Blue Note", "Grand Hotel"]
    assert set(weights(shared.edges(corpus(texts), few)).values()) == {np.float32(1 / 3)}


def test_a_title_is_not_run_together_with_the_text() -> None:
    given = corpus(["Capital of France", "Is Paris Capital"], titles=["Paris", None])
    assert len(shared.edges(given, PARAMETERS)) == 0


# knn


def test_knn_is_the_union_of_both_directions_with_cubed_cosines() -> None:
    angles = np.array([0.0, 0.1, 0.3, np.pi])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = weights(knn.edges(corpus(vectors=vectors), Parameters(knn_neighbors=1)))
    # 3 points away from all others: negative cosines make no edge
    assert found == {
        (0, 1): pytest.approx(np.cos(0.1) ** 3, rel=1e-5),
        (1, 2): pytest.approx(np.cos(0.2) ** 3, rel=1e-5),
    }
    plain = weights(knn.edges(corpus(vectors=vectors), Parameters(knn_neighbors=9, knn_power=1)))
    assert plain[0, 2] == pytest.approx(np.cos(0.3), rel=1e-5)


# all together


def test_one_module_per_relation_in_order() -> None:
    given = corpus(
        ["Alpha Beta", "Alpha Beta", "gamma delta"],
        titles=[None, None, "Alpha beta"],
        vectors=np.tile(np.array([[1, 0]], np.float32), (3, 1)),
        sequences=["s"] * 3,
        links=[["a2"], None, None],
    )
    built = build(given, PARAMETERS)
    assert [edges.relation for edges in built] == list(range(len(RELATIONS)))
    assert len(MODULES) == len(RELATIONS)
    assert [len(edges) for edges in built] == [2, 2, 1, 1, 3]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_corpora(count: int) -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (count, 1))
    built = build(corpus(anchors=count, vectors=vectors), PARAMETERS)
    assert [len(edges) for edges in built] == [0, 0, 0, 0, 1 if count == 2 else 0]


def test_progress_names_the_relation_and_reaches_the_end() -> None:
    told: list[tuple[str, int, int | None]] = []
    given = corpus(["Alpha beta"] * 3, titles=["Alpha beta"] * 3, vectors=np.eye(3, dtype="f4"))
    build(given, PARAMETERS, lambda *report: told.append(report))
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
    given = corpus(
        texts, titles=titles, vectors=vectors, sequences=[f"{r % 9}" for r in range(300)]
    )
    total = hashlib.sha256()
    for edges in build(given, PARAMETERS):
        assert len(edges) or RELATIONS[edges.relation] == "link"
        for array in (edges.source, edges.target, edges.weight):
            total.update(array.tobytes())
    return total.hexdigest()


def test_edges_depend_on_neither_hash_seed_nor_threads() -> None:
    program = "import test_relations; print(test_relations.digest())"
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads,
                       "OPENBLAS_NUM_THREADS": threads}  # fmt: skip
        told = subprocess.run(
            [sys.executable, "-c", program], cwd=Path(__file__).parent, env=environment,
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert told.stdout.strip() == digest()
