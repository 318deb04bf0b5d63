"""What LlamaIndex's filters mean, in plain Python, with data to hold it against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from oscillink_store.embed.hashing import HashEmbedder
from oscillink_store.stdlib_docs import Documented, standard_library, stdlib_docs

DIMENSION = 8
WORD = "lattice"

_ABSENT = object()
_KEYS = ("k", "tags", "a.b", "we'ird\" ]key", "nowhere")
_TEXTS = ("", "a", "b", "ab", "A b", "é")
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([-0.5, 1.0, 2.5]),
    st.sampled_from(_TEXTS),
)
_values = st.one_of(
    _scalars, st.lists(_scalars, max_size=3), st.fixed_dictionaries({"b": _scalars})
)
metadatas = st.dictionaries(st.sampled_from(("k", "tags", "a", "a.b", _KEYS[3])), _values)


class HashEmbedding(BaseEmbedding):
    """The built-in lexical embedder as an embedding of LlamaIndex."""

    _embedder: HashEmbedder = PrivateAttr(default_factory=HashEmbedder)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.embed([text])[0].tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def docstrings(*packages: str) -> list[Documented]:
    """The documentation of packages of the standard library."""
    return [row for name in packages for row in stdlib_docs(standard_library() / name)]


def nodes_of(metadata: Sequence[dict[str, Any]]) -> list[TextNode]:
    """A node for each metadata; every text has :data:`WORD`, embeddings are all different."""
    draws = np.random.default_rng(7).standard_normal((len(metadata), DIMENSION))
    return [
        TextNode(
            id_=f"n{place}",
            text=f"{WORD} " * (1 + place % 3) + f"word{place}",
            embedding=draws[place].tolist(),
            metadata=one,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{place % 3}")},
        )
        for place, one in enumerate(metadata)
    ]


def leaves(operator: FilterOperator) -> st.SearchStrategy[MetadataFilter]:
    """Filters with one operator, on values that it takes."""
    numbers = st.one_of(st.integers(-2, 3), st.sampled_from([-0.5, 1.0, 2.5]))
    texts = st.sampled_from(_TEXTS)
    lists = st.one_of(st.lists(texts, max_size=3), st.lists(st.integers(-2, 3), max_size=3))
    if operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        values: st.SearchStrategy[Any] = texts
    elif operator in (FilterOperator.EQ, FilterOperator.NE):
        values = st.one_of(st.none(), numbers, texts, lists)
    elif operator is FilterOperator.IS_EMPTY:
        values = st.none()
    elif operator in (
        FilterOperator.IN,
        FilterOperator.NIN,
        FilterOperator.ANY,
        FilterOperator.ALL,
    ):
        values = lists
    else:
        values = st.one_of(numbers, texts)
    return st.builds(
        MetadataFilter, key=st.sampled_from(_KEYS), value=values, operator=st.just(operator)
    )


_any_leaf = st.sampled_from(FilterOperator).flatmap(leaves)
_conditions = st.sampled_from([None, *FilterCondition])


def trees(operator: FilterOperator) -> st.SearchStrategy[MetadataFilters]:
    """Nested filters in which the operator occurs."""
    below = st.recursive(
        _any_leaf,
        lambda part: st.builds(
            MetadataFilters, filters=st.lists(part, max_size=3), condition=_conditions
        ),
        max_leaves=4,
    )
    return st.builds(
        lambda leaf, parts, condition: MetadataFilters(filters=[*parts, leaf], condition=condition),
        leaves(operator),
        st.lists(below, max_size=2),
        _conditions,
    )


def allows(filters: MetadataFilters, metadata: dict[str, Any]) -> bool:
    """Whether metadata satisfies filters."""
    outcomes = [
        allows(part, metadata) if isinstance(part, MetadataFilters) else _holds(part, metadata)
        for part in filters.filters
    ]
    if not outcomes:
        return True
    if filters.condition is FilterCondition.OR:
        return any(outcomes)
    if filters.condition is FilterCondition.NOT:
        return not any(outcomes)
    return all(outcomes)


def value_at(metadata: dict[str, Any], key: str) -> Any:
    """The value that a key names, None where there is none; dots lead into objects."""
    if key in metadata:
        return metadata[key]
    found: Any = metadata
    for piece in key.split("."):
        found = found.get(piece) if isinstance(found, dict) else None
    return found


def _holds(asked: MetadataFilter, metadata: dict[str, Any]) -> bool:
    value, given = value_at(metadata, asked.key), asked.value
    match asked.operator:
        case FilterOperator.EQ:
            return value == given
        case FilterOperator.NE:
            return value != given
        case FilterOperator.IN:
            return value is not None and value in given
        case FilterOperator.NIN:
            return value is None or value not in given
        case FilterOperator.CONTAINS:
            return isinstance(value, list) and given in value
        case FilterOperator.ANY:
            return isinstance(value, list) and any(one in value for one in given)
        case FilterOperator.ALL:
            return isinstance(value, list) and all(one in value for one in given)
        case FilterOperator.TEXT_MATCH:
            return isinstance(value, str) and given in value
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return isinstance(value, str) and given.lower() in value.lower()
        case FilterOperator.IS_EMPTY:
            return value is None or value in ("", [])
    comparable = type(value) is str and type(given) is str
    comparable |= type(value) in (int, float) and type(given) in (int, float)
    if not comparable:
        return False
    return {
        FilterOperator.GT: value > given,
        FilterOperator.GTE: value >= given,
        FilterOperator.LT: value < given,
        FilterOperator.LTE: value <= given,
    }[asked.operator]


def cosines(nodes: Sequence[TextNode], question: Sequence[float]) -> dict[str, float]:
    """Cosine of each node's embedding and the question's, by id."""
    psi = np.asarray(question) / np.linalg.norm(question)
    return {
        node.node_id: float(np.dot(node.embedding, psi) / np.linalg.norm(node.embedding))
        for node in nodes
    }


def diverse(
    nodes: Sequence[TextNode], question: Sequence[float], k: int, weight: float
) -> list[str]:
    """Maximal marginal relevance over all the nodes, step by step, the nearest first."""
    near = cosines(nodes, question)
    left = sorted(nodes, key=lambda node: -near[node.node_id])
    chosen = [left.pop(0)] if left else []
    while left and len(chosen) < k:

        def gain(node: TextNode) -> float:
            like = [cosines([other], node.embedding or [])[other.node_id] for other in chosen]
            return weight * near[node.node_id] - (1.0 - weight) * max(like)

        best = max(left, key=gain)
        left.remove(best)
        chosen.append(best)
    return [node.node_id for node in chosen]
