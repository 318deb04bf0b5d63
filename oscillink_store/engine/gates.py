"""Trust gates set by whoever runs the store, in bulk: one small commit, no anchor written anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine import row_columns
from oscillink_store.engine.arguments import checked_ids
from oscillink_store.engine.batch import writing
from oscillink_store.engine.gate_overlay import GATES, NO_GATES
from oscillink_store.engine.live import Live
from oscillink_store.engine.rows import columns_of, refused
from oscillink_store.engine.shards import shard_gates
from oscillink_store.engine.snapshot import ANCHORS, Snapshot
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import InputError, QueryError
from oscillink_store.filters import Filter
from oscillink_store.receipts.canonical import digest, text_digest
from oscillink_store.receipts.content import gates_content
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.reports import GateReport
from oscillink_store.storage.commit import Change
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.segments import Segments
from oscillink_store.storage.tables import TableChange
from oscillink_store.storage.wal import Ledger

__all__ = ["Gating", "checked_gate", "checked_gating", "set_gates"]

Slots = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gating:
    """Which anchors get which gate: ``gates`` is one for all, (1,), or one for each id, (n,)."""

    gates: Values
    ids: list[str] | None = None
    where: str | Filter | None = None

    def found(self, snapshot: Snapshot) -> tuple[Slots, Values]:
        """The slots that are meant, ascending, and the gate for each.

        Raises:
            MissingError: an id is not in the store.
            QueryError: the predicate cannot be used.
        """
        if self.ids is not None:
            slots, places = np.unique(snapshot.slots_of_ids(self.ids), return_index=True)
            return slots, np.broadcast_to(self.gates, len(self.ids))[places]
        slots = np.flatnonzero(snapshot.allowed(self.where or ""))
        return slots, np.broadcast_to(self.gates, len(slots))


def set_gates(
    root: Path, gating: Gating, *, ledger: Ledger, live: Live, lock_timeout: float
) -> GateReport:
    """Set gates as one commit; see :meth:`oscillink_store.engine.store.Store.set_gates`."""
    with writing(root, ledger, live, lock_timeout) as writer:
        snapshot = writer.snapshot
        slots, gates = gating.found(snapshot)
        changed = snapshot.gates[slots] != gates if len(slots) else np.zeros(0, np.bool_)
        unchanged = len(slots) - int(changed.sum())
        if not changed.any():
            return GateReport(
                generation=snapshot.generation, changed=0, unchanged=unchanged, receipt=None
            )
        slots, gates = slots[changed], gates[changed]
        receipts: list[Receipt] = []
        manifest = writer.commit(
            _changes(snapshot, slots, gates),
            lambda manifest: receipts.append(
                ledger.record(_content(manifest, snapshot, slots, gates, gating.where))
            ),
        )
    return GateReport(
        generation=manifest.generation,
        changed=len(slots),
        unchanged=unchanged,
        receipt=receipts[0],
    )


def _changes(snapshot: Snapshot, slots: Slots, gates: Values) -> list[Change]:
    beside = shard_gates(snapshot, slots, gates)
    overlay = (snapshot.gate_overlay or NO_GATES).under(slots, gates)
    column = pa.table({"_rowid": snapshot.row_ids(slots), "gate": gates})
    change = Change(
        tables={ANCHORS: TableChange(updated=column)},
        segments=Segments(arrays={GATES: overlay._asdict()}),
        manifest={"features": {**snapshot.manifest.features, GATES: True}},
    )
    if beside is None:
        return [change]
    beside.manifest["features"] |= change.manifest["features"]
    return [change, beside.finished()]


def _content(
    manifest: Manifest, snapshot: Snapshot, slots: Slots, gates: Values, where: str | Filter | None
) -> dict[str, Any]:
    ids = snapshot.values("id", slots)
    condition = where.text if isinstance(where, Filter) else where
    return gates_content(
        generation=manifest.generation,
        parent=manifest.parent,
        where=None if condition is None else text_digest(condition),
        count=len(ids),
        gates=digest(sorted(map(list, zip(ids, gates.tolist(), strict=True)))),
        anchors=manifest.statistics["anchors"],
        manifest=manifest.sha256,
    )


def checked_gating(given: Any, ids: Any, where: str | Filter | None) -> Gating:
    """What a caller asks for, looked at before anything is done.

    Raises:
        QueryError: the arguments do not go together, or an id is no text.
        InputError: a gate cannot be used, or a source of them cannot be read.
    """
    alike = isinstance(given, Real)
    if alike and (ids is None) == (where is None):
        raise QueryError("set_gates: pass one of ids, where and shards, to say what gets the gate")
    if not alike and (ids is not None or where is not None):
        raise QueryError("set_gates: ids and where go with one gate for all of them, a number")
    if alike:
        gate = np.array([checked_gate(given)], np.float32)
        return Gating(gates=gate, ids=None if ids is None else checked_ids(ids), where=where)
    if isinstance(given, Mapping):
        gates = [checked_gate(gate, f"the gate of {name!r:.80}") for name, gate in given.items()]
        return Gating(gates=np.array(gates, np.float32), ids=checked_ids(list(given)))
    return _read(given)


def checked_gate(gate: Any, which: str = "the gate") -> float:
    """A gate as a number from 0 to 1.

    Raises:
        InputError: it is none; ``which`` names it.
    """
    # not NaN either, which is neither above nor below
    if isinstance(gate, bool) or not isinstance(gate, Real) or not 0.0 <= float(gate) <= 1.0:
        raise InputError(f"{which} is {gate!r:.80}: give a number from 0 to 1", field="gate")
    return float(gate)


def _read(source: Any) -> Gating:
    """The gates of a source of rows with the columns ``id`` and ``gate``."""
    gates: dict[str, float] = {}
    for batch in open_source(source):
        columns = columns_of(batch.data, batch.source)
        refuse = partial(refused, batch.source, range(batch.row, batch.row + batch.data.num_rows))
        for name in ("id", "gate"):
            if name not in columns:
                raise InputError(
                    f"{batch.source} has no column {name!r} among {', '.join(columns)}: give the "
                    "anchors' ids as id and their gates as gate",
                    field=name,
                )
            row_columns.check_encoding(columns[name], partial(refuse, name))
        ids = row_columns.identifiers(columns["id"], partial(refuse, "id"))
        values = row_columns.gates(columns["gate"], partial(refuse, "gate"))
        missing = row_columns.first_row(values.is_null())
        if missing is not None:
            raise refuse("gate", missing, "is missing: give a number from 0 to 1")
        for row, (name, gate) in enumerate(zip(ids.to_pylist(), values.to_pylist(), strict=True)):
            if gates.setdefault(name, gate) != gate:
                raise refuse(
                    "gate", row, f"is {gate:g} where an earlier row has {gates[name]:g} for "
                    f"{name!r:.80}: give every anchor one gate",
                )  # fmt: skip
    return Gating(gates=np.array(list(gates.values()), np.float32), ids=list(gates))
