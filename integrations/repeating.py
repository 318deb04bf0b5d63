"""Repeating what another process was quicker at."""

from __future__ import annotations

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from oscillink_store.errors import ConflictError

__all__ = ["repeated"]

repeated = retry(
    retry=retry_if_exception_type(ConflictError), stop=stop_after_attempt(100), reraise=True
)
"""For functions that read records, change them and write them on the condition that they still are
as they were read: they do so again when they are not.

At once, as whoever was quicker is likely to have nothing to write now; and not for ever.
"""
