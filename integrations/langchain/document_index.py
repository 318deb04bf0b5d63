"""A document index: a vector store that is its own retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse

from oscillink_store.errors import QueryError

from .retrievers import OscillinkRetriever
from .vector_store import OscillinkVectorStore

__all__ = ["OscillinkDocumentIndex"]


class OscillinkDocumentIndex(OscillinkRetriever, DocumentIndex):
    """Documents to upsert, delete, get and retrieve, by the lattice unless told otherwise."""

    vectorstore: OscillinkVectorStore

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Write documents, in place of those of the same ids; all of them or, on an error, none."""
        return UpsertResponse(succeeded=self.vectorstore.add_documents(items), failed=[])

    async def aupsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """As :meth:`upsert`."""
        return UpsertResponse(succeeded=await self.vectorstore.aadd_documents(items), failed=[])

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Delete documents by id; ids that are not there are ignored and not reported.

        Raises:
            QueryError: there are no ids.
        """
        if ids is None:
            raise QueryError("delete: pass the ids of documents")
        there = [str(found.id) for found in self.vectorstore.get_by_ids(ids)]
        self.vectorstore.delete(there)
        return DeleteResponse(succeeded=there, num_deleted=len(there), failed=[], num_failed=0)

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """The documents with these ids; those that are not there are left out."""
        return self.vectorstore.get_by_ids(ids)
