"""Chain receipts: whether a path of anchors holds together in the lattice of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.query import Query
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import QueryError
from oscillink_store.kernels.dense import products
from oscillink_store.lattice.chain import LEAST_REACH, chain_receipt, reaches
from oscillink_store.lattice.graph import TypedEdges, cut_out, neighbors, whole_degrees
from oscillink_store.lattice.settle import settle, split_terms
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, RELATIONS, Parameters
from oscillink_store.receipts.canonical import text_digest, vector_digest
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.wal import Ledger

__all__ = ["ChainResult", "Link", "judge"]

_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Link:
    """One step of a chain.

    ``relations`` are those of the lattice's edge between the two, if there is one. ``reach`` is
    how closely the lattice joins them, 1 for closest neighbours and near 0 for strangers.
    ``structural`` is 2 − 2 cos(U_i, U_j), how far apart the two settle, ``structural_z`` its
    robust z-score among the edges around the path; ``path`` and ``path_z`` are the same under
    the path's own Laplacian.
    """

    source: str
    target: str
    relations: tuple[str, ...]
    reach: float
    structural: float
    structural_z: float
    path: float
    path_z: float


@dataclass(frozen=True, kw_only=True)
class ChainResult:
    """The verdict over a path of anchors, with its receipt.

    ``coherent`` when every link reaches at least a quarter of the way: what is put on one of
    its ends is heard at the other at least a quarter as well as at the closest neighbour.
    ``weakest`` is the link that reaches least, ``gain`` the share of the path's energy that
    settling with the path removed, ``terms`` are those of ΔH, the chain's among them.
    """

    path: tuple[str, ...]
    coherent: bool
    weakest: tuple[str, str]
    gain: float
    links: tuple[Link, ...]
    delta_h: float
    terms: Mapping[str, Any]
    receipt: Receipt


def judge(
    snapshot: Snapshot,
    path: Sequence[str],
    query: Query | None,
    parameters: Parameters,
    ledger: Ledger,
    label: str | None,
) -> ChainResult:
    """Judge a path by its lattice neighbourhood, settled with the path, and record a receipt.

    With a query each anchor is drawn towards it as far as it is similar and trusted.

    Raises:
        MissingError: an id is not in the store.
        QueryError: fewer than two ids.
    """
    if len(path) < 2:
        raise QueryError(f"path has {len(path)} ids: pass at least two, in their order")
    slots = snapshot.slots_of_ids(list(path))
    own = np.unique(slots)
    rows = np.union1d(own, neighbors(snapshot.lattice.entries(own)))
    places = np.searchsorted(rows, slots).tolist()
    entries = snapshot.lattice.entries(rows)
    adjacency, edges = cut_out(entries, parameters.relation_weights)
    Y = snapshot.vectors(rows)
    psi, gates = Y[places[0]], np.zeros(len(rows))
    if query is not None and query.vector is not None:
        psi = query.vector
        gates = np.clip(products(Y, psi), 0.0, 1.0) * snapshot.trust(rows)
    settled = settle(Y, psi, gates, adjacency, parameters, path=places)
    told = chain_receipt(places, settled, settled.pairs.astype(np.int64), parameters.path_term)
    degrees = whole_degrees(entries, parameters.relation_weights)
    reach = np.round(reaches(places, adjacency, degrees, parameters), _DIGITS)
    links = tuple(
        Link(
            source=path[at],
            target=path[at + 1],
            relations=_relations(edges, link.source, link.target),
            reach=float(reach[at]),
            structural=link.structural,
            structural_z=link.structural_z,
            path=link.path,
            path_z=link.path_z,
        )
        for at, link in enumerate(told.links)
    )
    weakest = links[int(np.argmin(reach))]
    terms = split_terms(settled, edges)
    content = {
        "kind": "chain",
        "generation": snapshot.generation,
        "query": {
            "text": None if query is None or query.text is None else text_digest(query.text),
            "vector": None if query is None or query.vector is None else
            vector_digest(query.vector),
        },
        "parameters": parameters.to_dict(),
        "parameter_version": PARAMETER_VERSION,
        "kernel_version": KERNEL_VERSION,
        "manifest": snapshot.digest,
        "path": list(path),
        "candidate_count": len(rows),
        "coherent": bool(reach.min() >= LEAST_REACH),
        "weakest": [weakest.source, weakest.target],
        "gain": told.gain,
        "links": [asdict(link) for link in links],
        "delta_h": settled.delta_h,
        "terms": terms,
        "iterations": settled.iterations,
        "residual": settled.residual,
        "converged": settled.converged,
    }  # fmt: skip
    return ChainResult(
        path=tuple(path),
        coherent=bool(reach.min() >= LEAST_REACH),
        weakest=(weakest.source, weakest.target),
        gain=told.gain,
        links=links,
        delta_h=settled.delta_h,
        terms=terms,
        receipt=ledger.record(content, label=label),
    )


def _relations(edges: TypedEdges, one: int, two: int) -> tuple[str, ...]:
    ends: npt.NDArray[np.int32] = np.sort(np.array([one, two], np.int32))
    mine = (edges.ends == ends).all(axis=1)
    return tuple(RELATIONS[code] for code in edges.relation[mine].tolist())
