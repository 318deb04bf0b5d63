"""Whatever happened to a store on disk, it equals one built from nothing on its anchors."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from state_model import PARAMETERS, check_same, open_store, rebuilt

from oscillink_store.engine import compact, fold, parts, plan
from oscillink_store.storage import tables

IDS = [f"a{i}" for i in range(12)]
TITLES = [None, "Blue", "Blue House", "Blue House Hotel", "House Hotel", "Anna Lund",
          "Anna Lund (painter)", "Café", "anna lund"]  # fmt: skip
PHRASES = ["Blue House Hotel", "blue house", "Anna Lund", "Marie Curie", "Grand Hotel Oslo",
           "the painter", "was built by", "Café", "in", "Blue."]  # fmt: skip
# equal vectors, equal cosines, opposite ones, and lengths that say nothing
VECTORS = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1],
           [2, 0, 0], [3, 4, 0], [4, 3, 0], [0.1, 0.2, -0.7]]  # fmt: skip

rows_ = st.fixed_dictionaries(
    {
        "id": st.sampled_from(IDS),
        "text": st.lists(st.sampled_from(PHRASES), min_size=1, max_size=4).map(" ".join),
        "title": st.sampled_from(TITLES),
        "vector": st.sampled_from(VECTORS).map(lambda v: [float(x) for x in v]),
        "sequence": st.sampled_from([None, "s", "t"]),
        "position": st.sampled_from([None, 0.0, 1.0, 1.0, 1.5, 2.0]),
        "links": st.none() | st.lists(st.sampled_from([*IDS, "nobody"]), max_size=3),
        "gate": st.sampled_from([None, None, 1.0, 0.5, 0.0]),
        "speaker": st.sampled_from([None, "Anna", "Marie"]),
        "lang": st.sampled_from(["en", "de"]),
    }
)
whole = st.none() | st.integers(0, 3)
fractions = st.sampled_from([0.5, 1.5, 2.5])
batches = st.lists(rows_, min_size=1, max_size=6, unique_by=lambda row: row["id"])
# numbers that widen the column to float64, and batches that lack it
numbers = st.one_of(
    *[st.lists(whole, min_size=6, max_size=6)] * 4,
    st.lists(fractions, min_size=6, max_size=6),
    st.none(),
)


class StoreMachine(RuleBasedStateMachine):
    """``expected`` holds the rows that must be in the store, in the order in which they came.

    ``gates`` holds their trust, which is not only what their sources said.
    """

    parameters = PARAMETERS

    def __init__(self) -> None:
        super().__init__()
        # exactness is what is tested here: no need to wait for a disk
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.store = open_store(self.folder / "store.osc", self.parameters)
        self.expected: dict[str, dict[str, Any]] = {}
        self.gates: dict[str, float] = {}
        self.changed = False
        self.built = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @initialize(rows=st.lists(rows_, max_size=12, unique_by=lambda row: row["id"]))
    def start(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._ingest([row | {"n": number % 4} for number, row in enumerate(rows)])

    @rule(batch=batches, values=numbers)
    def upsert(self, batch: list[dict[str, Any]], values: list[float | None] | None) -> None:
        if values is not None:
            batch = [row | {"n": n} for row, n in zip(batch, values, strict=False)]
        self._ingest(batch)

    def _ingest(self, batch: list[dict[str, Any]]) -> None:
        known = {row["id"] for row in batch} & self.expected.keys()
        report = self.store.ingest(batch)
        assert report.added == len(batch) - len(known)
        assert report.updated + report.unchanged == len(known)
        for row in batch:
            before = self.expected.get(row["id"])
            if before is None or _content(before) != _content(row):
                self.expected.pop(row["id"], None)
                self.expected[row["id"]] = row
                kept = self.gates.get(row["id"], 1.0)
                self.gates[row["id"]] = kept if row["gate"] is None else row["gate"]
        self.changed = True

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def ingest_again(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(list(self.expected)), min_size=1, unique=True))
        generation = self.store.generation
        report = self.store.ingest([self.expected[name] for name in ids])
        assert (report.unchanged, report.added, report.updated) == (len(ids), 0, 0)
        assert self.store.generation == generation

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def set_gates(self, data: st.DataObject) -> None:
        gates = data.draw(
            st.dictionaries(
                st.sampled_from(list(self.expected)), st.sampled_from([0.0, 0.25, 1.0]), min_size=1
            )
        )
        changed = sum(self.gates[name] != gate for name, gate in gates.items())
        generation = self.store.generation
        report = self.store.set_gates(gates)
        assert (report.changed, report.unchanged) == (changed, len(gates) - changed)
        assert self.store.generation == report.generation == generation + bool(changed)
        self.gates |= gates
        self.changed = True

    @precondition(lambda self: self.expected)
    @rule(lang=st.sampled_from(["en", "de"]), gate=st.sampled_from([0.0, 0.5]))
    def set_gates_where(self, lang: str, gate: float) -> None:
        mine = [name for name, row in self.expected.items() if row["lang"] == lang]
        changed = [name for name in mine if self.gates[name] > gate]
        where = f"lang = '{lang}' AND gate > {gate}"
        assert self.store.set_gates(gate, where=where).changed == len(changed)
        self.gates |= dict.fromkeys(changed, gate)
        self.changed = True

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def delete_ids(self, data: st.DataObject) -> None:
        ids = data.draw(
            st.lists(st.sampled_from(list(self.expected)), min_size=1, max_size=5, unique=True)
        )
        assert self.store.delete(ids).deleted == len(ids)
        for name in ids:
            del self.expected[name], self.gates[name]
        self.changed = True

    @precondition(lambda self: self.expected)
    @rule(lang=st.sampled_from(["en", "de"]))
    def delete_where(self, lang: str) -> None:
        gone = [name for name, row in self.expected.items() if row["lang"] == lang]
        assert self.store.delete(where=f"lang = '{lang}'").deleted == len(gone)
        for name in gone:
            del self.expected[name], self.gates[name]
        self.changed = True

    @rule()
    def maintain(self) -> None:
        self.store.maintain()
        stats = self.store.stats()
        assert (stats["corrections"], stats["deleted_slots"]) == (0, 0)
        assert stats["parts"] <= 1
        self.changed = True

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.folder / "store.osc", self.parameters)
        self.changed = True

    @invariant()
    def equals_one_built_from_nothing(self) -> None:
        if not self.changed:
            return
        self.changed = False
        held = self.store.to_arrow()
        assert held["id"].to_pylist() == list(self.expected)
        for row in held.select([n for n in held.schema.names if n != "vector"]).to_pylist():
            expected = self.expected[row["id"]] | {"gate": self.gates[row["id"]]}
            assert _shown(row) == _shown(expected)
        self.built += 1
        path = self.folder / f"built{self.built}.osc"
        with rebuilt(path, held, self.parameters) as other:
            check_same(self.store, other)
        shutil.rmtree(path)
        report = self.store.verify()
        assert report.problems == ()


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is not there."""
    return {
        name: value
        for name, value in row.items()
        if name not in ("vector", "fulltext") and value not in (None, [])
    }


