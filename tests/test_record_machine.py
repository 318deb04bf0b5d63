"""Whatever is done to records, anchors beside them, they are those of a dict."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
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

import oscillink_store as osc
from oscillink_store.engine import compact, parts
from oscillink_store.errors import ConflictError
from oscillink_store.filters import Compare
from oscillink_store.storage import segments

NAMESPACES = [(), ("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ('a","b',), ("",), ("a", "")]
names = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(["k", "b", "K", "Ä", ""]))
values = st.sampled_from([None, 0, 1, 1.0, True, "text", [1], {"n": 1}, {"n": 2}, b"", b"\0\xff"])
groups = st.sampled_from([None, "g", "h"])
ttls = st.sampled_from([None, 0.5, 1000.0])
records = st.builds(
    lambda name, value, group, ttl: osc.Record(*name, value, group, ttl),
    names, values, groups, ttls,
)  # fmt: skip
puts = st.lists(records, max_size=6)
ids = st.sampled_from([f"a{i}" for i in range(6)])

Name = tuple[tuple[str, ...], str]


class RecordMachine(RuleBasedStateMachine):
    """``expected`` holds the records by name, the last written last; ``anchors`` the ids.

    ``changes`` counts what befell each name, and ``read`` holds what was read at some time.
    """

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.store = self._opened()
        self.expected: dict[Name, osc.Record] = {}
        self.anchors: dict[str, str] = {}
        self.changes: Counter[Name] = Counter()
        self.read: dict[Name, tuple[int, osc.Record | None]] = {}

    def _opened(self) -> osc.Store:
        return osc.connect(self.folder / "store.osc", embedder="hash:16")

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @initialize(records=puts)
    def start(self, records: list[osc.Record]) -> None:
        self._written(records, [], [])

    @rule(records=puts, drops=st.lists(names, max_size=3), touches=st.lists(names, max_size=3))
    def write(self, records: list[osc.Record], drops: list[Name], touches: list[Name]) -> None:
        self._written(records, drops, touches)

    @rule(
        records=puts,
        drops=st.lists(names, max_size=2),
        come=st.dictionaries(ids, st.sampled_from(["Blue House", "Grand Hotel"]), max_size=3),
        go=st.lists(ids, max_size=2),
    )
    def write_with_anchors(
        self, records: list[osc.Record], drops: list[Name], come: dict[str, str], go: list[str]
    ) -> None:
        rows = [{"id": name, "text": text} for name, text in come.items()]
        self._written(records, drops, [], rows=rows, delete=go)
        for name in go:
            if name not in come:
                self.anchors.pop(name, None)
        self.anchors |= come

    def _written(
        self, records: list[osc.Record], drops: list[Name], touches: list[Name], **others: Any
    ) -> None:
        before = {name: self.store.record(*name) for name in touches}
        self.store.write(put=records, drop=drops, touch=touches, **others)
        for name in drops:
            self.changes[name] += self.expected.pop(name, None) is not None
        for record in records:
            self.changes[record.namespace, record.key] += 1
            self.expected.pop((record.namespace, record.key), None)
            self.expected[record.namespace, record.key] = record
        put = {(record.namespace, record.key) for record in records}
        for name in set(touches) - put - set(drops):
            old, new = before[name], self.store.record(*name)
            assert (old is None) == (new is None)
            if old is not None and new is not None and old.ttl is not None:
                assert old.expires is not None
                assert new.expires is not None
                assert new.expires > old.expires
                self.changes[name] += 1

    @rule(some=st.lists(names, min_size=1))
    def read_some(self, some: list[Name]) -> None:
        for name, record in zip(some, self.store.find_records(some), strict=True):
            assert record == self.store.record(*name)
            self.read[name] = self.changes[name], record

    @precondition(lambda self: self.read)
    @rule(data=st.data(), records=puts, drops=st.lists(names, max_size=2))
    def write_if(self, data: st.DataObject, records: list[osc.Record], drops: list[Name]) -> None:
        some = data.draw(
            st.lists(st.sampled_from([*self.read]), min_size=1, max_size=3, unique=True)
        )
        expect = [self.read[name][1] or name for name in some]
        others = [name for name in some if self._differs(name)]
        if not others:
            self._written(records, drops, [], expect=expect)
            return
        generation = self.store.generation
        with pytest.raises(ConflictError, match="read again") as conflict:
            self.store.write([{"id": "a9", "text": "x"}], put=records, drop=drops, expect=expect)
        assert list(conflict.value.names) == others
        assert self.store.generation == generation

    def _differs(self, name: Name) -> bool:
        count, record = self.read[name]
        return name in self.expected if record is None else count != self.changes[name]

    @rule(record=records)
    def put_again(self, record: osc.Record) -> None:
        before = self.store.record(record.namespace, record.key)
        self._written([record], [], [])
        after = self.store.record(record.namespace, record.key)
        assert after is not None
        assert before is None or (before.created == after.created)
        assert before is None or before.updated < after.updated
        assert (after.expires is None) == (record.ttl is None)

    @precondition(lambda self: self.anchors)
    @rule()
    def delete_an_anchor(self) -> None:
        self.store.delete([next(iter(self.anchors))])
        del self.anchors[next(iter(self.anchors))]

    @rule()
    def maintain(self) -> None:
        self.store.maintain()
        runs = self.store.current().records.runs
        assert [run.size for run in runs] == ([len(self.expected)] if self.expected else [])

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self._opened()

    @invariant()
    def holds_what_a_dict_does(self) -> None:
        store = self.store
        told = [(r.namespace, r.key, r.value, r.group, r.ttl) for r in store.records()]
        wanted = [
            (r.namespace, r.key, r.value, r.group, r.ttl) for r in reversed(self.expected.values())
        ]
        assert [(repr(one), type(one[2])) for one in told] == [
            (repr(one), type(one[2])) for one in wanted
        ]
        assert store.stats()["records"] == len(self.expected)
        for namespace in NAMESPACES:
            for key in ("k", "Ä"):
                record = store.record(namespace, key)
                expected = self.expected.get((namespace, key))
                assert (record is None) == (expected is None)
                assert record is None or expected is None or record.value == expected.value
        below = [r.value for r in reversed(self.expected.values()) if r.namespace[:1] == ("a",)]
        assert [record.value for record in store.records(("a",))] == below
        with_n = [r.key for r in reversed(self.expected.values()) if r.value == {"n": 2}]
        assert [r.key for r in store.records(where=Compare("n", "gte", 2))] == with_n
        assert store.record_namespaces() == sorted({name[0] for name in self.expected})
        assert sorted(store.to_arrow(["id"])["id"].to_pylist()) == sorted(self.anchors)
        assert store.verify().problems == ()


# Limits that few records do not reach: runs that take in all others or none, rows in batches.
LIMITS = {"as they are": (3, 1 << 17), "many runs": (0, 2), "few runs": (9, 3)}


@pytest.mark.parametrize("limits", LIMITS)
def test_records_are_those_of_a_dict(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    factor, batch = LIMITS[limits]
    monkeypatch.setattr(parts, "_FACTOR", factor)
    monkeypatch.setattr(segments, "_ROWS_PER_BATCH", batch)
    monkeypatch.setattr(compact, "_DEAD_LEAST", 2)
    run_state_machine_as_test(
        RecordMachine, settings=settings(max_examples=10, stateful_step_count=15)
    )
