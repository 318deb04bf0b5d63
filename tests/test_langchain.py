"""The LangChain vector store: what goes in comes out, upserts, receipts, processes, async."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_helpers import METADATA, Hashing, same_json

import oscillink_store as osc
from oscillink_store.errors import ClosedError, EmbedderError, InputError, QueryError
from oscillink_store.filters import Compare
from oscillink_store.integrations.langchain import MetadataRoles, OscillinkVectorStore

IDS = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
    | st.sampled_from(["a", "a/b", "' OR ''='", "a'; --", "\x00", "None", "0", "é" * 300])
).filter(str.strip)
DOCUMENTS = [
    Document(id="collegian", page_content="The Collegian is a student newspaper of the university.",
             metadata={"title": "The Collegian", "tags": ["news", "students"], "year": 1963}),
    Document(id="hbu", page_content="Owned by the Baptist General Convention since The Collegian.",
             metadata={"title": "Houston Baptist University", "at": {"city": "Houston"}}),
    Document(id="cake", page_content="Flour, butter, eggs, sugar and cocoa make a marble cake.",
             metadata={"year": 2019}),
]  # fmt: skip


@pytest.fixture
def store() -> Iterator[OscillinkVectorStore]:
    with OscillinkVectorStore(Hashing()) as made:
        made.add_documents(DOCUMENTS)
        yield made


@settings(max_examples=25)
@given(st.lists(METADATA, min_size=1, max_size=4))
def test_any_json_metadata_comes_back_as_it_went_in(metadatas: list[dict[str, Any]]) -> None:
    with OscillinkVectorStore(Hashing()) as store:
        texts = [f"text {place}" for place in range(len(metadatas))]
        ids = store.add_texts(texts, metadatas)
        got = store.get_by_ids(ids)
        found = store.similarity_search("text", k=10)
    for documents in (got, sorted(found, key=lambda document: document.page_content)):
        assert [document.id for document in documents] == ids
        assert [document.page_content for document in documents] == texts
        for document, metadata in zip(documents, metadatas, strict=True):
            assert same_json(document.metadata, metadata)


@settings(max_examples=15)
@given(st.lists(IDS, min_size=1, max_size=5), st.lists(IDS, max_size=2))
def test_any_text_is_an_id(ids: list[str], others: list[str]) -> None:
    with OscillinkVectorStore(Hashing()) as store:
        manager = store.record_manager("ids")
        assert store.add_texts(ids, ids=ids) == ids
        kept = list(dict.fromkeys(ids))
        assert [document.id for document in store.get_by_ids(kept)] == kept
        assert {document.page_content for document in store.similarity_search("x", k=9)} == set(ids)
        store.delete(others + ids[:1])
        left = [name for name in kept if name not in (*others, ids[0])]
        assert [document.id for document in store.get_by_ids(kept)] == left
        assert sorted(manager.list_keys()) == sorted(left)


def test_documents_are_the_callers_own(store: OscillinkVectorStore) -> None:
    store.get_by_ids(["hbu"])[0].metadata["at"]["city"] = "Dallas"
    store.similarity_search("Baptist", k=1)[0].metadata["at"]["city"] = "Dallas"
    assert store.get_by_ids(["hbu"]) == [DOCUMENTS[1]]
    assert store.similarity_search("Baptist", k=1) == [DOCUMENTS[1]]


def test_metadata_that_is_no_json_is_refused_by_name_and_nothing_is_written(
    store: OscillinkVectorStore,
) -> None:
    good = Document(id="good", page_content="good")
    bad = Document(id="bad", page_content="bad", metadata={"when": [date(2020, 1, 1)]})
    with pytest.raises(InputError, match=r"document 1 \(id 'bad'\): metadata holds a date at"):
        store.add_documents([good, bad])
    with pytest.raises(InputError, match=r"document 0 .* holds nan at \['x'\]"):
        store.add_texts(["text"], [{"x": float("nan")}])
    assert store.get_by_ids(["good", "bad"]) == []


def test_ids_of_the_call_go_before_the_documents_own(store: OscillinkVectorStore) -> None:
    own = Document(id="own", page_content="one")
    free = Document(page_content="two")
    assert store.add_documents([own, free], ids=["given", None])[0] == "given"
    assert store.get_by_ids(["own"]) == []
    ids = store.add_documents([own, free])
    assert ids[0] == "own"
    assert store.get_by_ids(ids) == [own, Document(id=ids[1], page_content="two")]
    assert (own.id, free.id) == ("own", None)
    with pytest.raises(InputError, match="1 ids for 2 documents"):
        store.add_documents([own, free], ids=["one"])


def test_a_call_is_one_commit_and_the_last_of_one_id_counts(store: OscillinkVectorStore) -> None:
    before = store.store.generation
    texts = ["first", "other", "last"]
    assert store.add_texts(iter(texts), ids=["x", "y", "x"]) == ["x", "y", "x"]
    assert store.store.generation == before + 1
    assert [each.page_content for each in store.get_by_ids(["x", "y"])] == ["last", "other"]
    assert store.add_documents([]) == []
    assert store.store.generation == before + 1


def test_texts_and_metadatas_must_be_as_many(store: OscillinkVectorStore) -> None:
    with pytest.raises(InputError, match="1 metadatas for 2 texts"):
        store.add_texts(["one", "two"], [{}])


def test_writing_again_what_is_there_changes_nothing(store: OscillinkVectorStore) -> None:
    before = store.store.generation
    store.add_documents(DOCUMENTS)
    assert store.store.generation == before


def test_deleting_by_id_filter_or_all(store: OscillinkVectorStore) -> None:
    assert store.delete(["cake", "nowhere"])
    assert store.delete("hub")
    assert store.get_by_ids(["cake", "hbu"]) == [DOCUMENTS[1]]
    store.delete(filter={"tags": "news"})
    assert store.get_by_ids(["collegian", "hbu"]) == [DOCUMENTS[1]]
    for nothing in ({}, {"ids": ["hbu"], "delete_all": True}):
        with pytest.raises(QueryError, match="delete_all=True"):
            store.delete(**nothing)
    assert len(store.store) == 1
    store.delete([])
    assert len(store.store) == 1
    store.delete(delete_all=True)
    assert len(store.store) == 0


def test_scores_are_cosines_and_relevance_lies_between_0_and_1(store: OscillinkVectorStore) -> None:
    query = "student newspaper"
    psi = np.array(Hashing().embed_query(query))
    expected = {}
    for document in DOCUMENTS:
        vector = np.array(Hashing().embed_documents([document.page_content])[0])
        expected[document.id] = vector @ psi / np.linalg.norm(vector) / np.linalg.norm(psi)
    scored = store.similarity_search_with_score(query, k=3)
    assert {document.id: score for document, score in scored} == pytest.approx(expected, abs=1e-5)
    assert [document.id for document, _ in scored] == sorted(expected, key=expected.get)[::-1]
    assert store.similarity_search_with_score_by_vector(psi.tolist(), k=3) == scored
    assert store.similarity_search_by_vector(psi.tolist(), k=3) == [each for each, _ in scored]
    opposite = OscillinkVectorStore(DeterministicFakeEmbedding(size=4))
    opposite.add_texts([str(number) for number in range(30)])
    relevance = [score for _, score in opposite.similarity_search_with_relevance_scores("3", k=30)]
    assert relevance == sorted(relevance, reverse=True)
    assert (relevance[0], relevance[-1]) == (pytest.approx(1.0), 0.0)


def test_marginal_relevance_prefers_what_is_new() -> None:
    class Plane(DeterministicFakeEmbedding):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[np.cos(float(text)), np.sin(float(text))] for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    store = OscillinkVectorStore.from_texts(["0.1", "0.12", "-0.7", "2.0"], Plane(size=2))
    ask = store.max_marginal_relevance_search
    assert [each.page_content for each in ask("0", k=2)] == ["0.1", "-0.7"]
    assert [each.page_content for each in ask("0", k=2, lambda_mult=1.0)] == ["0.1", "0.12"]
    assert [each.page_content for each in ask("0", k=2, fetch_k=2)] == ["0.1", "0.12"]
    vector = Plane(size=2).embed_query("0")
    by_vector = store.max_marginal_relevance_search_by_vector(vector, k=2)
    assert by_vector == ask("0", k=2)


def test_receipts_are_at_hand_and_leave_no_trace_in_documents(store: OscillinkVectorStore) -> None:
    for search, kind in (
        (store.similarity_search_with_receipt, "dense"),
        (store.max_marginal_relevance_search_with_receipt, "mmr"),
        (store.coherence_search_with_receipt, "lattice"),
    ):
        documents, receipt = search("newspaper", k=3)
        assert store.last_receipt == receipt
        assert receipt.verify()
        assert receipt.content["parameters"]["ranking"] == kind
        assert all(document in DOCUMENTS for document in documents)
    assert store.store.verify().ok


def test_an_unknown_argument_is_no_filter(store: OscillinkVectorStore) -> None:
    with pytest.raises(QueryError, match="takes no filters"):
        store.similarity_search("cake", filters={"year": 1963})
    assert store.similarity_search("cake", k=1, fetch_k=9) == [DOCUMENTS[2]]


def test_metadata_gives_documents_their_relations() -> None:
    pages = [
        Document(
            id=f"{source}-{page}-{start}",
            page_content=f"{source} {page} {start}",
            metadata={"source": source, "page": page, "start_index": start, "more": ["a-0-0"]},
        )
        for source in ("a", "b")
        for page in (1, 0)
        for start in (900, 0)
    ]
    loose = Document(id="loose", page_content="tweet", metadata={"source": "a", "title": 7})
    named = Document(
        id="named", page_content="of The Lighthouse", metadata={"title": "Keeper Anna"}
    )
    other = Document(id="other", page_content="written by Keeper Anna herself")
    roles = MetadataRoles(links="more")
    with OscillinkVectorStore(Hashing(), roles=roles) as store:
        store.add_documents([*pages, loose, named, other])
        edges = {
            (row["source"], row["target"], row["relation"])
            for row in store.store.edges().to_pylist()
            if row["relation"] != "knn"
        }
        rows = {row["id"]: row for row in store.store.get(["loose", "a-0-0", "named"])}
    order = ["0-0", "0-900", "1-0", "1-900"]
    steps = {
        frozenset((f"{source}-{first}", f"{source}-{second}"))
        for source in ("a", "b")
        for first, second in pairwise(order)
    }
    assert {frozenset(edge[:2]) for edge in edges if edge[2] == "next"} == steps
    assert {frozenset(edge[:2]) for edge in edges if edge[2] == "mention"} == {
        frozenset(("named", "other"))
    }
    assert sum(edge[2] == "link" for edge in edges) == len(pages) - 1
    assert (rows["loose"]["sequence"], rows["loose"]["title"]) == (None, None)
    assert rows["named"]["title"] == "Keeper Anna"


def test_pieces_of_a_file_are_neighbours_and_kinds_of_text_are_not() -> None:
    sources = ["report.pdf", "https://example.org/a", "data/x", "news", "by hand"]
    with OscillinkVectorStore(Hashing()) as store:
        for start in (0, 2):  # the second call goes on where the first ended
            store.add_documents(
                [
                    Document(
                        id=f"{source} {place}",
                        page_content=f"{source} {place}",
                        metadata={"source": source, "doc": place % 2},
                    )
                    for source in sources
                    for place in (start, start + 1)
                ]
            )
        assert steps(store) == {
            frozenset((f"{source} {place}", f"{source} {place + 1}"))
            for source in sources[:3]
            for place in range(3)
        }
    with OscillinkVectorStore(Hashing(), roles=MetadataRoles(sequence="doc")) as store:
        store.add_texts(
            ["a", "b", "c"], [{"doc": "x"}, {"doc": "y"}, {"doc": "x"}], ids=list("abc")
        )
        assert steps(store) == {frozenset("ac")}


def steps(store: OscillinkVectorStore) -> set[frozenset[str]]:
    edges = store.store.edges().to_pylist()
    return {frozenset((row["source"], row["target"])) for row in edges if row["relation"] == "next"}


def test_a_store_of_rows_is_a_store_of_documents(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "rows.osc", embedder="hash") as rows:
        rows.ingest([{"id": "a", "text": "a note", "title": "Note", "lang": "en", "year": None}])
        store = OscillinkVectorStore(store=rows)
        expected = Document(id="a", page_content="a note", metadata={"title": "Note", "lang": "en"})
        assert store.similarity_search("note") == [expected]
        assert store.get_by_ids(["a"]) == [expected]
        store.add_texts(["another"], [{"k": [1]}], ids=["b"])
        assert store.coherence_search("another", k=1)[0].metadata == {"k": [1]}
        assert store.embeddings is None
        store.close()
        assert not rows.closed
        with pytest.raises(QueryError, match="either"):
            OscillinkVectorStore(path=tmp_path / "x", store=rows)


def test_a_temporary_store_goes_with_its_object() -> None:
    store = OscillinkVectorStore(Hashing())
    path = store.store.path
    assert path.exists()
    store.close()
    assert not path.exists()
    with pytest.raises(ClosedError):
        store.similarity_search("anything")
    store = OscillinkVectorStore(Hashing())
    path = store.store.path
    del store
    gc.collect()
    assert not path.exists()


def test_documents_stay_across_processes(tmp_path: Path) -> None:
    path = tmp_path / "kept.osc"
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from langchain_helpers import Hashing\n"
        "from oscillink_store.integrations.langchain import OscillinkVectorStore\n"
        "store = OscillinkVectorStore(Hashing(), sys.argv[1])\n"
        "store.add_texts(['from afar'], [{'deep': {'list': [1, None]}}], ids=['afar'])\n"
    )
    command = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    with OscillinkVectorStore.from_documents(DOCUMENTS, Hashing(), path=path) as store:
        subprocess.run(command, check=True, cwd=tmp_path)
        document = Document(
            id="afar", page_content="from afar", metadata={"deep": {"list": [1, None]}}
        )
        assert store.similarity_search("afar", k=1) == [document]
    with OscillinkVectorStore(Hashing(), path) as store:
        assert store.get_by_ids(["afar", "cake"]) == [document, DOCUMENTS[2]]
    with pytest.raises(EmbedderError, match="hash-64"):
        OscillinkVectorStore(DeterministicFakeEmbedding(size=64), path)


class Wordless(Embeddings):
    """Embeddings that answer to await alone, and lose a vector when asked to."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError("embedded in a blocking way")

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError("embedded in a blocking way")

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = Hashing().embed_documents(texts)
        return vectors[:-1] if "lose" in texts else vectors

    async def aembed_query(self, text: str) -> list[float]:
        return Hashing().embed_query(text)


