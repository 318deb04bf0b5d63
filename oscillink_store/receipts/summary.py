"""A receipt in a few lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oscillink_store.receipts.receipt import Receipt

__all__ = ["summary"]

_COUNTS = ("added", "updated", "unchanged", "deleted", "anchors")


def summary(receipt: Receipt) -> str:
    """Describe a receipt: what was done, what it is made of, where it stands in its chain."""
    when = receipt.time.replace("T", " ").replace("Z", " UTC")
    where = "" if receipt.generation is None else f" on generation {receipt.generation}"
    lines = [f"receipt {receipt.id}: {receipt.kind}{where}, {when}"]
    if receipt.label is not None:
        lines.append(f"  label       {receipt.label}")
    lines += _KINDS.get(receipt.kind, _plainly)(receipt)
    if receipt.state_sig is not None:
        lines.append(f"  state       {receipt.state_sig}")
    sealed = "" if receipt.key_id is None else f", sealed with key {receipt.key_id}"
    lines += [
        f"  content     {receipt.content_hash}",
        f"  hash        {receipt.hash}",
        f"  previous    {receipt.previous}",
        f"  chain       entry {receipt.sequence} of writer {receipt.writer}{sealed}",
    ]
    return "\n".join(lines)


def _search(receipt: Receipt) -> Iterator[str]:
    content = receipt.content
    yield f"  results     {len(receipt.result_ids)} of {receipt.candidate_count} candidates"
    yield (
        f"  evidence    first {_figure(content.get('first_evidence'))}, "
        f"fifth {_figure(content.get('fifth_evidence'))}, "
        f"best cosine {_figure(content.get('best_cosine'))}"
    )
    if route := (content.get("layers") or {}).get("route"):
        looked = route["visited"] + route["walked"]
        yield f"  route       {looked:,} of {route['anchors']:,} anchors looked at{_went(route)}"
    terms = _flat(content.get("terms") or content.get("energy") or {})
    parts = ", ".join(f"{name} {_figure(value)}" for name, value in terms.items() if value)
    yield f"  ΔH          {_figure(receipt.delta_h)}" + (f" ({parts})" if parts else "")
    if content.get("iterations") is not None:
        state = "converged" if content.get("converged") else "not converged"
        yield (
            f"  settle      {content['iterations']} iterations, residual "
            f"{_figure(content.get('residual'))}, {state}"
        )
    if content.get("null_points") or content.get("contested"):
        contested = [" and ".join(pair["ids"]) for pair in content.get("contested") or ()]
        yield (
            f"  doubts      {content.get('null_point_count') or 0} null points, contested: "
            f"{', '.join(contested) or 'none'}"
        )


def _went(route: Mapping[str, Any]) -> str:
    levels = route.get("levels")
    if not levels:
        return ""
    shards = levels[-1]
    return f", in {shards['chosen_count']} of {shards['nodes']} shards and next to them"


def _ingest(receipt: Receipt) -> Iterator[str]:
    content = receipt.content
    counts = (f"{name} {content[name]}" for name in _COUNTS if name in content)
    edges = (f"{name} {count}" for name, count in (content.get("edges") or {}).items())
    yield f"  anchors     {', '.join(counts) or 'none'}"
    yield f"  edges       {', '.join(edges) or 'none'}"


def _plainly(receipt: Receipt) -> Iterator[str]:
    for name, value in receipt.content.items():
        if isinstance(value, str | int | float) and name not in ("kind", "generation"):
            yield f"  {name:<11} {value}"


def _many(receipt: Receipt) -> Iterator[str]:
    content = receipt.content
    yield f"  results     {len(receipt.result_ids)} of {receipt.candidate_count} candidates"
    yield (
        f"  ΔH          {_figure(receipt.delta_h)}, {len(content['overlap'])} anchors that several "
        "stores hold counted once"
    )
    for part in content["stores"]:
        yield (
            f"  part        {part['name']}, generation {part['generation']}: {part['hits']} of "
            f"{part['candidates']} candidates, ΔH {_figure(part['delta_h'])}, receipt "
            f"{part['receipt'][:16]}"
        )
    for left in content["missing"]:
        why = left["error"] if left["reason"] is None else f"{left['error']}: {left['reason']}"
        yield f"  left out    {left['name']}, from the {left['round']} on: {why}"


_KINDS: dict[str, Callable[[Receipt], Iterator[str]]] = {
    "search": _search,
    "many": _many,
    "ingest": _ingest,
}


def _flat(terms: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in terms.items():
        if isinstance(value, dict):
            flat |= value
        else:
            flat[name] = value
    return flat


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "none"
