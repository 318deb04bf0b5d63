"""The signature of all that determined the answer of a search.

``state_sig`` is the SHA-256 of the canonical JSON of the members :data:`SIGNED` of a search's
content. Of these ``state`` holds digests of what the receipt does not spell out: the segments
of the generation by name and checksum, the parameters, the candidates with the hashes of their
content, the edges of the lattice between them, and their trust gates. So a signature can be
checked against the receipt alone, each digest against the store, and equal stores sign alike.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from oscillink_store.receipts.canonical import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

__all__ = ["SIGNED", "arrays_digest", "candidates_digest", "state_signature"]

SIGNED = ("generation", "k", "kernel_version", "only", "query", "state", "where")


def state_signature(content: Mapping[str, Any]) -> str:
    """The signature that a search's content should have: 64 hexadecimal characters."""
    return digest({name: content.get(name) for name in SIGNED})


def candidates_digest(ids: Sequence[str], content_hashes: Iterable[bytes]) -> str:
    """SHA-256 of the canonical JSON [id, content hash, id, content hash, ...]."""
    flat: list[str] = []
    for name, value in zip(ids, content_hashes, strict=True):
        flat += (name, value.hex())
    return digest(flat)


def arrays_digest(*arrays: npt.NDArray[Any]) -> str:
    """SHA-256 of arrays, each as its length (8 bytes) and its numbers, little-endian."""
    hashed = sha256()
    for array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        hashed.update(len(little).to_bytes(8, "little"))
        hashed.update(little.tobytes())
    return hashed.hexdigest()
