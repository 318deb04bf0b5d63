"""The compliance suite of graph-retriever's adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from animals import ANIMALS
from graph_retriever.adapters import Adapter
from graph_retriever.strategies import Eager
from graph_retriever.testing.adapter_tests import AdapterComplianceSuite
from graph_retriever.testing.embeddings import AnimalEmbeddings
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_graph_retriever import GraphRetriever

from oscillink_store.integrations.graph_retriever import OscillinkAdapter
from oscillink_store.integrations.langchain import OscillinkVectorStore


class Words(Embeddings):
    """The suite's own embedding, by syllables of animals."""

    def __init__(self) -> None:
        self._embed = AnimalEmbeddings()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self._embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._embed(text)


@pytest.fixture(scope="module")
def store() -> Iterator[OscillinkVectorStore]:
    with OscillinkVectorStore(Words()) as store:
        store.add_documents(
            [
                Document(id=name, page_content=text, metadata=metadata)
                for name, text, metadata in ANIMALS
            ]
        )
        yield store


class TestAdapter(AdapterComplianceSuite):
    @pytest.fixture
    def adapter(self, store: OscillinkVectorStore) -> Adapter:
        return OscillinkAdapter(store)


@pytest.mark.parametrize("filter_", [None, {"type": "mammal"}])
async def test_a_traversal_goes_along_the_metadata(
    store: OscillinkVectorStore, filter_: dict[str, str] | None
) -> None:
    retriever = GraphRetriever(
        store=OscillinkAdapter(store),
        edges=[("type", "type")],
        strategy=Eager(k=40, start_k=1, adjacent_k=20, max_depth=1),
    )
    found = retriever.invoke("domesticated hunters", filter=filter_)
    assert {document.id for document in found} == {
        name for name, _, metadata in ANIMALS if metadata["type"] == "mammal"
    }
    assert found == await retriever.ainvoke("domesticated hunters", filter=filter_)
    assert all("__embedding" not in document.metadata for document in found)
