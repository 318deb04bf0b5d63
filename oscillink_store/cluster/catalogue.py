"""The catalogue: one JSON file that names the stores of a cluster and the rule that fills them.

    path/
      catalogue.json          what is here, with a checksum; replaced as a whole
      LOCK                    held by whoever fills or changes the cluster
      summaries/<sha>.arrow   the shards' summary vectors, and the graph between them
      shard-0000.osc/ ...     the stores, unless the catalogue names others

Stores are named by paths relative to the folder, absolute paths, or URIs of object stores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from oscillink_store.cluster.placement import HASH
from oscillink_store.errors import (
    DiskError,
    FormatError,
    IntegrityError,
    MissingError,
    NotAStoreError,
    OscillinkError,
)
from oscillink_store.model import Fields, Parameters
from oscillink_store.storage.files import disk_errors, replace_durably, sync_directory

__all__ = ["CATALOGUE_NAME", "CATALOGUE_VERSION", "Catalogue", "Placement"]

CATALOGUE_NAME = "catalogue.json"
CATALOGUE_VERSION = 1
_SUMMARIES = "summaries"
_REMEDY = "restore the catalogue from a backup"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Rows go to one of the first ``shards`` stores by their column ``by``.

    ``target`` is the number of shards that an unfinished resize is on its way to.
    """

    by: str
    shards: int
    target: int | None = None
    hash: str = HASH


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What a cluster consists of.

    ``epoch`` goes up whenever rows that are in two places are about to leave one of them, so that
    a search during which it stayed the same has seen every row. A catalogue without a placement
    names stores that are filled by others: they are searched and verified.
    """

    stores: Mapping[str, str]
    placement: Placement | None
    fields: Fields = field(default_factory=Fields)
    parameters: Parameters = field(default_factory=Parameters)
    embedder: str | None = None
    epoch: int = 0
    summaries: str | None = None
    """The hex SHA-256 of the file of summaries."""

    def to_bytes(self) -> bytes:
        """The catalogue as JSON with a checksum."""
        document = {"version": CATALOGUE_VERSION, **asdict(self)}
        return (json.dumps({**document, "checksum": _checksum(document)}, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> Catalogue:
        """Parse a catalogue.

        Raises:
            FormatError: it was written by a newer release, or rows are placed by an unknown rule.
            IntegrityError: it is not what was written.
        """
        try:
            document = json.loads(content)
            checksum = document.pop("checksum", None)
            version = document["version"]
            if not isinstance(version, int) or version > CATALOGUE_VERSION:
                raise FormatError(
                    f"{path}: the catalogue has version {version}, this release reads up to "
                    f"{CATALOGUE_VERSION}: upgrade oscillink-store"
                )
            if checksum != _checksum(document):
                raise IntegrityError(
                    f"{path} is not what was written (checksum differs): {_REMEDY}"
                )
            del document["version"]
            placement = document["placement"]
            if placement is not None and placement["hash"] != HASH:
                raise FormatError(
                    f"{path}: rows are placed by {placement['hash']!r}, which this release does "
                    f"not know (it has {HASH!r}): upgrade oscillink-store"
                )
            found = {
                **document,
                "placement": None if placement is None else Placement(**placement),
                "fields": Fields(**document["fields"]),
                "parameters": Parameters(**document["parameters"]),
            }
            return cls(**found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, OscillinkError):
                raise
            raise IntegrityError(f"{path} is no readable catalogue: {_REMEDY}") from error

    @classmethod
    def read(cls, root: Path) -> Catalogue:
        """The catalogue of a cluster's folder.

        Raises:
            NotAStoreError: there is none.
            FormatError, IntegrityError: as for :meth:`from_bytes`.
            DiskError: it cannot be read.
        """
        path = root / CATALOGUE_NAME
        try:
            return cls.from_bytes(path.read_bytes(), path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotAStoreError(
                f"{root} is no cluster (it has no {CATALOGUE_NAME}): check the path, or make one "
                "with create_cluster"
            ) from error
        except OSError as error:
            raise DiskError(
                f"{path} cannot be read, {error.strerror or error}: check its permissions"
            ) from error

    def write(self, root: Path) -> None:
        """Put the catalogue in the place of the one before, durably; the lock must be held."""
        with disk_errors(root, "writing the catalogue"):
            replace_durably(root / CATALOGUE_NAME, self.to_bytes())

    def with_summaries(self, root: Path, content: bytes) -> Catalogue:
        """Write a file of summaries, and give the catalogue that names it.

        What the catalogue named before stays until :meth:`sweep`.
        """
        checksum = hashlib.sha256(content).hexdigest()
        folder = root / _SUMMARIES
        with disk_errors(root, "writing the summaries"):
            folder.mkdir(exist_ok=True)
            replace_durably(folder / f"{checksum}.arrow", content)
            sync_directory(root)
        return replace(self, summaries=checksum)

    def summary_bytes(self, root: Path) -> bytes | None:
        """The file of summaries; None before there is one.

        Raises:
            IntegrityError: it is not what was written.
        """
        if self.summaries is None:
            return None
        path = root / _SUMMARIES / f"{self.summaries}.arrow"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read: run refresh() on the cluster") from error
        if hashlib.sha256(content).hexdigest() != self.summaries:
            raise IntegrityError(f"{path} is not what was written: run refresh() on the cluster")
        return content

    def sweep(self, root: Path) -> None:
        """Remove files of summaries that the catalogue does not name any more."""
        for path in (root / _SUMMARIES).glob("*"):
            if path.name != f"{self.summaries}.arrow":
                path.unlink(missing_ok=True)

    def place(self, root: Path, name: str) -> str:
        """Where a store is: a path, or a URI as it stands.

        Raises:
            MissingError: there is no store of that name.
        """
        if name not in self.stores:
            raise MissingError(f"store {name!r} is not in {root}: it has {sorted(self.stores)}")
        given = self.stores[name]
        return given if "://" in given else str(root / given)


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