async def test_async_methods_await_the_embeddings() -> None:
    store = await OscillinkVectorStore.afrom_documents(DOCUMENTS, Wordless())
    psi = Hashing().embed_query("student newspaper")
    await store.aadd_texts(["one more"], ids=["more"])
    assert (await store.aget_by_ids(["more"]))[0].page_content == "one more"
    near = await store.asimilarity_search("student newspaper", k=2)
    assert near == store.similarity_search_by_vector(psi, k=2)
    assert near == await store.asimilarity_search_by_vector(psi, k=2)
    scored = await store.asimilarity_search_with_score("student newspaper", k=2)
    assert scored == store.similarity_search_with_score_by_vector(psi, k=2)
    assert scored == await store.asimilarity_search_with_score_by_vector(psi, k=2)
    relevant = await store.asimilarity_search_with_relevance_scores("student newspaper", k=2)
    assert [document for document, _ in relevant] == near
    marginal = await store.amax_marginal_relevance_search("student newspaper", k=2)
    assert marginal == store.max_marginal_relevance_search_by_vector(psi, k=2)
    for search in (
        store.asimilarity_search_with_receipt,
        store.amax_marginal_relevance_search_with_receipt,
        store.acoherence_search_with_receipt,
    ):
        _, receipt = await search("student newspaper", k=2)
        assert receipt == store.last_receipt
    assert await store.asearch("student newspaper", "coherence", k=2) == (
        await store.acoherence_search("student newspaper", k=2)
    )
    assert await store.asearch("student newspaper", "similarity", k=2) == near
    with pytest.raises(EmbedderError, match=r"shape \(0,\) for 1 texts"):
        await store.aadd_texts(["lose"])
    await store.adelete(["more"])
    assert await store.aget_by_ids(["more"]) == []


