"""Value types shared by every floor: parameters, fields, hits and results.

All are frozen and keyword-only, hold plain values or arrays, and know neither disk nor
mathematics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from oscillink_store.errors import InputError, QueryError
from oscillink_store.hypertext import escaped, table
from oscillink_store.snippet import snippet

if TYPE_CHECKING:
    import pyarrow as pa

    from oscillink_store.explanation.values import Explanation
    from oscillink_store.receipts.receipt import Receipt

__all__ = [
    "IN",
    "KERNEL_VERSION",
    "OUT",
    "PARAMETER_VERSION",
    "RELATIONS",
    "RELATION_MASK",
    "Detail",
    "Diffusion",
    "Durability",
    "Fields",
    "Hit",
    "Parameters",
    "Ranking",
    "SearchResult",
]

KERNEL_VERSION = 2
"""Raised whenever a change makes the same query give other bits."""

PARAMETER_VERSION = 3
"""Raised whenever a field of :class:`Parameters` is added or changes its meaning."""

Diffusion = Literal["screened", "heat"]
Ranking = Literal["lattice", "hybrid", "dense", "text", "mmr"]
Durability = Literal["sync", "batch", "off"]
Detail = Literal["light", "full"]

RELATIONS: tuple[str, ...] = ("next", "mention", "link", "shared", "knn")
"""The relations by name; a relation's code in the edge arrays is its place here."""

RELATION_MASK, OUT, IN = 0x07, 0x40, 0x80
"""A byte of a stored entry: the relation's code, and whether its row points or is pointed at."""


