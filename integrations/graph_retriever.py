"""Graph retriever: traversals over the metadata of a LangChain vector store.

::

    from langchain_graph_retriever import GraphRetriever
    from oscillink_store.integrations.graph_retriever import OscillinkAdapter

    GraphRetriever(store=OscillinkAdapter(vector_store), edges=[("keywords", "keywords")])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_graph_retriever._conversion import METADATA_EMBEDDING_KEY
from langchain_graph_retriever.adapters.langchain import LangchainAdapter

from oscillink_store.filters import matches

from .langchain import OscillinkVectorStore
from .langchain.documents import row_document

__all__ = ["OscillinkAdapter"]


class OscillinkAdapter(LangchainAdapter[OscillinkVectorStore]):
    """What the graph retriever asks of a vector store; filters as the vector store takes them."""

    def _search(
        self,
        embedding: list[float],
        k: int = 4,
        filter: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        result = self.vector_store.ask(None, embedding, k, filter, "dense", **kwargs)
        return _with_embeddings(self.vector_store.store.find(result.ids))

    def _get(
        self,
        ids: Sequence[str],
        filter: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        found = _with_embeddings(self.vector_store.store.find(ids))
        if filter is None:
            return found
        where = self.vector_store.where(filter)
        return [each for each in found if matches(where, each.metadata, each.id)]


def _with_embeddings(rows: Iterable[Mapping[str, Any] | None]) -> list[Document]:
    documents = []
    for row in rows:
        if row is not None:
            document = row_document(row)
            document.metadata[METADATA_EMBEDDING_KEY] = row["vector"].tolist()
            documents.append(document)
    return documents
