"""What a full receipt says of its own answer, against what was planted in the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import oscillink_store as osc
from oscillink_store.model import RELATIONS

GROUPS, EACH, DIMENSION = 12, 40, 32


def grouped(noise: float = 0.5) -> npt.NDArray[np.float32]:
    """Unit vectors around centres, group after group."""
    rng = np.random.default_rng(8)
    centres = np.linalg.qr(rng.standard_normal((DIMENSION, GROUPS)))[0].T
    Y = np.repeat(centres, EACH, axis=0)
    Y = Y + noise * rng.standard_normal(Y.shape) / DIMENSION**0.5
    return (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """Anchors in groups; every eighth links to a stranger, as no other does."""
    Y, rows = grouped(), []
    for row, vector in enumerate(Y):
        group = row // EACH
        stranger = (row + 5 * EACH + 3) % len(Y)
        rows.append(
            {
                "id": f"a{row}", "text": f"note {row} of group {group}", "vector": vector,
                "links": [f"a{stranger}"] if row % 8 == 0 else [],
            }
        )  # fmt: skip
    with osc.connect(tmp_path_factory.mktemp("d") / "s.osc", durability="off") as filled:
        filled.ingest(rows)
        yield filled


def content(result: osc.SearchResult) -> dict[str, Any]:
    return dict(result.receipt.content)


def test_planted_contradictions_are_null_points(store: osc.Store) -> None:
    Y = grouped()
    planted = here = found = right = edges = 0
    for row in range(0, len(Y), 8):
        told = content(store.search(vector=Y[row], k=10))
        candidates = {int(anchor[1:]) for anchor in told["candidates"]}
        wrong = {
            frozenset((f"a{one}", f"a{(one + 5 * EACH + 3) % len(Y)}"))
            for one in candidates
            if one % 8 == 0 and (one + 5 * EACH + 3) % len(Y) in candidates
        }
        points = {frozenset(point[:2]): point for point in told["null_points"]}
        assert all(points[pair][2] == ["link"] for pair in wrong & set(points))
        scores = [point[3] for point in told["null_points"]]
        assert scores == sorted(scores, reverse=True)
        planted += 1
        here += len(wrong)
        found += len(points)
        right += len(points.keys() & wrong)
        edges += len(candidates)
    assert here >= planted
    assert right / here >= 0.95  # recall
    assert right / found >= 0.7  # precision


def test_the_terms_of_a_receipt_add_up(store: osc.Store) -> None:
    for detail in ("full", "light"):
        told = content(store.search(vector=grouped()[3], k=5, detail=detail))
        graph = told["terms"]["graph"]
        assert set(graph) == set(RELATIONS)
        parts = [*graph.values(), *(told["terms"][name] for name in ("anchor", "query", "chain"))]
        assert math.fsum(parts) == told["delta_h"] > 0.0
        assert graph["knn"] > 0.0
        assert graph["link"] > 0.0
        assert graph["mention"] == told["terms"]["chain"] == 0.0


def test_only_a_full_receipt_tells_of_every_candidate(store: osc.Store) -> None:
    full = store.search(vector=grouped()[3], k=5)
    light = store.search(vector=grouped()[3], k=5, detail="light")
    assert [hit.score for hit in full] == [hit.score for hit in light]
    assert content(full)["delta_h"] == content(light)["delta_h"]
    told = content(full)
    assert len(told["coherence"]) == len(told["candidates"])
    places = {anchor: place for place, anchor in enumerate(told["candidates"])}
    for hit in full:
        assert hit.coherence is not None
        assert told["coherence"][places[hit.id]] == round(hit.coherence, 6)
    for name in ("coherence", "null_points", "contested"):
        assert content(light)[name] is None


def test_rankings_without_the_lattice_have_twins_alone(store: osc.Store) -> None:
    told = content(store.search(vector=grouped()[3], k=5, ranking="dense"))
    assert told["terms"] == {}
    assert told["coherence"] is told["null_points"] is None
    assert told["contested"] != []  # the notes differ in their numbers


def test_an_empty_store_has_nothing_to_diagnose(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash:16", durability="off") as store:
        told = content(store.search("nobody"))
        assert told["terms"] == {}
        assert told["contested"] == []


@pytest.fixture
def contested(tmp_path: Path) -> Iterator[osc.Store]:
    told = "The final at Wimbledon in the summer of {} was won by {} in two short sets."
    rows = [
        {"id": "right", "text": told.format(2018, "Angelique Kerber")},
        {"id": "forged", "text": told.format(2018, "Simona Halep")},
        {"id": "older", "text": told.format(1996, "Steffi Graf")},
        {"id": "same", "text": told.format(2018, "Angelique Kerber")},
        {"id": "other", "text": "Grass courts are cut to a height of eight millimetres."},
    ]
    with osc.connect(tmp_path / "s.osc", embedder="hash:256", durability="off") as store:
        store.ingest(rows)
        yield store


def test_hits_name_their_contested_twins(contested: osc.Store) -> None:
    result = contested.search("who won the final at Wimbledon?", k=5)
    twins = {hit.id: set(hit.contested) for hit in result}
    assert twins == {
        "right": {"forged", "older"}, "same": {"forged", "older"},
        "forged": {"right", "same", "older"}, "older": {"right", "same", "forged"},
        "other": set(),
    }  # fmt: skip
    pairs = content(result)["contested"]
    assert len({frozenset(pair["ids"]) for pair in pairs}) == len(pairs) == 5
    (pair,) = (pair for pair in pairs if set(pair["ids"]) == {"right", "forged"})
    names = {"right": "Angelique Kerber", "forged": "Simona Halep"}
    assert pair["differs"] == [[names[anchor] for anchor in pair["ids"]]]
    assert 0.7 < pair["cosine"] < 1.0
    assert 0.75 < pair["ratio"] < 1.0
    assert dict(zip(result.ids, result.to_arrow()["contested"].to_pylist(), strict=True)) == {
        hit.id: list(hit.contested) for hit in result
    }
    light = contested.search("who won the final at Wimbledon?", k=5, detail="light")
    assert all(hit.contested == () for hit in light)


def test_a_twin_that_is_no_hit_is_named_too(contested: osc.Store) -> None:
    (hit,) = contested.search("Simona Halep at Wimbledon", k=1)
    assert hit.id == "forged"
    assert set(hit.contested) == {"right", "same", "older"}


def test_a_minimal_receipt_keeps_no_words_of_the_texts(tmp_path: Path) -> None:
    told = "The final at Wimbledon in the summer of {} was won by Kerber in two short sets."
    with osc.connect(
        tmp_path / "s.osc", embedder="hash:256", durability="off", payload="minimal"
    ) as store:
        store.ingest([{"id": str(year), "text": told.format(year)} for year in (1996, 2018)])
        result = store.search("who won the final at Wimbledon?")
        (pair,) = content(result)["contested"]
        assert pair["differs"] is None
        assert set(pair["ids"]) == {"1996", "2018"}
