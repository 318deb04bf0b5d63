"""The full-text index: words, keys, and that its upkeep equals building it anew."""

from __future__ import annotations

import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.postings import (
    STOP_WORDS,
    Postings,
    build,
    containing,
    merge,
    take,
    tokenize,
)
from oscillink_store.lattice.words import words

WORDS = ["the", "to", "café", "Cafe", "é", "lattice", "x1", "_", "東京", "が", "か", "Straße", "ﬁ"]
texts_of_words = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
texts = st.lists(st.one_of(texts_of_words, any_text, st.just("")), max_size=12)

MASK = 2**64 - 1


def reference_key(string: str) -> int:
    """The key in Python's own whole numbers."""

    def mix(h: int) -> int:
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & MASK
        return h ^ (h >> 31)

    data = string.encode()
    h = mix(len(data) * 0x9E3779B97F4A7C15 & MASK)
    for at in range(0, len(data), 8):
        h = mix(h ^ int.from_bytes(data[at : at + 8], "little"))
    return h


def index_words(text: str) -> list[str]:
    """The words under which a text is indexed, one by one in plain Python."""
    found = []
    for word in words(text):
        bare = "".join(
            character
            for character in unicodedata.normalize("NFD", word)
            if not (
                (kind := unicodedata.combining(character)) == 1 or 10 <= kind <= 36 or kind >= 200
            )
        )
        found += [bare] if bare else []
    return found


def reference(documents: list[str]) -> Postings:
    """The index by dictionaries."""
    entries: dict[int, dict[int, int]] = {}
    lengths = []
    for row, text in enumerate(documents):
        found = Counter(index_words(text))
        lengths.append(sum(times for word, times in found.items() if word not in STOP_WORDS))
        for word, times in found.items():
            entries.setdefault(reference_key(word), {})[row] = min(times, 255)
    keys = sorted(entries)
    return Postings(
        np.array(keys, np.uint64),
        np.cumsum([0] + [len(entries[key]) for key in keys]).astype(np.int64),
        np.array([row for key in keys for row in entries[key]], np.int32),
        np.array([times for key in keys for times in entries[key].values()], np.uint8),
        np.array(lengths, np.int32),
    )


def assert_equal(one: Postings, other: Postings) -> None:
    for name, a, b in zip(Postings._fields, one, other, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert (a == b).all(), name
        assert a.flags.c_contiguous


def rows_of(postings: Postings, word: str) -> list[int]:
    (at,) = np.flatnonzero(postings.keys == keys_of([word]))
    return postings.rows[postings.starts[at] : postings.starts[at + 1]].tolist()


class TestKeys:
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30)))
    def test_they_are_those_of_the_definition(self, strings: list[str]) -> None:
        keys = keys_of(strings)
        assert keys.dtype == np.uint64
        assert keys.tolist() == [reference_key(string) for string in strings]

    def test_they_stay_what_they_are(self) -> None:
        # stored in indices: a change of these breaks every store
        assert keys_of(["", "a", "lattice", "東京", "0123456789abcdef"]).tolist() == KEPT

    def test_similar_strings_share_nothing(self) -> None:
        prefixes = ("", "doc-", "a rather long prefix of ids ")
        strings = [f"{prefix}{i}" for prefix in prefixes for i in range(50_000)]
        strings += ["\0" * n for n in range(40)]
        keys = keys_of(strings)
        assert len(np.unique(keys)) == len(strings)
        # each bit is set in half of them, give or take six standard deviations
        bits = np.unpackbits(keys.view(np.uint8)).reshape(-1, 64).mean(axis=0)
        assert (abs(bits - 0.5) < 3.0 / np.sqrt(len(keys))).all()


KEPT = [
    0,
    3764562023654139118,
    5473839308019572287,
    17353284447746064422,
    18306263636069666052,
]


