"""Shards and summary nodes of a store, whatever happens to it, are those of its anchors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_store import unpack
from hypothesis.stateful import invariant, rule
from shard_model import check_nodes, check_settled, sharded_of
from state_model import SHARDED
from test_state_machine import StoreMachine, run

import oscillink_store as osc
from oscillink_store.engine import compact
from oscillink_store.errors import InputError, IntegrityWarning
from oscillink_store.lattice import hierarchy
from oscillink_store.receipts.canonical import plain
from oscillink_store.storage.manifest import read_current

PARAMETERS = osc.Parameters(shards_from=20, shard_anchors=4, max_nodes=4, knn_neighbors=4)


@pytest.fixture(scope="module", autouse=True)
def few_children() -> Iterator[None]:
    """So that a handful of shards has several levels of nodes above it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hierarchy, "CHILDREN", 2)
        patch.setattr(hierarchy, "_AT_ONCE", 2)
        yield


def row(number: int, **other: Any) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    vector = np.eye(6)[number % 6] + 0.3 * rng.standard_normal(6)
    return {
        "id": f"a{number}", "text": f"Blue House {number % 5}", "vector": vector.tolist(),
        "tenant": f"t{number % 3}", "colour": f"c{number % 5}", **other,
    }  # fmt: skip


def rows(*numbers: int, **other: Any) -> list[dict[str, Any]]:
    return [row(number, **other) for number in numbers]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., osc.Store]]:
    opened: list[osc.Store] = []

    def connect(name: str = "s.osc", **options: Any) -> osc.Store:
        opened.append(osc.connect(tmp_path / name, **{"parameters": PARAMETERS, **options}))
        return opened[-1]

    yield connect
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, few_children: None) -> Path:
    """Forty anchors in several parts; some were replaced, some are gone."""
    path = tmp_path_factory.mktemp("shards") / "s.osc"
    with osc.connect(path, parameters=PARAMETERS) as store:
        store.ingest(rows(*range(24)))
        store.ingest(rows(*range(24, 40)))
        store.ingest(rows(3, 5, title="Green Hotel"))
        store.delete(["a7", "a30"])
        store.set_gates({"a1": 0.5, "a2": 0.0})
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path, open_store: Callable[..., osc.Store]) -> osc.Store:
    shutil.copytree(template, tmp_path / "s.osc")
    return open_store()


def told(store: osc.Store | osc.Snapshot) -> dict[str, Any]:
    """All that can be seen of shards, and an answer that comes by way of them."""
    result = store.search(vector=[1, 0, 0, 0, 0, 0.1], k=6, route=True)
    return {
        "summaries": store.summaries().to_pylist(),
        "own": sharded_of(store).own.tolist(),
        "hits": [[hit.id, hit.score.hex()] for hit in result],
        "layers": plain(result.receipt.content["layers"]),
    }


class ShardMachine(StoreMachine):
    """Everything that is asked of a store without shards, and that these are as they must be."""

    parameters = SHARDED
    checked = 0

    @rule()
    def maintain(self) -> None:
        super().maintain()
        if len(self.store) >= SHARDED.shards_from:
            check_settled(self.store)

    @invariant()
    def nodes_are_those_of_the_anchors(self) -> None:
        if self.checked == self.store.generation:
            return
        self.checked = self.store.generation
        if self.store.current().sharded is not None:
            check_nodes(self.store)
        else:
            assert len(self.store) < SHARDED.shards_from
            assert self.store.summaries().num_rows == 0


def test_a_store_changed_at_will(monkeypatch: pytest.MonkeyPatch) -> None:
    """And compacted along the way."""
    monkeypatch.setattr(compact, "_DEAD_LEAST", 3)
    run(3, 10, ShardMachine)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dead", [3, 1 << 10])
