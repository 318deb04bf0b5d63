"""Adapters: from a callable, a framework's object or a model's name to an embedder.

Nothing is imported from the frameworks: their objects are known by their methods.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from oscillink_store.embed.protocol import as_vectors, check_texts
from oscillink_store.errors import DependencyError, EmbedderError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from oscillink_store.embed.protocol import Embedder

__all__ = [
    "AdaptedEmbedder",
    "LazyModel",
    "from_encoder",
    "from_langchain",
    "from_llama_index",
    "from_own",
    "function_name",
    "known_dimension",
    "object_name",
]

_NAME_ATTRIBUTES = ("name", "model_name", "model", "model_id", "base_model_name")


class AdaptedEmbedder:
    """An embedder made of a function for documents and, where they differ, one for a query.

    Whatever the functions return is checked by
    :func:`~oscillink_store.embed.protocol.as_vectors`, and what they raise is raised as
    EmbedderError. The dimension, when it is not given, is that of the first vectors; asking
    for it earlier embeds one short text.
    """

    def __init__(
        self,
        name: str,
        documents: Callable[[list[str]], object],
        query: Callable[[str], object] | None = None,
        *,
        dimension: int | None = None,
    ) -> None:
        self._name = name
        self._documents = documents
        self._query = query
        self._dimension = dimension

    @property
    def name(self) -> str:
        """What the store remembers the embedder by."""
        return self._name

    @property
    def dimension(self) -> int:
        """The number of components of every vector."""
        if self._dimension is None:
            self._dimension = self.embed(["dimension"]).shape[1]
        return self._dimension

    @property
    def known_dimension(self) -> int | None:
        """The dimension, unless something would have to be embedded to learn it."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents: float32 of shape (n, dimension); see the class for errors."""
        batch = check_texts(self._name, texts)
        if not batch:
            return np.empty((0, self.dimension), np.float32)
        output = self._call(self._documents, batch, f"a batch of {len(batch)} texts")
        vectors = as_vectors(self._name, output, len(batch), self._dimension)
        self._dimension = vectors.shape[1]
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed one query: float32 of shape (dimension,); see the class for errors."""
        if self._query is None:
            vector: NDArray[np.float32] = self.embed([text])[0]
            return vector
        (text,) = check_texts(self._name, [text])
        output = self._call(self._query, text, "a query")
        vector = as_vectors(self._name, [output], 1, self._dimension)[0]
        self._dimension = len(vector)
        return vector

    def __repr__(self) -> str:
        return f"<AdaptedEmbedder {self._name!r}>"

    def _call(self, function: Callable[[Any], object], argument: object, what: str) -> object:
        try:
            output = function(argument)
            return list(output) if isinstance(output, Iterator) else output
        except (DependencyError, EmbedderError):
            raise
        except Exception as error:
            raise EmbedderError(
                f"embedder {self._name!r} failed on {what}: {type(error).__name__}: {error}"
            ) from error


class LazyModel:
    """A model of an optional package, loaded by its first use and once per process.

    Raises DependencyError at once when the package is not installed.
    """

    def __init__(self, name: str, package: str, extra: str, load: Callable[[Any], object]) -> None:
        if find_spec(package) is None:
            raise DependencyError(
                f"embedder {name!r} needs the package {package}: "
                f"pip install 'oscillink-store[{extra}]'"
            )
        self._package = package
        self._load = load
        self._lock = threading.Lock()
        self._model: Any = None

    def __call__(self) -> Any:
        """Return the model."""
        with self._lock:
            if self._model is None:
                self._model = self._load(import_module(self._package))
            return self._model


def from_langchain(model: Any) -> AdaptedEmbedder:
    """Adapt an object with LangChain's ``embed_documents`` and ``embed_query``."""
    return AdaptedEmbedder(object_name(model), model.embed_documents, model.embed_query)


def from_llama_index(model: Any) -> AdaptedEmbedder:
    """Adapt an object with LlamaIndex's batch and query methods."""
    return AdaptedEmbedder(
        object_name(model), model.get_text_embedding_batch, model.get_query_embedding
    )


def from_encoder(name: str, model: Callable[[], Any]) -> AdaptedEmbedder:
    """Adapt what ``model()`` gives: an object with ``encode``, as sentence models have.

    Where it tells documents from queries (``encode_document``, ``encode_query``), so does
    the embedder.
    """

    def documents(texts: list[str]) -> object:
        encoder = model()
        return getattr(encoder, "encode_document", encoder.encode)(texts)

    def query(text: str) -> object:
        encoder = model()
        return getattr(encoder, "encode_query", encoder.encode)([text])[0]

    return AdaptedEmbedder(name, documents, query)


def from_own(model: Any) -> AdaptedEmbedder:
    """Adapt an object that has the methods of the protocol, or just ``embed``."""
    stated = getattr(model, "name", None)
    dimension = getattr(model, "dimension", None)
    return AdaptedEmbedder(
        stated if isinstance(stated, str) and stated else object_name(model),
        model.embed,
        getattr(model, "embed_query", None),
        dimension=dimension if isinstance(dimension, int) else None,
    )


def known_dimension(embedder: Embedder) -> int | None:
    """The dimension of an embedder, None where it would have to embed something to learn it."""
    if isinstance(embedder, AdaptedEmbedder):
        return embedder.known_dimension
    return embedder.dimension


def object_name(value: object) -> str:
    """Name an object by its class and, where it states one, its model.

    The same in every process, as long as the object's class and model are.
    """
    kind = type(value).__qualname__
    card = getattr(value, "model_card_data", None)
    stated = [getattr(value, attribute, None) for attribute in _NAME_ATTRIBUTES]
    for name in (*stated, getattr(card, "base_model", None)):
        if isinstance(name, str) and name and name != "unknown":
            return f"{kind}:{name}"
    return kind


def function_name(function: Callable[..., object]) -> str:
    """Name a callable by its own ``name`` attribute, or by module and qualified name.

    A method goes by its object, and a module that runs as a script by its file's name, as if
    it had been imported.
    """
    while isinstance(function, partial):
        function = function.func
    stated = getattr(function, "name", None)
    if isinstance(stated, str) and stated:
        return stated
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type | ModuleType):
        return f"{object_name(owner)}.{getattr(function, '__name__', '')}"
    module = _module_name(getattr(function, "__module__", None) or "builtins")
    return f"{module}.{getattr(function, '__qualname__', None) or object_name(function)}"


def _module_name(module: str) -> str:
    # a spawned process knows the parent's script as __mp_main__
    if module not in ("__main__", "__mp_main__"):
        return module
    main = sys.modules[module]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in ("__main__", "__mp_main__"):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"
