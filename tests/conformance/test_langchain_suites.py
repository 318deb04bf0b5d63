"""LangChain's own suites for vector stores, retrievers, indexes and byte stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import DocumentIndex
from langchain_core.stores import ByteStore
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.integration_tests.indexer import (
    AsyncDocumentIndexTestSuite,
    DocumentIndexerTestSuite,
)

import oscillink_store as osc
from oscillink_store.integrations.langchain import (
    OscillinkByteStore,
    OscillinkDocumentIndex,
    OscillinkRetriever,
    OscillinkVectorStore,
)

EMBEDDING = DeterministicFakeEmbedding(size=6)


@pytest.fixture
def vector_store(tmp_path: Path) -> Iterator[OscillinkVectorStore]:
    with OscillinkVectorStore(EMBEDDING, tmp_path / "store.osc") as store:
        yield store


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, vector_store: OscillinkVectorStore) -> VectorStore:
        return vector_store


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, vector_store: OscillinkVectorStore) -> None:
        vector_store.add_texts([f"text number {number}" for number in range(5)])
        self.vectorstore = vector_store

    @property
    def retriever_constructor(self) -> type[OscillinkRetriever]:
        return OscillinkRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.vectorstore}

    @property
    def retriever_query_example(self) -> str:
        return "which number?"


class TestDocumentIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, vector_store: OscillinkVectorStore) -> DocumentIndex:
        return OscillinkDocumentIndex(vectorstore=vector_store)


class TestAsyncDocumentIndex(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    def index(self, vector_store: OscillinkVectorStore) -> DocumentIndex:
        return OscillinkDocumentIndex(vectorstore=vector_store)


class _ByteStores:
    @pytest.fixture
    def kv_store(self, tmp_path: Path) -> Iterator[ByteStore]:
        with osc.connect(tmp_path / "bytes.osc") as store:
            yield OscillinkByteStore(store)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"", b"\x00\xff", "née".encode()


class TestByteStore(_ByteStores, BaseStoreSyncTests[bytes]):
    pass


class TestAsyncByteStore(_ByteStores, BaseStoreAsyncTests[bytes]):
    pass
