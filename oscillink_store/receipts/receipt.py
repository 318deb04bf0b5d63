"""The receipt: what one search or one ingest did, sealed into a hash chain.

A receipt is one JSON object with nine members::

    content       what depends only on the generation, the query and the parameters
    content_hash  SHA-256 of the canonical JSON of content
    hash          SHA-256 of the canonical JSON of the whole object without this member
    label         the caller's own note, or null
    previous      hash of the writer's entry before this one; GENESIS for its first
    sequence      1, 2, 3, ... per writer
    time          ISO 8601, UTC, microseconds
    version       of this layout
    writer        id of the process's chain

Two equal searches have one content hash, and two receipts. Any implementation of RFC 8785
and SHA-256 can check a receipt; nothing of this package is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from oscillink_store.errors import InputError, IntegrityError
from oscillink_store.receipts.canonical import Json, canonical, parse, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GENESIS", "RECEIPT_VERSION", "Receipt", "seal", "timestamp"]

GENESIS = "0" * 64
"""``previous`` of the first entry of every chain."""

RECEIPT_VERSION = 1

_MEMBERS: dict[str, type | tuple[type, ...]] = {
    "content": dict,
    "content_hash": str,
    "hash": str,
    "label": (str, type(None)),
    "previous": str,
    "sequence": int,
    "time": str,
    "version": int,
    "writer": str,
}

_COUNTS = ("added", "updated", "unchanged", "deleted", "anchors")


def timestamp(moment: datetime | None = None) -> str:
    """Write a moment, by default now, as ISO 8601 in UTC with microseconds."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One entry of a writer's chain; see the module for the meaning of each member."""

    content: Mapping[str, Any]
    writer: str
    sequence: int
    time: str
    label: str | None
    previous: str
    content_hash: str
    hash: str
    version: int = RECEIPT_VERSION

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read a receipt, without verifying it.

        Raises IntegrityError when the text is not a receipt of this layout.
        """
        try:
            value = parse(text)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"a receipt cannot be read, it is no JSON: {error}") from error
        if not isinstance(value, dict) or value.keys() != _MEMBERS.keys():
            raise IntegrityError(
                f"a receipt cannot be read: it must be an object of exactly {', '.join(_MEMBERS)}"
            )
        for name, kind in _MEMBERS.items():
            if not isinstance(value[name], kind) or isinstance(value[name], bool):
                raise IntegrityError(f"a receipt cannot be read: {name} has the wrong type")
        if value["version"] != RECEIPT_VERSION:
            raise IntegrityError(
                f"a receipt cannot be read: its version is {value['version']}, this release "
                f"reads version {RECEIPT_VERSION}"
            )
        members: dict[str, Any] = dict(value)
        return cls(**members)

    def to_json(self) -> str:
        """Write the receipt as one line of canonical JSON, without a line break."""
        return self.to_bytes().decode()

    def to_bytes(self) -> bytes:
        """Write the receipt as the UTF-8 bytes of :meth:`to_json`."""
        return _line(canonical(self._content()), {**self._envelope(), "hash": self.hash})

    def verify(self) -> bool:
        """Recompute both hashes; True, or IntegrityError that says which one fails."""
        try:
            content_bytes = canonical(self._content())
            whole = _line(content_bytes, self._envelope())
        except InputError as error:
            raise IntegrityError(f"{self._place()} was edited: {error}") from error
        if sha256(content_bytes).hexdigest() != self.content_hash:
            raise IntegrityError(
                f"{self._place()} was edited: its content does not give its content hash"
            )
        if sha256(whole).hexdigest() != self.hash:
            raise IntegrityError(f"{self._place()} was edited: its members do not give its hash")
        return True

    @property
    def id(self) -> str:
        """The first 16 characters of the hash: enough to name a receipt."""
        return self.hash[:16]

    @property
    def kind(self) -> str:
        """Which act the receipt is for: "search" or "ingest"."""
        return str(self.content.get("kind", ""))

    @property
    def generation(self) -> int | None:
        """The generation that was searched, or that an ingest made."""
        return self.content.get("generation")

    @property
    def candidate_ids(self) -> list[str]:
        """Ids of the anchors that the lattice was solved over."""
        return list(self.content.get("candidates", ()))

    @property
    def result_ids(self) -> list[str]:
        """Ids of the hits, best first."""
        return list(self.content.get("results", ()))

    @property
    def scores(self) -> list[float]:
        """Scores of the hits, best first."""
        return list(self.content.get("scores", ()))

    @property
    def delta_h(self) -> float | None:
        """ΔH, how much the settle lowered the energy; None when nothing was settled."""
        return self.content.get("delta_h")

    def summary(self) -> str:
        """Describe the receipt for a person, in a few lines."""
        when = self.time.replace("T", " ").replace("Z", " UTC")
        lines = [f"receipt {self.id}: {self.kind} on generation {self.generation}, {when}"]
        if self.label is not None:
            lines.append(f"  label       {self.label}")
        content = self.content
        if self.kind == "search":
            lines += [
                f"  results     {len(self.result_ids)} of {len(self.candidate_ids)} candidates",
                f"  evidence    first {_figure(content.get('first_evidence'))}, "
                f"fifth {_figure(content.get('fifth_evidence'))}, "
                f"best cosine {_figure(content.get('best_cosine'))}",
            ]
            terms = content.get("energy") or {}
            parts = ", ".join(f"{name} {_figure(value)}" for name, value in terms.items())
            lines.append(
                f"  ΔH          {_figure(self.delta_h)}" + (f" ({parts})" if parts else "")
            )
            if content.get("iterations") is not None:
                state = "converged" if content.get("converged") else "not converged"
                lines.append(
                    f"  settle      {content['iterations']} iterations, residual "
                    f"{_figure(content.get('residual'))}, {state}"
                )
        else:
            counts = (f"{name} {content[name]}" for name in _COUNTS if name in content)
            edges = (f"{name} {count}" for name, count in (content.get("edges") or {}).items())
            lines += [
                f"  anchors     {', '.join(counts) or 'none'}",
                f"  edges       {', '.join(edges) or 'none'}",
            ]
        lines += [
            f"  content     {self.content_hash}",
            f"  hash        {self.hash}",
            f"  previous    {self.previous}",
            f"  chain       entry {self.sequence} of writer {self.writer}",
        ]
        return "\n".join(lines)

    def __hash__(self) -> int:
        return hash(self.hash)

    def __str__(self) -> str:
        return f"receipt {self.id} ({self.kind}, generation {self.generation})"

    def __repr__(self) -> str:
        return (
            f"<Receipt {self.id} {self.kind} generation={self.generation} "
            f"entry={self.sequence} writer={self.writer}>"
        )

    def _place(self) -> str:
        return f"receipt {self.id} (entry {self.sequence} of writer {self.writer})"

    def _content(self) -> dict[str, Json]:
        copy = plain(self.content, "content")
        assert isinstance(copy, dict)
        return copy

    def _envelope(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in _MEMBERS if name not in ("content", "hash")}


def seal(
    content: Mapping[str, Any],
    *,
    writer: str,
    sequence: int,
    previous: str,
    time: str,
    label: str | None = None,
) -> tuple[Receipt, bytes]:
    """Seal a content into the entry that follows the one whose hash is ``previous``.

    Returns the receipt and its line (:meth:`Receipt.to_bytes`), which costs nothing here.
    Raises InputError when the content or the label has no JSON form.
    """
    copy = plain(content, "content")
    if not isinstance(copy, dict):
        raise InputError("content of a receipt must be a mapping", field="content")
    if label is not None and not isinstance(label, str):
        raise InputError(f"label is a {type(label).__name__}: use a string", field="label")
    content_bytes = canonical(copy)
    content_hash = sha256(content_bytes).hexdigest()
    envelope: dict[str, Json] = {
        "content_hash": content_hash,
        "label": label,
        "previous": previous,
        "sequence": sequence,
        "time": time,
        "version": RECEIPT_VERSION,
        "writer": writer,
    }
    own_hash = sha256(_line(content_bytes, envelope)).hexdigest()
    receipt = Receipt(
        content=copy,
        writer=writer,
        sequence=sequence,
        time=time,
        label=label,
        previous=previous,
        content_hash=content_hash,
        hash=own_hash,
    )
    return receipt, _line(content_bytes, {**envelope, "hash": own_hash})


def _line(content: bytes, envelope: dict[str, Json]) -> bytes:
    # "content" sorts before every other member, so the parts only need joining
    return b'{"content":' + content + b"," + canonical(envelope)[1:]


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "none"
