"""The two layouts of a receipt's line, and the check of a line byte for byte.

A line is the canonical JSON (RFC 8785) of one object. Version 2, which is written::

    content          what was done and found; see oscillink_store.receipts.content
    content_hash     SHA-256 of the canonical JSON of content
    hash             SHA-256 of the canonical JSON of all members but content and hash
    key_id           the name of the key that mac was made with, or null
    label            the caller's own note, or null
    mac              HMAC-SHA256 of what hash would be without mac (64 characters), or null
    must_understand  features without which the receipt cannot be judged
    payload          "extended": content tells the question; "minimal": its digests alone
    previous         hash of the writer's entry before this one; GENESIS for its first
    seconds          wall seconds that the act took, or null
    sequence         1, 2, 3, ... per writer
    time             ISO 8601, UTC, microseconds
    version          2
    writer           id of the process's chain

Since ``hash`` binds the content by its hash, a chain can be checked without any content.
Version 1, which is read, has neither key_id, mac, must_understand, payload nor seconds, and its
hash goes over everything but itself.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from oscillink_store.receipts.canonical import Json, canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FEATURES",
    "GENESIS",
    "MEMBERS",
    "RECEIPT_VERSION",
    "RawLine",
    "hash_of",
    "line_of",
    "raw_line",
]

GENESIS = "0" * 64
"""``previous`` of the first entry of every chain."""

RECEIPT_VERSION = 2

FEATURES: frozenset[str] = frozenset()
"""What ``must_understand`` may name; a receipt that names anything else is refused."""

_NULL = type(None)
_VERSION_1: dict[str, tuple[type, ...]] = {
    "content": (dict,),
    "content_hash": (str,),
    "hash": (str,),
    "label": (str, _NULL),
    "previous": (str,),
    "sequence": (int,),
    "time": (str,),
    "version": (int,),
    "writer": (str,),
}
MEMBERS: dict[int, dict[str, tuple[type, ...]]] = {
    1: _VERSION_1,
    2: {
        **_VERSION_1,
        "key_id": (str, _NULL),
        "mac": (str, _NULL),
        "must_understand": (list,),
        "payload": (str,),
        "seconds": (int, float, _NULL),
    },
}
"""The members of each version, and the types of their values."""

_START = b'{"content":'
_AFTER = b',"content_hash":"'
_HEX, _TEXT = rb"[0-9a-f]{64}", rb'"(?:[^"\\\x00-\x1f]|\\.)*"'
_ENVELOPE = re.compile(
    rb'(?P<a>"content_hash":"(?P<content_hash>' + _HEX + rb')",)"hash":"(?P<hash>' + _HEX + rb')",'
    rb'(?P<b>"key_id":(?:null|"(?P<key_id>[^"\\]+)"),"label":(?:null|' + _TEXT + rb"),)"
    rb'(?P<m>"mac":(?:null|"(?P<mac>' + _HEX + rb')"),)'
    rb'(?P<c>"must_understand":\[(?P<must>(?:' + _TEXT + rb",?)*)\],"
    rb'"payload":"(?:minimal|extended)","previous":"(?P<previous>' + _HEX + rb')",'
    rb'"seconds":(?:null|[0-9.e+-]+),"sequence":(?P<sequence>[1-9][0-9]{0,15}),'
    rb'"time":' + _TEXT + rb',"version":2,"writer":"(?P<writer>[^"\\]+)"\})'
)


class RawLine(NamedTuple):
    """What the chain needs of a line of version 2, and what its bytes give.

    ``content`` are the bytes of the content; ``actual_content_hash`` and ``actual_hash`` what
    the hashes should be, and ``message`` what the mac should be of.
    """

    content: bytes
    content_hash: str
    hash: str
    previous: str
    sequence: int
    writer: str
    key_id: str | None
    mac: str | None
    must_understand: bytes
    actual_content_hash: str
    actual_hash: str
    message: str


def raw_line(line: bytes) -> RawLine | None:
    """Take a line of version 2 apart without parsing its content; None when it is none.

    Whatever byte of the line differs from what was written, either this is None or one of
    the hashes does not fit.
    """
    # A quote within a string is escaped, so behind the content these bytes stand only once.
    place = line.rfind(_AFTER)
    if place < 0 or not line.startswith(_START):
        return None
    found = _ENVELOPE.fullmatch(line, place + 1)
    if found is None:
        return None
    content = line[len(_START) : place]
    key_id, mac = found["key_id"], found["mac"]
    before, behind = b"{" + found["a"] + found["b"], found["c"]
    return RawLine(
        content=content,
        content_hash=found["content_hash"].decode(),
        hash=found["hash"].decode(),
        previous=found["previous"].decode(),
        sequence=int(found["sequence"]),
        writer=found["writer"].decode("utf-8", "replace"),
        key_id=None if key_id is None else key_id.decode("utf-8", "replace"),
        mac=None if mac is None else mac.decode(),
        must_understand=found["must"],
        actual_content_hash=sha256(content).hexdigest(),
        actual_hash=sha256(before + found["m"] + behind).hexdigest(),
        message="" if mac is None else sha256(before + behind).hexdigest(),
    )


def hash_of(content: bytes, envelope: Mapping[str, Json]) -> str:
    """The hash of an entry; ``envelope`` are its members but content and hash.

    Without its mac, of an entry of version 2, it is what the mac is made of.
    """
    whole = line_of(content, envelope) if envelope["version"] == 1 else canonical(dict(envelope))
    return sha256(whole).hexdigest()


def line_of(content: bytes, envelope: Mapping[str, Any]) -> bytes:
    """The line of canonical content and the other members, without a line break."""
    # "content" sorts before every other member, so the parts only need joining
    return _START + content + b"," + canonical(dict(envelope))[1:]
