"""A program that writes to a store until it is killed, and tells a journal what it did.

Every step stands in the journal twice: what is about to be done, and that the call returned,
each on the disk before the program goes on. Whoever reads the journal knows what the store
must hold, but for the step that was under way.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from state_model import PARAMETERS, SHARDED, open_store

import oscillink_store as osc

Batches = dict[int, int]
"""The version of every batch that is there."""

WORDS = ("Blue House", "the Grand Hotel", "Anna Lund", "Marie Curie", "a painter", "was built by")
MOST = 24


@dataclass
class State:
    """What the journal says: the batches, those of every tag, gates, and the step under way."""

    batches: Batches = field(default_factory=dict)
    tags: dict[str, Batches] = field(default_factory=dict)
    gates: dict[int, float] = field(default_factory=dict)
    steps: int = 0
    pending: dict[str, Any] | None = None

    def apply(self, step: dict[str, Any]) -> None:
        match step["do"]:
            case "ingest":
                for batch in step["batches"]:
                    self.batches[batch] = step["number"]
                    self.gates.setdefault(batch, 1.0)
            case "delete":
                for batch in step["batches"]:
                    del self.batches[batch], self.gates[batch]
            case "gate":
                self.gates |= dict.fromkeys(step["batches"], step["gate"])
            case "tag":
                self.tags[step["tag"]] = dict(self.batches)
            case "untag":
                del self.tags[step["tag"]]


def read_journal(path: Path) -> State:
    state = State()
    for line in path.read_text().splitlines() if path.exists() else ():
        step = json.loads(line)
        if step["state"] == "begun":
            state.steps, state.pending = step["number"], step
        else:
            assert state.pending is not None
            if step["state"] == "done":
                state.apply(state.pending)
            state.pending = None
    return state


def write(journal: Path, line: dict[str, Any]) -> None:
    with journal.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def size(batch: int) -> int:
    """How many rows a batch has."""
    return 1 + batch * 7 % 19


def ids(batch: int) -> list[str]:
    return [f"{batch}-{number}" for number in range(size(batch))]


def rows(batch: int, version: int) -> list[dict[str, Any]]:
    chance = random.Random(f"{batch} {version}")
    return [
        {
            "id": name,
            "text": " ".join(chance.choices(WORDS, k=3)),
            "title": chance.choice([None, f"House {batch}", "Blue House"]),
            "vector": [chance.uniform(-1, 1) for _ in range(3)],
            "sequence": f"s{batch}",
            "position": float(number),
            "links": [f"{chance.randrange(batch + 2)}-0"],
            "speaker": chance.choice(["Anna", "Marie"]),
            "lang": chance.choice(["en", "de"]),
            "n": number,
            "batch": batch,
            "version": version,
        }
        for number, name in enumerate(ids(batch))
    ]


def next_step(state: State, chance: random.Random) -> dict[str, Any]:
    number = state.steps + 1
    there = sorted(state.batches)
    step: dict[str, Any] = {"state": "begun", "number": number}
    chosen = chance.random()
    if chosen < 0.1 and there:
        return step | {"do": "maintain"}
    if chosen < 0.17:
        return step | {"do": "tag", "tag": f"t{number}"}
    if chosen < 0.22 and state.tags:
        return step | {"do": "untag", "tag": chance.choice(sorted(state.tags))}
    if chosen < 0.28 and there:
        batches = chance.sample(there, min(len(there), 3))
        return step | {"do": "gate", "batches": batches, "gate": chance.choice([0.0, 0.25, 1.0])}
    if len(there) > MOST or (chosen < 0.45 and there):
        count = min(len(there), chance.choice([1, 1, 2, 5]))
        return step | {"do": "delete", "batches": chance.sample(there, count)}
    batches = chance.sample(there, min(len(there), chance.choice([0, 0, 1, 2])))
    fresh = range(10 * number, 10 * number + (not batches or chance.choice([0, 1, 3])))
    return step | {"do": "ingest", "batches": [*batches, *fresh]}


def among(batches: list[int]) -> str:
    return f"batch IN ({', '.join(map(str, batches))})"


def perform(store: osc.Store, step: dict[str, Any]) -> None:
    match step["do"]:
        case "ingest":
            store.ingest([row for batch in step["batches"] for row in rows(batch, step["number"])])
        case "gate":
            store.set_gates(step["gate"], where=among(step["batches"]))
        case "delete" if step["number"] % 2:
            store.delete(where=among(step["batches"]))
        case "delete":
            ids = [
                f"{batch}-{number}" for batch in step["batches"] for number in range(size(batch))
            ]
            store.delete(ids)
        case "maintain":
            store.maintain()
        case "tag":
            store.tag(step["tag"])
        case "untag":
            store.untag(step["tag"])


class Countdown:
    """Kills the process before its nth file operation in the store, as Python announces it."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root
        self.left = count
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (event == "open" or event.startswith(("os.", "shutil."))):
            return
        if arguments and isinstance(arguments[0], str | os.PathLike):
            path = Path(arguments[0]).absolute()
            if path == self.root or self.root in path.parents:
                self.left -= 1
                if self.left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    root, journal, seed, countdown, *sharded = sys.argv[1:]
    chance = random.Random(seed)
    state = read_journal(Path(journal))
    assert state.pending is None
    with open_store(Path(root), SHARDED if sharded else PARAMETERS) as store:
        store.search("Blue House", vector=[1, 0, 0])  # kernels are loaded before the kill is due
        print("ready", flush=True)
        if int(countdown):
            Countdown(Path(root).resolve(), int(countdown))
        while True:
            step = next_step(state, chance)
            write(Path(journal), step)
            perform(store, step)
            write(Path(journal), {"state": "done"})
            state.apply(step)
            state.steps = step["number"]


if __name__ == "__main__":
    main()
