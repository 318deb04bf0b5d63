"""What an ingest's receipt says of the change, against the generations before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine.delta import MOST_SAMPLED
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.moments import row_total, sums
from oscillink_store.lattice.graph import (
    Csr,
    TypedGraph,
    amended,
    build_csr,
    induced,
    neighbors,
)
from oscillink_store.lattice.records import Records, empty_records, merge_runs, sort_records
from oscillink_store.lattice.settle import settle
from oscillink_store.model import RELATIONS

D = 24


def rows(start: int, count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"n{n}", "title": f"Note {n}", "sequence": str(n // 10), "position": n,
            "text": f"The note {n} comes behind Note {max(n - 3, 0)} in Old Harbour Town {n % 40}.",
            "vector": rng.standard_normal(D),
        }
        for n in range(start, start + count)
    ]  # fmt: skip


def change(receipt: osc.Receipt | None) -> dict[str, Any]:
    assert receipt is not None
    return dict(receipt.content["change"])


def mean(snapshot: Snapshot) -> Any:
    return snapshot.vectors(snapshot.alive_slots).astype(float).mean(axis=0)


def settled_alone(snapshot: Snapshot, sample: Any) -> float:
    """ΔH of some slots and their neighbours, from the generation as it is on the disk."""
    near = np.union1d(sample, neighbors(snapshot.lattice.entries(sample)))
    Y = snapshot.vectors(near)
    parameters = snapshot.parameters
    adjacency = induced(snapshot.lattice.entries(near), parameters.relation_weights)
    return settle(Y, Y[0], np.zeros(len(near)), adjacency, parameters).delta_h


@pytest.mark.parametrize("durability", ["off", "batch"])
def test_a_receipt_tells_what_a_batch_changed(tmp_path: Path, durability: Any) -> None:
    with osc.connect(tmp_path / "s.osc", durability=durability) as store:
        before = dict.fromkeys(RELATIONS, 0)
        batches = [
            rows(0, 120, 1),
            rows(120, 5, 2),
            rows(100, 40, 3),  # replaces some
        ]
        for batch in batches:
            old = store.current()
            report = store.ingest(batch)
            new, told = store.current(), change(report.receipt)
            for name in RELATIONS:
                gained = told["edges_added"][name] - told["edges_removed"][name]
                assert gained == report.edges[name] - before[name]
            assert told["edges_added"]["knn"] > 0
            if len(old):
                drift = float(np.linalg.norm(mean(new) - mean(old)))
                assert told["mean_drift"] == pytest.approx(drift, abs=1e-6)
            else:
                assert told["mean_drift"] is None
            fresh = np.arange(old.slots, new.slots)
            sample = fresh[np.arange(told["sampled"]) * len(fresh) // told["sampled"]]
            assert told["sampled"] == min(MOST_SAMPLED, len(batch)) == len(set(sample))
            assert told["delta_h"] == settled_alone(new, sample) > 0.0
            before = dict(report.edges)
        assert sum(change(report.receipt)["edges_removed"].values()) > 0


def test_a_delete_has_no_new_anchor_to_settle(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", durability="off") as store:
        first = store.ingest(rows(0, 60, 1))
        old = store.current()
        report = store.delete([f"n{n}" for n in range(10, 20)])
        told = change(report.receipt)
        assert (told["delta_h"], told["sampled"]) == (None, 0)
        drift = float(np.linalg.norm(mean(store.current()) - mean(old)))
        assert told["mean_drift"] == pytest.approx(drift, abs=1e-6)
        assert told["edges_removed"]["next"] == 9
        for name in RELATIONS:
            gained = told["edges_added"][name] - told["edges_removed"][name]
            assert gained == report.edges[name] - first.edges[name]
        gone = change(store.delete(store.to_arrow(["id"])["id"].to_pylist()).receipt)
        assert gone["mean_drift"] is None
        assert sum(gone["edges_added"].values()) == 0


def test_the_same_batches_make_the_same_change(tmp_path: Path) -> None:
    told = []
    for name in ("one", "two"):
        with osc.connect(tmp_path / name, durability="off") as store:
            store.ingest(rows(0, 300, 1))
            told.append(change(store.ingest(rows(250, 100, 5)).receipt))
    assert told[0] == told[1]


@given(
    n=st.integers(1, 25),
    base=st.integers(0, 80),
    runs=st.lists(st.integers(0, 40), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_amended_entries_are_those_of_all_records(
    n: int, base: int, runs: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def some(count: int) -> Records:
        keys = rng.permutation(n * n * len(RELATIONS))[:count]
        return sort_records(
            keys // len(RELATIONS) // n, keys // len(RELATIONS) % n,
            (keys % len(RELATIONS)).astype(np.uint8),
            np.where(rng.random(len(keys)) < 0.3, 0.0, rng.random(len(keys))).astype(np.float32),
        )  # fmt: skip

    whole = some(base)
    csr = Csr(
        np.searchsorted(whole.rows, np.arange(n + 1)), whole.columns, whole.weights + 1,
        whole.relation,
    ) if base else build_csr(n, [])  # fmt: skip
    older, newer = [some(count) for count in runs], some(20)
    rows_of = np.sort(rng.permutation(n)[: rng.integers(0, n + 1)]).astype(np.int64)
    before = TypedGraph(csr, merge_runs(older) if older else empty_records())
    after = TypedGraph(csr, merge_runs([*older, newer]))
    for told, expected in zip(
        amended(before.entries(rows_of), newer), after.entries(rows_of), strict=True
    ):
        assert told.dtype == expected.dtype
        assert (told == expected).all()


@given(count=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def test_a_total_alone_is_that_of_the_sums(count: int, seed: int) -> None:
    Y = np.random.default_rng(seed).uniform(-1, 1, (count, 5)).astype(np.float32)
    assert (row_total(Y) == sums(Y).total).all()