def _content(row: dict[str, Any]) -> dict[str, Any]:
    """What a row is told from others by, in which no gate is 1."""
    return _shown(row | {"gate": 1.0 if row["gate"] is None else row["gate"]})


# Limits that stores of a few anchors do not reach: with 0 all of it happens at every batch.
LIMITS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "as they are": (),
    "fold always": ((plan, "_FOLD_LEAST", 0), (plan, "_FOLD_SHARE", 0.0), (parts, "_FACTOR", 0)),
    "fold at times": (
        (plan, "_FOLD_LEAST", 24), (plan, "_FOLD_SHARE", 0.5), (parts, "_FACTOR", 1),
        (tables, "_MANY_FRAGMENTS", 2), (tables, "_LEAST_FRAGMENT", 4), (fold, "_LEAST_FILES", 2),
        (compact, "_DEAD_LEAST", 3), (compact, "_DEAD_SHARE", 0.5),
    ),
}  # fmt: skip


@pytest.fixture(params=list(LIMITS))
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in LIMITS[request.param]:
        monkeypatch.setattr(module, name, value)


def run(examples: int, steps: int, machine: type[StoreMachine] = StoreMachine) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps)
    )


@pytest.mark.usefixtures("limits")
def test_a_changed_store_equals_one_built_from_nothing() -> None:
    run(5, 12)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("limits")
def test_a_store_changed_very_often_equals_one_built_from_nothing() -> None:
    run(400, 40)


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"a{number}", "text": f"Blue House {number}", "vector": [1.0, number, 0.5],
        "speaker": "Anna", "lang": "en", **other,
    }  # fmt: skip


def test_anchors_are_replaced_and_deleted_while_their_column_takes_a_wider_type(
    tmp_path: Path,
) -> None:
    """Which writes all rows anew, in other slots than those that the batch replaces."""
    with open_store(tmp_path / "store.osc") as store:
        store.ingest([row(i, n=i) for i in range(6)])
        store.delete(["a0", "a3"])
        report = store.ingest([row(5, n=5.5), row(1, n=1.5)])
        assert (report.added, report.updated) == (0, 2)
        held = store.to_arrow(["id", "n"]).to_pydict()
        assert held == {"id": ["a2", "a4", "a5", "a1"], "n": [2.0, 4.0, 5.5, 1.5]}
        with rebuilt(tmp_path / "built.osc", store.to_arrow()) as other:
            check_same(store, other)


@pytest.mark.parametrize("maintained", [False, True])
def test_a_column_may_come_back_when_all_anchors_were_gone(
    tmp_path: Path, maintained: bool
) -> None:
    """With a wider type at once, with any type when maintenance has forgotten the old one."""
    values = [{"n": 1}, {"n": 1.5}, {}, {"n": "one"}] if maintained else [{"n": 1}, {"n": 1.5}, {}]
    with open_store(tmp_path / "store.osc") as store:
        for value in values:
            store.ingest([row(0, **value)])
            assert len(store) == len(store.to_arrow()) == 1
            assert store.get("a0")[0].get("n") == value.get("n")
            store.delete("a0")
            if maintained:
                store.maintain()
            assert len(store) == 0
            assert store.verify().problems == ()


def test_rows_keep_their_order_when_some_fragments_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged fragments go behind larger ones that stay as they are."""
    monkeypatch.setattr(tables, "_MANY_FRAGMENTS", 2)
    monkeypatch.setattr(tables, "_LEAST_FRAGMENT", 4)
    with open_store(tmp_path / "store.osc") as store:
        for numbers in ((0, 1), (2, 3), (4, 5, 6, 7, 8, 9), (10,), (0, 11, 12, 13, 14)):
            store.ingest([row(number, n=sum(numbers)) for number in numbers])
        assert store.current().anchors.fragments != [2, 2, 6, 1, 5]
        order = [*range(1, 11), 0, *range(11, 15)]
        assert store.to_arrow(["id"])["id"].to_pylist() == [f"a{number}" for number in order]
        with rebuilt(tmp_path / "built.osc", store.to_arrow()) as other:
            check_same(store, other)
