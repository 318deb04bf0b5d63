"""Replay: the search that a receipt tells of, run again on the generation that it names."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.ask import unit
from oscillink_store.engine.part import replayed_part
from oscillink_store.engine.query import Query
from oscillink_store.engine.search import found
from oscillink_store.errors import QueryError
from oscillink_store.filters import Filter, from_json
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, Parameters
from oscillink_store.receipts.canonical import canonical, plain, text_digest, vector_digest
from oscillink_store.reports import ReplayReport

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.engine.snapshot import Snapshot
    from oscillink_store.receipts.receipt import Receipt

__all__ = ["Asked", "differences", "obstacle", "other_release", "question_of", "replay"]

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What the caller tells of the question, where the receipt does not keep it."""

    text: str | None = None
    vector: npt.ArrayLike | None = None
    where: str | Filter | None = None


def obstacle(receipt: Receipt) -> str | None:
    """Why this release cannot replay a receipt, whatever is on the disk; None when it can.

    Raises:
        QueryError: it is not that of a search.
    """
    content = receipt.content
    if receipt.kind != "search":
        raise QueryError(
            f"receipt {receipt.id} tells of a {receipt.kind or 'thing unknown'}: only searches "
            "can be replayed"
        )
    if receipt.version == 1:
        return "receipts of version 1 do not keep what a replay needs"
    if reason := other_release(content):
        return reason
    if content.get("only") and content.get("candidates") is None:
        return "a light receipt does not tell which anchors were to be ranked"
    if _lacks_pull(receipt):
        return (
            "a minimal receipt of a part does not keep the embedding of the best source, perhaps "
            "another store's, towards which a question of words alone settles"
        )
    return None


def other_release(content: Mapping[str, Any]) -> str | None:
    """Why it takes another release to find what a receipt says again; None when it does not."""
    for name, own in (("kernel_version", KERNEL_VERSION), ("parameter_version", PARAMETER_VERSION)):
        if content.get(name) != own:
            return (
                f"it was made with {name.replace('_', ' ')} {content.get(name)}, this release has "
                f"{own}"
            )
    return None


def _lacks_pull(receipt: Receipt) -> bool:
    content, part = receipt.content, receipt.content.get("part")
    if part is None or content.get("delta_h") is None or content["query"]["vector"] is not None:
        return False
    return part["pull"] is None


def replay(
    snapshot: Snapshot,
    receipt: Receipt,
    asked: Asked,
    embedder: Embedder | None,
    executor: Executor,
) -> ReplayReport:
    """Run the search again on its generation, and compare everything that the receipt says.

    Raises:
        QueryError: the question is not told, or another one is.
    """
    query = _query(snapshot, receipt, asked, embedder)
    if receipt.content.get("part") is None:
        _, content = found(snapshot, query, executor)
    else:
        content = replayed_part(snapshot, query, receipt.content, executor)
    found_other = differences(receipt.content, content)
    return ReplayReport(
        receipt=receipt,
        status="different" if found_other else "identical",
        reason=None,
        differences=found_other,
    )


def differences(told: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, ...]:
    """The members of which two contents do not say the same."""
    names = sorted({*told, *again})
    return tuple(
        name
        for name in names
        if (name in told) != (name in again)
        or canonical(plain(told[name])) != canonical(plain(again[name]))
    )


def _query(snapshot: Snapshot, receipt: Receipt, asked: Asked, embedder: Embedder | None) -> Query:
    content = receipt.content
    question = question_of(receipt, asked, embedder, snapshot.manifest.dimension)
    only = None
    if content["only"]:
        only = np.unique(snapshot.slots_of_ids(list(content["candidates"])))
    return replace(question, only=only)


def question_of(
    receipt: Receipt, asked: Asked, embedder: Embedder | None, dimension: int | None
) -> Query:
    """The question of a receipt, as it was asked.

    Raises:
        QueryError: it is not told, or another one is.
    """
    content = receipt.content
    text = _text(receipt, asked)
    return Query(
        text=text,
        vector=_vector(dimension, receipt, asked, text, embedder),
        k=int(content["k"]),
        where=_where(receipt, asked),
        label=None,
        parameters=Parameters(**content["parameters"]),
        detail=content["detail"],
        payload=receipt.payload,
        # of several stores the receipt says it at once
        route=bool(content.get("route") or (content.get("layers") or {}).get("route")),
    )


def _kept(receipt: Receipt, name: str) -> Any:
    return (receipt.content.get("asked") or {}).get(name)


def _text(receipt: Receipt, asked: Asked) -> str | None:
    digest = receipt.content["query"]["text"]
    text = asked.text if asked.text is not None else _kept(receipt, "text")
    return _matched(receipt, "text", text, None if text is None else text_digest(text), digest)


def _where(receipt: Receipt, asked: Asked) -> str | Filter | None:
    digest = receipt.content["where"]
    where = asked.where
    if where is None and (kept := _kept(receipt, "where")) is not None:
        where = from_json(json.loads(kept["filter"])) if "filter" in kept else kept["sql"]
    line = where.text if isinstance(where, Filter) else where
    told = None if line is None else text_digest(line)
    return _matched(receipt, "where", where, told, digest)


def _vector(
    dimension: int | None,
    receipt: Receipt,
    asked: Asked,
    text: str | None,
    embedder: Embedder | None,
) -> npt.NDArray[np.float32] | None:
    digest = receipt.content["query"]["vector"]
    if digest is None:
        return None
    kept, vector = _kept(receipt, "vector"), None
    if asked.vector is not None:
        given = np.asarray(asked.vector)
        if given.dtype == np.float32 and vector_digest(given) == digest:  # of length 1 already
            return given
        vector = unit(asked.vector, dimension, "vector")
    elif kept is not None:
        vector = np.frombuffer(b64decode(kept), "<f4").astype(np.float32, copy=False)
    elif embedder is not None and text is not None:
        vector = unit(embedder.embed_query(text), dimension, "text's embedding")
    told = None if vector is None else vector_digest(vector)
    return _matched(receipt, "vector", vector, told, digest)


def _matched(
    receipt: Receipt, name: str, value: Value, told: str | None, digest: str | None
) -> Value:
    if told == digest:
        return value
    if value is None:
        raise QueryError(
            f"receipt {receipt.id} does not keep the {name} that was asked, only its digest: pass "
            f"{name}="
        )
    raise QueryError(
        f"{name} is not the one that receipt {receipt.id} tells of: its digest differs"
    )