class TestTokens:
    @given(st.lists(st.text(st.characters(max_codepoint=127), max_size=60), max_size=5))
    @example(["".join(map(chr, range(128)))])
    def test_ascii_is_cut_as_words_does(self, documents: list[str]) -> None:
        tokens = tokenize(documents)
        expected = [[reference_key(word) for word in words(text)] for text in documents]
        assert tokens.keys.tolist() == [key for keys in expected for key in keys]
        assert tokens.ends.tolist() == np.cumsum([len(keys) for keys in expected]).tolist()

    @given(st.text(st.characters(max_codepoint=127), max_size=60))
    def test_both_paths_give_the_same_keys(self, text: str) -> None:
        # the mark at the end makes it a text that is not ASCII, and vanishes
        keys = tokenize([text, f"{text} \N{EM DASH}"]).keys
        assert keys[: len(keys) // 2].tolist() == keys[len(keys) // 2 :].tolist()

    @given(texts)
    def test_any_text_is_cut_as_words_does(self, documents: list[str]) -> None:
        tokens = tokenize(documents)
        expected = [[reference_key(word) for word in index_words(text)] for text in documents]
        assert tokens.keys.tolist() == [key for keys in expected for key in keys]
        assert tokens.ends.tolist() == np.cumsum([len(keys) for keys in expected]).tolist()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("café", "CAFE"),
            ("cafe\u0301", "cafe"),
            ("Ångström", "angstrom"),
            ("İstanbul", "istanbul"),
            ("Ἀθῆναι", "αθηναι"),
            ("ﬁne", "fine"),
            ("１２３", "123"),
            ("שָׁלוֹם", "שלום"),
            ("naïve soft\u00adhyphen", "naive softhyphen"),
        ],
    )
    def test_accents_and_forms_do_not_matter(self, one: str, other: str) -> None:
        assert tokenize([one]).keys.tolist() == tokenize([other]).keys.tolist()

    @pytest.mark.parametrize(("one", "other"), [("が", "か"), ("कि", "क"), ("กิ", "ก"), ("क़", "क")])
    def test_marks_that_spell_do(self, one: str, other: str) -> None:
        assert tokenize([one]).keys.tolist() != tokenize([other]).keys.tolist()

    def test_characters_without_spaces_are_words(self) -> None:
        assert tokenize(["東京タワー"]).keys.tolist() == keys_of(list("東京タワー")).tolist()

    def test_long_words(self) -> None:
        text = f"{'a' * 70_000} {'a' * 69_999}b {'é' * 70_000}"
        assert tokenize([text]).keys.tolist() == keys_of(
            ["a" * 70_000, "a" * 69_999 + "b", "e" * 70_000]
        ).tolist()  # fmt: skip
        assert tokenize(["x" * 3, "x" * 4]).ends.tolist() == [1, 2]


class TestBuild:
    @given(texts)
    def test_it_is_the_inverted_file(self, documents: list[str]) -> None:
        assert_equal(build(documents), reference(documents))

    def test_more_words_than_it_begins_with(self) -> None:
        # distinct words force the table to grow, several times
        rng = np.random.default_rng(3)
        documents = [
            " ".join(f"w{word}" for word in rng.integers(0, 40_000, 300)) for _ in range(400)
        ]
        assert_equal(build(documents), reference(documents))

    def test_counts_stop_at_255(self) -> None:
        postings = build(["x " * 254, "x " * 255, "x " * 256, "x " * 1000])
        assert postings.counts.tolist() == [254, 255, 255, 255]
        assert postings.lengths.tolist() == [254, 255, 256, 1000]

    def test_stop_words_are_indexed_but_have_no_length(self) -> None:
        postings = build(["To be or not to be", "The Who", ""])
        assert rows_of(postings, "to") == [0]
        assert rows_of(postings, "the") == [1]
        assert postings.lengths.tolist() == [0, 0, 0]


@st.composite
def split_texts(draw: st.DrawFn) -> tuple[list[str], list[int]]:
    documents = draw(texts)
    cuts = draw(st.lists(st.integers(0, len(documents)), max_size=4).map(sorted))
    return documents, [0, *cuts, len(documents)]


