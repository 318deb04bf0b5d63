"""A program that writes anchors and records together until it is killed.

Step n brings the anchors ``n-0``, ``n-1`` and so on, with a record of each, and takes those of
step n − 3 away. Every third step brings records alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kill_writer import Countdown

import oscillink_store as osc

KEPT = 3


def open_store(path: Path) -> osc.Store:
    return osc.connect(path, embedder="hash:16")


def ids(step: int) -> list[str]:
    return [f"{step}-{number}" for number in range(1 + step % 4)] if step > 0 else []


def perform(store: osc.Store, step: int) -> None:
    rows: list[dict[str, Any]] = [{"id": name, "text": f"Blue House {name}"} for name in ids(step)]
    store.write(
        rows if step % 3 else None,
        delete=ids(step - KEPT),
        put=[osc.Record(("step",), name, {"step": step}) for name in ids(step)],
        drop=[(("step",), name) for name in ids(step - KEPT)],
    )
    if step % 11 == 0:
        store.maintain()


def main() -> None:
    root, countdown = sys.argv[1:]
    with open_store(Path(root)) as store:
        steps = [record.value["step"] for record in store.records(limit=1)]
        step = steps[0] if steps else 0
        step += 1
        perform(store, step)  # kernels are loaded before the kill is due
        print(f"ready\n{step}", flush=True)
        if int(countdown):
            Countdown(Path(root).resolve(), int(countdown))
        while True:
            step += 1
            perform(store, step)
            print(step, flush=True)


if __name__ == "__main__":
    main()
