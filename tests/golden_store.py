"""Golden stores: one of every released format, as the release that wrote it left it."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
FORMATS = tuple(sorted(int(path.name[7:].split(".")[0]) for path in GOLDEN.glob("format-*.tar.xz")))


def unpack(version: int, folder: Path) -> Path:
    """A copy of the golden store of a format; where it lies."""
    with tarfile.open(GOLDEN / f"format-{version}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder / f"format-{version}.osc"


def digests(root: Path) -> dict[str, str]:
    """The checksum of every file, but for those of the locks."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("LOCK")
    }
