"""One entry of a chain as its verification sees it, judged by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from oscillink_store.errors import FormatError, IntegrityError
from oscillink_store.receipts.layout import RawLine, raw_line
from oscillink_store.receipts.receipt import Receipt

if TYPE_CHECKING:
    from oscillink_store.receipts.key import Keys

__all__ = ["Entry", "entry_of"]


class Entry(NamedTuple):
    """What links an entry to its chain, and what is wrong with the entry itself, if anything."""

    writer: str
    sequence: int
    hash: str
    previous: str
    key_id: str | None
    problem: str | None = None
    fault: Literal["edited", "forged"] = "edited"


def entry_of(receipt: Receipt | bytes, keys: Keys | None = None) -> Entry:
    """Judge a receipt, or its line byte for byte, and its mac when there are keys.

    Raises IntegrityError when a line is no receipt, FormatError when it needs a newer release.
    """
    if isinstance(receipt, bytes):
        raw = raw_line(receipt)
        if raw is not None and not raw.must_understand:
            return _of_raw(raw, keys)
        return _of_receipt(Receipt.from_json(receipt), keys, receipt)
    return _of_receipt(receipt, keys, None)


def _of_raw(raw: RawLine, keys: Keys | None) -> Entry:
    problem: str | None = None
    fault: Literal["edited", "forged"] = "edited"
    if raw.content_hash != raw.actual_content_hash:
        problem = "was edited: its content does not give its content hash"
    elif raw.hash != raw.actual_hash:
        problem = "was edited: its members do not give its hash"
    elif keys:
        problem, fault = _mac_problem(raw.key_id, raw.mac, raw.message, keys), "forged"
    if problem is not None:
        problem = f"{_place(raw.hash, raw.sequence, raw.writer)} {problem}"
    return Entry(raw.writer, raw.sequence, raw.hash, raw.previous, raw.key_id, problem, fault)


def _of_receipt(receipt: Receipt, keys: Keys | None, line: bytes | None) -> Entry:
    problem: str | None = None
    fault: Literal["edited", "forged"] = "edited"
    where = _place(receipt.hash, receipt.sequence, receipt.writer)
    try:
        receipt.verify()
        if line is not None and receipt.to_bytes() != line:
            problem = f"{where} was edited: it is not in canonical form"
        elif keys and (wrong := _unsealed(receipt, keys)):
            problem, fault = f"{where} {wrong}", "forged"
    except (IntegrityError, FormatError) as error:
        problem = str(error)
    return Entry(
        receipt.writer, receipt.sequence, receipt.hash, receipt.previous, receipt.key_id,
        problem, fault,
    )  # fmt: skip


def _unsealed(receipt: Receipt, keys: Keys) -> str | None:
    message = "" if receipt.mac is None else receipt.message()
    return _mac_problem(receipt.key_id, receipt.mac, message, keys)


def _mac_problem(key_id: str | None, mac: str | None, message: str, keys: Keys) -> str | None:
    if key_id is None and mac is None:
        return None
    key = None if key_id is None else keys.get(key_id)
    if key is None:
        return f"was sealed with key {key_id!r:.80}, which is not given"
    if mac is None or not key.holds(message, mac):
        return (
            f"has a mac that is not that of key {key.id!r}: the key is a wrong one, or the entry "
            "is forged"
        )
    return None


def _place(hash_: str, sequence: int, writer: str) -> str:
    return f"receipt {hash_[:16]} (entry {sequence} of writer {writer})"
