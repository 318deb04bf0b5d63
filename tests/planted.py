"""Anchors in groups, for tests of what a lattice says about them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store import Lattice
from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS

Float64 = npt.NDArray[np.float64]

GROUPS, EACH, D = 8, 25, 32


class Planted:
    """Anchors around eight centres; the query is the first centre."""

    def __init__(self, seed: int, noise: float) -> None:
        self.rng = np.random.default_rng(seed)
        centres = self.rng.standard_normal((GROUPS, D))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        self.group = np.arange(GROUPS * EACH) % GROUPS
        Y = centres[self.group] + noise * self.rng.standard_normal((len(self.group), D)) / D**0.5
        self.Y = (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype(np.float32)
        self.psi = centres[0].astype(np.float32)

    def gates(self, kind: str) -> Float64:
        if kind == "all":
            return np.ones(len(self.Y))
        if kind == "group":
            return (self.group == 0).astype(float)
        return np.clip(self.Y @ self.psi, 0.0, 1.0).astype(float)

    def lattice(self, kind: str) -> Lattice:
        lattice = Lattice(self.Y)
        lattice.set_query(self.psi, self.gates(kind))
        return lattice

    def with_edge(self, kind: str, i: int, j: int) -> Lattice:
        """The same graph of neighbours with one more edge, of weight 1."""
        indptr, indices, weights = Lattice(self.Y).adjacency
        rows = np.repeat(np.arange(len(self.Y)), np.diff(indptr))
        edges = Edges(
            source=np.append(rows, i), target=np.append(indices, j),
            weight=np.append(weights, 1.0), relation=RELATIONS.index("link"),
        )  # fmt: skip
        lattice = Lattice(self.Y, edges=[edges])
        lattice.set_query(self.psi, self.gates(kind))
        return lattice

    def walk(self, lattice: Lattice, length: int) -> list[int] | None:
        """A path along edges of the graph that comes nowhere twice."""
        indptr, indices, _ = lattice.adjacency
        path = [int(self.rng.integers(len(self.Y)))]
        while len(path) < length:
            here = path[-1]
            onward = set(indices[indptr[here] : indptr[here + 1]].tolist()) - set(path)
            if not onward:
                return None
            path.append(int(self.rng.choice(sorted(onward))))
        return path

    def scattered(self, length: int) -> list[int]:
        """Anchors of as many groups."""
        groups = self.rng.permutation(GROUPS)[:length]
        return [int(self.rng.choice(np.flatnonzero(self.group == g))) for g in groups]
