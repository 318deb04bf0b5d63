"""What the composed receipt of a search of several stores says."""

from __future__ import annotations

from typing import Any

from oscillink_store.engine.search_receipt import asked_by
from oscillink_store.filters import Filter
from oscillink_store.many.answers import Settled, Survey
from oscillink_store.many.asking import Left
from oscillink_store.many.rounds import Found
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION
from oscillink_store.receipts.composed import overlap_of
from oscillink_store.receipts.content import many_content
from oscillink_store.receipts.receipt import Payload

__all__ = ["composed"]


def composed(found: Found, left: list[Left]) -> dict[str, Any]:
    """The content of the composed receipt; ``left`` are the stores that were left out."""
    query, hits = found.query, found.hits
    copies = {
        name: list(zip(each.ids, each.digests, each.own.tolist(), strict=True))
        for name, each in found.settled.items()
    }
    ids = [found.settled[name].hits[at].id for name, at in hits]
    corpus, moments = found.corpus, found.moments
    counted = None if corpus is None else corpus.frequencies
    return many_content(
        text=query.text,
        vector=query.vector,
        where=query.where.text if isinstance(query.where, Filter) else query.where,
        asked=asked_by(query) if query.payload == "extended" else None,
        k=query.k,
        detail=query.detail,
        route=query.route,
        parameters=query.parameters.to_dict(),
        parameter_version=PARAMETER_VERSION,
        kernel_version=KERNEL_VERSION,
        statistics=None if corpus is None else {
            "anchors": corpus.anchors,
            "words": corpus.length,
            "frequencies": [] if counted is None else counted.tolist(),
        },
        cosine=moments.dense,
        bm25=moments.text,
        scale=found.scale,
        stores=[
            _part(name, found.surveys[name], each) for name, each in found.settled.items()
        ],
        missing=[_missing(each, query.payload) for each in left],
        results=ids,
        result_stores=[name for name, _ in hits],
        scores=found.scores,
        overlap=overlap_of(copies),
    )  # fmt: skip


def _part(name: str, survey: Survey, settled: Settled) -> dict[str, Any]:
    receipt = settled.receipt
    return {
        "name": name,
        "generation": survey.generation,
        "anchors": survey.anchors,
        "receipt": receipt.hash,
        "content_hash": receipt.content_hash,
        "state_sig": receipt.state_sig,
        "candidates": receipt.candidate_count,
        "hits": len(settled.hits),
        "delta_h": receipt.delta_h,
        "null_points": receipt.content.get("null_point_count"),
    }


def _missing(left: Left, payload: Payload) -> dict[str, Any]:
    return {
        "name": left.store,
        "place": left.place,
        "round": left.round,
        "generation": left.generation,
        "error": left.error,
        # a reason may quote the question
        "reason": left.reason if payload == "extended" else None,
    }