def test_a_store_changed_at_will_very_often(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    monkeypatch.setattr(compact, "_DEAD_LEAST", dead)
    run(150, 40, ShardMachine)


def test_a_store_gets_shards_when_it_is_large_enough(
    open_store: Callable[..., osc.Store],
) -> None:
    store = open_store()
    store.ingest(rows(*range(19)))
    store.maintain()
    assert (store.current().sharded, store.summaries().num_rows) == (None, 0)
    assert store.stats()["shards"] == 0
    store.ingest(rows(19))
    check_nodes(store)
    check_settled(store)
    assert store.stats()["shards"] == len(sharded_of(store).levels[0].items) >= 5
    assert len(sharded_of(store).levels) > 1
    assert store.verify().problems == ()
    store.delete([f"a{number}" for number in range(1, 20)])  # once divided, it stays so
    check_nodes(store)


def test_a_small_store_is_divided_when_it_is_asked_for(
    open_store: Callable[..., osc.Store], tmp_path: Path
) -> None:
    """One of an old format among them."""
    empty = open_store()
    empty.maintain(divide=True)
    assert empty.current().sharded is None
    small = open_store("small.osc")
    small.ingest(rows(*range(9)))
    for store in (small, osc.connect(unpack(3, tmp_path))):
        store.maintain()
        assert store.current().sharded is None
        store.maintain(divide=True)
        check_nodes(store)
        check_settled(store)
        generation = store.generation
        store.maintain(divide=True)
        assert store.generation == generation
    store.close()
    small.ingest(rows(2, 9, 10))
    check_nodes(small)


def test_groups_that_grow_are_divided(open_store: Callable[..., osc.Store]) -> None:
    store = open_store()
    store.ingest(rows(*range(20)))
    before = len(sharded_of(store).levels[0].items)
    vector = row(0)["vector"]
    for number in range(100, 136, 4):
        store.ingest(rows(*range(number, number + 4), vector=vector))  # all into one shard
        check_nodes(store)
    shards = sharded_of(store).levels[0]
    assert len(shards.items) >= before + 3
    store.maintain()
    check_settled(store)


def test_what_is_not_settled_yet_is_by_maintenance(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hierarchy, "_AT_ONCE", 0)
    monkeypatch.setattr(hierarchy, "_MUCH", 0)
    store.maintain()
    assert not any(level.changed.any() for level in sharded_of(store).levels)
    store.ingest(rows(3, 50, 51))
    assert any(level.changed.any() for level in sharded_of(store).levels)
    check_nodes(store)
    generation = store.generation
    store.maintain()
    check_settled(store)
    assert store.generation > generation
    generation = store.generation
    store.maintain()
    assert store.generation == generation  # nothing is left to do


def test_a_reopened_store_and_another_process_see_the_same(store: osc.Store) -> None:
    before = told(store)
    root = store.path
    store.close()
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "import oscillink_store as osc\n"
        "from test_shards import told\n"
        "with osc.connect(Path(sys.argv[2]), read_only=True) as store:\n"
        "    print(json.dumps(told(store)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent), str(root)],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == before
    with osc.connect(root) as again:
        assert told(again) == before
        check_nodes(again)


def test_equal_stores_have_equal_shards(open_store: Callable[..., osc.Store]) -> None:
    """Level by level and bit by bit, however their columns come."""
    segments = []
    for name in ("a.osc", "b.osc"):
        store = open_store(name)
        store.ingest(rows(*range(30)))
        store.ingest(rows(2, 30, 31))
        store.delete("a4")
        found = read_current(store.path).segments
        segments.append({name: entry.sha256 for name, entry in found.items()})
    assert segments[0] == segments[1]
    assert {name.split("/")[0] for name in segments[0]} >= {"shards", "summaries", "super"}


@pytest.mark.parametrize("maintained", [False, True])
def test_all_anchors_may_go_and_others_come(store: osc.Store, maintained: bool) -> None:
    store.delete([anchor["id"] for anchor in store.to_arrow(["id"]).to_pylist()])
    check_nodes(store)
    assert all(level.anchors.sum() == 0 for level in sharded_of(store).levels)
    assert len(store.search(vector=[1, 0, 0, 0, 0, 0])) == 0
    if maintained:
        store.maintain()
        assert (store.current().sharded, store.summaries().num_rows) == (None, 0)
        assert store.verify().problems == ()
    store.ingest(rows(*range(60, 85)))
    check_nodes(store)
    store.maintain()
    check_settled(store)
    assert store.verify().problems == ()
    assert len(store.search(vector=[1, 0, 0, 0, 0, 0], k=30, route=True)) > 0


def test_older_generations_keep_their_shards(store: osc.Store) -> None:
    store.tag("before")
    with store.snapshot() as pinned:
        before = told(pinned)
        store.ingest(rows(*range(60, 90)))
        store.maintain()
        store.delete([f"a{number}" for number in range(20, 30)])
        assert told(store) != before
        assert told(pinned) == before
    with store.snapshot(tag="before") as tagged:
        assert told(tagged) == before
        check_nodes(tagged)
    check_nodes(store)


SEGMENTS = ("shards", "shards/0000000000", "summaries/0", "summaries/1", "super/base",
            "super/corrections")  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTS)
