"""The store of a vector store, and what becomes of it when that is gone."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

import oscillink_store as osc

__all__ = ["opened_for"]


def opened_for(owner: object, path: str | os.PathLike[str] | osc.Store | None) -> osc.Store:
    """Open a store that is closed together with its owner; one that was open stays as it is.

    Args:
        owner: Whoever uses the store.
        path: The store's folder, an open store, or None for a temporary folder, which is
            removed when the owner is gone.
    """
    if isinstance(path, osc.Store):
        return path
    store = osc.connect(tempfile.mkdtemp(prefix="oscillink-") if path is None else path)
    weakref.finalize(owner, _release, store, remove=path is None)
    return store


def _release(store: osc.Store, *, remove: bool) -> None:
    store.close()
    if remove:
        shutil.rmtree(store.path, ignore_errors=True)
