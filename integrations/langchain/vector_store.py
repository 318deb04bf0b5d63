"""The vector store: documents in, documents out, one commit per call."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor

from oscillink_store import Store, connect
from oscillink_store.errors import InputError, QueryError
from oscillink_store.filters import Filter

from ..repeating import repeated
from .documents import (
    MetadataRoles,
    documents_of,
    matrix,
    named,
    row_document,
    rows_of,
    told,
)
from .record_manager import (
    OscillinkRecordManager,
    as_read,
    records_of,
    records_with,
)
from .retrievers import OscillinkVectorStoreRetriever
from .searches import Searches

__all__ = ["OscillinkVectorStore"]

_EMBEDDED_AT_ONCE = 1000


class OscillinkVectorStore(Searches):
    """A LangChain vector store in a folder, with the lattice and receipts of ours.

    Documents come back as they went in: id, text, and metadata of any JSON kind. Metadata also
    gives a document its relations, by the keys named in ``roles``.

    Args:
        embedding: What embeds documents and queries. Without one the store's own embedder does.
        path: The store's folder, made if there is none; by default a temporary one, which goes
            with this object.
        store: An open store instead, which stays open.
        roles: Which metadata keys are title, sequence, position and links.

    Raises:
        QueryError: both ``path`` and ``store`` are given.
        EmbedderError: the store was filled with another embedder.
    """

    def __init__(
        self,
        embedding: Embeddings | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        store: Store | None = None,
        roles: MetadataRoles | None = None,
    ) -> None:
        if path is not None and store is not None:
            raise QueryError("pass either the path of a store or an open store")
        self._embedding = embedding
        self._roles = roles or MetadataRoles()
        self._managers: list[OscillinkRecordManager] = []
        self._close: Callable[[], object] | None = None
        if store is None:
            temporary = None if path is not None else Path(tempfile.mkdtemp(prefix="oscillink-"))
            store = connect(temporary or path or "", embedder=embedding)
            self._close = weakref.finalize(self, _discard, store, temporary)
        self.store = store

    def close(self) -> None:
        """Close the store, unless it was given open; a temporary folder goes."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # writing

    def add_documents(
        self, documents: Sequence[Document], *, ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """Write documents, in place of those of the same ids; one commit.

        ``ids`` go before the documents' own; where there is neither, one is made. Of several
        documents with one id the last counts. Returns the id of each document.

        Raises:
            InputError: a document cannot be stored; the message names it and the remedy.
        """
        given = named(documents, ids)
        by_id = dict(zip(given, documents, strict=True))
        vectors: list[npt.NDArray[np.float32]] = []
        if self._embedding is not None:
            for texts in _batches(by_id):
                vectors.extend(matrix(self._embedding.embed_documents(texts), texts))
        self._write(by_id, vectors)
        return given

    async def aadd_documents(
        self, documents: Sequence[Document], *, ids: Sequence[str | None] | None = None, **_: Any
    ) -> list[str]:
        """As :meth:`add_documents`."""
        given = named(documents, ids)
        by_id = dict(zip(given, documents, strict=True))
        vectors: list[npt.NDArray[np.float32]] = []
        if self._embedding is not None:
            for texts in _batches(by_id):
                found = await self._embedding.aembed_documents(texts)
                vectors.extend(await run_in_executor(None, matrix, found, texts))
        await run_in_executor(None, self._write, by_id, vectors)
        return given

    def _write(
        self, documents: Mapping[str, Document], vectors: Sequence[npt.NDArray[np.float32]]
    ) -> None:
        if not documents:
            return
        fields = self.store.fields
        rows = rows_of(documents, vectors or None, self._roles, fields)
        try:
            self._write_rows(rows, list(documents))
        except InputError as error:
            raise told(error, list(documents), fields) from None

    @repeated
    def _write_rows(self, rows: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> None:
        records = records_with(self._managers, ids)
        self.store.write(rows, put=records, expect=map(as_read, records))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """As :meth:`add_documents`, for texts and their metadata."""
        return self.add_documents(documents_of(texts, metadatas), ids=ids)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """As :meth:`add_texts`."""
        return await self.aadd_documents(documents_of(texts, metadatas), ids=ids)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Mapping[str, Any] | Filter | Callable[[Document], bool] | None = None,
        delete_all: bool = False,
        **_: Any,
    ) -> bool:
        """Delete documents and their records, in one commit: by id, by a filter, or all.

        Ids that are not there are ignored.

        Raises:
            QueryError: not exactly one of the three is given.
        """
        if (ids is not None) + (filter is not None) + delete_all != 1:
            raise QueryError(
                "delete: pass the ids of documents, a filter, or delete_all=True, and one of "
                "these alone: nothing else deletes them all"
            )
        if ids is None:
            where = None if filter is None else self.where(filter)
            ids = self.store.to_arrow(columns=["id"], where=where)["id"].to_pylist()
        wanted = _ids(ids)
        if wanted:
            self.store.write(delete=wanted, drop=records_of(self.store, wanted))
        return True

    # reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; those that are not there are left out."""
        found = self.store.find(_ids(ids))
        return [row_document(row) for row in found if row is not None]

    def as_retriever(self, **kwargs: Any) -> OscillinkVectorStoreRetriever:
        """A retriever; ``search_type`` may also be ``coherence``."""
        tags = kwargs.pop("tags", None) or self._get_retriever_tags()
        return OscillinkVectorStoreRetriever(vectorstore=self, tags=list(tags), **kwargs)

    def record_manager(self, namespace: str) -> OscillinkRecordManager:
        """A record manager whose records commit together with the documents."""
        return OscillinkRecordManager(namespace, self)

    def attend(self, manager: OscillinkRecordManager) -> None:
        """Write the records of a manager along with documents from now on."""
        self._managers.append(manager)

    # making

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store of texts; ``kwargs`` are those of the class."""
        made = cls(embedding, **kwargs)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """As :meth:`from_texts`."""
        made = await run_in_executor(None, partial(cls, embedding, **kwargs))
        await made.aadd_texts(texts, metadatas, ids=ids)
        return made


def _batches(documents: Mapping[str, Document]) -> Iterator[list[str]]:
    # so that the lists in which embeddings give vectors never hold all of them
    texts = [document.page_content for document in documents.values()]
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        yield texts[start : start + _EMBEDDED_AT_ONCE]


def _ids(ids: str | Sequence[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else list(dict.fromkeys(map(str, ids)))


def _discard(store: Store, folder: Path | None) -> None:
    store.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
