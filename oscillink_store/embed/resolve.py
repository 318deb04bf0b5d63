"""From whatever a user passes as ``embedder`` to an embedder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from oscillink_store.embed.adapters import (
    AdaptedEmbedder,
    LazyModel,
    from_encoder,
    from_langchain,
    from_llama_index,
    from_own,
    function_name,
    object_name,
)
from oscillink_store.embed.hashing import HashEmbedder
from oscillink_store.errors import EmbedderError

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder

__all__ = ["resolve"]

_NAMES = (
    "'hash', 'hash:512', 'sentence-transformers:all-MiniLM-L6-v2' or "
    "'model2vec:minishlab/potion-base-8M'"
)


def resolve(spec: object) -> Embedder:
    """Make an embedder of a name, a framework's object, a model or a callable.

    - "hash" or "hash:512": the built-in lexical embedder.
    - "sentence-transformers:<model>" and "model2vec:<model>": a model by the name or folder
      that the package loads it from. It is loaded by its first use.
    - A LangChain ``Embeddings`` or a LlamaIndex ``BaseEmbedding``.
    - A model with ``encode``, such as a ``SentenceTransformer`` or a ``StaticModel``.
    - An object with ``embed`` and, where it has them, ``name``, ``dimension``, ``embed_query``.
    - Any callable that takes a list of n strings and returns n vectors.

    A callable's name is its ``name`` attribute, or module and qualified name. So all lambdas
    of a module look alike, and a partial or a closure like the function it was made of: set
    ``function.name = "..."`` where that could be mistaken for another embedder.

    Raises EmbedderError when it is none of these, DependencyError when a package is missing.
    """
    if isinstance(spec, str):
        return _from_name(spec)
    if isinstance(spec, HashEmbedder | AdaptedEmbedder):
        return spec
    if isinstance(spec, type):
        raise EmbedderError(f"the embedder is the class {spec.__name__}: pass an instance of it")
    model = cast("Any", spec)
    if _has(spec, "embed_documents", "embed_query"):
        return from_langchain(model)
    if _has(spec, "get_text_embedding_batch", "get_query_embedding"):
        return from_llama_index(model)
    if _has(spec, "embed"):
        return from_own(model)
    if _has(spec, "encode"):
        return from_encoder(object_name(spec), lambda: model)
    if callable(spec):
        return AdaptedEmbedder(function_name(spec), spec)
    raise EmbedderError(
        f"the embedder is a {type(spec).__name__}: pass a callable from a list of strings to "
        f"vectors, a LangChain or LlamaIndex embedding, or a name such as {_NAMES}"
    )


def _from_name(spec: str) -> Embedder:
    kind, colon, model = spec.partition(":")
    if kind == "hash":
        if not colon:
            return HashEmbedder()
        if re.fullmatch(r"[0-9]{1,9}", model):
            return HashEmbedder(int(model))
    elif kind == "sentence-transformers" and model:
        package = "sentence_transformers"
        load = LazyModel(spec, package, kind, lambda module: module.SentenceTransformer(model))
        return from_encoder(spec, load)
    elif kind == "model2vec" and model:
        # by default it would be downloaded anew each time
        load = LazyModel(
            spec,
            kind,
            kind,
            lambda module: module.StaticModel.from_pretrained(model, force_download=False),
        )
        return from_encoder(spec, load)
    raise EmbedderError(f"{spec!r} is no embedder: use {_NAMES}, or pass a callable")


def _has(value: object, *methods: str) -> bool:
    return all(callable(getattr(value, method, None)) for method in methods)
