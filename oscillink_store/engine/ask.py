"""From the arguments of a search to a checked :class:`Query`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.arguments import checked_detail, checked_label
from oscillink_store.engine.query import Query
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import QueryError
from oscillink_store.filters import Filter
from oscillink_store.model import Detail, Parameters
from oscillink_store.receipts.receipt import Payload

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder

__all__ = ["build_query", "check_built", "check_question", "psi_of", "unit"]

_MOST = (1 << 53) - 1  # what a receipt can tell
# Building constants are properties of the stored lattice; a search cannot change them.
_BUILT = (
    "knn_neighbors", "knn_power", "title_max_anchors", "title_min_length",
    "shared_min_frequency", "shared_max_frequency", "shards_from", "shard_anchors", "max_nodes",
)  # fmt: skip


def build_query(
    snapshot: Snapshot,
    embedder: Embedder | None,
    text: str | None,
    vector: npt.ArrayLike | None,
    *,
    k: int,
    where: str | Filter | None,
    label: str | None,
    parameters: Parameters,
    detail: Detail,
    payload: Payload,
    only: npt.NDArray[np.int64] | None = None,
    route: bool | None = None,
) -> Query:
    """Check the arguments and embed the text when nothing else gives a vector.

    Raises:
        QueryError: an argument cannot be used; the message names it and the remedy.
        EmbedderError: the embedder failed on the question.
    """
    check_question(text, vector, k, label, parameters)
    check_built(parameters, snapshot.parameters)
    if where is not None:
        snapshot.allowed(where)  # a bad predicate is reported before anything is computed
    psi = psi_of(embedder, text, vector, snapshot.manifest.dimension, parameters)
    return Query(
        text=text, vector=psi, k=int(k), where=where, label=label, parameters=parameters,
        only=only, detail=checked_detail(detail), payload=payload,
        route=_routed(snapshot, route, free=psi is not None and where is None and only is None),
    )  # fmt: skip


def check_question(
    text: object, vector: object, k: object, label: object, parameters: object
) -> None:
    """Look at what is asked, whatever store is asked.

    Raises:
        QueryError: an argument cannot be used.
    """
    if text is None and vector is None:
        raise QueryError("search: neither text nor vector is given: pass one or both")
    if text is not None:
        _check_text(text)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= _MOST:
        raise QueryError(f"k is {k!r}: pass a whole number of at least 1, at most 2**53 - 1")
    checked_label(label)
    if not isinstance(parameters, Parameters):
        raise QueryError(f"parameters is a {type(parameters).__name__}: pass Parameters(...)")


def check_built(parameters: Parameters, built: Parameters) -> None:
    """Look at the constants that a lattice was built with.

    Raises:
        QueryError: one of them is another than asked for.
    """
    for name in _BUILT:
        own = getattr(built, name)
        if getattr(parameters, name) != own:
            raise QueryError(
                f"parameters: {name} is {getattr(parameters, name)!r}, but the lattice was built "
                f"with {own!r}: keep it, or create a new store with the other value"
            )


def psi_of(
    embedder: Embedder | None,
    text: str | None,
    vector: npt.ArrayLike | None,
    dimension: int | None,
    parameters: Parameters,
) -> npt.NDArray[np.float32] | None:
    """The vector ψ (D,) that the ranking looks for: the one given, else that of the text.

    Raises:
        QueryError: there is none and the ranking needs one, or it cannot be used.
        EmbedderError: the embedder failed on the question.
    """
    psi = None
    if vector is not None:
        psi = unit(vector, dimension, "vector")
    elif embedder is not None and text is not None and parameters.ranking != "text":
        psi = unit(embedder.embed_query(text), dimension, "text's embedding")
    if parameters.ranking == "text":
        if text is None:
            raise QueryError("ranking 'text' needs words: pass text, or take another ranking")
        return None
    if parameters.ranking in ("dense", "mmr") and psi is None:
        raise QueryError(
            f"ranking {parameters.ranking!r} needs a vector: pass one, or open the store with an "
            "embedder"
        )
    return psi


def _routed(snapshot: Snapshot, route: bool | None, *, free: bool) -> bool:
    # Where nobody says so a question is routed if it can be and that is likely to help.
    if route is None:
        return free and snapshot.routable
    if not isinstance(route, bool):
        raise QueryError(f"route is {route!r:.80}: pass True, False, or leave it out")
    if route and snapshot.sharded is None:
        raise QueryError(
            "route: the store has no shards yet, it is searched as a whole: leave it out, or see "
            "shards_from in Parameters"
        )
    if route and not free:
        raise QueryError(
            "route: only a question with a vector and without a filter can be routed to shards: "
            "leave it out"
        )
    return route


def _check_text(text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise QueryError(f"text is {text!r}: pass the question as a non-empty string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(
            f"text holds {text[error.start]!r} at {error.start}, which is no Unicode character: "
            "decode the question with its own encoding first"
        ) from error


def unit(vector: npt.ArrayLike, dimension: int | None, name: str) -> npt.NDArray[np.float32]:
    """A question's embedding as ψ (D,), float32 of length 1.

    Raises:
        QueryError: it is no vector of the store's dimension; ``name`` names it.
    """
    try:
        # asarray would drop the imaginary parts of an array with no more than a warning
        array = None if np.iscomplexobj(vector) else np.asarray(vector, np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise QueryError(f"{name} is not a list of numbers: pass {dimension or 'D'} real numbers")
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 1 or (dimension is not None and len(array) != dimension):
        raise QueryError(
            f"{name} has shape {array.shape}, the store's embeddings have dimension {dimension}: "
            "pass a vector of the same embedder"
        )
    if not np.isfinite(array).all():
        raise QueryError(f"{name} holds NaN or infinity: pass finite numbers")
    peak = float(np.abs(array).max(initial=0.0))
    if peak == 0.0:
        raise QueryError(f"{name} is all zeros, which has no direction: pass another vector")
    array = array / peak  # squares of very large or small numbers would leave float64
    return np.ascontiguousarray(array / np.sqrt((array * array).sum()), np.float32)
