"""Opening a store for a ``with`` block, or for an ``async with`` block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Opening"]

Sync = TypeVar("Sync", bound=AbstractContextManager[object])
Async = TypeVar("Async", bound=AbstractAsyncContextManager[object])


class Opening(Generic[Sync, Async]):
    """A store to be opened: the kind of block says which, and closes it at its end."""

    def __init__(self, make: Callable[[], Sync], amake: Callable[[], Async]) -> None:
        self._make = make
        self._amake = amake
        self._sync: Sync | None = None
        self._async: Async | None = None

    def __enter__(self) -> Sync:
        self._sync = self._make()
        self._sync.__enter__()
        return self._sync

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sync is not None:
            self._sync.__exit__(kind, error, trace)

    async def __aenter__(self) -> Async:
        self._async = await asyncio.to_thread(self._amake)
        await self._async.__aenter__()
        return self._async

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._async is not None:
            await self._async.__aexit__(kind, error, trace)
