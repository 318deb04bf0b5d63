"""From whatever a user passes as ``stores`` to named places."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from oscillink_store.errors import FormatError, InputError, QueryError

__all__ = ["named_paths"]

_CATALOGUE_VERSION = 1


def named_paths(stores: Any) -> dict[str, str]:
    """The folders of stores by name, in the order given.

    ``stores`` are a mapping of names and paths, paths, whose last parts become the names, or the
    file of a catalogue ``{"version": 1, "stores": {name: path}}``, relative to its folder.

    Raises:
        QueryError: it is something else, or nothing.
        InputError, FormatError: the catalogue cannot be used.
    """
    if isinstance(stores, str | os.PathLike):
        return _catalogue(Path(stores))
    if isinstance(stores, Mapping):
        paths = dict(stores)
    elif isinstance(stores, Iterable):
        given = [_path(each) for each in stores]
        last = [Path(path).name for path in given]
        again = Counter(last)
        names = [name if again[name] == 1 else path for name, path in zip(last, given, strict=True)]
        if len(set(names)) < len(names):
            raise QueryError(f"stores: {Counter(names).most_common(1)[0][0]} is there twice")
        paths = dict(zip(names, given, strict=True))
    else:
        raise QueryError(
            f"stores is a {type(stores).__name__}: pass paths, a mapping of names and paths, or "
            "the file of a catalogue"
        )
    if not paths:
        raise QueryError("stores: there are none: pass one path at least")
    for name in paths:
        if not isinstance(name, str) or not name.strip():
            raise QueryError(f"stores: the name {name!r:.80} is none: use a text")
    return {name: _path(path) for name, path in paths.items()}


def _path(given: Any) -> str:
    if not isinstance(given, str | os.PathLike):
        raise QueryError(f"stores: {given!r:.80} is a {type(given).__name__}: pass a path")
    path = os.fspath(given)
    # tasks may run in other folders
    return path if "://" in path else str(Path(path).absolute())


def _catalogue(path: Path) -> dict[str, str]:
    if path.is_dir():
        raise QueryError(
            f"stores is one folder, {path}: pass a list of paths, or open it with connect()"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version, stores = value["version"], value["stores"]
        given = {name: stores[name] for name in stores}
    except OSError as error:
        raise InputError(
            f"catalogue {path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f'catalogue {path} holds no stores: write {{"version": 1, "stores": {{name: path}}}}'
        ) from error
    if version != _CATALOGUE_VERSION:
        raise FormatError(
            f"catalogue {path} has version {version!r:.20}, this release reads "
            f"{_CATALOGUE_VERSION}: upgrade oscillink-store"
        )
    return named_paths(
        {
            name: folder if "://" in str(folder) else path.absolute().parent / folder
            for name, folder in given.items()
        }
    )
