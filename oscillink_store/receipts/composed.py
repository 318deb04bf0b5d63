"""The composed receipt of a search of several stores, in layers.

It names the receipt that each store recorded of its part, the stores that were left out and why,
and how its ΔH is made of the parts': Between stores there are no edges, so the energies add up,
but for anchors of which several stores hold a copy. These count once, so that of each further
copy the terms that are the anchor's alone, (λ_G + λ_Q b_i)‖Y_i − U_i‖², are taken off::

    delta_h = fsum(delta_h of every part, −share of every further copy)

That identity, and whatever else the members say about each other, is checked whenever the
receipt is verified, without any store.
"""

from __future__ import annotations

from collections import Counter
from math import fsum
from typing import TYPE_CHECKING, Any

from oscillink_store.receipts.canonical import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["composed_state", "contradiction", "overlap_of", "total_delta_h"]


def overlap_of(
    copies: Mapping[str, Sequence[tuple[str, bytes, float]]],
) -> list[dict[str, Any]]:
    """The anchors of which several stores settled a copy, by what they hold.

    ``copies`` are (id, content digest, share of ΔH) of each store's candidates. The copy of the
    first store counts, the others are ``also`` there: [store, id, share].
    """
    first: dict[bytes, tuple[str, str]] = {}
    also: dict[bytes, list[list[Any]]] = {}
    for store, candidates in copies.items():
        for name, content, share in candidates:
            counted = first.setdefault(content, (store, name))
            if counted[0] != store:
                also.setdefault(content, []).append([store, name, share])
    return [
        {"content": content.hex(), "counted": list(first[content]), "also": also[content]}
        for content in sorted(also)
    ]


def total_delta_h(
    parts: Sequence[float | None], overlap: Sequence[Mapping[str, Any]]
) -> float | None:
    """ΔH of the whole: that of the parts less what is counted twice; None if nothing settled."""
    settled = [part for part in parts if part is not None]
    if not settled:
        return None
    return fsum([*settled, *(-share for pair in overlap for _, _, share in pair["also"])])


def composed_state(parameters: Mapping[str, Any], stores: Sequence[Mapping[str, Any]]) -> Any:
    """Digests of what determined the answer, besides the question."""
    return {
        "parameters": digest(parameters),
        "stores": digest([[store["name"], store["state_sig"]] for store in stores]),
    }


def contradiction(content: Mapping[str, Any]) -> str | None:
    """What members of a content say against each other, in a search of several stores.

    None when they agree, and for every other kind of content.
    """
    try:
        if content.get("kind") == "many":
            return _of_whole(content)
        if content.get("part") is not None:
            return _of_part(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"a member is missing or has another form ({type(error).__name__}: {error})"
    return None


def _of_part(content: Mapping[str, Any]) -> str | None:
    if digest(content["part"]) != content["state"]["part"]:
        return "what the store was told is not what its state was signed with"
    return None


def _of_whole(content: Mapping[str, Any]) -> str | None:
    stores, missing, overlap = content["stores"], content["missing"], content["overlap"]
    total = total_delta_h([store["delta_h"] for store in stores], overlap)
    if content["delta_h"] != total:
        return (
            f"its ΔH is {content['delta_h']}, that of its parts less what is counted twice {total}"
        )
    names = Counter(store["name"] for store in [*stores, *missing])
    if names and names.most_common(1)[0][1] > 1:
        return f"store {names.most_common(1)[0][0]!r} stands there more than once"
    hits = Counter(content["result_stores"])
    if hits != Counter({store["name"]: store["hits"] for store in stores if store["hits"]}):
        return "its hits are not as many of each store as the parts have"
    found = len(content["results"])
    if not found == len(content["scores"]) == len(content["result_stores"]) <= content["k"]:
        return "its hits, their scores and their stores are not equally many, or too many"
    if content["candidate_count"] != sum(store["candidates"] for store in stores):
        return "its candidates are not as many as those of the parts"
    counted = {store["name"] for store in stores}
    for pair in overlap:
        if not {pair["counted"][0], *(store for store, _, _ in pair["also"])} <= counted:
            return "an anchor is counted in a store that has no part"
        if any(store == pair["counted"][0] or share < 0.0 for store, _, share in pair["also"]):
            return "a copy is taken off that is none, or less than nothing"
    if len({pair["content"] for pair in overlap}) < len(overlap):
        return "copies of one anchor stand there more than once"
    if content["state"] != composed_state(content["parameters"], stores):
        return "its state does not fit its parameters and the states of its parts"
    return None
