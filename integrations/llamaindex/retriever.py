"""A retriever of LlamaIndex that ranks by the lattice."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Literal

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.settings import Settings
from llama_index.core.vector_stores.types import MetadataFilters

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.filters import Filter

from .filtering import restriction
from .rows import node_of_hit
from .vector_store import OscillinkVectorStore

__all__ = ["OscillinkRetriever"]


class OscillinkRetriever(BaseRetriever):
    """Retrieves the connected, ranked set for a question, with a receipt.

    Args:
        source: A vector store, an index over one, or an open store.
        embed_model: What embeds questions: by default that of the index, else the store's own
            embedder, else ``Settings.embed_model``.
        similarity_top_k: How many nodes at most.
        filters: What nodes must satisfy.
        ranking: ``"lattice"``, or another ranking of :meth:`oscillink_store.Store.search`.
        parameters: Ranking constants in place of the store's.
        label: A note of yours, kept in the receipts.
        callback_manager: LlamaIndex's callbacks.
        object_map: What the ids of IndexNodes stand for, by default as in the index.
        objects: The same as nodes.
        verbose: Whether to print what is entered by way of IndexNodes.
    """

    def __init__(
        self,
        source: OscillinkVectorStore | VectorStoreIndex | osc.Store,
        embed_model: BaseEmbedding | None = None,
        *,
        similarity_top_k: int = 10,
        filters: MetadataFilters | Filter | None = None,
        ranking: Literal["lattice", "hybrid", "dense", "text", "mmr"] = "lattice",
        parameters: osc.Parameters | None = None,
        label: str | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        if isinstance(source, VectorStoreIndex):
            # the index keeps these two and shows them to nobody
            embed_model = embed_model or source._embed_model  # noqa: SLF001
            object_map = object_map or source._object_map  # noqa: SLF001
            source = _ours(source.vector_store)
        self.store = source if isinstance(source, osc.Store) else source.client
        self.similarity_top_k = similarity_top_k
        self.filters = filters
        self.ranking = ranking
        self.parameters = parameters
        self.label = label
        self.last_receipt: osc.Receipt | None = None
        self._embed_model = embed_model
        super().__init__(callback_manager, object_map, objects, verbose)

    def retrieve_with_receipt(
        self, question: QueryType
    ) -> tuple[list[NodeWithScore], osc.Receipt | None]:
        """The nodes and the receipt of this very search, whatever other threads do."""
        own = copy.copy(self)
        return own.retrieve(question), own.last_receipt

    async def aretrieve_with_receipt(
        self, question: QueryType
    ) -> tuple[list[NodeWithScore], osc.Receipt | None]:
        """As :meth:`retrieve_with_receipt`."""
        own = copy.copy(self)
        return await own.aretrieve(question), own.last_receipt

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = query_bundle.embedding
        model = self._model()
        if vector is None and model is not None:
            vector = model.get_agg_embedding_from_queries(query_bundle.embedding_strs)
        return self._search(query_bundle.query_str, vector)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = query_bundle.embedding
        model = self._model()
        if vector is None and model is not None:
            vector = await model.aget_agg_embedding_from_queries(query_bundle.embedding_strs)
        return await asyncio.to_thread(self._search, query_bundle.query_str, vector)

    def _model(self) -> BaseEmbedding | None:
        """What embeds the question, None where the store does or nobody needs to."""
        if self.ranking == "text":
            return None
        if self._embed_model is None and not self.store.has_embedder:
            self._embed_model = Settings.embed_model
        return self._embed_model

    def _search(self, text: str, vector: list[float] | None) -> list[NodeWithScore]:
        result = self.store.search(
            text if text.strip() else None,
            vector=vector,
            k=self.similarity_top_k,
            where=restriction(self.filters),
            ranking=self.ranking,
            label=self.label,
            parameters=self.parameters,
        )
        self.last_receipt = result.receipt
        return [NodeWithScore(node=node_of_hit(hit), score=hit.score) for hit in result]


def _ours(vector_store: object) -> OscillinkVectorStore:
    if not isinstance(vector_store, OscillinkVectorStore):
        raise QueryError(
            f"the index is over a {type(vector_store).__name__}: build it over an "
            "OscillinkVectorStore, or rerank what it retrieves with OscillinkPostprocessor"
        )
    return vector_store
