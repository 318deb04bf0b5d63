"""Keys of the ledger: HMAC-SHA256 over the hash of an entry, with a name for the key."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from oscillink_store.errors import InputError

if TYPE_CHECKING:
    import os

__all__ = ["Key", "Keys", "keys_by_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LEAST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Key:
    """A secret that seals receipts, and the public name that they carry for it.

    ``secret`` has at least 16 bytes. Whoever has it can seal and check alike (RFC 2104), so
    keep it away from the store's folder.

    Raises InputError when the name or the secret cannot be used.
    """

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what would not protect anything."""
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise InputError(
                f"key id is {self.id!r:.80}: use up to 64 letters, digits and . _ -, a letter or "
                "digit first",
                field="id",
            )
        if not isinstance(self.secret, bytes) or len(self.secret) < _LEAST_BYTES:
            raise InputError(
                f"key {self.id!r}: its secret must be at least {_LEAST_BYTES} bytes: make one "
                "with Key.generate(id)",
                field="secret",
            )

    @classmethod
    def generate(cls, id: str) -> Key:  # noqa: A002 - the field's name
        """A new random key of 32 bytes."""
        return cls(id=id, secret=secrets.token_bytes(32))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Key:
        """Read a key from a JSON file ``{"key_id": "...", "secret": "<hexadecimal>"}``.

        Raises InputError when there is none.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(id=value["key_id"], secret=bytes.fromhex(value["secret"]))
        except OSError as error:
            raise InputError(
                f"key file {path} cannot be read ({error.strerror or error}): check the path"
            ) from error
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f'key file {path} holds no key: write {{"key_id": "...", "secret": "<hex>"}}, as '
                "Key.generate(id).to_file(path) does"
            ) from error

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file that only its owner may read.

        Raises FileExistsError when the file is there.
        """
        target = Path(path)
        target.touch(mode=0o600, exist_ok=False)
        text = json.dumps({"key_id": self.id, "secret": self.secret.hex()})
        target.write_text(text + "\n", encoding="utf-8")

    def mac(self, message: str) -> str:
        """HMAC-SHA256 of a text's UTF-8 bytes: 64 hexadecimal characters."""
        return hmac.digest(self.secret, message.encode(), "sha256").hex()

    def holds(self, message: str, mac: str) -> bool:
        """Whether ``mac`` is that of the message, in constant time."""
        return hmac.compare_digest(self.mac(message), mac)


Keys: TypeAlias = Mapping[str, Key]
"""Keys by their ids."""


def keys_by_id(*keys: Key | str | os.PathLike[str]) -> dict[str, Key]:
    """Keys, or the files that hold them, by their ids.

    Raises InputError when a file holds no key, or two keys have one id.
    """
    found: dict[str, Key] = {}
    for given in keys:
        key = given if isinstance(given, Key) else Key.from_file(given)
        if found.setdefault(key.id, key) != key:
            raise InputError(f"key id {key.id!r} is given twice, with two secrets: name each once")
    return found
