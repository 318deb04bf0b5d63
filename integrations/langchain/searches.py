"""A vector store's searches: ``similarity`` is exact cosine, ``coherence`` is the lattice's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import run_in_executor

from .asking import (
    Receipted,
    Scored,
    documents,
    receipted,
    scored,
)
from .marginal import MarginalSearches

__all__ = ["Searches"]


class Searches(MarginalSearches):
    """Every search of a vector store."""

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ``k`` documents of highest cosine similarity."""
        return documents(self._find(query, k, "dense", kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """As :meth:`similarity_search`."""
        return documents(await self._afind(query, k, "dense", kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """Documents with their cosine similarity: 1 is the same direction."""
        return scored(self._find(query, k, "dense", kwargs))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """As :meth:`similarity_search_with_score`."""
        return scored(await self._afind(query, k, "dense", kwargs))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents nearest to a vector."""
        return documents(self._near(embedding, k, "dense", kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> Scored:
        """The documents nearest to a vector, with their cosine similarity."""
        return scored(self._near(embedding, k, "dense", kwargs))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> Scored:
        """As :meth:`similarity_search_with_score_by_vector`."""
        return await run_in_executor(
            None, self.similarity_search_with_score_by_vector, embedding, k, **kwargs
        )

    def similarity_search_with_receipt(self, query: str, k: int = 4, **kwargs: Any) -> Receipted:
        """As :meth:`similarity_search`, with the search's receipt."""
        return receipted(self._find(query, k, "dense", kwargs))

    async def asimilarity_search_with_receipt(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> Receipted:
        """As :meth:`similarity_search_with_receipt`."""
        return receipted(await self._afind(query, k, "dense", kwargs))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # cosine as it is, so that thresholds mean what they mean elsewhere; opposites count 0
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    # by the lattice

    def coherence_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ranked coherent set: what matches the query and what is connected to that."""
        return documents(self._find(query, k, "lattice", kwargs))

    async def acoherence_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """As :meth:`coherence_search`."""
        return documents(await self._afind(query, k, "lattice", kwargs))

    def coherence_search_with_receipt(self, query: str, k: int = 4, **kwargs: Any) -> Receipted:
        """As :meth:`coherence_search`, with the search's receipt."""
        return receipted(self._find(query, k, "lattice", kwargs))

    async def acoherence_search_with_receipt(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> Receipted:
        """As :meth:`coherence_search_with_receipt`."""
        return receipted(await self._afind(query, k, "lattice", kwargs))

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """By ``similarity``, ``mmr``, ``similarity_score_threshold`` or ``coherence``."""
        if search_type == "coherence":
            return self.coherence_search(query, **kwargs)
        return super().search(query, search_type, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """As :meth:`search`."""
        if search_type == "coherence":
            return await self.acoherence_search(query, **kwargs)
        return await super().asearch(query, search_type, **kwargs)
