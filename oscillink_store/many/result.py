"""What a search of several stores gives back, and what verifying and replaying one found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from oscillink_store.errors import IntegrityError, QueryError
from oscillink_store.many.asking import Left
from oscillink_store.model import Hit, SearchResult
from oscillink_store.reports import ReplayReport, VerifyReport

if TYPE_CHECKING:
    import pyarrow as pa

    from oscillink_store.explanation.values import Explanation
    from oscillink_store.receipts.key import Key
    from oscillink_store.receipts.receipt import Receipt

__all__ = ["ManyReplay", "ManyResult", "ManyVerification", "StoreHit", "disagreement"]


@dataclass(frozen=True, kw_only=True)
class StoreHit(Hit):
    """A hit of a search of several stores; ids may come again in another ``store``."""

    store: str

    @classmethod
    def of(cls, hit: Hit, store: str, rank: int) -> StoreHit:
        """A hit of a store as one of all stores'."""
        values = {field.name: getattr(hit, field.name) for field in fields(hit)}
        return cls(**{**values, "rank": rank, "store": store})


@dataclass(frozen=True, kw_only=True)
class ManyResult(SearchResult):
    """The ranked coherent set of a search of several stores, with its receipts in layers.

    ``receipt`` is the composed one; ``parts`` are those that the stores recorded of their own
    parts, by name. ``missing`` are the stores that were left out, with the reasons.
    """

    hits: tuple[StoreHit, ...]
    parts: Mapping[str, Receipt]
    missing: tuple[Left, ...]

    @property
    def complete(self) -> bool:
        """Whether every store took part to the end."""
        return not self.missing

    def verify(self, key: Key | None = None) -> bool:
        """Verify the composed receipt and those of the parts, and that they agree.

        Returns True, or raises IntegrityError that says what fails.
        """
        self.receipt.verify(key)
        for told in self.receipt.content["stores"]:
            part = self.parts[told["name"]]
            part.verify(key)
            if problem := disagreement(self.receipt, told, part):
                raise IntegrityError(f"{self.receipt}: {problem}")
        return True

    def explain(self) -> Explanation:
        """Pictures are of one lattice, so this is refused.

        Raises:
            QueryError: always.
        """
        raise QueryError(
            "the hits come from several lattices: explain the search of one of the stores, "
            "connect(...).search(...).explain()"
        )

    def to_arrow(self) -> pa.Table:
        """One row per hit in rank order, as of a single store, its ``store`` behind the id."""
        import pyarrow as pa

        table = super().to_arrow()
        if "store" in table.schema.names:
            place = table.schema.get_field_index("store")
            table = table.set_column(place, "metadata.store", table["store"])
        names = pa.array([hit.store for hit in self.hits], pa.string())
        return table.add_column(table.schema.get_field_index("id") + 1, "store", names)


def disagreement(whole: Receipt, told: Mapping[str, Any], part: Receipt) -> str | None:
    """Where a composed receipt, and what it has ``told`` of a part, differ from the part's own."""
    content = part.content
    homes = zip(whole.result_ids, whole.content["result_stores"], strict=True)
    if [id_ for id_, store in homes if store == told["name"]] != part.result_ids:
        return f"its hits of store {told['name']!r} are others than the receipt of the part has"
    actual = {
        "receipt": part.hash,
        "content_hash": part.content_hash,
        "generation": part.generation,
        "state_sig": part.state_sig,
        "candidates": part.candidate_count,
        "hits": len(part.result_ids),
        "delta_h": part.delta_h,
        "null_points": content.get("null_point_count"),
    }
    for name, value in actual.items():
        if told[name] != value:
            return (
                f"of store {told['name']!r} it tells {name} {told[name]}, the receipt of the "
                f"part has {value}"
            )
    return None


@dataclass(frozen=True, kw_only=True)
class ManyVerification:
    """What verifying several stores found, by name, and the ledger of their composed receipts.

    ``receipts`` are those of that ledger; ``problems`` are all that were found, with the name of
    the store that each is of.
    """

    stores: Mapping[str, VerifyReport]
    receipts: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is what was written."""
        return not self.problems


@dataclass(frozen=True, kw_only=True)
class ManyReplay:
    """What came of asking again what a composed receipt tells of: the whole, and each part."""

    whole: ReplayReport
    parts: Mapping[str, ReplayReport]

    @property
    def ok(self) -> bool:
        """Whether the answer and every part came out again as the receipts have it."""
        return self.whole.ok and all(part.ok for part in self.parts.values())

    def __str__(self) -> str:
        lines = [f"whole: {self.whole}"]
        return "\n".join([*lines, *(f"{name}: {part}" for name, part in self.parts.items())])
