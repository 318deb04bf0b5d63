"""Writers killed at any moment: the store opens, verifies, and holds what was acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from kill_writer import Batches, State, ids, read_journal, size, write
from shard_model import check_nodes, check_settled
from state_model import PARAMETERS, SHARDED, check_same, open_store, rebuilt

import oscillink_store as osc
from oscillink_store.storage.manifest import manifest_path, manifests_on_disk, read_manifest

WRITER = Path(__file__).parent / "kill_writer.py"


class Victim:
    """A store and the journal of its writers, who are killed one after another."""

    def __init__(self, folder: Path, seed: int, *, sharded: bool = False) -> None:
        self.root = folder / "store.osc"
        self.journal = folder / "journal"
        self.chance = random.Random(seed)
        self.kills = Counter[str]()
        self.sharded = sharded
        self.parameters = SHARDED if sharded else PARAMETERS
        open_store(self.root, self.parameters).close()

    def kill(self, *, operations: int = 0) -> None:
        """Start a writer and kill it after a while, or before a file operation of its."""
        seed = self.chance.random()
        command = [sys.executable, WRITER, self.root, self.journal, seed, operations]
        command += ["sharded"] * self.sharded
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            if operations:
                assert child.wait(60) == -signal.SIGKILL
            else:
                time.sleep(self.chance.choice([0.02, 0.1, 0.5]) * self.chance.random())
                child.kill()
        assert child.returncode == -signal.SIGKILL

    def check(self) -> State:
        """The store is whole and holds all acknowledged steps; the last one all or nothing."""
        state = read_journal(self.journal)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with open_store(self.root, self.parameters) as store:
                assert store.verify().problems == ()
                if store.current().sharded is not None:
                    check_nodes(store)
                held, trusted = batches(store.to_arrow()), gates(store)
                if state.pending is not None:
                    self.kills[state.pending["do"]] += 1
                    before = State(dict(state.batches), dict(state.tags), dict(state.gates))
                    state.apply(state.pending)
                    done = (held, set(store.tags()), trusted) == (
                        state.batches, set(state.tags), state.gates
                    )  # fmt: skip
                    write(self.journal, {"state": "done" if done else "not done"})
                    if not done:
                        state = before
                else:
                    self.kills["nothing"] += 1
                assert (held, trusted) == (state.batches, state.gates)
                assert len(store) == sum(map(size, held))
                check_found(store, held)
                assert set(store.tags()) == set(state.tags)
                for tag in sorted(state.tags)[-2:]:
                    with store.snapshot(tag=tag) as tagged:
                        assert batches(tagged.to_arrow()) == state.tags[tag]
        return state

    def finish(self) -> None:
        """What was left lying about goes, and the store equals one built from nothing."""
        with open_store(self.root, self.parameters) as store, store.snapshot() as pinned:
            report = store.maintain()
            assert report.corrections >= 0
            held = store.to_arrow()
            assert pinned.to_arrow().equals(held)
            if self.sharded:
                check_settled(store)
            with rebuilt(self.root.parent / "built.osc", held, self.parameters) as other:
                check_same(store, other)
                check_same(pinned, other)
        with open_store(self.root, self.parameters) as store:
            store.maintain()
        assert strays(self.root) == set()


def batches(rows: pa.Table) -> Batches:
    """The batches in a table, each of them whole, in one version and once."""
    if rows.num_rows == 0:
        return {}
    assert len(set(rows["id"].to_pylist())) == rows.num_rows
    counted = Counter(zip(rows["batch"].to_pylist(), rows["version"].to_pylist(), strict=True))
    assert len(dict(counted.keys())) == len(counted)
    assert all(count == size(batch) for (batch, _), count in counted.items())
    return dict(counted.keys())


def gates(store: osc.Store) -> dict[int, float]:
    """The gate of every batch, which all its rows share, in the table and in memory."""
    found = dict[int, float]()
    if len(store):
        held = store.to_arrow(["batch", "gate"])
        assert store.current().present(names=["batch", "gate"]).equals(held)
        for batch, gate in zip(held["batch"].to_pylist(), held["gate"].to_pylist(), strict=True):
            assert found.setdefault(batch, gate) == gate
    return found


def check_found(store: osc.Store, held: Batches) -> None:
    for batch in sorted(held)[-2:]:
        found = store.search("Blue House", vector=[1, 0, 0], where=f"batch = {batch}", k=30)
        assert sorted(found.ids) == sorted(ids(batch))
        assert {hit.metadata["version"] for hit in found} == {held[batch]}


def strays(root: Path) -> set[str]:
    """Files of tables, segments and manifests that no generation on disk names."""
    named = {"latest_version_hint.json"}
    for generation in manifests_on_disk(root):
        named |= {entry.path for entry in read_manifest(root, generation).files()}
        named.add(str(manifest_path(root, generation).relative_to(root)))
    folders = [root / "segments", root / "manifests", *root.glob("*.lance")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)) for path in files if path.name not in named
    } - named  # fmt: skip


def run(folder: Path, kills: int, seed: int, *, sharded: bool = False) -> Victim:
    victim = Victim(folder, seed, sharded=sharded)
    for number in range(kills):
        # half of them at any time, half before one of the next file operations
        victim.kill(operations=victim.chance.randrange(1, 250) if number % 2 else 0)
        victim.check()
    victim.finish()
    return victim


def test_a_writer_killed_again_and_again_loses_nothing(disk: Path) -> None:
    victim = run(disk, 12, seed=1)
    assert sum(victim.kills.values()) == 12
    assert victim.kills["ingest"] >= 3


def test_summary_nodes_are_those_of_what_a_killed_writer_left(tmp_path: Path) -> None:
    victim = run(tmp_path, 4, seed=7, sharded=True)
    assert victim.kills["ingest"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_writer_killed_fifty_times_loses_nothing(disk: Path, seed: int) -> None:
    victim = run(disk, 50, seed)
    assert {"ingest", "delete", "maintain"} <= victim.kills.keys()
    print(dict(victim.kills))
