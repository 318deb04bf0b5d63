"""A compressor: another retriever's documents, reranked by the lattice among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from pydantic import ConfigDict, PositiveInt, PrivateAttr

from oscillink_store import Lattice

__all__ = ["OscillinkCompressor"]


class OscillinkCompressor(BaseDocumentCompressor):
    """Keeps the best documents by their evidence and that of their neighbours.

    The lattice is that of the given documents alone, in memory: whichever retriever they come
    from, what matches the query lifts what is close to it.
    """

    embeddings: Embeddings
    """What embeds the documents and the query."""
    top_n: PositiveInt | None = 3
    """How many documents are kept; None keeps all, in a new order."""
    kneighbors: PositiveInt = 6
    """How many neighbours a document has in the lattice."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    _last_receipt: dict[str, Any] | None = PrivateAttr(None)

    @property
    def last_receipt(self) -> dict[str, Any] | None:
        """The receipt of the lattice of the last call, in whichever thread."""
        return self._last_receipt

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents, best first."""
        if not documents:
            return []
        vectors = self.embeddings.embed_documents([each.page_content for each in documents])
        return self._best(documents, vectors, self.embeddings.embed_query(query))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As :meth:`compress_documents`."""
        if not documents:
            return []
        texts = [each.page_content for each in documents]
        vectors = await self.embeddings.aembed_documents(texts)
        psi = await self.embeddings.aembed_query(query)
        return await run_in_executor(None, self._best, documents, vectors, psi)

    def _best(
        self, documents: Sequence[Document], vectors: list[list[float]], psi: list[float]
    ) -> list[Document]:
        lattice = Lattice(vectors, kneighbors=self.kneighbors)
        lattice.set_query(psi)
        chosen = lattice.bundle(self.top_n or len(documents))
        self._last_receipt = lattice.receipt()
        return [documents[each.anchor] for each in chosen]
