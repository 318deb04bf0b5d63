"""Source distributions of other projects, fetched for the tests that they bring along."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parents[2] / ".pytest_cache" / "fetched"


def sdist(name: str, version: str) -> Path:
    """The unpacked source distribution of one version, fetched once."""
    home = FOLDER / f"{name}-{version}"
    if not home.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=FOLDER) as folder:
            options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", name]
            subprocess.run(
                [sys.executable, "-m", "pip", "download", *options, "-d", folder,
                 f"{name}=={version}"],
                check=True, timeout=120,
            )  # fmt: skip
            (archive,) = Path(folder).glob("*.tar.gz")
            unpacked = Path(folder) / "unpacked"
            with tarfile.open(archive) as tar:
                tar.extractall(unpacked, filter="data")
            (root,) = unpacked.iterdir()
            try:
                root.rename(home)
            except OSError:  # another process was faster
                assert home.exists()
    return home
