"""The LangGraph store: items, namespaces, batches and searches by meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, PutOp, SearchOp

import oscillink_store as osc
from oscillink_store.integrations.langgraph import OscillinkStore

HASH = {"embed": "hash", "fields": ["text"]}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LABELS = st.text(st.characters(exclude_characters=".\0", exclude_categories=["Cs"]), min_size=1)
NAMESPACES = st.lists(
    st.sampled_from(["a", "b", "ab", '"', '","', "\\", "[", "%", "*", "A"]) | LABELS,
    min_size=1,
    max_size=3,
).map(tuple)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[OscillinkStore]:
    with OscillinkStore.from_conn_string(tmp_path / "memory.osc", index=HASH) as store:
        yield store


def keys(items: Any) -> list[str]:
    return [item.key for item in items]


# values and times


def test_a_key_may_be_empty(memory: OscillinkStore) -> None:
    memory.put(("a",), "", {"text": "nameless"})
    memory.put(("a",), "k", {"text": "named"})
    assert memory.get(("a",), "").value == {"text": "nameless"}
    assert keys(memory.search(("a",), query="nameless", limit=1)) == [""]
    memory.delete(("a",), "")
    assert memory.get(("a",), "") is None
    assert keys(memory.search(("a",), query="nameless")) == ["k"]


def test_many_gets_are_answered_in_their_order(memory: OscillinkStore) -> None:
    puts = [PutOp(("a",), str(n), {"n": n}) for n in range(20)]
    memory.batch([*puts, PutOp(("b",), "0", {"n": "b"})])
    asked = [GetOp(("a",), "7"), GetOp(("b",), "0"), GetOp(("b",), "7"), GetOp(("a",), "7")]
    change = PutOp(("a",), "7", {"n": "new"})
    found = memory.batch([asked[0], change, *asked[1:], SearchOp(("a",), limit=1)])
    values = [item and item.value["n"] for item in found[:-1]]
    assert values == [7, None, "b", None, 7]
    assert [item.value["n"] for item in found[-1]] == [19]
    assert memory.get(("a",), "7").value == {"n": "new"}


@settings(max_examples=30)
@given(value=st.dictionaries(TEXTS, JSON))
def test_values_come_back_equal(shared: OscillinkStore, value: dict[str, Any]) -> None:
    shared.put(("values",), "one", value)
    assert shared.get(("values",), "one").value == value
    (found,) = shared.search(("values",), query="anything")
    assert found.value == value


@pytest.fixture(scope="module")
def shared() -> Iterator[OscillinkStore]:
    """One for all examples of a test, as opening takes longer than they do."""
    with OscillinkStore.from_conn_string(":memory:", index={"embed": "hash"}) as store:
        yield store


def test_an_update_keeps_the_time_of_creation(memory: OscillinkStore) -> None:
    memory.put(("a",), "k", {"text": "old"})
    first = memory.get(("a",), "k")
    memory.put(("a",), "k", {"text": "new"})
    second = memory.get(("a",), "k")
    assert first.created_at == first.updated_at == second.created_at < second.updated_at
    assert second.created_at.utcoffset() is not None
    memory.delete(("a",), "k")
    memory.put(("a",), "k", {"text": "again"})
    assert memory.get(("a",), "k").created_at > second.updated_at


def test_search_lists_the_last_written_first(memory: OscillinkStore) -> None:
    for key in "abc":
        memory.put(("n",), key, {"text": key})
    memory.put(("n",), "a", {"text": "changed"})
    assert keys(memory.search(("n",))) == ["a", "c", "b"]
    assert keys(memory.search(("n",), limit=1, offset=1)) == ["c"]


def test_memory_goes_with_its_store() -> None:
    with OscillinkStore.from_conn_string(":memory:") as store:
        folder = Path(store._folder.name)
        store.put(("a",), "k", {})
        assert folder.exists()
    assert not folder.exists()
    with pytest.raises(ValueError, match="closed"):
        store.put(("a",), "k", {})


# batches


def test_a_batch_reads_before_it_writes(memory: OscillinkStore) -> None:
    memory.put(("a",), "k", {"text": "old"})
    results = memory.batch([
        PutOp(("a",), "k", {"text": "new"}),
        PutOp(("b",), "k", {"text": "new"}),
        GetOp(("a",), "k"),
        SearchOp(()),
        SearchOp((), query="new"),
        ListNamespacesOp(),
    ])  # fmt: skip
    assert results[:2] == [None, None]
    assert results[2].value == {"text": "old"}
    assert (
        [item.value for item in results[3]]
        == [item.value for item in results[4]]
        == [{"text": "old"}]
    )
    assert results[5] == [("a",)]
    assert memory.get(("a",), "k").value == {"text": "new"}


def test_the_last_write_to_an_item_counts(memory: OscillinkStore) -> None:
    memory.put(("a",), "gone", {"text": "here"})
    memory.batch([
        PutOp(("a",), "k", {"text": "first"}),
        PutOp(("a",), "k", None),
        PutOp(("a",), "k", {"text": "last"}),
        PutOp(("a",), "gone", {"text": "changed"}),
        PutOp(("a",), "gone", None),
    ])  # fmt: skip
    assert [item.value for item in memory.search(())] == [{"text": "last"}]
    assert [item.value for item in memory.search((), query="first")] == [{"text": "last"}]


def test_a_batch_is_one_commit(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash") as folder:
        store = OscillinkStore(folder, index={"fields": ["text"]})
        before = folder.generation
        store.batch([PutOp(("a",), str(n), {"text": f"text {n}"}) for n in range(20)])
        assert folder.generation == before + 1
        assert len(folder) == 20
        store.close()
        assert len(folder) == 20  # a store that was open stays open


def test_a_batch_with_a_bad_operation_does_nothing(memory: OscillinkStore) -> None:
    good = PutOp(("a",), "k", {"text": "x"})
    for bad in (
        GetOp(("a.b",), "k"),
        SearchOp((), {"": 1}),
        SearchOp((), {"a": {"$in": [1]}}),
        SearchOp((), limit=-1),
        ListNamespacesOp(offset=-1),
    ):
        with pytest.raises(ValueError):
            memory.batch([good, bad])
    with pytest.raises(ValueError):
        memory.batch([good, PutOp(("a",), "other", {"text": object()})])
    assert memory.search(()) == []


# namespaces


def test_tenants_see_their_own(memory: OscillinkStore) -> None:
    tenants = [f"tenant{number}" for number in range(100)]
    memory.batch([
        PutOp((tenant, kind), f"{tenant} {number}", {"text": f"the plan of {tenant}", "n": number})
        for tenant in tenants for kind in ("facts", "plans") for number in range(2)
    ])  # fmt: skip
    for tenant in tenants:
        for found in (
            memory.search((tenant,), limit=100),
            memory.search((tenant,), query="the plan of tenant7", limit=100),
        ):
            assert len(found) == 4
            assert {item.namespace[0] for item in found} == {tenant}
        first = memory.search((tenant,), query="the plan", filter={"n": 0}, limit=100)
        assert {item.key for item in first} == {f"{tenant} 0"}
        assert memory.list_namespaces(prefix=(tenant,)) == [(tenant, "facts"), (tenant, "plans")]


@settings(max_examples=30)
@given(namespaces=st.sets(NAMESPACES.filter(lambda labels: labels[0] != "langgraph"), max_size=6),
       prefix=NAMESPACES)  # fmt: skip
def test_no_label_leads_elsewhere(
    tricky: OscillinkStore, namespaces: set[tuple[str, ...]], prefix: tuple[str, ...]
) -> None:
    held = tricky.search((), limit=1000)
    tricky.batch([PutOp(item.namespace, item.key, None) for item in held])
    tricky.batch([PutOp(name, "k", {"text": "one text", "at": list(name)}) for name in namespaces])
    for wanted in {prefix, prefix[:1], *namespaces}:
        inside = {name for name in namespaces if name[: len(wanted)] == wanted}
        for found in (
            tricky.search(wanted, limit=100),
            tricky.search(wanted, query="one text", limit=100),
        ):
            assert {item.namespace for item in found} == inside
            assert all(item.value["at"] == list(item.namespace) for item in found)
        item = tricky.get(wanted, "k")
        assert (item is not None) == (wanted in namespaces)
        if "*" not in wanted:
            assert set(tricky.list_namespaces(prefix=wanted)) == inside


@pytest.fixture(scope="module")
def tricky() -> Iterator[OscillinkStore]:
    with OscillinkStore.from_conn_string(":memory:", index=HASH) as store:
        yield store


def test_labels_that_join_alike_stay_apart(memory: OscillinkStore) -> None:
    for namespace, key in [
        (("a", "b"), "c"),
        (("a",), "b"),
        (("a", "b", "c"), "d"),
        (("a,b",), "c"),
    ]:
        memory.put(namespace, key, {"text": "same"})
    assert memory.get(("a", "b"), "c").namespace == ("a", "b")
    assert {item.namespace for item in memory.search(("a", "b"), query="same")} == {
        ("a", "b"), ("a", "b", "c"),
    }  # fmt: skip
    with pytest.raises(InvalidNamespaceError):
        memory.get(("a.b",), "c")


def test_namespaces_are_cut_and_counted(memory: OscillinkStore) -> None:
    for namespace in [("a", "x", "1"), ("a", "x", "2"), ("a", "y", "1"), ("b",)]:
        memory.put(namespace, "k", {})
    assert memory.list_namespaces(max_depth=2) == [("a", "x"), ("a", "y"), ("b",)]
    assert memory.list_namespaces(suffix=("*", "1")) == [("a", "x", "1"), ("a", "y", "1")]
    assert memory.list_namespaces(limit=0) == memory.search((), limit=0) == []
    assert memory.search((), query="k", limit=0) == []
    assert memory.list_namespaces(limit=2, offset=1) == [("a", "x", "2"), ("a", "y", "1")]
    memory.delete(("b",), "k")
    assert ("b",) not in memory.list_namespaces()


# searches by meaning


def test_items_have_the_score_of_their_best_text(tmp_path: Path) -> None:
    table = {"east": [1.0, 0.0], "north": [0.0, 1.0], "between": [1.0, 1.0]}

    def embed(texts: list[str]) -> list[list[float]]:
        return [table[text] for text in texts]

    index = {"embed": embed, "dims": 2, "fields": ["first", "rest[*]"]}
    with OscillinkStore(tmp_path / "s.osc", index=index) as store:
        store.put(("d",), "both", {"first": "between", "rest": ["north", "east"]})
        store.put(("d",), "one", {"first": "between", "rest": []})
        store.put(("d",), "none", {"first": "east"}, index=False)
        store.put(("d",), "blank", {"first": "  ", "rest": [""]})
        found = store.search(("d",), query="north")
        assert [(item.key, round(item.score, 3)) for item in found] == [
            ("both", 1.0),
            ("one", 0.707),
        ]
        assert len(store.search(("d",))) == 4
        store.put(("d",), "both", {"first": "east", "rest": []})
        assert keys(store.search(("d",), query="north")) == ["one", "both"]
        store.put(("d",), "one", {"first": "north", "other": "east"}, index=["other"])
        assert [round(item.score, 3) for item in store.search(("d",), query="north")] == [0.0, 0.0]


def test_pages_are_of_items_however_many_texts_they_have(memory: OscillinkStore) -> None:
    for number in range(12):
        texts = [f"green apple {number} {copy}" for copy in range(1 + number * 3)]
        memory.put(("d",), str(number), {"texts": texts}, index=["texts[*]"])
    whole = memory.search(("d",), query="green apple", limit=100)
    assert sorted(keys(whole), key=int) == [str(number) for number in range(12)]
    paged = [
        item
        for offset in range(0, 15, 4)
        for item in memory.search(("d",), query="green apple", limit=4, offset=offset)
    ]
    assert paged == whole
    assert [item.score for item in whole] == sorted((item.score for item in whole), reverse=True)


def test_an_item_that_changes_leaves_no_anchors(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash") as folder:
        store = OscillinkStore(folder, index={"fields": ["texts[*]"]})
        store.put(("a",), "k", {"texts": ["one", "two", "three"]})
        assert len(folder) == 3
        store.put(("a",), "k", {"texts": ["four"]})
        assert folder.to_arrow()["text"].to_pylist() == ["four"]
        store.delete(("a",), "k")
        assert len(folder) == 0
        store.close()


def test_items_and_documents_do_not_mix(tmp_path: Path) -> None:
    fields = osc.Fields(text="body", title="headline", payload="extra")
    with osc.connect(tmp_path / "s.osc", embedder="hash", fields=fields) as folder:
        with OscillinkStore(folder, index={"fields": ["text"]}) as store:
            store.put(("a",), "k", {"text": "a red house"})
            mine = {"langgraph": {"namespace": ["a"], "key": "k"}}
            folder.ingest([
                {"id": "1", "body": "a red house", "headline": "House", "extra": None},
                {"id": "2", "body": "a red house", "headline": "House", "extra": mine},
                {"id": "3", "body": "a red house", "headline": "House",
                 "extra": {"langgraph": {"namespace": ["a"], "key": 3}}},
            ])  # fmt: skip
            for prefix in ((), ("a",)):
                assert keys(store.search(prefix, query="a red house")) == ["k"]
            assert keys(store.search((), query="red", filter={"text": "a red house"})) == ["k"]
            assert store.list_namespaces() == [("a",)]


@pytest.mark.parametrize("ranking", ["dense", "lattice", "hybrid"])
def test_every_ranking_finds_and_has_a_receipt(tmp_path: Path, ranking: Any) -> None:
    with OscillinkStore(tmp_path / "s.osc", index=HASH, ranking=ranking) as store:
        assert store.search((), query="apple") == []
        for key, text in [("1", "green apple"), ("2", "red car"), ("3", "apple pie")]:
            store.put(("a",), key, {"text": text})
        assert set(keys(store.search((), query="apple", limit=2))) == {"1", "3"}
        assert store.last_receipt.verify()


def test_items_of_very_many_texts_are_filtered_too(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash") as folder:
        store = OscillinkStore(folder, index={"fields": ["texts[*]"]})
        for number in range(4):
            texts = [
                f"line {line} of {number} {'x' * 2000}" for line in range(1 + 40 * (number % 2))
            ]
            store.put(("a",), str(number), {"texts": texts, "n": number})
        sizes = {len(str(row)) for row in folder.to_arrow()["payload"].to_pylist()}
        assert max(sizes) < 3000  # no copies of 80,000 characters in each of 41 anchors
        for wanted in ({"n": 0}, {"n": 1}, {"n": {"$gte": 2}}, {"n": 9}, {"n": None}):
            expected = keys(store.search((), filter=wanted))
            found = store.search((), query="line 5", filter=wanted)
            assert sorted(keys(found)) == sorted(expected)
        store.close()


# embeddings


class Named(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(len(text)), 1.0]


def test_documents_and_queries_are_embedded_each_in_their_way(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc", index={"embed": Named(), "fields": ["text"]}) as store:
        assert isinstance(store.embeddings, Named)
        store.put(("a",), "k", {"text": "x"})
        (item,) = store.search((), query="x" * 10)
        assert item.score == pytest.approx(11 / (2**0.5 * 101**0.5), abs=1e-6)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    fake = DeterministicFakeEmbedding(size=8)
    for index, message in [
        ({"fields": ["text"]}, "embed is missing"),
        ({"embed": fake, "distance_type": "l2"}, "distance_type"),
        ({"embed": fake, "fields": [1]}, "fields"),
    ]:
        with pytest.raises(ValueError, match=message):
            OscillinkStore(tmp_path / "s.osc", index=index)
    with OscillinkStore(tmp_path / "s.osc", index={"embed": fake, "dims": 9}) as store:
        with pytest.raises(ValueError, match="8 numbers where dims says 9"):
            store.put(("a",), "k", {"text": "x"})
        assert store.get(("a",), "k") is None
    with osc.connect(tmp_path / "s.osc") as folder, pytest.raises(ValueError, match="open store"):
        OscillinkStore(folder, index=HASH)


def test_a_text_whose_embedding_is_zero_is_not_indexed(tmp_path: Path) -> None:
    index = {
        "embed": lambda texts: [[float(text.count("a")), 0.0] for text in texts],
        "fields": ["text"],
    }
    with OscillinkStore(tmp_path / "s.osc", index=index) as store:
        store.put(("n",), "1", {"text": "bbb"})
        store.put(("n",), "2", {"text": "aaa"})
        assert keys(store.search((), query="a")) == ["2"]
        assert len(store.search(())) == 2
