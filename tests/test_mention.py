"""The relation of texts to the anchors whose titles they contain, kept up and from nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice import postings
from oscillink_store.lattice.corpus import Change, Corpus, Part, PhraseLists
from oscillink_store.lattice.graph import TypedGraph, empty_graph
from oscillink_store.lattice.keyindex import KeyIndex
from oscillink_store.lattice.names import name_index
from oscillink_store.lattice.records import (
    IN,
    OUT,
    RELATION_MASK,
    empty_records,
    merge_runs,
)  # fmt: skip
from oscillink_store.lattice.relations import mention
from oscillink_store.lattice.upkeep import Arcs, corrections
from oscillink_store.model import RELATIONS, Parameters

PARAMETERS = Parameters()
NOTHING = KeyIndex(np.empty(0, np.uint64), np.empty(0, np.int32))

Row = tuple[str | None, str]
Entries = dict[tuple[int, int], tuple[float, int]]


class Store:
    """Titles and texts in slots, with the lattice that one relation makes of them."""

    def __init__(self, parameters: Parameters = PARAMETERS) -> None:
        self.parameters = parameters
        self.rows: list[Row] = []
        self.alive = np.empty(0, np.uint8)
        self.parts: list[Part] = []
        self.graph = empty_graph()
        self.fetched: list[int] = []

    def change(self, added: Sequence[Row] = (), removed: Sequence[int] = (), progress=None) -> Arcs:
        """Apply a change to the lattice, and return the arcs that it gave anew."""
        if added:
            self.parts.append(part(len(self.rows), added, self.parameters))
        self.rows += added
        before = np.append(self.alive, np.zeros(len(added), np.uint8))
        after = np.append(self.alive, np.ones(len(added), np.uint8))
        after[list(removed)] = 0
        corpus = Corpus(
            parts=self.parts, values=self.values, graph=self.graph, near=[],
            near_log=empty_records(),
        )  # fmt: skip
        change = Change(corpus=corpus, before=before, after=after)
        self.fetched = []
        arcs = mention.update(change, self.parameters, progress)
        check(arcs, after)
        records, _ = corrections(self.graph, change.removed, [arcs])
        self.graph = TypedGraph(self.graph.base, merge_runs([self.graph.corrections, records]))
        self.alive = after
        return arcs

    def values(self, column: str, slots: np.ndarray) -> list[str | None]:
        assert slots.dtype == np.int64
        if column == "text":
            self.fetched += slots.tolist()
        return [self.rows[slot][("title", "text").index(column)] for slot in slots.tolist()]

    def survivors(self) -> list[int]:
        return np.flatnonzero(self.alive).tolist()

    def entries(self) -> Entries:
        """Weight and flags of each entry, its anchors numbered anew without gaps."""
        numbers = {slot: place for place, slot in enumerate(self.survivors())}
        entries = self.graph.entries(np.arange(len(self.rows)))
        assert set(entries.relation & RELATION_MASK) <= {RELATIONS.index("mention")}
        return {
            (numbers[row], numbers[column]): (weight, flags & ~RELATION_MASK)
            for row, column, weight, flags in zip(
                entries.sources().tolist(), entries.indices.tolist(),
                entries.weights.tolist(), entries.relation.tolist(), strict=True,
            )
        }  # fmt: skip

    def edges(self) -> dict[tuple[int, int], float]:
        """The weight of each edge, its anchors numbered anew without gaps."""
        return {pair: weight for pair, (weight, _) in self.entries().items() if pair[0] < pair[1]}

    def rebuilt(self) -> Store:
        """The survivors as a store of their own, built from nothing."""
        fresh = Store(self.parameters)
        fresh.change([self.rows[slot] for slot in self.survivors()])
        return fresh


def part(first: int, rows: Sequence[Row], parameters: Parameters) -> Part:
    return Part(
        first=first,
        vectors=np.empty((len(rows), 0), np.float32),
        positions=np.full(len(rows), np.nan),
        ids=NOTHING,
        titles=name_index([title for title, _ in rows], parameters),
        sequences=NOTHING,
        links=NOTHING,
        phrases=NOTHING,
        phrase_lists=PhraseLists(np.zeros(len(rows) + 1, np.int64), np.empty(0, np.uint64)),
        words=postings.build([text for _, text in rows]),
    )


def check(arcs: Arcs, after: np.ndarray) -> None:
    """What every relation promises of its arcs."""
    assert arcs.relation == RELATIONS.index("mention")
    assert (arcs.weight.dtype, arcs.incoming.dtype) == (np.float32, np.float32)
    rows = arcs.rows.tolist()
    assert rows == sorted(set(rows))
    assert np.all(after[arcs.rows] == 1)
    assert np.all(after[arcs.target] == 1)
    assert set(arcs.source.tolist()) <= set(rows)
    pairs = list(zip(arcs.source.tolist(), arcs.target.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert all(source != target for source, target in pairs)
    assert np.all(arcs.weight > 0)
    assert arcs.incoming.shape == arcs.rows.shape
    assert np.all(arcs.incoming > 0)


def edges(
    texts: Sequence[str], titles: Sequence[str | None], parameters: Parameters = PARAMETERS
) -> dict[tuple[int, int], float]:
    store = Store(parameters)
    store.change(list(zip(titles, texts, strict=True)))
    return store.edges()


def test_a_text_is_joined_to_the_anchors_whose_title_it_contains() -> None:
    titles = [
        "The Collegian", "Houston Baptist University", "Baptist General Convention",
        "Dallas (Texas)",
    ]  # fmt: skip
    texts = [
        "The Collegian was a newspaper of HOUSTON baptist university.",
        "It is owned by the Baptist General Convention.",
        "Founded in Dallas, long ago.",
        "Dallas's weather. Dallasite is no title.",
    ]
    assert edges(texts, titles) == {(0, 1): 1, (1, 2): 1, (2, 3): 1}


def test_a_title_within_a_longer_title_is_not_mentioned() -> None:
    titles = ["New York", "New York City", "York City Hall", None, None, None]
    texts = ["", "", "", "in New York City.", "New York is not New York City", "New York City Hall"]
    # overlapping titles, of which neither holds the other, both count
    assert set(edges(texts, titles)) == {(1, 3), (0, 4), (1, 4), (1, 5), (2, 5)}


def test_the_more_edges_a_title_makes_the_lighter_they_are() -> None:
    texts = ["", *["all about marble cake"] * 9, "", "plum tart"]
    titles = ["Marble cake", *[None] * 9, "Plum tart", None]
    found = edges(texts, titles)
    # nine edges: 2^(−⌊log₂ 9⌋/2) = 2^(−3/2)
    assert found.pop((10, 11)) == 1.0
    assert len(found) == 9
    assert all(weight == pytest.approx(2**-1.5) for weight in found.values())


@pytest.mark.parametrize(
    ("count", "halvings"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (1023, 9), (1024, 10)]
)
def test_weights_halve_with_every_fourfold(count: int, halvings: int) -> None:
    found = edges(["", *["marble cake"] * count], ["Marble cake", *[None] * count])
    assert len(found) == count
    assert set(found.values()) == {float(np.float32(2 ** (-halvings / 2)))}


def test_a_pair_joined_by_two_titles_gets_the_larger_weight() -> None:
    texts = ["see beta beta", "see alpha alpha", "alpha alpha once more"]
    titles = ["Alpha alpha", "Beta beta", None]
    assert edges(texts, titles) == {(0, 1): 1, (0, 2): pytest.approx(2**-0.5)}


def test_titles_that_are_short_or_of_many_anchors_mention_nothing() -> None:
    titles = ["It", *["Chapter one"] * 6, None, None]
    texts = [*[""] * 7, "it is in chapter one", "東京"]
    assert edges(texts, titles) == {}
    many = Parameters(title_max_anchors=6, title_min_length=2)
    assert set(edges(texts, titles, many)) == {(0, 7), *((row, 7) for row in range(1, 7))}


def test_anchors_of_one_title_that_name_it_are_joined() -> None:
    texts, titles = ["Ostara is a feast.", "More on ostara."], ["Ostara", "Ostara (2)"]
    # both texts hold the title of both anchors: two edges of one title, one pair
    assert edges(texts, titles) == {(0, 1): pytest.approx(2**-0.5)}


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
def test_many_scripts(title: str, text: str) -> None:
    assert edges(["", text], [title, None]) == {(0, 1): 1}
    # and the text first
    store = Store()
    store.change([(None, text), *[(None, "something else")] * 9])
    store.change([(title, "")])
    assert store.edges() == {(0, 10): 1}


def test_a_word_of_a_spaced_script_is_not_found_within_another() -> None:
    assert edges(["", "Dallasite", "हिन्दीभाषा"], ["Dallas", "हिन्दी", None]) == {}


# upkeep


def stocked(rows: Sequence[Row]) -> Store:
    """A store with some anchors, and a hundred that have nothing to do with them."""
    store = Store()
    store.change([*rows, *[(None, "nothing to be seen here")] * 100])
    return store


def test_a_change_matches_only_the_texts_that_it_concerns() -> None:
    store = stocked([("Red fox", "a red fox"), (None, "the red fox"), (None, "a grey wolf")])
    arcs = store.change([("Grey wolf", "meets a red fox")])
    # its own text, and the one with its title
    assert set(store.fetched) == {2, 103}
    # two edges where there was one: the other weighs less
    assert arcs.rows.tolist() == [1, 2, 103]
    assert store.edges() == {
        (0, 1): pytest.approx(2**-0.5), (0, 103): pytest.approx(2**-0.5), (2, 103): 1,
    }  # fmt: skip
    store.change([], [1])
    assert store.fetched == []
    assert store.edges() == {(0, 102): 1, (1, 102): 1}


def test_a_replaced_anchor_is_pointed_at_without_matching_the_texts_again() -> None:
    store = stocked([("Red fox", ""), (None, "the red fox"), (None, "red fox")])
    store.change([("Red fox", "changed")], [0])
    assert store.fetched == [103]
    assert store.edges() == {(0, 102): pytest.approx(2**-0.5), (1, 102): pytest.approx(2**-0.5)}


def test_the_anchor_of_a_title_that_gets_another_one_may_name_itself() -> None:
    store = stocked([("Red fox", "the red fox"), (None, "")])
    assert store.edges() == {}
    store.change([("Red fox", "")])
    assert store.edges() == {(0, 102): 1}


def test_a_title_that_counts_no_longer_hides_no_other() -> None:
    city, other = ("New York City", "New York City"), ("New York City", "")
    store = stocked([("New York", ""), (None, "in New York City"), city, *[other] * 4])
    assert set(store.edges()) == {(1, anchor) for anchor in range(2, 7)} | {
        (2, anchor) for anchor in range(3, 7)
    }
    store.change([other])
    assert set(store.edges()) == {(0, 1), (0, 2)}
    store.change([], [6])
    assert store.edges().keys() == {(1, anchor) for anchor in [2, 3, 4, 5, 106]} | {
        (2, anchor) for anchor in [3, 4, 5, 106]
    }
    store.change([], [2, 3, 4, 5, 107])
    assert set(store.edges()) == {(0, 1)}


def test_arcs_that_stay_keep_the_weight_of_their_own_title() -> None:
    # the two point at each other, and each title has other edges
    store = stocked(
        [("Red fox", "grey wolf"), ("Grey wolf", "red fox"), (None, "grey wolf"),
         *[(None, "red fox")] * 2]
    )  # fmt: skip
    assert store.edges()[0, 1] == pytest.approx(2**-0.5)
    store.change([(None, "red fox")])
    assert store.edges()[0, 1] == pytest.approx(2**-0.5)
    assert store.edges()[0, 3] == 0.5
    store.change([(None, "grey wolf")] * 2)
    assert store.edges()[0, 1] == 0.5
    store.change([], [3, 4, 103 + 2])
    assert store.edges()[0, 1] == 1


def test_a_text_that_points_back_tells_no_weight() -> None:
    # 0 and 1 point at each other with weights of 1/2 and √1/2
    store = stocked(
        [("Red fox", "grey wolf, plum tart"), ("Grey wolf", "red fox"), ("Plum tart", ""),
         *[(None, "red fox")] * 3, (None, "grey wolf")]
    )  # fmt: skip
    assert store.edges()[0, 1] == pytest.approx(2**-0.5)
    arcs = store.change([(None, "plum tart")])
    # the text of 0 points at 2 with another weight, and at 1 with the same
    assert arcs.rows.tolist() == [0, 107]
    assert store.edges()[0, 2] == pytest.approx(2**-0.5)
    assert store.edges()[0, 1] == pytest.approx(2**-0.5)
    # and back, too
    store.change([(None, "plum tart")] * 2 + [(None, "grey wolf")] * 3)
    assert store.edges()[0, 1] == 0.5
    assert store.entries() == store.rebuilt().entries()


def test_nor_does_it_beside_a_text_that_does() -> None:
    # both 0 and 1 point at 2 with a weight of √1/2, and 2 at 1 with 1
    store = stocked(
        [(None, "grey wolf, plum tart"), ("Red fox", "grey wolf, plum tart"),
         ("Grey wolf", "red fox"), ("Plum tart", ""), (None, "plum tart")]
    )  # fmt: skip
    assert [store.edges()[pair] for pair in ((0, 2), (1, 2))] == [pytest.approx(2**-0.5), 1]
    arcs = store.change([(None, "plum tart")])
    assert arcs.rows.tolist() == [0, 1, 4, 105]
    assert [store.edges()[pair] for pair in ((0, 2), (1, 2))] == [pytest.approx(2**-0.5), 1]


def test_what_points_at_a_text_in_scope_keeps_its_weight() -> None:
    # 0 and 2 point at 1 with a weight of √1/2, and 1 at 2 with 1
    store = stocked(
        [(None, "red fox"), ("Red fox", "grey wolf, plum tart"), ("Grey wolf", "red fox"),
         ("Plum tart", "")]
    )  # fmt: skip
    before = store.edges()
    assert [before[pair] for pair in ((0, 1), (1, 2))] == [pytest.approx(2**-0.5), 1]
    assert store.change([(None, "plum tart")]).rows.tolist() == [1, 104]
    assert before.items() - store.edges().items() == {((1, 3), 1.0)}
    # 2 points at 0 and 1 with a weight of √1/2, and they at 2 with 1/2
    store = stocked(
        [("Red fox", "grey wolf, plum tart"), ("Red fox", "grey wolf"), ("Grey wolf", "red fox"),
         ("Plum tart", ""), *[(None, "grey wolf")] * 2]
    )  # fmt: skip
    before = store.edges()
    assert [before[pair] for pair in ((0, 2), (1, 2), (2, 4))] == [pytest.approx(2**-0.5)] * 2 + [
        0.5
    ]
    assert store.change([(None, "plum tart")]).rows.tolist() == [0, 106]
    assert before.items() - store.edges().items() == {((0, 3), 1.0)}


def test_a_title_that_loses_an_anchor_makes_fewer_edges() -> None:
    store = stocked([("Red fox", ""), ("Red fox", ""), (None, "red fox"), (None, "red fox")])
    assert set(store.edges().values()) == {0.5}
    arcs = store.change([], [1])
    assert store.fetched == []
    assert arcs.rows.tolist() == [2, 3]
    assert store.edges() == {(0, 1): pytest.approx(2**-0.5), (0, 2): pytest.approx(2**-0.5)}


def test_a_title_that_counts_no_longer_hides_none_in_the_text_of_its_anchor() -> None:
    store = Store(Parameters(title_max_anchors=1))
    store.change([("New York", ""), ("New York City", "New York City"), *[(None, "")] * 20])
    assert store.edges() == {}
    store.change([("New York City", "")])
    assert store.edges() == {(0, 1): 1}


def test_many_texts_and_few_find_the_same() -> None:
    titles = ["Red fox", "Grey wolf", "Grey wolf pack", "Fox and wolf", "Wolf pack", None]
    texts = ["a red fox and wolf", "grey wolf pack", "grey wolf", "red fox red fox", "wolf pack"]
    rows = [(titles[row % 6], texts[row % 5]) for row in range(20)]
    at_once = Store(Parameters(title_max_anchors=9))
    at_once.change([*rows, *[(None, "nothing")] * 100])
    later = Store(Parameters(title_max_anchors=9))
    later.change([(None, "nothing")] * 100)
    for row in rows:
        later.change([row])
    later.change([], range(100))
    at_once.change([], range(20, 120))
    assert at_once.entries() == later.entries()
    assert len(at_once.edges()) > 20


@pytest.mark.parametrize("titles_per_text", [0, 2])
def test_blocks_of_texts_find_the_same(
    titles_per_text: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = ["Red fox", "Grey wolf", "Grey wolf pack", "Fox and wolf", "Wolf pack", None]
    texts = ["a red fox and wolf", "grey wolf pack", "", "naïve grey wolf", "red fox red fox"]
    given_rows = [(titles[row % 6], texts[row % 5]) for row in range(23)]
    expected = edges([row[1] for row in given_rows], [row[0] for row in given_rows])
    assert len(expected) > 20
    monkeypatch.setattr(mention, "_BLOCK", 7)
    monkeypatch.setattr(mention, "_TITLES_PER_TEXT", titles_per_text)
    assert edges([row[1] for row in given_rows], [row[0] for row in given_rows]) == expected


def test_titles_in_several_parts_count_together() -> None:
    store = stocked([(None, "the red fox")])
    for count in range(1, 6):
        store.change([("Red fox", "")])
        assert len(store.edges()) == count
    store.change([("Red fox", "")])
    assert store.edges() == {}


def test_nothing_changes_without_a_change() -> None:
    store = stocked([("Red fox", ""), (None, "the red fox")])
    assert len(store.change().rows) == 0
    assert len(Store().change().rows) == 0


def test_progress_counts_the_texts_that_are_matched() -> None:
    told: list[tuple[str, int, int | None]] = []
    store = Store()
    store.change([("Red fox", "red fox")] * 3, progress=lambda *report: told.append(report))
    assert told == [("mention", 0, 3), ("mention", 3, 3)]


# against a slow and obvious one that looks at every pair of anchors


def plain_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def places(title: list[str], text: list[str]) -> list[tuple[int, int]]:
    last = len(text) - len(title)
    return [(at, at + len(title)) for at in range(last + 1) if text[at : at + len(title)] == title]


def slow_arcs(rows: Sequence[Row], most: int) -> dict[tuple[int, int], float]:
    named = [plain_words(title or "") for title, _ in rows]
    usable = {
        tuple(title) for title in named if len("".join(title)) >= 4 and named.count(title) <= most
    }
    arcs: dict[tuple[int, int], float] = {}
    of_title: dict[tuple[str, ...], set[tuple[int, int]]] = {title: set() for title in usable}
    for source, (_, text) in enumerate(rows):
        body = plain_words(text)
        spans = {title: places(list(title), body) for title in usable}
        every = [span for found in spans.values() for span in found]
        for title, found in spans.items():
            free = [
                span
                for span in found
                if not any(
                    s <= span[0] and span[1] <= e and e - s > span[1] - span[0] for s, e in every
                )
            ]
            if free:
                of_title[title] |= {
                    (source, target)
                    for target, other in enumerate(named)
                    if tuple(other) == title and target != source
                }
    for directed in of_title.values():
        weight = 2.0 ** (-(len(directed).bit_length() - 1) / 2)
        arcs |= dict.fromkeys(directed, float(np.float32(weight)))
    return arcs


def slow_entries(rows: Sequence[Row], most: int) -> Entries:
    arcs = slow_arcs(rows, most)
    entries: Entries = {}
    for source, target in arcs:
        for row, column in ((source, target), (target, source)):
            forth, back = arcs.get((row, column), 0.0), arcs.get((column, row), 0.0)
            entries[row, column] = (max(forth, back), OUT * (forth > 0) | IN * (back > 0))
    return entries


sayings = st.lists(
    st.sampled_from(["red", "Red", "fox", "Fox's", "ox", "(blue", "blue.", "jumps"]), max_size=10
).map(" ".join)
titles = st.none() | st.lists(
    st.sampled_from(["red", "fox", "ox", "Blue", "jumps"]), min_size=1, max_size=3
).map(" ".join)
# a text often names its own title
rows = st.builds(
    lambda title, text, own: (title, f"{title} {text}" if own and title else text),
    titles, sayings, st.booleans(),
)  # fmt: skip


@given(st.lists(rows, min_size=1, max_size=14), st.integers(1, 4))
def test_from_nothing(given_rows: list[Row], most: int) -> None:
    store = Store(Parameters(title_max_anchors=most))
    store.change(given_rows)
    assert store.entries() == slow_entries(given_rows, most)


@given(st.data(), st.integers(1, 3), st.booleans())
def test_kept_up(data: st.DataObject, most: int, lonely: bool) -> None:
    store = Store(Parameters(title_max_anchors=most))
    if not lonely:
        # few texts against many anchors go another way than many against few
        store.change([(None, "")] * 60)
    first = len(store.rows)
    for _ in range(data.draw(st.integers(1, 6), "steps")):
        slots = [slot for slot in store.survivors() if slot >= first]
        removed = data.draw(st.sets(st.sampled_from(slots)) if slots else st.just(()), "removed")
        # some of the removed come back, perhaps with another text or title
        replaced = [
            (title if same_title else data.draw(titles), text if same_text else data.draw(sayings))
            for slot, (back, same_title, same_text) in zip(
                sorted(removed),
                data.draw(
                    st.lists(
                        st.tuples(st.booleans(), st.booleans(), st.booleans()),
                        min_size=len(removed), max_size=len(removed),
                    ),
                    "replaced",
                ),
                strict=True,
            )
            if back
            for title, text in [store.rows[slot]]
        ]  # fmt: skip
        added = replaced + data.draw(st.lists(rows, max_size=5), "added")
        store.change(added, sorted(removed))
        expected = [store.rows[slot] for slot in store.survivors()]
        assert store.entries() == slow_entries(expected, most)
    assert store.entries() == store.rebuilt().entries()
