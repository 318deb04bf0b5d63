"""What there is to say about one search: its candidates, their edges, and why each hit is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from oscillink_store.errors import QueryError

__all__ = ["FORMATS", "Edge", "Explanation", "Node", "Points", "Reason", "Step"]

FORMATS = (".html", ".png")
"""What :meth:`Explanation.save` can write, by the ending of the file's name."""

Points = Literal["forward", "backward", "both", "neither"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One candidate.

    ``name`` is what to call it: its title, with the id where others have the same, or its id.
    ``text`` is a piece of the anchor's text around the question's words; ``rank`` is its place
    among the hits, or None. The score is ``own`` (the evidence, scaled so that the best
    candidate has 1 and the 50th 0) + ``connected`` (what came along edges) + ``faceted`` (the
    bonus of a facet named in the question); without the lattice these three are None.
    ``source`` is its place among the sources, or None; ``hops`` the length of the strongest
    path from a source, or None where none leads; ``trust`` the gate stored with it. The other
    members are those of :class:`oscillink_store.Hit`.
    """

    id: str
    title: str | None
    name: str
    text: str
    rank: int | None
    score: float
    own: float | None
    connected: float | None
    faceted: float | None
    evidence: float
    gate: float | None
    coherence: float | None
    cosine: float | None
    trust: float
    named: bool
    source: int | None
    hops: int | None


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One typed edge between candidates, given by their places.

    ``weight`` has ω of its relation in it; ``points`` tells which way the relation goes
    (``forward``: ``source`` mentions, links to or comes before ``target``); ``z`` is the
    z-score of a null point, where the settled state disagrees along the edge, else None.
    """

    source: int
    target: int
    relation: str
    weight: float
    points: Points
    z: float | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a path of evidence, from ``source`` to ``target``, places of candidates.

    ``relations`` are all that connect the two, the heaviest first, and ``points`` is of that
    one; ``coupling`` is A_ij/√(d_i d_j), how much of the evidence passes.
    """

    source: int
    target: int
    relations: tuple[str, ...]
    points: Points
    coupling: float


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a hit is there: the candidate's place, its strongest path, and a sentence."""

    node: int
    path: tuple[Step, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a search gave what it gave.

    ``nodes`` are the candidates, best first; ``edges`` come pair by pair, of each the heaviest
    first; ``energy`` are the terms of ΔH, empty where
    nothing was settled; ``receipt`` is the id of the search's receipt. ``print`` shows it as
    text, :meth:`save` writes a page or a picture, a notebook shows the page.
    """

    question: str | None
    generation: int
    receipt: str
    ranking: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    reasons: tuple[Reason, ...]
    delta_h: float | None
    energy: Mapping[str, float]

    @property
    def null_points(self) -> tuple[Edge, ...]:
        """Where the settled state disagrees, the largest z first; of each pair one edge."""
        found: dict[tuple[int, int], Edge] = {}
        for edge in self.edges:
            if edge.z is not None:
                found.setdefault((edge.source, edge.target), edge)
        return tuple(sorted(found.values(), key=lambda edge: -(edge.z or 0.0)))

    def text(self) -> str:
        """The hits and why each is there, for a terminal or a log."""
        from oscillink_store.explanation.text import as_text

        return as_text(self)

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)

    def to_html(self) -> str:
        """The page: one file that needs no network.

        Raises:
            DependencyError: matplotlib is not installed.
        """
        from oscillink_store.explanation.page import page

        return page(self)

    def save(self, path: str | Path) -> Path:
        """Write the page (``.html``) or the picture alone (``.png``), and return its path.

        Raises:
            QueryError: the file's name ends otherwise.
            DependencyError: matplotlib is not installed.
            OSError: the file cannot be written.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending not in FORMATS:
            raise QueryError(
                f"an explanation cannot be saved as {path.name!r}: let the name end in "
                f"{' or '.join(FORMATS)}"
            )
        if ending == ".html":
            path.write_text(self.to_html(), encoding="utf-8")
        else:
            from oscillink_store.explanation.drawing import png

            path.write_bytes(png(self))
        return path

    def _repr_html_(self) -> str:
        from oscillink_store.explanation.page import fragment

        return fragment(self)
