"""What all searches of a vector store come to: one search of the store, its hits as documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore

from oscillink_store import Receipt, SearchResult, Store
from oscillink_store.errors import QueryError
from oscillink_store.filters import Filter, Ids

from .documents import hit_document, row_document
from .filters import to_filter

__all__ = [
    "Asking",
    "FilterLike",
    "Ranking",
    "Receipted",
    "Scored",
    "documents",
    "receipted",
    "scored",
]

FilterLike: TypeAlias = Mapping[str, Any] | Filter | Callable[[Document], bool]
"""A dict in LangChain's dialect, a filter of the store, or a function of a document."""

Scored: TypeAlias = list[tuple[Document, float]]
Receipted: TypeAlias = tuple[list[Document], Receipt]

Ranking: TypeAlias = Literal["lattice", "hybrid", "dense", "text", "mmr"]

# What chains pass on to whichever search they call.
_MEANT_FOR_OTHERS = {"fetch_k", "lambda_mult", "score_threshold"}


class Asking(VectorStore):
    """A vector store that can be asked.

    ``filter`` is a dict (see :mod:`~oscillink_store.integrations.langchain.filters`), a
    :class:`~oscillink_store.filters.Filter`, or a function that takes a Document, which is
    called with every document of the store. It is applied before ranking in any case.
    """

    store: Store
    last_receipt: Receipt | None = None
    """The receipt of the search that ended last, in whichever thread."""

    _embedding: Embeddings | None = None

    @property
    def embeddings(self) -> Embeddings | None:
        """The embeddings, unless the store embeds by itself."""
        return self._embedding

    def ask(
        self,
        query: str | None,
        vector: Sequence[float] | None,
        k: int,
        filter: FilterLike | None,
        ranking: Ranking,
        **parameters: Any,
    ) -> SearchResult:
        """One search of the store; ``parameters`` replace fields of the store's own.

        Raises:
            QueryError: an argument cannot be used.
        """
        result = self.store.search(
            query if vector is None or (query and query.strip()) else None,
            vector=vector,
            k=k,
            where=None if filter is None else self.where(filter),
            ranking=ranking,
            parameters=replace(self.store.parameters, **parameters) if parameters else None,
        )
        self.last_receipt = result.receipt
        return result

    def where(self, filter: FilterLike) -> Filter:
        """A filter of any kind as one of the store."""
        if isinstance(filter, Mapping | Filter) or not callable(filter):
            return to_filter(filter)
        ids: list[str] = self.store.to_arrow(columns=["id"])["id"].to_pylist()
        found = (row_document(row) for row in self.store.find(ids) if row is not None)
        return Ids([str(document.id) for document in found if filter(document)])

    def _find(
        self, query: str, k: int, ranking: Ranking, kwargs: dict[str, Any], **parameters: Any
    ) -> SearchResult:
        given = _filter_of(kwargs)
        vector = None if self._embedding is None else self._embedding.embed_query(query)
        return self.ask(query, vector, k, given, ranking, **parameters)

    async def _afind(
        self, query: str, k: int, ranking: Ranking, kwargs: dict[str, Any], **parameters: Any
    ) -> SearchResult:
        given = _filter_of(kwargs)
        vector = None if self._embedding is None else await self._embedding.aembed_query(query)
        return await run_in_executor(None, self.ask, query, vector, k, given, ranking, **parameters)

    def _near(
        self, vector: Sequence[float], k: int, ranking: Ranking, kwargs: dict[str, Any], **more: Any
    ) -> SearchResult:
        return self.ask(None, vector, k, _filter_of(kwargs), ranking, **more)

    def ranked_search(
        self, query: str, k: int = 4, ranking: Ranking = "lattice", **kwargs: Any
    ) -> list[Document]:
        """The best ``k`` documents in any ranking of ``Store.search``."""
        return documents(self._find(query, k, ranking, kwargs))

    async def aranked_search(
        self, query: str, k: int = 4, ranking: Ranking = "lattice", **kwargs: Any
    ) -> list[Document]:
        """As :meth:`ranked_search`."""
        return documents(await self._afind(query, k, ranking, kwargs))


def _filter_of(kwargs: Mapping[str, Any]) -> FilterLike | None:
    # a filter that is misspelt must not come to no filter
    unknown = sorted(kwargs.keys() - {"filter"} - _MEANT_FOR_OTHERS)
    if unknown:
        raise QueryError(f"the search takes no {', '.join(unknown)}: use k and filter")
    given: FilterLike | None = kwargs.get("filter")
    return given


def documents(result: SearchResult) -> list[Document]:
    """The documents found, best first."""
    return [hit_document(hit) for hit in result]


def scored(result: SearchResult) -> Scored:
    """The documents found, with their scores."""
    return [(hit_document(hit), hit.score) for hit in result]


def receipted(result: SearchResult) -> Receipted:
    """The documents found, with the search's receipt."""
    return documents(result), result.receipt
