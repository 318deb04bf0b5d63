"""What an embedder is, and the one place where the output of a foreign one is checked."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from oscillink_store.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[np.float32]

__all__ = ["Embedder", "as_vectors", "check_texts"]


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into vectors of one dimension, under a name.

    The store records name and dimension, and refuses another embedder; so the name must be
    the same in every process, and must change when the vectors do.
    """

    @property
    def name(self) -> str:
        """What the store remembers the embedder by."""
        ...

    @property
    def dimension(self) -> int:
        """The number of components D of every vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed n documents: float32 of shape (n, D), all finite."""
        ...

    def embed_query(self, text: str) -> Vectors:
        """Embed one query: float32 of shape (D,), all finite."""
        ...


def check_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Copy the texts into a list; raises EmbedderError when one of them is no string."""
    if isinstance(texts, str):
        raise EmbedderError(
            f"embedder {name!r} was given one string: pass a list of texts, or use embed_query"
        )
    copy = list(texts)
    for row, text in enumerate(copy):
        if not isinstance(text, str):
            raise EmbedderError(
                f"embedder {name!r} was given a {type(text).__name__} as text {row}: "
                "pass strings only"
            )
    return copy


def as_vectors(name: str, output: object, rows: int, dimension: int | None) -> Vectors:
    """Take what an embedder returned for ``rows`` texts as float32 of shape (rows, D).

    Any array-like of numbers will do: a list of lists, an array, a tensor in main memory.
    ``dimension`` is the D that is expected, when it is known.

    Raises EmbedderError, naming the embedder and what it returned, when that is no numeric
    array of this shape or holds NaN or an infinity as float32.
    """
    if inspect.isawaitable(output):
        if inspect.iscoroutine(output):
            output.close()
        raise EmbedderError(f"embedder {name!r} is asynchronous: pass a function that returns")
    array = _as_array(name, output)
    expected = f"({rows}, {'D' if dimension is None else dimension})"
    if array.ndim != 2 or array.shape[0] != rows or array.shape[1] == 0:
        raise EmbedderError(
            f"embedder {name!r} returned shape {array.shape} for {rows} texts: it must return "
            f"one vector per text, shape {expected}"
        )
    if dimension is not None and array.shape[1] != dimension:
        raise EmbedderError(
            f"embedder {name!r} returned vectors of dimension {array.shape[1]}, expected "
            f"{dimension}: it must always return the same"
        )
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise EmbedderError(
            f"embedder {name!r} returned NaN or an infinite number for text "
            f"{int(np.argmin(finite))} of {rows}: check that text, or the embedder"
        )
    return vectors


def _as_array(name: str, output: object) -> NDArray[Any]:
    try:
        array = np.asarray(output)
    except Exception as error:  # a foreign object's conversion may raise anything
        raise EmbedderError(
            f"embedder {name!r} returned {_describe(output)}, which is no array of numbers "
            f"({error}): return one vector of the same length per text"
        ) from error
    if array.dtype.kind not in "fiu":
        raise EmbedderError(
            f"embedder {name!r} returned {_describe(output)} of dtype {array.dtype}: "
            "return one vector of numbers per text"
        )
    return array


def _describe(output: object) -> str:
    kind = type(output).__name__
    if isinstance(output, list | tuple):
        return f"a {kind} of {len(output)} {type(output[0]).__name__ if output else 'items'}"
    return f"a {kind}"
