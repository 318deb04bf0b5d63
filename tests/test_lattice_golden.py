"""The in-memory lattice against stationary states of a dense float64 solve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from dense_lattice import dense_of

from oscillink_store import Lattice
from oscillink_store.lattice.memory import blend_order
from oscillink_store.model import Parameters

FOLDER = Path(__file__).parent / "golden"
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())
BLENDED = [name for name, case in CASES.items() if "blend_bundle_k8" in case]


class Golden(NamedTuple):
    case: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    lattice: Lattice


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return opened(request.param)


def opened(name: str) -> Golden:
    case = CASES[name]
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    parameters = Parameters(
        anchor_term=case["lamG"], coherence_term=case["lamC"], query_term=case["lamQ"]
    )
    lattice = Lattice(arrays["Y"], kneighbors=case["k"], parameters=parameters)
    lattice.set_query(arrays["psi"], gates=arrays["gates"])
    if len(arrays["chain"]):
        lattice.add_chain(arrays["chain"].tolist(), case["lamP"])
    return Golden(case, arrays, lattice)


def test_the_graph_is_the_mutual_neighbours(golden: Golden) -> None:
    A = np.zeros((golden.case["N"],) * 2)
    A[golden.arrays["adj_row"], golden.arrays["adj_col"]] = golden.arrays["adj_weight"]
    found = dense_of(golden.lattice.adjacency)
    assert ((found > 0.0) == (A > 0.0)).all()
    np.testing.assert_allclose(found, A, atol=1e-6)
    assert (found == found.T).all()
    assert (found.sum(axis=1) == 0.0).sum() == golden.case["isolated"]


def test_the_stationary_state(golden: Golden) -> None:
    np.testing.assert_allclose(golden.lattice.stationary(), golden.arrays["Ustar"], atol=1e-4)


def test_the_energies(golden: Golden) -> None:
    receipt = golden.lattice.receipt()
    assert receipt["delta_h"] == pytest.approx(golden.case["deltaH"], rel=1e-4)
    for ours, theirs in (
        ("energy_anchors", "energy_at_anchors"),
        ("energy_stationary", "energy_at_stationary"),
    ):
        for term, value in golden.case[theirs].items():
            assert receipt[ours][term] == pytest.approx(value, rel=1e-4)
    spent = sum(receipt["energy_anchors"].values()) - sum(receipt["energy_stationary"].values())
    assert receipt["delta_h"] == pytest.approx(spent, rel=1e-4)


def test_the_receipt_is_plain_json(golden: Golden) -> None:
    receipt = golden.lattice.receipt()
    assert json.loads(json.dumps(receipt)) == receipt
    assert receipt["converged"]
    assert len(receipt["coherence"]) == golden.case["N"]


@pytest.mark.parametrize("name", BLENDED)
def test_the_blend_bundle(name: str) -> None:
    case, _, lattice = opened(name)
    chosen = [member.anchor for member in lattice.bundle(8, rule="blend")]
    assert chosen == case["blend_bundle_k8"]


def test_the_blend_over_a_candidate_set() -> None:
    case, arrays, _ = opened("small")
    assert (arrays["gates"] == 1.0).all()  # the query pulls every candidate alike
    order = blend_order(arrays["Y"], arrays["psi"], k=8, kneighbors=case["k"])
    assert order == case["blend_bundle_k8"]
