"""Migrations between on-disk format versions, one frozen module each.

A module says what it does to a generation as a :class:`Change`, which the one commit path
makes a generation of. What it needs of the older format it carries itself: it must go on doing
the same when the rest of the package has moved on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from oscillink_store.migrations import m0003_receipts
from oscillink_store.storage.commit import Change
from oscillink_store.storage.manifest import Manifest

__all__ = ["MIGRATIONS", "Migration"]


class Migration(Protocol):
    """What every module here has."""

    FROM: int
    TO: int
    DESCRIPTION: str
    """What changes, as one line for a person."""

    def change(self, manifest: Manifest, report: Callable[[int], None]) -> Change:
        """What becomes of a generation; ``report`` is told of rows as they are written."""


MIGRATIONS: tuple[Migration, ...] = (m0003_receipts,)
"""In the order in which they follow each other."""
