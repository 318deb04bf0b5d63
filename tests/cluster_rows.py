"""Rows of several tenants for the tests of clusters, and an embedder that ends its process."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kill_writer import Countdown

DIMENSION = 8
WORDS = ("Blue House", "Anna Lund", "Marie Curie", "the harbour", "a painter", "was built by")


def tenant_rows(count: int, *, tenants: int = 12, version: int = 0) -> list[dict[str, Any]]:
    """Rows of each tenant in turn, in sequences of their own, without vectors."""
    made = []
    for number in range(count):
        chance = random.Random(f"{number} {version}")
        tenant = number % tenants
        made.append(
            {
                "id": f"r{number}",
                "title": f"Note {number}",
                "text": f"{' '.join(chance.choices(WORDS, k=4))} of note {number}.",
                "sequence": f"t{tenant}",
                "position": float(number),
                "tenant": f"tenant {tenant}",
                "year": 2000 + number % 25,
            }
        )
    return made


def with_vectors(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with a vector each, that depends on the id alone."""
    return [{**row, "vector": vector_of(row["id"]).tolist()} for row in rows]


def vector_of(text: str) -> npt.NDArray[np.float32]:
    seed = int.from_bytes(text.encode(), "little") % 2**63
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


class KillingEmbedder:
    """Embeds texts; the first process to do so in a folder is killed some file operations later.

    ``operations`` is how many of them in the cluster's folder it still comes to; with 0 it is
    killed at once. With ``always`` every process is.
    """

    name = "killing"
    dimension = DIMENSION

    def __init__(self, folder: Path, operations: int = 0, *, always: bool = False) -> None:
        self.folder, self.operations, self.always = folder, operations, always

    @property
    def marker(self) -> Path:
        return self.folder / "killed"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        try:
            self.marker.open("x").close()
            doomed = True
        except FileExistsError:
            doomed = self.always
        if doomed and self.operations:
            Countdown(self.folder.resolve() / "cluster", self.operations)
        elif doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.stack([vector_of(text) for text in texts])


def hang(store: Path) -> Path:
    """Make whoever looks at a store wait for ever, as on a disk that does not answer."""
    current = store / "CURRENT"
    current.rename(current.with_suffix(".kept"))
    os.mkfifo(current)
    return current


def wake(current: Path) -> None:
    """Let the store be as it was, for those who look now."""
    current.with_suffix(".kept").replace(current)
