"""Chain receipts of a store: true sequences against shuffled ones, and what they record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.errors import MissingError
from oscillink_store.lattice.chain import LEAST_REACH, reaches
from oscillink_store.lattice.graph import Edges, TypedGraph, build_csr, cut_out, whole_degrees
from oscillink_store.lattice.records import empty_records
from oscillink_store.model import RELATIONS, Parameters

TALKS, TURNS = 25, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """Talks whose turns drift from one subject to the next."""
    rng = np.random.default_rng(4)
    rows = []
    for talk in range(TALKS):
        subject = rng.standard_normal(48)
        for turn in range(TURNS):
            subject = subject + 0.4 * rng.standard_normal(48)
            rows.append(
                {
                    "id": f"{talk}/{turn}", "text": f"turn {turn} of talk {talk}",
                    "sequence": f"talk {talk}", "position": turn, "vector": subject,
                }
            )  # fmt: skip
    with osc.connect(tmp_path_factory.mktemp("c") / "s.osc", durability="off") as filled:
        filled.ingest(rows)
        yield filled


@pytest.mark.parametrize("length", [3, 5, 8])
def test_true_sequences_are_coherent_and_others_are_not(store: osc.Store, length: int) -> None:
    rng = np.random.default_rng(length)
    true, shuffled, strange = [], [], []
    for _ in range(40):
        talk, start = rng.integers(TALKS), rng.integers(TURNS - length + 1)
        path = [f"{talk}/{turn}" for turn in range(start, start + length)]
        true.append(store.chain_receipt(path))
        order = rng.permutation(length)
        while abs(np.diff(order)).max() == 1:  # the same path, or backwards
            order = rng.permutation(length)
        shuffled.append(store.chain_receipt([path[at] for at in order]))
        wrong = int(rng.integers(length))
        other = (talk + 1 + rng.integers(TALKS - 1)) % TALKS
        path[wrong] = f"{other}/{rng.integers(TURNS)}"
        told = store.chain_receipt(path)
        strange.append(told)
        assert path[wrong] in told.weakest
    assert np.mean([chain.coherent for chain in true]) == 1.0
    # two of three turns in a row are as near as their neighbours' neighbours
    assert np.mean([chain.coherent for chain in shuffled]) <= (0.3 if length == 3 else 0.05)
    assert np.mean([chain.coherent for chain in strange]) <= 0.05


def test_a_chain_leaves_a_receipt(store: osc.Store) -> None:
    path = ["3/4", "3/5", "3/6", "9/1"]
    told = store.chain_receipt(path, label="a note")
    assert told.path == tuple(path)
    assert not told.coherent
    assert told.weakest == ("3/6", "9/1")
    assert [(link.source, link.target) for link in told.links] == list(pairwise(path))
    assert [link.relations[:1] for link in told.links] == [("next",), ("next",), ()]
    assert told.links[0].reach >= LEAST_REACH > told.links[2].reach
    assert 0.0 < told.gain < 1.0
    terms = told.terms
    parts = [*terms["graph"].values(), *(terms[name] for name in ("anchor", "query", "chain"))]
    assert math.fsum(parts) == told.delta_h > 0.0
    assert terms["chain"] > 0.0
    assert terms["query"] == 0.0
    receipt = told.receipt
    assert receipt.verify()
    assert (receipt.kind, receipt.label) == ("chain", "a note")
    assert receipt.content["path"] == path
    assert receipt.content["weakest"] == ["3/6", "9/1"]
    assert receipt.content["coherent"] is False
    assert receipt.content["links"] == [
        {**asdict(link), "relations": list(link.relations)} for link in told.links
    ]
    assert receipt.content["query"] == {"text": None, "vector": None}
    again = store.chain_receipt(path)
    assert again.receipt.content_hash == receipt.content_hash


def test_a_question_draws_the_path(store: osc.Store) -> None:
    path = ["3/4", "3/5", "3/6"]
    vector = store.get(["3/5"])[0]["vector"]
    told = store.chain_receipt(path, vector=vector)
    assert told.terms["query"] > 0.0
    assert told.receipt.content["query"]["vector"] is not None
    assert [link.reach for link in told.links] == [
        link.reach for link in store.chain_receipt(path).links
    ]


def test_a_pinned_generation_judges_too(store: osc.Store) -> None:
    path = ["3/4", "3/5", "3/6"]
    with store.snapshot() as pinned:
        assert pinned.chain_receipt(path).receipt.content == (
            store.chain_receipt(path).receipt.content
        )


def test_an_anchor_may_come_again(store: osc.Store) -> None:
    told = store.chain_receipt(["3/4", "3/5", "3/5", "3/4"])
    assert told.coherent
    assert told.links[1].reach == 1.0
    assert told.links[0].reach == told.links[2].reach
    assert not store.chain_receipt(["3/4", "3/4", "8/1"]).coherent


def test_unusable_paths_are_refused(store: osc.Store, tmp_path: Path) -> None:
    for path in ([], ["3/4"], "3/4"):
        with pytest.raises(osc.OscillinkError, match="at least two"):
            store.chain_receipt(path)
    with pytest.raises(MissingError, match="no such"):
        store.chain_receipt(["3/4", "no such"])
    with pytest.raises(osc.OscillinkError, match="as strings"):
        store.chain_receipt(["3/4", 5])  # type: ignore[list-item]
    with pytest.raises(osc.OscillinkError, match="vector"):
        store.chain_receipt(["3/4", "3/5"], "words alone")
    with pytest.raises(osc.OscillinkError, match="label"):
        store.chain_receipt(["3/4", "3/5"], label=5)  # type: ignore[arg-type]
    with osc.connect(tmp_path / "e.osc") as empty, pytest.raises(MissingError):
        empty.chain_receipt(["a", "b"])


@given(
    n=st.integers(2, 20),
    counts=st.lists(st.integers(0, 25), min_size=len(RELATIONS), max_size=len(RELATIONS)),
    path=st.lists(st.integers(0, 19), min_size=2, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_reaches_follow_the_dense_inverse(
    n: int, counts: list[int], path: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = [node % n for node in path]
    parts = [
        Edges(
            source=rng.integers(0, n, count), target=rng.integers(0, n, count),
            weight=rng.uniform(0.1, 1.0, count), relation=code,
        )
        for code, count in enumerate(counts)
    ]  # fmt: skip
    parameters = Parameters()
    omega = parameters.relation_weights
    entries = TypedGraph(build_csr(n, parts), empty_records()).entries(np.arange(n))
    adjacency, _ = cut_out(entries, omega)
    degrees = whole_degrees(entries, omega) + rng.uniform(0.0, 1.0, n)  # of a larger lattice
    A = np.zeros((n, n))
    A[np.repeat(np.arange(n), np.diff(adjacency.indptr)), adjacency.indices] = adjacency.weights
    L = np.eye(n) - A / np.sqrt(np.outer(degrees, degrees))
    G = np.linalg.inv(np.eye(n) + 0.5 * L)
    told = reaches(path, adjacency, degrees, parameters)
    for reach, (i, j) in zip(told, pairwise(path), strict=True):
        sides = [G[a, b] / G[a, A[a] > 0].max() for a, b in ((i, j), (j, i)) if A[a].any()]
        expected = 1.0 if i == j else min(max(sides, default=0.0), 1.0)
        assert reach == pytest.approx(expected, abs=1e-6)
