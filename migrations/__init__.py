"""Migrations between on-disk format versions, one frozen module each."""

from __future__ import annotations

from oscillink_store.storage.migration import Migration

from . import m0003_receipts

__all__ = ["MIGRATIONS"]

MIGRATIONS: tuple[Migration, ...] = (m0003_receipts,)
"""In the order in which they follow each other."""
