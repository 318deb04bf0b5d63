"""Searches by maximal marginal relevance: alike to the query, not to each other."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document

from .asking import Asking, Receipted, documents, receipted

__all__ = ["MarginalSearches"]


class MarginalSearches(Asking):
    """The searches by maximal marginal relevance of a vector store."""

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """``k`` of the ``fetch_k`` most similar documents, alike to the query, not to each other.

        ``lambda_mult`` is 1 for likeness to the query alone, 0 for the greatest variety.
        """
        return self.max_marginal_relevance_search_with_receipt(
            query, k, fetch_k, lambda_mult, **kwargs
        )[0]

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search`."""
        found = await self.amax_marginal_relevance_search_with_receipt(
            query, k, fetch_k, lambda_mult, **kwargs
        )
        return found[0]

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search`, for a vector."""
        options = {"mmr_fetch": fetch_k, "mmr_lambda": lambda_mult}
        return documents(self._near(embedding, k, "mmr", kwargs, **options))

    def max_marginal_relevance_search_with_receipt(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> Receipted:
        """As :meth:`max_marginal_relevance_search`, with the search's receipt."""
        options = {"mmr_fetch": fetch_k, "mmr_lambda": lambda_mult}
        return receipted(self._find(query, k, "mmr", kwargs, **options))

    async def amax_marginal_relevance_search_with_receipt(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> Receipted:
        """As :meth:`max_marginal_relevance_search_with_receipt`."""
        options = {"mmr_fetch": fetch_k, "mmr_lambda": lambda_mult}
        return receipted(await self._afind(query, k, "mmr", kwargs, **options))
