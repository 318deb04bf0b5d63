"""A writer killed at any moment leaves anchors and records of the same step."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from record_writer import KEPT, ids, open_store

WRITER = Path(__file__).parent / "record_writer.py"


def killed(root: Path, chance: random.Random, operations: int) -> int:
    """Run a writer until it is killed; the last step that it had done."""
    command = [sys.executable, str(WRITER), str(root), str(operations)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if not operations:
            time.sleep(chance.uniform(0.01, 0.4))
            child.kill()
        lines = child.stdout.read().splitlines()
    assert child.returncode == -signal.SIGKILL
    return int(lines[-1])


def check(root: Path, done: int) -> int:
    """Anchors and records are those of one step; gives its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_store(root) as store:
            records = store.records()
            step = records[0].value["step"]
            assert step in (done, done + 1)
            there = range(max(1, step - KEPT + 1), step + 1)
            named = {name for number in there for name in ids(number)}
            assert {record.key for record in records} == named
            anchors = {name for number in there if number % 3 for name in ids(number)}
            assert set(store.to_arrow(["id"])["id"].to_pylist()) == anchors
            assert len(store) == len(anchors)
            assert store.stats()["records"] == len(records)
            assert store.verify().problems == ()
    return step


def test_a_killed_writer_leaves_both_or_neither(disk: Path) -> None:
    root, chance = disk / "store.osc", random.Random(7)
    open_store(root).close()
    reached = [0]
    for number in range(6):
        # half of them at any time, half before one of the next file operations
        done = killed(root, chance, chance.randrange(1, 250) if number % 2 else 0)
        reached.append(check(root, done))
    assert reached == sorted(set(reached))  # every one of them got somewhere
