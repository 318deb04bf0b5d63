"""Opening a store for a command: only ``ingest`` and ``demo`` may make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oscillink_store.errors import NotAStoreError, ReadOnlyError

if TYPE_CHECKING:
    from pathlib import Path

    from oscillink_store.engine.store import Store
    from oscillink_store.receipts.key import Key
    from oscillink_store.receipts.receipt import Payload

__all__ = ["open_existing", "require_store", "sealing_key", "use_key"]


def require_store(path: Path) -> None:
    """Raise NotAStoreError where there is no store."""
    from oscillink_store.storage.manifest import is_store

    if not is_store(path):
        raise NotAStoreError(
            f"{path}: there is no store here: check the path, or fill a new one with "
            f"oscillink-store ingest {path} SOURCE"
        )


class _Given:
    """What the global options say about this run."""

    key: str | None = None


def use_key(file: str | None) -> None:
    """Take the file of the key that seals receipts from now on."""
    _Given.key = file


def sealing_key() -> Key | None:
    """The key of this run.

    Raises:
        InputError: its file holds none.
    """
    from oscillink_store.receipts.key import Key

    return None if _Given.key is None else Key.from_file(_Given.key)


def open_existing(
    path: Path,
    *,
    read_only: bool = False,
    embedder: str | None = None,
    payload: Payload = "extended",
) -> Store:
    """Open a store that is there; nothing is created where there is none.

    Raises:
        NotAStoreError: there is no store at ``path``.
        ReadOnlyError: the folder cannot be written and ``read_only`` was not asked for.

    """
    from oscillink_store.engine.store import connect

    require_store(path)
    try:
        return connect(
            path, embedder=embedder, read_only=read_only, payload=payload, key=sealing_key()
        )
    except ReadOnlyError as error:
        raise ReadOnlyError(
            f"{path}: the folder cannot be written, so no receipt could be recorded: "
            "add --read-only, or change its permissions"
        ) from error
