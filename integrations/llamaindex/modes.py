"""Query modes of LlamaIndex as rankings of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import oscillink_store as osc
from oscillink_store.errors import QueryError

__all__ = ["arguments"]


def arguments(
    query: VectorStoreQuery, parameters: osc.Parameters, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What to search with, but for the filter.

    Raises:
        QueryError: the mode is not offered, or the query lacks what it needs.
    """
    mode, k = VectorStoreQueryMode(query.mode), query.similarity_top_k
    text = query.query_str if (query.query_str or "").strip() else None
    vector = query.query_embedding
    if mode == VectorStoreQueryMode.DEFAULT:
        return _by_vector("dense", mode, text, vector) | {"k": k}
    if mode == VectorStoreQueryMode.MMR:
        chosen = _by_vector("mmr", mode, text, vector) | {"k": k}
        return chosen | {"parameters": _diverse(query, parameters, options)}
    if mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH):
        return _by_text(mode, text) | {"k": query.sparse_top_k or k}
    if text is not None and vector is not None and not any(vector):
        vector = None  # zeros have no direction, but there are words
    if mode == VectorStoreQueryMode.SEMANTIC_HYBRID:
        return {"ranking": "lattice", "text": text, "vector": vector, "k": query.hybrid_top_k or k}
    if mode == VectorStoreQueryMode.HYBRID:
        return _hybrid(query.alpha, parameters, text, vector) | {"k": query.hybrid_top_k or k}
    raise QueryError(
        f"mode {mode.value!r} is not offered: use default, sparse, text_search, hybrid, "
        "semantic_hybrid or mmr"
    )


def _hybrid(
    alpha: float | None, parameters: osc.Parameters, text: str | None, vector: list[float] | None
) -> dict[str, Any]:
    mode = VectorStoreQueryMode.HYBRID
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise QueryError(f"alpha is {alpha}: use 0 (words alone) to 1 (vector alone)")
    if alpha == 1.0:
        return _by_vector("dense", mode, text, vector)
    if alpha == 0.0:
        return _by_text(mode, text)
    if alpha is not None:
        parameters = replace(parameters, text_weight=(1.0 - alpha) / alpha)
    return {"ranking": "hybrid", "text": text, "vector": vector, "parameters": parameters}


def _diverse(
    query: VectorStoreQuery, parameters: osc.Parameters, options: Mapping[str, Any]
) -> osc.Parameters:
    k = query.similarity_top_k
    threshold = options.get("mmr_threshold", query.mmr_threshold)
    fetch = parameters.mmr_fetch
    if options.get("mmr_prefetch_k") is not None:
        fetch = int(options["mmr_prefetch_k"])
    elif options.get("mmr_prefetch_factor") is not None:
        fetch = int(options["mmr_prefetch_factor"] * k)
    weight = parameters.mmr_lambda if threshold is None else threshold
    return replace(parameters, mmr_fetch=max(fetch, k), mmr_lambda=weight)


def _by_vector(
    ranking: str, mode: VectorStoreQueryMode, text: str | None, vector: list[float] | None
) -> dict[str, Any]:
    if vector is None and text is None:
        raise QueryError(f"mode {mode.value!r} needs query_embedding: embed the question")
    # a store with an embedder of its own makes the vector of the text
    return {"ranking": ranking, "text": text if vector is None else None, "vector": vector}


def _by_text(mode: VectorStoreQueryMode, text: str | None) -> dict[str, Any]:
    if text is None:
        raise QueryError(f"mode {mode.value!r} needs query_str: pass the question's text")
    return {"ranking": "text", "text": text}
