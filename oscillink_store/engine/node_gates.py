"""Gates set on summary nodes: what hangs below a node counts by the node's gate too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oscillink_store.engine.batch import writing
from oscillink_store.engine.draft import Draft
from oscillink_store.engine.live import Live
from oscillink_store.engine.sharded import Sharded
from oscillink_store.engine.shards import Coming, plan_shards
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import MissingError
from oscillink_store.lattice.levels import Grouped
from oscillink_store.receipts.canonical import digest
from oscillink_store.receipts.content import gates_content
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.reports import GateReport
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.wal import Ledger

__all__ = ["set_node_gates"]

Node = tuple[int, int]


def set_node_gates(
    root: Path,
    names: Sequence[str],
    gate: float,
    *,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
) -> GateReport:
    """Set the gate of summary nodes as one commit; see ``Store.set_gates``.

    Raises:
        MissingError: the store has no node of a name.
    """
    with writing(root, ledger, live, lock_timeout) as writer:
        snapshot = writer.snapshot
        sharded, nodes = _found(snapshot, names)
        levels = sharded.levels
        changed = [
            node
            for node in nodes
            if float(levels[node[0]].held[node[1]]) != float(np.float32(gate))
        ]
        unchanged = len(nodes) - len(changed)
        if not changed:
            return GateReport(
                generation=snapshot.generation, changed=0, unchanged=unchanged, receipt=None
            )
        draft = Draft()
        coming = Coming.of(snapshot, shaken=_below(sharded, snapshot, changed))
        before = _held(sharded.grouped(), changed, gate)
        plan_shards(draft, snapshot, coming, snapshot.fields, snapshot.parameters, before=before)
        told = [sharded.name(*node) for node in changed]
        receipts: list[Receipt] = []

        def record(manifest: Manifest) -> None:
            content = gates_content(
                generation=manifest.generation,
                parent=manifest.parent,
                where=None,
                count=len(told),
                gates=digest(sorted([name, float(np.float32(gate))] for name in told)),
                anchors=manifest.statistics["anchors"],
                manifest=manifest.sha256,
                nodes=True,
            )
            receipts.append(ledger.record(content))

        manifest = writer.commit([draft.finished()], record)
    return GateReport(
        generation=manifest.generation,
        changed=len(changed),
        unchanged=unchanged,
        receipt=receipts[0],
    )


def _found(snapshot: Snapshot, names: Sequence[str]) -> tuple[Sharded, list[Node]]:
    sharded = snapshot.sharded
    if sharded is None:
        raise MissingError("shards: the store has none, hence no summary nodes to set gates on")
    known = sharded.numbers
    for name in names:
        if name not in known:
            raise MissingError(
                f"shards: {name!r:.80} is no summary node of the store: take ids of summaries()"
            )
    return sharded, [known[name] for name in dict.fromkeys(names)]


def _held(grouped: Grouped, nodes: Sequence[Node], gate: float) -> Grouped:
    levels = list(grouped.hierarchy.levels)
    for level, node in nodes:
        held = levels[level].held.copy()
        held[node] = gate
        levels[level] = levels[level]._replace(held=held)
    return grouped._replace(hierarchy=grouped.hierarchy._replace(levels=tuple(levels)))


def _below(
    sharded: Sharded, snapshot: Snapshot, nodes: Sequence[Node]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """An anchor under each of the nodes, by which the upkeep finds its way up to it."""
    slots = []
    for level, node in nodes:
        under = np.array([node])
        for number in range(level - 1, -1, -1):
            under = np.flatnonzero(np.isin(sharded.levels[number].parents, under))
        slots.append(sharded.slots_in(under.tolist(), snapshot.alive)[:1])
    return np.unique(np.concatenate(slots))