_CHOICES: dict[str, tuple[str, ...]] = {
    "diffusion": get_args(Diffusion),
    "ranking": get_args(Ranking),
}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Every constant of the lattice, the ranking and the settle, with the measured defaults.

    Symbols: λ_G, λ_C, λ_Q, λ_P weigh the four terms of the energy
    H(U) = λ_G‖U−Y‖² + λ_C tr(UᵀLU) + λ_Q tr((U−1ψᵀ)ᵀB(U−1ψᵀ)) + λ_P tr(UᵀL_path U);
    γ is the screening of the diffusion (L + γI)h = γs.
    """

    # relation weights ω_r in A = Σ_r ω_r A_r
    next_weight: float = 1.0
    mention_weight: float = 1.0
    link_weight: float = 1.0
    shared_weight: float = 0.3
    knn_weight: float = 0.1
    # what the relations are built from
    knn_neighbors: int = 16
    knn_spares: int = 8
    knn_power: int = 3
    knn_exact_limit: int = 200_000  # beyond, many new anchors are compared by cells
    title_max_anchors: int = 5
    title_min_length: int = 4
    shared_min_frequency: int = 2
    shared_max_frequency: int = 20
    # summary nodes: a store of this many anchors is divided into shards of this size on average
    shards_from: int = 500_000
    shard_anchors: int = 1000
    max_nodes: int = 2048  # of the last level
    # how many shards a search goes into: at least so many, of this share of the anchors
    route_shards: int = 4
    route_share: float = 0.02
    route_flow: float = 0.0  # weight of what flows through the summary nodes' own lattice
    # candidates
    dense_candidates: int = 50
    text_candidates: int = 50
    text_matches: int = 1000
    # evidence and ranking
    text_weight: float = 0.4
    name_bonus: float = 4.0
    facet_bonus: float = 3.0
    sources: int = 3
    diffusion: Diffusion = "screened"
    screening: float = 0.5
    heat_time: float = 1.0
    gate_weight: float = 6.0
    evidence_floor_rank: int = 50
    ranking: Ranking = "lattice"
    mmr_fetch: int = 20
    mmr_lambda: float = 0.5
    # settle
    anchor_term: float = 1.0
    coherence_term: float = 0.5
    query_term: float = 4.0
    path_term: float = 0.2
    tolerance: float = 1e-5
    max_iterations: int = 200

    def __post_init__(self) -> None:
        """Refuse values for which the system is not positive definite or has no meaning."""
        positive = ("anchor_term", "screening", "heat_time", "tolerance")
        whole = (
            "knn_neighbors", "knn_power", "knn_exact_limit", "title_max_anchors",
            "title_min_length", "shared_min_frequency", "shared_max_frequency", "dense_candidates",
            "text_candidates", "text_matches", "sources", "evidence_floor_rank", "max_iterations",
            "mmr_fetch", "shards_from", "shard_anchors", "max_nodes", "route_shards",
        )  # fmt: skip
        for name, value in asdict(self).items():
            if name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise QueryError(f"{name} is {value!r}: use one of {', '.join(_CHOICES[name])}")
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise QueryError(f"{name} is {value!r}: use a number")
            elif name in whole:
                if not isinstance(value, int) or value < 1:
                    raise QueryError(f"{name} is {value!r}: use a whole number of at least 1")
            elif name == "knn_spares":
                if not isinstance(value, int) or value < 0:
                    raise QueryError(f"{name} is {value!r}: use a whole number of at least 0")
            elif name in ("mmr_lambda", "route_share"):
                if not 0.0 <= value <= 1.0:
                    raise QueryError(f"{name} is {value!r}: use a number from 0 to 1")
            elif not 0.0 <= value < float("inf") or (name in positive and value <= 0.0):
                bound = "positive" if name in positive else "zero or positive"
                raise QueryError(f"{name} is {value!r}: it must be finite and {bound}")

    @cached_property
    def relation_weights(self) -> tuple[float, ...]:
        """ω_r in the order of :data:`RELATIONS`."""
        return (
            self.next_weight, self.mention_weight, self.link_weight,
            self.shared_weight, self.knn_weight,
        )  # fmt: skip

    @cached_property
    def _values(self) -> dict[str, Any]:
        return asdict(self)

    def to_dict(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return dict(self._values)


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which columns of a source play which part; every other column becomes metadata.

    ``sequence`` may name several columns, whose values together identify the sequence.
    The columns named by ``sequence`` and ``position`` also stay as metadata when their
    names differ from these. ``facets`` are metadata columns (a speaker, a product) whose
    values lift an anchor when exactly one of them is named in the question. ``shard`` is a
    metadata column (a tenant), or ``"sequence"``, whose values divide the store into shards;
    without it a large store is divided by the embeddings.
    """

    id: str = "id"
    text: str = "text"
    title: str = "title"
    vector: str = "vector"
    sequence: str | Sequence[str] = "sequence"
    position: str = "position"
    links: str = "links"
    gate: str = "gate"
    payload: str = "payload"
    facets: Sequence[str] = ()
    shard: str | None = None

    def __post_init__(self) -> None:
        """Freeze the sequences and refuse one column in two parts."""
        object.__setattr__(self, "facets", tuple(self.facets))
        if not isinstance(self.sequence, str):
            object.__setattr__(self, "sequence", tuple(self.sequence))
        if self.shard is not None and not isinstance(self.shard, str):
            raise InputError(f"fields: shard is {self.shard!r}: name one column", field="shard")
        single = (
            self.id, self.text, self.title, self.vector, self.links, self.gate, self.payload,
        )  # fmt: skip
        for name in single:
            if single.count(name) > 1:
                raise InputError(
                    f"fields: column {name!r} is given two parts: name it once", field=name
                )

    @property
    def declared(self) -> tuple[frozenset[str], str | None]:
        """What a batch need not bring rows for: facets and shards count for those there are."""
        return frozenset(self.facets), self.shard

    @property
    def sequence_columns(self) -> tuple[str, ...]:
        """The sequence columns as a tuple, whether one or several."""
        return (self.sequence,) if isinstance(self.sequence, str) else tuple(self.sequence)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One ranked anchor of a search result.

    ``score`` is what the ranking sorts by; ``evidence`` is z(cosine) + 0.4·z(BM25) with the
    bonus of a named title, times the anchor's stored trust where it is positive; ``payload`` is
    the JSON object stored with it; ``gate`` is the diffusion gate scaled to [0, 1] times the
    trust; ``coherence`` is how far the anchor agrees with its neighbours in the settled state,
    in [0, 1]. These two are None in rankings without the lattice, ``cosine`` is None when the
    query had no vector. ``contested`` are the ids of candidates that say the same but for a name
    or a number.
    """

    rank: int
    score: float
    id: str
    text: str
    title: str | None
    metadata: Mapping[str, Any]
    payload: Mapping[str, Any] | None
    evidence: float
    gate: float | None
    coherence: float | None
    cosine: float | None = None
    contested: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The ranked coherent set of one search, with its receipt."""

    hits: tuple[Hit, ...]
    receipt: Receipt
    seconds: float = field(compare=False)
    """Wall time of the search in seconds; not part of the receipt."""
    _explain: Callable[[], Explanation] | None = field(default=None, compare=False, repr=False)
    _rate: Callable[[], float | None] | None = field(default=None, compare=False, repr=False)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]

    @property
    def ids(self) -> list[str]:
        """The ids in rank order."""
        return [hit.id for hit in self.hits]

    def explain(self) -> Explanation:
        """Why each hit is there: the search is run again, on the generation that it read.

        That generation stays open as long as the result is kept.

        Raises:
            QueryError: the result was copied or unpickled, which leaves the store behind.
        """
        if self._explain is None:
            raise QueryError(
                "this result cannot be explained, copies do not know the store that they come "
                "from: explain the result that search() returned, or search again"
            )
        return self._explain()

    @cached_property
    def confidence(self) -> float | None:
        """How clear the answer is beside others of this store, from 0 to 1.

        The share of the recorded searches of the same kind (with or without words, with or
        without a vector) whose margin, first evidence less fifth, is no larger; as of the first
        look, and of this process's the newest 100,000. None when there were fewer than five
        candidates, when fewer than 20 searches are known, and in copies, which leave the store
        behind.
        """
        return None if self._rate is None else self._rate()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_explain": None, "_rate": None}

    def _repr_html_(self) -> str:
        numbers = ("rank", "score", "evidence", "gate", "coherence", "cosine")
        rows = [
            [
                *(
                    f"{value:.3g}" if value is not None else ""
                    for value in (getattr(hit, name) for name in numbers)
                ),
                f"<b>{escaped(hit.title or hit.id)}</b><br>{escaped(snippet(hit.text, [], 170))}",
            ]
            for hit in self.hits
        ]
        return (
            f"{table([*numbers, 'anchor'], rows, frozenset(numbers))}\n"
            f"<p>{escaped(str(self.receipt))}, {1000 * self.seconds:.1f} ms</p>"
        )

    def to_arrow(self) -> pa.Table:
        """One row per hit in rank order, payloads as JSON; metadata columns stand behind."""
        import pyarrow as pa

        fixed = (
            "rank", "score", "id", "text", "title", "evidence", "gate", "coherence", "cosine",
            "contested",
        )  # fmt: skip
        types = (
            pa.int64(), pa.float64(), pa.string(), pa.string(), pa.string(),
            pa.float64(), pa.float64(), pa.float64(), pa.float64(), pa.list_(pa.string()),
        )  # fmt: skip
        columns: dict[str, pa.Array] = {
            name: pa.array([getattr(hit, name) for hit in self.hits], type_)
            for name, type_ in zip(fixed, types, strict=True)
        }
        told = [None if hit.payload is None else json.dumps(hit.payload) for hit in self.hits]
        columns["payload"] = pa.array(told, pa.string())
        names = dict.fromkeys(name for hit in self.hits for name in hit.metadata)
        for name in names:
            column = name if name not in columns else f"metadata.{name}"
            columns[column] = pa.array([hit.metadata.get(name) for hit in self.hits])
        return pa.table(columns)
