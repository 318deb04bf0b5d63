"""Settled lattices: what they spend, what they refuse, and the same bits every time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from dense_lattice import (
    adjacency_of,
    dense_of,
    energies,
    operator_of,
    random_weights,
    stationary,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import D, Planted

from oscillink_store import Lattice
from oscillink_store.errors import InputError, QueryError
from oscillink_store.lattice.graph import Edges
from oscillink_store.lattice.settle import settle
from oscillink_store.model import Parameters


@settings(max_examples=60)
@given(
    n=st.integers(1, 30),
    D=st.sampled_from([1, 15, 16, 17, 33]),
    degree=st.floats(0.0, 5.0),
    zeros=st.integers(0, 3),
    copies=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_settling_spends_is_the_quadratic_form(
    n: int, D: int, degree: float, zeros: int, copies: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    Y[rng.integers(0, n, zeros)] = 0.0
    Y[rng.integers(0, n, copies)] = Y[rng.integers(0, n, copies)]
    A = random_weights(n, degree, rng)
    i, j = np.nonzero(np.triu(A))
    edges = Edges(source=i, target=j, weight=A[i, j], relation=0)
    parameters = Parameters(
        anchor_term=float(rng.uniform(0.1, 2.0)),
        coherence_term=float(rng.uniform(0.0, 3.0)),
        query_term=float(rng.uniform(0.0, 6.0)),
    )
    lattice = Lattice(Y, edges=[edges], parameters=parameters)
    psi, gates = rng.standard_normal(D), rng.random(n)
    lattice.set_query(psi, gates)
    path = rng.integers(0, n, 4).tolist() if n > 1 else None
    if path is not None:
        lattice.add_chain(path, 0.7)
    B = dense_of(lattice.adjacency)
    np.testing.assert_allclose(B, A, rtol=1e-6)
    chained = Parameters(**{**parameters.to_dict(), "path_term": 0.7})
    M = operator_of(B, gates, chained, path)
    np.testing.assert_allclose(M, M.T, rtol=1e-14)
    assert np.linalg.eigvalsh(M).min() >= parameters.anchor_term * (1.0 - 1e-9)
    exact = stationary(B, Y, psi.astype(np.float32), gates, chained, path)
    difference = Y - exact
    form = float(np.trace(difference.T @ M @ difference))
    receipt = lattice.receipt()
    size = 1e-5 * (1.0 + float((Y.astype(float) ** 2).sum()))
    assert receipt["delta_h"] >= 0.0
    assert receipt["delta_h"] == pytest.approx(form, rel=1e-4, abs=size)
    for U, told in ((Y, "energy_anchors"), (exact, "energy_stationary")):
        terms = energies(B, Y, U, psi.astype(np.float32), gates, chained, path)
        assert receipt[told] == pytest.approx(terms, rel=1e-3, abs=size)
    np.testing.assert_allclose(lattice.stationary(), exact, atol=1e-4)


def test_parts_of_a_disconnected_graph_settle_on_their_own() -> None:
    one, two = Planted(1, 0.4), Planted(2, 0.4)
    both = []
    for data, shift in ((one, 0), (two, len(one.Y))):
        indptr, indices, weights = Lattice(data.Y).adjacency
        rows = np.repeat(np.arange(len(data.Y)), np.diff(indptr))
        both.append(Edges(source=rows + shift, target=indices + shift, weight=weights, relation=0))
    apart = Edges(source=both[1].source - len(one.Y), target=both[1].target - len(one.Y),
                  weight=both[1].weight, relation=0)  # fmt: skip
    gates = np.concatenate([one.gates("cosine"), two.gates("group")])
    whole = Lattice(np.concatenate([one.Y, two.Y]), edges=both)
    parts = [Lattice(one.Y, edges=both[:1]), Lattice(two.Y, edges=[apart])]
    total = 0.0
    for lattice, own in zip((whole, *parts), (gates, gates[:200], gates[200:]), strict=True):
        lattice.set_query(one.psi, own)
    for lattice, rows in zip(parts, (slice(0, 200), slice(200, 400)), strict=True):
        settled = lattice.settle()
        np.testing.assert_allclose(whole.stationary()[rows], settled.U, atol=5e-5)
        np.testing.assert_allclose(whole.settle().coherence[rows], settled.coherence, atol=1e-4)
        total += settled.delta_h
    assert whole.settle().delta_h == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_permuting_the_anchors_permutes_what_is_reported(seed: int) -> None:
    data = Planted(seed, 0.5)
    one, two = (int(np.flatnonzero(data.group == g)[0]) for g in (3, 6))
    lattice = data.with_edge("cosine", one, two)
    order = data.rng.permutation(len(data.Y))
    place = np.argsort(order)  # where each anchor has gone
    indptr, indices, weights = lattice.adjacency
    rows = np.repeat(np.arange(len(data.Y)), np.diff(indptr))
    edges = Edges(source=place[rows], target=place[indices], weight=weights, relation=0)
    permuted = Lattice(data.Y[order], edges=[edges])
    permuted.set_query(data.psi, data.gates("cosine")[order])
    for rule in ("evidence", "blend"):
        ours, theirs = lattice.bundle(10, rule), permuted.bundle(10, rule)
        assert [place[member.anchor] for member in ours] == [member.anchor for member in theirs]
        assert [m.score for m in ours] == pytest.approx([m.score for m in theirs], abs=1e-3)
        assert [m.alignment for m in ours] == pytest.approx([m.alignment for m in theirs], abs=1e-4)
    ours = {tuple(sorted(place[[i, j]].tolist())): z for i, j, z in lattice.settle().null_points}
    theirs = {(i, j): z for i, j, z in permuted.settle().null_points}
    assert ours == pytest.approx(theirs, rel=1e-2)
    assert tuple(sorted(place[[one, two]].tolist())) in theirs
    path = data.scattered(4)
    before, after = lattice.chain_receipt(path), permuted.chain_receipt(place[path].tolist())
    assert before.weakest == after.weakest
    assert before.gain == pytest.approx(after.gain, abs=1e-4)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e3, 1e9])
def test_the_unit_of_the_vectors_does_not_matter(unit: float) -> None:
    data = Planted(3, 0.4)
    plain, other = Lattice(data.Y), Lattice(data.Y * np.float32(unit))
    plain.set_query(data.psi)
    other.set_query(data.psi * np.float32(unit))
    np.testing.assert_allclose(other.stationary() / np.float32(unit), plain.stationary(), atol=1e-4)
    assert other.settle().converged
    assert other.settle().delta_h == pytest.approx(unit**2 * plain.settle().delta_h, rel=1e-4)
    assert [m.anchor for m in other.bundle(5)] == [m.anchor for m in plain.bundle(5)]


def test_vectors_beyond_float32_are_refused_before_they_overflow() -> None:
    Y = Planted(0, 0.5).Y
    for scale, where in ((1e25, "row 0"), (1e-20, "scale")):
        with pytest.raises(InputError, match=where) as refused:
            Lattice(Y.astype(float) * scale)
        assert refused.value.field == "Y"
    lattice = Lattice(Y)
    for psi in (1e25 * Y[0].astype(float), 1e-20 * Y[0].astype(float)):
        with pytest.raises(QueryError, match="psi"):
            lattice.set_query(psi)
    lattice.set_query(np.zeros(D))  # no direction at all is no trouble
    assert lattice.settle().converged
    assert lattice.bundle(1)[0].alignment == 0.0


def test_a_solve_that_overflows_is_not_converged() -> None:
    Y = np.full((4, 70), 1e-3, np.float32)
    Y[:, 3] = 1e25  # squares beyond float32, in the first of two tiles of columns
    graph = adjacency_of(random_weights(4, 3, np.random.default_rng(0)))
    with np.errstate(all="ignore"):
        settled = settle(Y, Y[0], np.ones(4), graph, Parameters())
    assert not settled.converged
    assert math.isnan(settled.residual)


def test_the_receipt_has_the_weight_of_the_chain_it_was_settled_with() -> None:
    lattice = Planted(0, 0.5).lattice("all")
    assert lattice.receipt()["parameters"] == Parameters().to_dict()
    lattice.add_chain([1, 9, 17], 0.7)
    receipt = lattice.receipt()
    assert receipt["parameters"]["path_term"] == 0.7
    assert json.loads(json.dumps(receipt, allow_nan=False)) == receipt
    with pytest.raises(QueryError, match="weight"):
        lattice.add_chain([1, 9], True)
    for weight in ("heavy", 1e300):
        with pytest.raises(QueryError, match="weight"):
            lattice.add_chain([1, 9], weight)
    assert lattice.receipt() == receipt
    lattice.clear_chain()
    assert lattice.receipt()["parameters"]["path_term"] == Parameters().path_term


def test_a_query_with_bad_gates_changes_nothing() -> None:
    data = Planted(0, 0.5)
    lattice = data.lattice("cosine")
    before = lattice.receipt()
    gates = np.ones(len(data.Y))
    gates[7] = 1.5
    with pytest.raises(QueryError, match=r"row 7 holds 1\.5"):
        lattice.set_query(data.Y[3], gates)
    assert lattice.receipt() == before


def test_numbers_of_numpy_count_as_numbers() -> None:
    data = Planted(0, 0.5)
    lattice = Lattice(data.Y, kneighbors=np.int64(6))
    lattice.set_query(data.psi.tolist(), gates=np.ones(len(data.Y), np.float32))
    path: Any = np.array([1, 9, 17], np.int32)
    lattice.add_chain(path, np.float32(0.5))
    assert lattice.receipt()["chain"] == [1, 9, 17]
    assert len(lattice.bundle(np.int64(4))) == 4


PROGRAM = """
import hashlib, json
import numpy as np
from oscillink_store import Lattice
from oscillink_store.kernels.knn import knn_exact
rng = np.random.default_rng(11)
Y = rng.standard_normal((2500, 96)).astype(np.float32)
seen = hashlib.sha256(b"".join(part.tobytes() for part in knn_exact(Y, 9)))
lattice = Lattice(Y[:700], kneighbors=8)
lattice.set_query(Y[3], rng.random(700))
lattice.add_chain([5, 80, 600])
seen.update(lattice.stationary().tobytes())
told = [lattice.receipt(), lattice.chain_receipt([5, 9, 80]).to_dict()]
told += [lattice.bundle(20), lattice.bundle(20, rule="blend")]
seen.update(json.dumps(told).encode())
print(seen.hexdigest())
"""


def test_every_bit_is_the_same_with_any_number_of_threads() -> None:
    told = set()
    for threads in ("1", "2", "2"):
        environment = {**os.environ}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
            environment[name] = threads
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True
        )
        told.add(ran.stdout)
    assert len(told) == 1
