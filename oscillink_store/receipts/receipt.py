"""The receipt: what one act of a store did, sealed into a hash chain.

Two equal searches have one content hash, and two receipts. Any implementation of RFC 8785,
SHA-256 and HMAC can check a receipt; nothing of this package is needed. The members of its
line are those of :mod:`oscillink_store.receipts.layout`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from oscillink_store.errors import FormatError, InputError, IntegrityError
from oscillink_store.receipts.canonical import Json, canonical, parse, plain
from oscillink_store.receipts.composed import contradiction
from oscillink_store.receipts.layers import layers_problem
from oscillink_store.receipts.layout import (
    FEATURES,
    MEMBERS,
    RECEIPT_VERSION,
    hash_of,
    line_of,
)
from oscillink_store.receipts.state import state_signature
from oscillink_store.receipts.summary import summary

if TYPE_CHECKING:
    from oscillink_store.receipts.key import Key

__all__ = ["Payload", "Receipt", "seal", "timestamp"]

Payload = Literal["minimal", "extended"]


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
    payload: Payload = "minimal"
    seconds: float | None = None
    key_id: str | None = None
    mac: str | None = None
    must_understand: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read a receipt, without verifying it.

        Raises IntegrityError when the text is not a receipt, FormatError when it is one that
        needs a newer release.
        """
        try:
            value = parse(text)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"a receipt cannot be read, it is no JSON: {error}") from error
        members = MEMBERS[_version(value)]
        if not isinstance(value, dict) or value.keys() != members.keys():
            raise IntegrityError(
                f"a receipt cannot be read: it must be an object of exactly {', '.join(members)}"
            )
        for name, kinds in members.items():
            if not isinstance(value[name], kinds) or isinstance(value[name], bool):
                raise IntegrityError(f"a receipt cannot be read: {name} has the wrong type")
        given: dict[str, Any] = dict(value)
        if "must_understand" in given:
            given["must_understand"] = _understood(given["must_understand"])
            if given["payload"] not in ("minimal", "extended"):
                raise IntegrityError("a receipt cannot be read: payload is neither of its values")
        return cls(**given)

    def to_json(self) -> str:
        """Write the receipt as one line of canonical JSON, without a line break."""
        return self.to_bytes().decode()

    def to_bytes(self) -> bytes:
        """Write the receipt as the UTF-8 bytes of :meth:`to_json`."""
        return line_of(canonical(self._content()), {**self._envelope(), "hash": self.hash})

    def verify(self, key: Key | None = None) -> bool:
        """Recompute both hashes and the state's signature; with a key also the mac.

        Of a search of several stores also how its members add up.

        Returns True, or raises IntegrityError that says what fails; with a key that includes a
        receipt that was sealed with another one or with none.
        """
        try:
            content = self._content()
            content_bytes = canonical(content)
            whole = hash_of(content_bytes, self._envelope())
        except InputError as error:
            raise IntegrityError(f"{self._place()} was edited: {error}") from error
        if sha256(content_bytes).hexdigest() != self.content_hash:
            raise IntegrityError(
                f"{self._place()} was edited: its content does not give its content hash"
            )
        if whole != self.hash:
            raise IntegrityError(f"{self._place()} was edited: its members do not give its hash")
        if problem := layers_problem(content) or contradiction(content):
            raise IntegrityError(f"{self._place()} contradicts itself: {problem}")
        if "state_sig" in content and content["state_sig"] != state_signature(content):
            raise IntegrityError(
                f"{self._place()} contradicts itself: its state does not give its signature"
            )
        if key is not None:
            self._verify_mac(key)
        return True

    def _verify_mac(self, key: Key) -> None:
        if self.mac is None:
            raise IntegrityError(f"{self._place()} was not sealed with a key")
        if self.key_id != key.id:
            raise IntegrityError(
                f"{self._place()} was sealed with key {self.key_id!r}: pass that one, "
                f"not {key.id!r}"
            )
        if not key.holds(self.message(), self.mac):
            raise IntegrityError(
                f"{self._place()}: its mac is not that of key {key.id!r}: the key is not the one "
                "that it was sealed with, or the receipt is forged"
            )

    def message(self) -> str:
        """What the mac is made of: the receipt's hash as it would be without the mac."""
        envelope = self._envelope()
        del envelope["mac"]
        return hash_of(b"", envelope)

    @property
    def id(self) -> str:
        """The first 16 characters of the hash: enough to name a receipt."""
        return self.hash[:16]

    @property
    def kind(self) -> str:
        """Which act the receipt is for: "search", "many", "ingest", "chain" or "gates"."""
        return str(self.content.get("kind", ""))

    @property
    def generation(self) -> int | None:
        """The generation that was searched, or that an ingest made; None of several stores."""
        return self.content.get("generation")

    @property
    def candidate_ids(self) -> list[str]:
        """Ids of the anchors that the lattice was solved over; none in a light receipt."""
        return list(self.content.get("candidates") or ())

    @property
    def candidate_count(self) -> int:
        """How many anchors the lattice was solved over."""
        return int(self.content.get("candidate_count", len(self.candidate_ids)))

    @property
    def state_sig(self) -> str | None:
        """The signature of all that determined the answer of a search; None in other receipts."""
        return self.content.get("state_sig")

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
        return summary(self)

    def __hash__(self) -> int:
        return hash(self.hash)

    def __str__(self) -> str:
        where = "" if self.generation is None else f", generation {self.generation}"
        return f"receipt {self.id} ({self.kind}{where})"

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
        """The members but content and hash."""
        members = {
            name: getattr(self, name)
            for name in MEMBERS[self.version]
            if name not in ("content", "hash")
        }
        if self.version != 1:
            members["must_understand"] = list(self.must_understand)
        return members


def _version(value: Json) -> int:
    """The version of a receipt by what it says, the newest where it says nothing that counts."""
    version = value.get("version") if isinstance(value, dict) else None
    if type(version) is not int:
        return RECEIPT_VERSION
    if version < 1:
        raise IntegrityError(f"a receipt cannot be read: there is no version {version}")
    if version > RECEIPT_VERSION:
        raise FormatError(
            f"a receipt cannot be read: it has version {version}, this release reads up to "
            f"{RECEIPT_VERSION}: upgrade oscillink-store"
        )
    return version


def _understood(names: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in names):
        raise IntegrityError("a receipt cannot be read: must_understand has the wrong type")
    if unknown := sorted(set(names) - FEATURES):
        raise FormatError(
            f"a receipt cannot be judged without {', '.join(unknown)}, which this release does "
            "not know: upgrade oscillink-store"
        )
    return tuple(names)


def seal(
    content: Mapping[str, Any],
    *,
    writer: str,
    sequence: int,
    previous: str,
    time: str,
    label: str | None = None,
    payload: Payload = "minimal",
    seconds: float | None = None,
    key: Key | None = None,
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
    envelope: dict[str, Json] = {
        "content_hash": sha256(content_bytes).hexdigest(),
        "key_id": None if key is None else key.id,
        "label": label,
        "must_understand": [],
        "payload": payload,
        "previous": previous,
        "seconds": seconds,
        "sequence": sequence,
        "time": time,
        "version": RECEIPT_VERSION,
        "writer": writer,
    }
    envelope["mac"] = None if key is None else key.mac(hash_of(content_bytes, envelope))
    members: dict[str, Any] = {**envelope, "hash": hash_of(content_bytes, envelope)}
    line = line_of(content_bytes, members)
    members["must_understand"] = ()
    return Receipt(content=copy, **members), line
