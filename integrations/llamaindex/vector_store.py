"""A vector store of LlamaIndex over a store."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

import oscillink_store as osc
from oscillink_store.errors import InputError, QueryError
from oscillink_store.filters import And, Filter

from .filtering import from_documents, restriction
from .modes import arguments
from .opening import opened_for
from .rows import node_of_hit, node_of_row, rows_of
from .twins import ThreadedTwins

__all__ = ["OscillinkVectorStore"]

logger = logging.getLogger(__name__)


class OscillinkVectorStore(ThreadedTwins):
    """A store as LlamaIndex's vector store; it keeps text and nodes, so no docstore is needed.

    Nodes are written by id: one that is there already is replaced. What they say of each other
    becomes edges of the lattice (see :mod:`~oscillink_store.integrations.llamaindex.places`),
    and a title in their metadata lets other texts mention them.

    Query modes (``VectorStoreQueryMode``) and what the similarities are:

    =================== ===============================================================
    default             exact nearest neighbours; cosine
    sparse, text_search the question's words alone; BM25
    hybrid              z(cosine) + w·z(BM25), the store's w or that of ``alpha``: 1 is
                        by vector alone, 0 by words alone
    semantic_hybrid     the lattice: what hybrid finds, and what is connected to it
    mmr                 maximal marginal relevance (``mmr_threshold`` 1 minds the question
                        alone, 0 diversity alone); cosine
    =================== ===============================================================

    ``hybrid_top_k`` and ``sparse_top_k`` take the place of ``similarity_top_k`` in the modes
    they are named after. The learned modes (svm, ...) are refused. Every search leaves a
    receipt: :attr:`last_receipt`.
    """

    stores_text: bool = True
    flat_metadata: bool = False
    path: str
    title_key: str | None = "title"

    _store: osc.Store = PrivateAttr()
    _temporary: bool = PrivateAttr(default=False)
    _last_receipt: osc.Receipt | None = PrivateAttr(default=None)

    def __init__(
        self,
        path: str | os.PathLike[str] | osc.Store | None = None,
        *,
        flat_metadata: bool = False,
        title_key: str | None = "title",
    ) -> None:
        """Open or create a store, or take one that is open.

        Args:
            path: The store's folder, an open store, or None for a temporary folder that goes
                with this object.
            flat_metadata: Whether to refuse metadata that other vector stores would: anything
                but text, numbers, true, false and None.
            title_key: The metadata that titles a node, if any.
        """
        store = opened_for(self, path)
        fields: dict[str, Any] = {
            "path": str(store.path.absolute()),
            "flat_metadata": flat_metadata,
            "title_key": title_key,
        }
        super().__init__(**fields)
        self._store = store
        self._temporary = path is None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, in this process or another, opens the same folder."""
        options: dict[str, Any] = {
            "flat_metadata": self.flat_metadata,
            "title_key": self.title_key,
        }
        return partial(type(self), **options), (self.path,)

    def __copy__(self) -> Self:
        constructor, arguments = self.__reduce__()
        copied: Self = constructor(*arguments)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows the class."""
        return "OscillinkVectorStore"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **options: Any) -> Self:
        """Open the store that :meth:`to_dict` told of."""
        known = {**data, **options}
        names = ("path", "flat_metadata", "title_key")
        return cls(**{name: known[name] for name in names if name in known})

    @property
    def client(self) -> osc.Store:
        """The open store, with all that it can do."""
        return self._store

    @property
    def last_receipt(self) -> osc.Receipt | None:
        """The receipt of the newest query through this object."""
        return self._last_receipt

    # writing

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Write nodes with embeddings, in one commit; returns their ids.

        Raises:
            InputError: a node has no embedding and the store no embedder, or something in it
                cannot be stored.
        """
        if self.flat_metadata:
            for node in nodes:
                _check_flat(node)
        if nodes:
            self._store.ingest(rows_of(nodes, self._store, self.title_key))
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Delete the nodes of a document, if there are any."""
        self._store.delete(where=from_documents([ref_doc_id]))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_: Any,
    ) -> None:
        """Delete nodes by id, by filters, or those of the ids that satisfy the filters.

        Raises:
            QueryError: neither ids nor filters are given.
        """
        where = restriction(filters, node_ids=node_ids)
        if where is None:
            raise QueryError("delete_nodes: pass node_ids or filters; clear() deletes everything")
        self._store.delete(where=where)

    def clear(self) -> None:
        """Delete all nodes."""
        self._store.delete(where=And(()))

    # reading

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | Filter | None = None,
    ) -> list[BaseNode]:
        """Nodes with their embeddings: by id and in that order, by filters, or all of them.

        Ids that are not there are passed over.
        """
        wanted = list(node_ids or ())
        where = restriction(filters, node_ids=node_ids)
        if node_ids is None or filters is not None:
            found = self._store.to_arrow(["id"], where=where)["id"].to_pylist()
            wanted = found if node_ids is None else [key for key in wanted if key in set(found)]
        return [node_of_row(row) for row in self._store.find(wanted) if row is not None]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search; see the class for the modes.

        Args:
            query: The question. Nodes come with their embeddings when ``output_fields`` has
                ``"embedding"``.
            **kwargs: ``mmr_threshold``, before the query's; ``mmr_prefetch_k`` or
                ``mmr_prefetch_factor`` (times k): among how many of the nearest ``mmr``
                chooses, by default the store's ``mmr_fetch``.

        Raises:
            QueryError: the mode is not offered, or an argument cannot be used.
        """
        # an index over a store that keeps text passes an empty list with every question
        where = restriction(query.filters, doc_ids=query.doc_ids, node_ids=query.node_ids or None)
        result = self._store.search(where=where, **arguments(query, self._store.parameters, kwargs))
        self._last_receipt = result.receipt
        vectors: list[Any] = [None] * len(result)
        if "embedding" in (query.output_fields or ()):
            vectors = [row and row["vector"] for row in self._store.find(result.ids)]
        return VectorStoreQueryResult(
            nodes=[node_of_hit(hit, vector) for hit, vector in zip(result, vectors, strict=True)],
            similarities=[hit.score for hit in result],
            ids=result.ids,
        )

    # persistence

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Say where the store lies: every write has been on disk since it returned."""
        if self._temporary:
            warnings.warn(
                f"the store lies in a temporary folder, {self.path}, and goes with this object: "
                "pass a path to OscillinkVectorStore to keep it",
                stacklevel=2,
            )
        logger.info("nothing to persist: the store lies in %s", self.path)

    @classmethod
    def from_persist_dir(cls, persist_dir: str) -> OscillinkVectorStore:
        """Open the store in a folder, without creating one.

        Raises:
            NotAStoreError: there is none.
        """
        osc.connect(persist_dir, read_only=True).close()
        return cls(persist_dir)


def _check_flat(node: BaseNode) -> None:
    for key, value in node.metadata.items():
        if value is not None and not isinstance(value, str | int | float):
            raise InputError(
                f"node {node.node_id!r}: metadata {key!r} holds a {type(value).__name__}: use text "
                "or numbers, or leave flat_metadata at False",
                field=key,
            )
