"""Retrievers and the compressor: what they return, tell tracers, and leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_helpers import Hashing
from pydantic import ValidationError

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.integrations.langchain import (
    OscillinkCompressor,
    OscillinkRetriever,
    OscillinkVectorStore,
    OscillinkVectorStoreRetriever,
)
from oscillink_store.stdlib_docs import standard_library, stdlib_docs

QUERIES = ["How do I wait for several tasks?", "temporary file", "parse JSON", "a heap queue"]
RANKINGS = ["lattice", "hybrid", "dense", "text", "mmr"]


@pytest.fixture(scope="module")
def library() -> Iterator[OscillinkVectorStore]:
    """Docstrings of some packages of the standard library, as documents."""
    rows = [row for name in PACKAGES for row in stdlib_docs(standard_library() / name)]
    with OscillinkVectorStore(Hashing()) as store:
        store.add_documents(
            [
                Document(
                    id=row["id"],
                    page_content=row["text"],
                    metadata={
                        "title": row["title"],
                        "source": row["file"],
                        "start_index": row["position"],
                        "kind": row["kind"],
                    },
                )
                for row in rows
            ]
        )
        yield store


PACKAGES = ["asyncio", "json", "email"]


@pytest.fixture(scope="module")
def random_collection() -> Iterator[OscillinkVectorStore]:
    with OscillinkVectorStore(DeterministicFakeEmbedding(size=32)) as store:
        store.add_texts(
            [f"note {number} about thing {number % 40}" for number in range(500)],
            [{"kind": "method" if number % 3 else "class"} for number in range(500)],
        )
        yield store


@pytest.mark.parametrize("collection", ["library", "random_collection"])
@pytest.mark.parametrize("ranking", RANKINGS)
async def test_a_retriever_finds_what_the_store_finds(
    request: pytest.FixtureRequest, collection: str, ranking: Any
) -> None:
    vectors: OscillinkVectorStore = request.getfixturevalue(collection)
    retriever = OscillinkRetriever(vectorstore=vectors, k=10, ranking=ranking)
    for query in QUERIES:
        expected = vectors.store.search(query, k=10, ranking=ranking).ids
        assert [document.id for document in retriever.invoke(query)] == expected
        assert [document.id for document in await retriever.ainvoke(query)] == expected
        search_type = {"lattice": "coherence", "dense": "similarity", "mmr": "mmr"}.get(ranking)
        if search_type is not None:
            plain = vectors.as_retriever(search_type=search_type, search_kwargs={"k": 10})
            assert [document.id for document in plain.invoke(query)] == expected
            assert [document.id for document in await plain.ainvoke(query)] == expected


def test_k_and_filter_are_given_at_first_or_with_each_call(library: OscillinkVectorStore) -> None:
    retriever = OscillinkRetriever(vectorstore=library, k=3, filter={"kind": "class"})
    kinds = [document.metadata["kind"] for document in retriever.invoke(QUERIES[0])]
    assert kinds == ["class"] * 3
    documents = retriever.invoke(QUERIES[0], k=5, filter={"kind": {"$in": ["method"]}})
    assert [document.metadata["kind"] for document in documents] == ["method"] * 5
    functions = library.as_retriever(
        search_type="coherence",
        search_kwargs={"k": 2, "filter": lambda document: document.metadata["kind"] == "function"},
    )
    assert [each.metadata["kind"] for each in functions.invoke("queue")] == ["function"] * 2
    assert OscillinkRetriever(vectorstore=library).invoke("queue", ranking="text") == (
        library.ranked_search("queue", ranking="text")
    )
    with pytest.raises(QueryError, match="takes no top_k"):
        retriever.invoke("queue", top_k=3)


def test_a_threshold_leaves_out_what_is_less_similar(library: OscillinkVectorStore) -> None:
    scored = library.similarity_search_with_relevance_scores(QUERIES[1], k=20)
    threshold = scored[7][1]
    retriever = library.as_retriever(
        search_type="similarity_score_threshold",
        search_kwargs={"k": 20, "score_threshold": threshold},
    )
    kept = [document for document, score in scored if score >= threshold]
    assert 8 <= len(kept) < 20
    assert retriever.invoke(QUERIES[1]) == kept
    with pytest.raises(ValueError, match="not allowed"):
        library.as_retriever(search_type="magic")


class Watching(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self.seen.append((query, kwargs["tags"], kwargs["metadata"]["ls_retriever_name"]))

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.seen.append(list(documents))

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
        self.seen.append(type(error))


def test_tracers_see_the_question_and_the_documents(library: OscillinkVectorStore) -> None:
    watching = Watching()
    retriever = OscillinkRetriever(vectorstore=library, tags=["mine"])
    documents = retriever.invoke("a heap queue", {"callbacks": [watching]})
    assert watching.seen == [("a heap queue", ["mine"], "oscillink"), documents]
    watching.seen.clear()
    with pytest.raises(QueryError):
        retriever.invoke("a heap queue", {"callbacks": [watching]}, filter={"$no": 1})
    assert watching.seen[1:] == [QueryError]
    plain = library.as_retriever()
    assert isinstance(plain, OscillinkVectorStoreRetriever)
    assert plain.tags == ["OscillinkVectorStore", "Hashing"]


def test_retrievers_are_runnables_with_options_to_configure(library: OscillinkVectorStore) -> None:
    chain = OscillinkRetriever(vectorstore=library, k=2) | (
        lambda documents: [document.id for document in documents]
    )
    expected = [library.store.search(query, k=2).ids for query in QUERIES]
    assert chain.batch(QUERIES) == expected


class Compass(DeterministicFakeEmbedding):
    """Texts are angles in degrees."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def compass(*angles: int) -> list[Document]:
    return [Document(page_content=str(angle), metadata={"angle": angle}) for angle in angles]


async def test_the_compressor_ranks_as_the_lattice_in_memory() -> None:
    given = compass(170, 0, 100, 15, -40, 60, 15)
    compressor = OscillinkCompressor(embeddings=Compass(size=2), top_n=3)
    kept = compressor.compress_documents(given, "10")
    lattice = osc.Lattice(Compass(size=2).embed_documents([each.page_content for each in given]))
    lattice.set_query(Compass(size=2).embed_query("10"))
    assert kept == [given[chosen.anchor] for chosen in lattice.bundle(3)]
    assert {document.page_content for document in kept} == {"0", "15"}
    assert compressor.last_receipt == lattice.receipt()
    assert given == compass(170, 0, 100, 15, -40, 60, 15)
    assert await compressor.acompress_documents(given, "10") == kept
    everything = OscillinkCompressor(embeddings=Compass(size=2), top_n=None)
    assert len(everything.compress_documents(given, "10")) == 7


def test_the_compressor_takes_few_documents_or_none() -> None:
    compressor = OscillinkCompressor(embeddings=Compass(size=2), top_n=3)
    assert compressor.compress_documents([], "10") == []
    assert compressor.compress_documents(compass(90), "10") == compass(90)
    assert compressor.compress_documents(compass(90, 90), "10") == compass(90, 90)
    with pytest.raises(ValidationError):
        OscillinkCompressor(embeddings=Compass(size=2), top_n=0)
