"""Rows that can be split over stores, and executors that watch, fail or wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

import oscillink_store as osc

FIELDS = osc.Fields(facets=["speaker"])
# so that the lattice has edges within sequences alone
APART = osc.Parameters(knn_weight=0.0, shared_weight=0.0, mention_weight=0.0)
SPEAKERS = ("Ann", "Bob", "Ann Lee", "Carla", None)
TITLES = ("Amber", "Amber Road", "Blue Mill", "Amber Road Inn", None)


def make_rows(sequences: int, seed: int = 0) -> list[dict[str, Any]]:
    """Short sequences of unlike rows; of each the text has a word of its own, ``mark<i>``."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for sequence in range(sequences):
        first = len(rows)
        for position in range(int(rng.integers(1, 7))):
            i = len(rows)
            words = " ".join(rng.choice([f"word{j}" for j in range(30)], rng.integers(2, 14)))
            rows.append(
                {
                    "id": f"r{i}", "text": f"{words} mark{i}",
                    # some of them common to so many anchors that they name none
                    "title": TITLES[rng.integers(0, 5)] if i % 3 else f"Topic {i % 11}",
                    "sequence": f"s{sequence}", "position": position,
                    "links": [f"r{first}"] if position == 3 else [],
                    "gate": float(rng.choice([1.0, 1.0, 0.5, 0.9])),
                    "speaker": SPEAKERS[rng.integers(0, 5)], "lang": "en" if i % 2 else "de",
                    "payload": {"n": i}, "vector": rng.normal(size=24).astype(np.float32),
                }
            )  # fmt: skip
    return rows


def fill(path: Path, rows: Sequence[dict[str, Any]], parameters: osc.Parameters = APART) -> Path:
    """A store of the rows, in two batches, of which some more rows have been deleted again."""
    extra = [{**row, "id": f"gone-{row['id']}", "links": []} for row in rows[::7]]
    with osc.connect(path, fields=FIELDS, parameters=parameters, durability="off") as store:
        half = len(rows) // 2
        for batch in ([*rows[:half], *extra], rows[half:]):
            if batch:
                store.ingest(batch)
        if extra:
            store.delete([row["id"] for row in extra])
    return path


class Watched(Executor):
    """Threads, in which what ``upon`` does comes before each task, and ``seen`` keeps answers."""

    def __init__(self, upon: Callable[[str, str], None] | None = None) -> None:
        self._threads = ThreadPoolExecutor(12)
        self._upon = upon
        self.seen: list[tuple[str, str, Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def run() -> Any:
            task, folder = fn.__name__, Path(args[0].path).name
            if self._upon is not None:
                self._upon(task, folder)
            answer = fn(*args, **kwargs)
            self.seen.append((task, folder, answer))
            return answer

        return self._threads.submit(run)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


def failing(task: str, *folders: str) -> Callable[[str, str], None]:
    """What makes a task of some stores fail."""

    def upon(name: str, folder: str) -> None:
        if name == task and folder in folders:
            raise OSError(f"the disk under {folder} is gone")

    return upon


def hanging(task: str, folder: str, until: Event) -> Callable[[str, str], None]:
    """What makes a task of a store wait."""

    def upon(name: str, where: str) -> None:
        if name == task and where == folder:
            until.wait(30)

    return upon


def seconds_of(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long something takes, and what it gives."""
    started = time.monotonic()
    result = act()
    return time.monotonic() - started, result
