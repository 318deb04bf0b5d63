"""What the commands print with: results on standard output, all else on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "WIDTH", "bars", "complain", "flush", "note", "print_json", "show", "use_utf8", "width",
]  # fmt: skip

WIDTH = 100
"""Columns that the output takes at most, and takes where nobody says how many there are."""

_LABELS = {
    "parse": "parsing sources",
    "read": "reading",
    "embed": "embedding",
    "next": "relation next",
    "mention": "relation mention",
    "link": "relation link",
    "shared": "relation shared",
    "knn": "relation knn",
    "commit": "committing",
    "delete": "deleting",
    "migrate": "migrating",
    "backup": "backing up",
    "fold": "folding",
    "sweep": "removing files",
    "files": "checking files",
    "receipts": "checking receipts",
}
_BYTE_STAGES = frozenset({"files"})


def use_utf8() -> None:
    """Write UTF-8 whatever the locale says; what has no UTF-8 form is written escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def width() -> int:
    """Give the columns that there are for standard output, :data:`WIDTH` at most."""
    return _console(stderr=False).width


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        console.width = min(console.width, WIDTH)
    else:
        console.width = WIDTH
    return console


def show(renderable: RenderableType = "", *, style: str = "", wrap: bool = True) -> None:
    """Print on standard output; into a file without the spaces that pad a terminal's lines.

    Without ``wrap`` a line that is too long is left to the terminal, so that it can be copied.
    """
    console = _console(stderr=False)
    if console.is_terminal:
        console.print(renderable, style=style, soft_wrap=not wrap)
        return
    with console.capture() as captured:
        console.print(renderable, style=style, soft_wrap=not wrap)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def note(line: str) -> None:
    """Tell the person something beside the result."""
    _console(stderr=True).print(f"note: {line}", soft_wrap=True, style="yellow")


def complain(message: str) -> None:
    """Print an error as one line."""
    line = f"error: {' '.join(message.split())}"
    with contextlib.suppress(OSError):
        _console(stderr=True).print(line, soft_wrap=True, style="bold red")


def flush() -> None:
    """Bring everything out now: a reader that has gone away must not be noticed at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def print_json(document: object) -> None:
    """Print one JSON document; what JSON cannot say (NaN, infinity) becomes null."""
    json.dump(_plain(document), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _plain(float(value))
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return str(value)


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Progress bars on standard error, one per stage; None where nobody is watching."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    progress.stop_task(earlier)
                label = f"{_LABELS.get(stage, stage):<18}"
                tasks[stage] = progress.add_task(label, amount="")
            progress.update(
                tasks[stage], completed=done, total=total, amount=_amount(stage, done, total)
            )

        yield report


def _amount(stage: str, done: int, total: int | None) -> str:
    if stage in _BYTE_STAGES:
        done, total = done >> 20, None if total is None else total >> 20
        return f"{done:,} MiB" if total is None else f"{done:,} of {total:,} MiB"
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,} of {total:,}"
