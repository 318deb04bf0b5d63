"""Documents as rows of the store, and anchors as documents."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from langchain_core.documents import Document

from oscillink_store import Fields, Hit
from oscillink_store.errors import EmbedderError, InputError

__all__ = [
    "MetadataRoles",
    "documents_of",
    "hit_document",
    "named",
    "row_document",
    "rows_of",
    "told",
]

# Columns of an anchor that are no metadata.
_FIXED = {
    "id", "text", "title", "payload", "sequence", "position", "links", "gate", "vector", "fulltext",
}  # fmt: skip
_SOURCE = "source"
# A slash or a suffix: what is so named is a file or an address rather than a kind of text.
_PLACE = re.compile(r"[/\\]|\.\w{1,5}$")
# What a page is worth in positions, so that a place in it never reaches the next.
_PAGE = 2.0**32


@dataclass(frozen=True, kw_only=True)
class MetadataRoles:
    """Which metadata keys give a document its relations in the lattice.

    The defaults are what LangChain's loaders and splitters write. A value that cannot play its
    part (a title that is no text, a page that is no number) plays none; the metadata itself is
    kept as it is in any case.

    Args:
        title: Its text lets other documents mention this one, and questions name it.
        sequence: Documents with the same text here are pieces of one text. A ``source`` that is
            neither a path nor an address, such as "news", makes pieces only of documents that
            have a position.
        position: The order of pieces: one key, or several of which the first counts most. Loaders
            give ``page``, splitters with ``add_start_index=True`` give ``start_index``. Pieces
            without a position stay in the order in which they are written.
        links: A list of ids of other documents.
    """

    title: str | None = "title"
    sequence: str | None = _SOURCE
    position: str | Sequence[str] = ("page", "start_index")
    links: str | None = None

    def parts(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Title, sequence, position and links of one document, as far as it has them."""
        title = None if self.title is None else metadata.get(self.title)
        sequence = None if self.sequence is None else metadata.get(self.sequence)
        position = self._position(metadata)
        links = None if self.links is None else metadata.get(self.links)
        listed = isinstance(links, list | tuple) and all(isinstance(i, str) for i in links)
        piece = isinstance(sequence, str) and (
            position is not None or self.sequence != _SOURCE or _PLACE.search(sequence) is not None
        )
        return {
            "title": title if isinstance(title, str) else None,
            "sequence": sequence if piece else None,
            "position": position if piece else None,
            "links": list(links or ()) if listed else None,
        }

    def _position(self, metadata: Mapping[str, Any]) -> float | None:
        keys = (self.position,) if isinstance(self.position, str) else tuple(self.position)
        values = [metadata.get(key) for key in keys]
        places = [_number(value) for value in values]
        if all(place is None for place in places):
            return None
        return sum(
            (place or 0.0) * _PAGE ** (len(places) - 1 - at) for at, place in enumerate(places)
        )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def documents_of(
    texts: Iterable[str], metadatas: Sequence[Mapping[str, Any] | None] | None
) -> list[Document]:
    """Documents of texts and their metadata.

    Raises:
        InputError: there are not as many of the one as of the other.
    """
    listed = list(texts)
    if metadatas and len(metadatas) != len(listed):
        raise InputError(
            f"{len(metadatas)} metadatas for {len(listed)} texts: pass one for each text, or none",
            field="metadatas",
        )
    return [
        Document(page_content=text, metadata=dict(metadata or {}))
        for text, metadata in zip(listed, metadatas or [None] * len(listed), strict=True)
    ]


def named(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[str]:
    """The id of each document: the given one, else its own, else a new one.

    Raises:
        InputError: there are not as many ids as documents.
    """
    if ids and len(ids) != len(documents):
        raise InputError(
            f"{len(ids)} ids for {len(documents)} documents: pass one for each, or none",
            field="ids",
        )
    return [
        str(given or document.id or uuid.uuid4())
        for given, document in zip(ids or [None] * len(documents), documents, strict=True)
    ]


def matrix(vectors: object, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """What embeddings gave for texts, as an array.

    Raises:
        EmbedderError: it is not one vector of numbers for each text.
    """
    try:
        array = np.asarray(vectors, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.ndim != 2 or len(array) != len(texts):
        raise EmbedderError(
            f"the embeddings gave shape {array.shape} for {len(texts)} texts: embed_documents "
            "must give one vector for each, all of one length"
        )
    return array


def rows_of(
    documents: Mapping[str, Document],
    vectors: Sequence[npt.NDArray[np.float32]] | None,
    roles: MetadataRoles,
    fields: Fields,
) -> list[dict[str, Any]]:
    """Rows to write, in the columns that ``fields`` names; without vectors the store embeds."""
    rows = []
    for at, (name, document) in enumerate(documents.items()):
        parts = roles.parts(document.metadata)
        row = {
            fields.id: name,
            fields.text: document.page_content,
            fields.title: parts["title"],
            fields.sequence_columns[0]: parts["sequence"],
            fields.position: parts["position"],
            fields.links: parts["links"],
            fields.payload: document.metadata,
        }
        if vectors is not None:
            row[fields.vector] = vectors[at]
        rows.append(row)
    return rows


def told(error: InputError, ids: Sequence[str], fields: Fields) -> InputError:
    """An error about rows in the words of documents."""
    names = {fields.text: "page_content", fields.payload: "metadata", fields.vector: "embedding"}
    where = "documents" if error.row is None else f"document {error.row} (id {ids[error.row]!r})"
    problem = str(error).rpartition(f"{error.field!r} ")[2]
    return InputError(
        f"{where}: {names.get(error.field or '', error.field)} {problem}",
        field=error.field,
        row=error.row,
    )


def hit_document(hit: Hit) -> Document:
    """What was found, as the document that went in."""
    return _document(hit.id, hit.text, hit.title, hit.payload, hit.metadata)


def row_document(row: Mapping[str, Any]) -> Document:
    """A row of ``Store.find`` as the document that went in."""
    metadata = {name: value for name, value in row.items() if name not in _FIXED}
    return _document(row["id"], row["text"], row["title"], row["payload"], metadata)


def _document(
    name: str,
    text: str,
    title: str | None,
    payload: Mapping[str, Any] | None,
    columns: Mapping[str, Any],
) -> Document:
    if payload is None:  # an anchor that was ingested as a row: its columns are its metadata
        payload = {
            key: value for key, value in {"title": title, **columns}.items() if value is not None
        }
    return Document(id=name, page_content=text, metadata=dict(payload))