def test_damage_is_found(store: osc.Store, name: str) -> None:
    path = store.path / read_current(store.path).segments[name].path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)
    problems = store.verify().problems
    assert len(problems) == 1
    assert path.name in problems[0]


def test_a_truncated_segment_leaves_the_generation_before(store: osc.Store) -> None:
    before = store.generation
    store.ingest(rows(70))
    path = store.path / read_current(store.path).segments["summaries/0"].path
    root = store.path
    store.close()
    path.write_bytes(path.read_bytes()[:-9])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with osc.connect(root) as again:
            assert again.generation == before
            check_nodes(again)
    assert {warning.category for warning in caught} == {IntegrityWarning}


def test_an_old_store_gets_shards_when_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest does not tell from how many anchors on."""
    monkeypatch.setitem(osc.Parameters.__init__.__kwdefaults__, "shards_from", 12)
    monkeypatch.setitem(osc.Parameters.__init__.__kwdefaults__, "shard_anchors", 4)
    root = unpack(3, tmp_path)
    with osc.connect(root) as store:
        assert store.current().sharded is None
        assert "shards_from" not in store.current().manifest.parameters
        first = store.generation
        vectors = np.random.default_rng(0).standard_normal((10, 8))
        store.ingest([{"id": f"n{i}", "text": "new", "vector": vectors[i]} for i in range(10)])
        check_nodes(store)
        check_settled(store)
        with store.snapshot(generation=first) as old:
            assert old.current().sharded is None
            assert len(old.search(vector=vectors[0])) > 0
        assert store.verify().problems == ()


def test_an_old_store_gets_shards_by_a_column(tmp_path: Path) -> None:
    with osc.connect(unpack(3, tmp_path)) as store:
        held = store.to_arrow().drop_columns(["sequence", "position"])
        fields = osc.Fields(sequence="session", position="turn", facets=["lang"], shard="lang")
        assert store.ingest(held, fields=fields).added == 0
        check_nodes(store)
        assert sharded_of(store).by == "lang"


class TestByValue:
    """A column's values divide the store."""

    FIELDS = osc.Fields(shard="tenant")

    def names(self, store: osc.Store) -> dict[str, int]:
        found = store.summaries().to_pylist()
        return {node["id"]: node["anchors"] for node in found if node["level"] == 1}

    def test_from_the_first_anchor(self, open_store: Callable[..., osc.Store]) -> None:
        store = open_store(fields=self.FIELDS)
        store.ingest(rows(0, 1, 3) + rows(8, tenant=None))
        assert self.names(store) == {"tenant=t0": 2, "tenant=t1": 1, "tenant is null": 1}
        check_nodes(store)
        store.ingest(rows(4, 5, 9))
        assert self.names(store) == {
            "tenant=t0": 3, "tenant=t1": 2, "tenant is null": 1, "tenant=t2": 1
        }  # fmt: skip
        store.ingest(rows(0, tenant="t1"))
        store.delete("a8")
        assert self.names(store) == {
            "tenant=t0": 2, "tenant=t1": 3, "tenant is null": 0, "tenant=t2": 1
        }  # fmt: skip
        check_nodes(store)
        store.maintain()
        check_settled(store)

    def test_shards_may_be_of_any_size(self, open_store: Callable[..., osc.Store]) -> None:
        store = open_store(fields=self.FIELDS)
        store.ingest(rows(*range(50), tenant="one") + rows(50, tenant="two"))
        assert self.names(store) == {"tenant=one": 50, "tenant=two": 1}
        check_nodes(store)

    def test_a_column_that_is_named_later_divides_anew(self, store: osc.Store) -> None:
        assert sharded_of(store).by is None
        held = store.to_arrow()
        store.ingest(held.slice(0, 1), fields=self.FIELDS)  # which changes no anchor
        assert self.names(store) == {"tenant=t0": 13, "tenant=t1": 12, "tenant=t2": 13}
        check_nodes(store)
        check_settled(store)
        store.ingest(rows(60, 61))  # it stays so
        assert self.names(store) == {"tenant=t0": 14, "tenant=t1": 13, "tenant=t2": 13}
        store.ingest(held.slice(0, 1), fields=osc.Fields(shard="colour"))
        assert set(self.names(store)) == {f"colour=c{number}" for number in range(5)}
        check_nodes(store)

    def test_no_column_any_more_divides_by_the_embeddings(self, store: osc.Store) -> None:
        held = store.to_arrow()
        store.ingest(held.slice(0, 1), fields=self.FIELDS)
        store.ingest(held.slice(0, 1), fields=osc.Fields())
        assert sharded_of(store).by is None
        assert all(name.startswith("shard-") for name in self.names(store))
        check_nodes(store)

    def test_sequences_divide_too(self, open_store: Callable[..., osc.Store]) -> None:
        store = open_store(fields=osc.Fields(sequence="tenant", shard="sequence"))
        store.ingest(rows(*range(7)))
        assert self.names(store) == {"sequence=t0": 3, "sequence=t1": 2, "sequence=t2": 2}
        check_nodes(store)

    def test_a_column_that_no_row_has_is_refused(
        self, open_store: Callable[..., osc.Store]
    ) -> None:
        store = open_store(fields=osc.Fields(shard="tennant"))
        with pytest.raises(InputError, match="'tennant', which Fields names as the shard"):
            store.ingest(rows(0, 1))

    @pytest.mark.parametrize("wrong", [3, ["tenant"], b"tenant"])
    def test_a_column_is_named(self, wrong: Any) -> None:
        with pytest.raises(InputError, match=r"fields: shard is .*: name one column"):
            osc.Fields(shard=wrong)

    def test_numbers_stay_what_they_are_when_their_column_takes_fractions(
        self, open_store: Callable[..., osc.Store]
    ) -> None:
        store = open_store(fields=self.FIELDS)
        store.ingest([row(number, tenant=number % 2) for number in range(4)])
        store.ingest(rows(4, tenant=1.5) + rows(5, tenant=1.0))
        store.ingest(rows(6, tenant=0))
        assert self.names(store) == {"tenant=0": 3, "tenant=1": 3, "tenant=1.5": 1}

    def test_their_centres_go_along(self, open_store: Callable[..., osc.Store]) -> None:
        """Nothing is assigned by them, but questions are routed by them."""
        store = open_store(fields=self.FIELDS)
        store.ingest(rows(0, 1, tenant="t"))
        store.ingest(rows(*range(3, 33, 6), tenant="t"))
        store.maintain()
        vectors = store.current().vectors(np.arange(7)).astype(np.float64)
        mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
        np.testing.assert_allclose(sharded_of(store).levels[0].centres, mean[None], atol=1e-6)
