"""The signature of a search's state: what changes it, and what it tells that others do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import oscillink_store as osc
from oscillink_store.receipts.schema import receipt_schema


def rows(seed: int, count: int = 40) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {"id": f"r{i}", "text": f"text {i}", "vector": rng.normal(size=8).tolist(),
         "sequence": "s", "position": i}
        for i in range(count)
    ]  # fmt: skip


CHAIN_ONLY = osc.Parameters(knn_weight=0.0, shared_weight=0.0)


def signed(path: Path, given: list[dict[str, Any]], **asked: Any) -> dict[str, Any]:
    with osc.connect(path, parameters=CHAIN_ONLY) as store:
        store.ingest(given)
        question: dict[str, Any] = {"vector": [1.0] * 8, "k": 5, **asked}
        return dict(store.search(**question).receipt.content)


def signature_of_positions(edges: list[tuple[int, int]], parameters: dict[str, Any]) -> str:
    """A signature over parameters and the positions of the first 2,048 edges alone."""
    told = {"edges": sorted(edges)[:2048], "parameters": parameters}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def test_two_corpora_with_equal_edges_are_told_apart(tmp_path: Path) -> None:
    """A signature over the positions of edges takes these two corpora for one."""
    chain = [(i, i + 1) for i in range(39)]
    contents = [signed(tmp_path / f"{seed}.osc", rows(seed)) for seed in (1, 2)]
    positions = [signature_of_positions(chain, content["parameters"]) for content in contents]
    assert positions[0] == positions[1]
    assert contents[0]["state_sig"] != contents[1]["state_sig"]
    assert contents[0]["state"]["candidates"] != contents[1]["state"]["candidates"]


def test_equal_stores_sign_alike(tmp_path: Path) -> None:
    one, other = (signed(tmp_path / f"{name}.osc", rows(1)) for name in "ab")
    assert one["state_sig"] == other["state_sig"]


Change = Callable[[list[dict[str, Any]]], dict[str, Any] | None]


@pytest.mark.parametrize(
    ("change", "asked", "moved"),
    [
        (lambda given: given[3].update(text="another text"), {}, {"candidates", "generation"}),
        (lambda given: given[3].update(gate=0.5), {}, {"candidates", "gates", "generation"}),
        (lambda given: given[3].update(links=["r20"]), {},
         {"candidates", "edges", "generation"}),
        (lambda given: given[3]["vector"].reverse(), {}, {"candidates", "generation"}),
        (lambda _: None, {"k": 6}, set()),
        (lambda _: None, {"where": "true"}, set()),
        (lambda _: None, {"text": "text"}, set()),
        (lambda _: None, {"vector": [1.0] * 7 + [0.0]}, set()),
        (lambda _: None, {"parameters": osc.Parameters(knn_weight=0.0, shared_weight=0.0,
                                                       sources=2)}, {"parameters"}),
    ],
)  # fmt: skip
def test_whatever_determines_an_answer_is_signed(
    tmp_path: Path, change: Change, asked: dict[str, Any], moved: set[str]
) -> None:
    plain = signed(tmp_path / "a.osc", rows(1), k=40) if "k" not in asked else signed(
        tmp_path / "a.osc", rows(1), k=5)  # fmt: skip
    given = rows(1)
    change(given)
    other = signed(tmp_path / "b.osc", given, **{"k": 40, **asked})
    assert other["state_sig"] != plain["state_sig"]
    # the candidates of this small store are all of its anchors, whatever is asked
    assert {n for n in plain["state"] if plain["state"][n] != other["state"][n]} == moved


def test_every_kind_of_receipt_is_as_its_schema_says(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(receipt_schema())
    validator.check_schema(receipt_schema())
    with osc.connect(tmp_path / "s.osc", parameters=CHAIN_ONLY) as store:
        empty = store.search("nothing").receipt
        store.ingest(rows(1))
        receipts = [
            empty,
            store.search(vector=[1.0] * 8).receipt,
            store.search("text", vector=[1.0] * 8, where="id <> 'r1'").receipt,
            store.search("text", ranking="text", detail="light").receipt,
            store.search(vector=[1.0] * 8, detail="light").receipt,
            store.rerank(["r1", "r2"], "text").receipt,
            store.delete("r3").receipt,
            store.set_gates(0.5, ids=["r4"]).receipt,
            store.chain_receipt(["r4", "r5", "r6"]).receipt,
        ]
    for receipt in receipts:
        assert receipt is not None
        validator.validate(json.loads(receipt.to_json()))
    broken = json.loads(receipts[1].to_json())
    for name, value in (("version", 3), ("sequence", 0), ("hash", "short"), ("extra", 1)):
        assert list(validator.iter_errors({**broken, name: value})), name
    for name, value in (("results", [1]), ("state_sig", None), ("detail", "some"), ("terms", 3)):
        content = {**broken["content"], name: value}
        assert list(validator.iter_errors({**broken, "content": content})), name