async def test_the_event_loop_is_not_held_up() -> None:
    gaps = []

    async def beat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    texts = [f"sentence {number} about {number % 7} things" for number in range(3000)]
    with OscillinkVectorStore(Hashing()) as store:
        store.add_texts(texts[:10])
        store.coherence_search("sentence 3", k=10)  # kernels are compiled
        heart = asyncio.create_task(beat())
        await asyncio.sleep(0.05)
        start = time.perf_counter()
        await store.aadd_texts(texts)
        written = time.perf_counter() - start
        found = await asyncio.gather(
            *(store.acoherence_search(f"about {number} things", k=10) for number in range(50))
        )
        heart.cancel()
    assert all(len(documents) == 10 for documents in found)
    assert len(gaps) > 20
    assert max(gaps) < max(0.3, written / 2), f"{max(gaps):.3f} s of {written:.3f} s"


def test_filters_of_every_kind_choose_the_same(store: OscillinkVectorStore) -> None:
    for given_filter in (
        {"year": {"$gte": 1960}, "tags": "news"},
        Compare("tags", "contains", "news"),
        lambda document: "news" in document.metadata.get("tags", []),
    ):
        for search in (
            store.similarity_search,
            store.max_marginal_relevance_search,
            store.coherence_search,
        ):
            assert search("cake", k=3, filter=given_filter) == [DOCUMENTS[0]]
