"""What the tests of the LangChain integration share: an embedding and JSON of every kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from oscillink_store.embed.hashing import HashEmbedder

HASH = HashEmbedder(64)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["id", "text", "title", "source", "page", "vector", "payload", "score", "$and", "a.b", "' OR 1"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
METADATA = st.dictionaries(KEYS, JSON, max_size=4)


class Hashing(Embeddings):
    """The built-in lexical embedder, as LangChain sees one."""

    model = "hash-64"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return HASH.embed(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return HASH.embed_query(text).tolist()


def same_json(first: Any, second: Any) -> bool:
    """Equality that tells 1 from True and from 1.0."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            same_json(v, second[k]) for k, v in first.items()
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_json, first, second))
    return type(first) is type(second) and first == second
