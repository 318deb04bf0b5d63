"""What the benchmarks share: clocks, memory, child processes, recall, and the look of plots."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    track,
)

OURS, THEIRS, MUTED, WARM = "#2d7d46", "#6c8ebf", "#9aa5b1", "#cc8478"

Report = Callable[[str, int, int | None], None]

_TELL_EVERY = 0.2
_SAMPLE_EVERY = 0.1

FIRST_SEARCH = """
import json, sys, time
started = time.perf_counter()
import oscillink_store as osc
import numpy as np
store = osc.connect(sys.argv[1])
vector = np.load(sys.argv[2])
result = store.search("open a file for reading", vector=vector, k=10)
seconds = time.perf_counter() - started
for _ in range(200):
    store.search("open a file for reading", vector=vector, k=10)
memory = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("RssAnon", "VmHWM", "RssFile"):
        memory[name] = int(value.split()[0]) / 1024
store.close()
print(json.dumps({"seconds": seconds, "memory": memory}))
"""


# time


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def interleaved(
    calls: Mapping[str, Callable[[int], object]], count: int, console: Console | None = None
) -> dict[str, list[float]]:
    """Milliseconds of every call for i in range(count), in turn, after three of each to warm up."""
    for call in calls.values():
        for warm in range(min(3, count)):
            call(warm)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    steps = range(count)
    shown = track(steps, "timing", console=console, transient=True) if console else steps
    for i in shown:
        for name, call in calls.items():
            taken[name].append(milliseconds(lambda call=call, i=i: call(i)))
    return taken


def medians(taken: Mapping[str, Sequence[float]], digits: int = 2) -> dict[str, float]:
    return {name: round(statistics.median(values), digits) for name, values in taken.items()}


def first_search(store: Path, psi: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Import, open and search in new processes, five times."""
    query = store.with_name("query.npy")
    np.save(query, psi)
    command = [sys.executable, "-c", FIRST_SEARCH, store, query]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for _ in range(5)
    ]
    seconds = [run["seconds"] for run in runs]
    return {
        "import, open, first search: median seconds": round(statistics.median(seconds), 3),
        "least seconds": round(min(seconds), 3),
        "anonymous memory MiB after 200 searches": round(runs[-1]["memory"]["RssAnon"]),
    }


# recall


def exact_top(
    vectors: npt.NDArray[np.float32], psi: npt.NDArray[np.float32], k: int = 10
) -> list[set[int]]:
    similar = psi @ vectors.T
    return [set(np.argpartition(-row, k)[:k].tolist()) for row in similar]


def recall(found: Sequence[set[int]], truth: Sequence[set[int]]) -> float:
    return statistics.fmean(len(a & b) / len(b) for a, b in zip(found, truth, strict=True))


# disk


def clone(store: Path, target: Path) -> Path:
    """A second store with the same content.

    Large files are shared by hard links: no file of a store changes once it is written, but
    for the receipts' own.
    """

    def copy(source: str, destination: str) -> object:
        if Path(source).suffix != ".wal" and Path(source).stat().st_size > 1 << 20:
            return os.link(source, destination)
        return shutil.copy2(source, destination)

    return Path(shutil.copytree(store, target, copy_function=copy))


def on_disk(folder: Path) -> dict[str, float]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "MiB": round(sum(sizes) / 2**20, 1)}


# processes


def memory_mib(kind: str, process: int | str = "self") -> float:
    """A figure of /proc/…/status in MiB: ``RssAnon``, or ``VmHWM`` for the peak of all pages."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == kind:
            return int(value.split()[0]) / 1024
    raise ProcessLookupError(f"process {process} has ended")


@dataclass(kw_only=True)
class Run:
    """What a function gave in a process of its own, and that process's memory."""

    result: Any = None
    seconds: float = 0.0
    peak_mib: float = 0.0
    """The peak of all pages, those of mapped files among them."""
    anonymous: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start and MiB of memory that is not a file's."""

    @property
    def anonymous_peak_mib(self) -> float:
        return max((mib for _, mib in self.anonymous), default=0.0)

    def memory(self) -> dict[str, float]:
        return {
            "peak of all pages MiB": round(self.peak_mib),
            "peak of anonymous memory MiB": round(self.anonymous_peak_mib),
        }


def in_process(work: Callable[..., Any], *arguments: Any, title: str, console: Console) -> Run:
    """Run ``work(*arguments, report)`` in a new process, and watch its memory.

    ``report(stage, done, total or None)`` moves a progress bar here.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, work, arguments))
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    run = Run()
    started = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as bars:
        process.start()
        theirs.close()
        try:
            _watch(process.pid or 0, mine, bars, run, title, started)
        except EOFError:
            process.join()
            raise RuntimeError(f"{title}: the process ended with {process.exitcode}") from None
        finally:
            process.join()
    run.seconds = time.perf_counter() - started
    return run


def _watch(
    process: int, connection: Connection, bars: Progress, run: Run, title: str, started: float
) -> None:
    task, shown = bars.add_task(title, total=None), ""
    sampled = 0.0
    while True:
        if connection.poll(_SAMPLE_EVERY):
            kind, *values = connection.recv()
            if kind == "done":
                run.result, run.peak_mib = values
                return
            if kind == "failed":
                raise RuntimeError(f"{title}:\n{values[0]}")
            stage, done, total = values
            if stage != shown:
                task, shown = bars.add_task(f"{title}: {stage}", total=total), stage
            bars.update(task, completed=done, total=total)
        seconds = time.perf_counter() - started
        if seconds - sampled >= _SAMPLE_EVERY:
            sampled = seconds
            try:
                run.anonymous.append((round(seconds, 2), memory_mib("RssAnon", process)))
            except OSError:  # it has ended; what it sent is still to be read
                continue


def _child(connection: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    last = ("", 0.0)

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.perf_counter()
        if stage != last[0] or now - last[1] > _TELL_EVERY or done == total:
            last = stage, now
            connection.send(("stage", stage, done, total))

    try:
        result = work(*arguments, report)
        connection.send(("done", result, memory_mib("VmHWM")))
    except BaseException:  # noqa: BLE001 - told where it was started
        connection.send(("failed", traceback.format_exc()))


# plots


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 5)) -> tuple[Any, Any]:
    """A figure and its axes, drawn without a display."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axis in np.atleast_1d(axes).flat:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def save(drawn: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=120)
    plt.close(drawn)
