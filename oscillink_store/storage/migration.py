"""What a migration between two formats is; the migrations themselves lie in ``migrations``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from oscillink_store.storage.commit import Change
from oscillink_store.storage.manifest import Manifest

__all__ = ["Migration"]


class Migration(Protocol):
    """A module that says what a generation of one format becomes in the next.

    What it needs of the older format it carries itself: it must go on doing the same when the
    rest of the package has moved on.
    """

    FROM: int
    TO: int
    DESCRIPTION: str
    """What changes, as one line for a person."""

    def change(self, manifest: Manifest, report: Callable[[int], None]) -> Change:
        """What becomes of a generation; ``report`` is told of rows as they are written."""