class TestUpkeep:
    @given(split_texts())
    def test_merged_parts_equal_one(self, case: tuple[list[str], list[int]]) -> None:
        documents, cuts = case
        parts = [build(documents[a:b]) for a, b in pairwise(cuts)]
        assert_equal(merge(parts), build(documents))

    def test_nothing_merged_is_nothing(self) -> None:
        assert_equal(merge([]), build([]))

    @given(texts, st.randoms(use_true_random=False))
    def test_what_is_kept_equals_its_own_index(self, documents: list[str], random) -> None:
        keep = np.array([random.random() < 0.6 for _ in documents], np.bool_)
        kept = take(build(documents), keep)
        assert_equal(kept, build([text for text, k in zip(documents, keep, strict=True) if k]))

    def test_a_mask_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="a mask of 3 for 2 texts"):
            take(build(["a", "b"]), np.ones(3, np.bool_))

    def test_memory_maps_serve(self, tmp_path: Path) -> None:
        documents = ["some words here", "and words there", "東京"]
        mapped = []
        for name, array in zip(Postings._fields, build(documents), strict=True):
            np.save(tmp_path / f"{name}.npy", array)
            mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        stored = Postings(*mapped)
        assert_equal(merge([stored, stored]), build(documents * 2))
        assert_equal(take(stored, np.array([True, False, True])), build(documents[::2]))
        assert containing([(0, stored)], [["words"]], None).tolist() == [0, 1]


@st.composite
def masked(draw: st.DrawFn) -> tuple[list[str], list[int], npt.NDArray[np.uint8] | None]:
    documents, cuts = draw(split_texts())
    if draw(st.booleans()):
        return documents, cuts, None
    size = len(documents)
    alive = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    return documents, cuts, np.array(alive, np.uint8)


class TestContaining:
    @given(masked(), st.one_of(texts_of_words, any_text))
    def test_texts_with_all_words(self, case, title: str) -> None:
        documents, cuts, alive = case
        parts = [(a, build(documents[a:b])) for a, b in pairwise(cuts)]
        wanted = set(index_words(title))
        expected = [
            slot
            for slot, text in enumerate(documents)
            if (alive is None or alive[slot]) and wanted <= set(index_words(text))
        ]
        found = containing(parts, [words(title)], alive)
        assert found.dtype == np.int64
        assert found.tolist() == expected

    def test_long_lists(self) -> None:
        rng = np.random.default_rng(5)
        chosen = rng.random((5000, 4)) < [0.9, 0.5, 0.1, 0.02]
        documents = [
            " ".join(word for word, there in zip("pqrs", row, strict=True) if there)
            for row in chosen
        ]
        parts = [(0, build(documents[:3000])), (3000, build(documents[3000:]))]
        alive = (rng.random(5000) < 0.8).astype(np.uint8)
        for title in ("p", "p q", "q p r", "s r", "p q r s", "q s"):
            columns = ["pqrs".index(word) for word in title.split()]
            there = chosen[:, columns].all(axis=1) & (alive > 0)
            found = containing(parts, [title.split()], alive)
            assert found.tolist() == np.flatnonzero(there).tolist()

    @given(masked(), st.lists(texts_of_words, max_size=6))
    def test_several_groups_find_what_each_finds(self, case, titles: list[str]) -> None:
        documents, cuts, alive = case
        parts = [(a, build(documents[a:b])) for a, b in pairwise(cuts)]
        each = [containing(parts, [words(title)], alive).tolist() for title in titles]
        found = containing(parts, [words(title) for title in titles], alive)
        assert found.tolist() == sorted({slot for slots in each for slot in slots})

    def test_a_title_of_stop_words(self) -> None:
        parts = [(0, build(["it was to be", "the who", "to be or not to be"]))]
        assert containing(parts, [words("To Be")], None).tolist() == [0, 2]

    def test_a_short_mask_is_refused(self) -> None:
        with pytest.raises(ValueError, match="a mask of 1 slots, of 2 or more"):
            containing([(0, build(["a", "a"]))], [["a"]], np.ones(1, np.uint8))
