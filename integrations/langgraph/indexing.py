"""Which texts of an item are indexed, and their embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langgraph.store.base import Embeddings, ensure_embeddings, get_text_at_path

from .layout import Text

__all__ = ["Index", "Vectors", "own_embedder"]

Vectors = dict[str, Sequence[float]]
"""Embeddings by text."""

_OWN = ("hash", "model2vec", "sentence-transformers")


def own_embedder(config: Mapping[str, Any] | None) -> str | None:
    """The name of an embedder that the store brings itself, where the index names one."""
    embed = (config or {}).get("embed")
    return embed if isinstance(embed, str) and embed.partition(":")[0] in _OWN else None


@dataclass(frozen=True, kw_only=True)
class Index:
    """What to index by default, and by which embeddings; None where the store's own embedder does.

    ``dims`` is what the embeddings must have, where the user has said it.
    """

    fields: tuple[str, ...]
    embeddings: Embeddings | None
    dims: int | None

    @classmethod
    def of(cls, config: Mapping[str, Any], *, opened: bool) -> Index:
        """Read an index configuration, for a store that is ``opened`` already or not.

        Raises:
            ValueError: some part of it cannot be used.
        """
        fields = config.get("fields") or config.get("text_fields") or ["$"]
        if isinstance(fields, str):
            fields = [fields]
        if not all(isinstance(field, str) for field in fields):
            raise ValueError(f"index: fields is {fields!r:.80}: use a list of paths")
        distance = config.get("distance_type") or "cosine"
        if distance != "cosine":
            raise ValueError(f"index: distance_type is {distance!r}: leave it out, or use 'cosine'")
        own = own_embedder(config) is not None
        if opened and own:
            raise ValueError(
                f"index: embed is {config['embed']!r}, which an open store cannot change to: open "
                "it with that embedder, and leave embed out"
            )
        if not opened and config.get("embed") is None:
            raise ValueError("index: embed is missing: say what makes embeddings of texts")
        own = own or config.get("embed") is None
        return cls(
            fields=tuple(fields),
            embeddings=None if own else ensure_embeddings(config["embed"]),
            dims=config.get("dims"),
        )

    def texts(
        self, value: Mapping[str, Any], fields: Literal[False] | list[str] | None
    ) -> list[Text]:
        """The texts of an item's value, by its own choice of fields or by the default one.

        Blank texts are left out, as there is nothing in them to find.
        """
        if fields is False:
            return []
        chosen = self.fields if fields is None else dict.fromkeys(fields)
        return [
            Text(path=path, number=number, text=text)
            for path in chosen
            for number, text in enumerate(get_text_at_path(dict(value), path))
            if text.strip()
        ]

    def embed(self, texts: Iterable[str], queries: Iterable[str]) -> tuple[Vectors, Vectors]:
        """The embeddings of texts and of queries, each distinct one embedded once."""
        texts, queries = list(dict.fromkeys(texts)), list(dict.fromkeys(queries))
        if self.embeddings is None:
            return {}, {}
        documents = self.embeddings.embed_documents(texts) if texts else []
        asked = [self.embeddings.embed_query(query) for query in queries]
        return self._checked(texts, documents), self._checked(queries, asked)

    async def aembed(self, texts: Iterable[str], queries: Iterable[str]) -> tuple[Vectors, Vectors]:
        """As :meth:`embed`, without holding up the event loop."""
        texts, queries = list(dict.fromkeys(texts)), list(dict.fromkeys(queries))
        if self.embeddings is None:
            return {}, {}
        documents = await self.embeddings.aembed_documents(texts) if texts else []
        asked = await asyncio.gather(*map(self.embeddings.aembed_query, queries))
        return self._checked(texts, documents), self._checked(queries, asked)

    def with_vectors(self, texts: Sequence[Text], vectors: Vectors) -> list[Text]:
        """Each text with its embedding; those whose embedding is zero are like nothing, and go."""
        if self.embeddings is None:
            return list(texts)
        return [
            replace(text, vector=vectors[text.text]) for text in texts if any(vectors[text.text])
        ]

    def _checked(self, texts: list[str], vectors: Sequence[Sequence[float]]) -> Vectors:
        if len(vectors) != len(texts):
            raise ValueError(f"index: embed gave {len(vectors)} vectors for {len(texts)} texts")
        for vector in vectors:
            if self.dims is not None and len(vector) != self.dims:
                raise ValueError(
                    f"index: embed gave {len(vector)} numbers where dims says {self.dims}: "
                    "make them agree"
                )
        return dict(zip(texts, vectors, strict=True))
