"""Retrievers: the store's own, by the lattice unless told otherwise, and a vector store's."""

from __future__ import annotations

from typing import Any, ClassVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import ConfigDict, SkipValidation

from .asking import FilterLike, Ranking
from .searches import Searches

__all__ = ["OscillinkRetriever", "OscillinkVectorStoreRetriever"]


class OscillinkRetriever(BaseRetriever):
    """Documents that match a query and what is connected to them.

    ``k``, ``filter`` and ``ranking`` may be given anew with each ``invoke``.
    """

    vectorstore: Searches
    """An ``OscillinkVectorStore``."""
    k: int = 4
    """How many documents at most."""
    filter: SkipValidation[FilterLike | None] = None
    """Which documents may be found; see the vector store."""
    ranking: Ranking = "lattice"
    """How to rank them, as ``Store.search`` does."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return self.vectorstore.ranked_search(query, **self._options(kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return await self.vectorstore.aranked_search(query, **self._options(kwargs))

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"k": self.k, "filter": self.filter, "ranking": self.ranking, **given}


class OscillinkVectorStoreRetriever(VectorStoreRetriever):
    """What ``OscillinkVectorStore.as_retriever`` gives: one more search type, ``coherence``."""

    vectorstore: Searches
    allowed_search_types: ClassVar[tuple[str, ...]] = (
        "similarity",
        "similarity_score_threshold",
        "mmr",
        "coherence",
    )

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return self.vectorstore.search(query, self.search_type, **(self.search_kwargs | kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return await self.vectorstore.asearch(
            query, self.search_type, **(self.search_kwargs | kwargs)
        )
