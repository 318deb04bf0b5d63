"""Gates of summary nodes: what hangs below counts by them, and the receipts tell."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_run import Run

import oscillink_store as osc
from oscillink_store.errors import InputError, MissingError, QueryError

PARAMETERS = osc.Parameters(shards_from=1, shard_anchors=20, max_nodes=8)


def rows(first: int, count: int) -> list[dict[str, Any]]:
    made = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        group = number % 9
        made.append(
            {
                "id": f"a{number}",
                "text": f"note {number} of group {group}",
                "tenant": group % 3,
                "vector": rng.standard_normal(12) + 3.0 * (np.arange(12) == group),
            }
        )
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gates") / "s.osc"
    with osc.connect(path, parameters=PARAMETERS) as store:
        store.ingest(rows(0, 400))
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[osc.Store]:
    shutil.copytree(template, tmp_path / "s.osc")
    with osc.connect(tmp_path / "s.osc", parameters=PARAMETERS) as opened:
        yield opened


def question(group: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return (np.arange(12) == group).astype(np.float64)


def shard_of(store: osc.Store, anchor: str) -> str:
    snapshot = store.current()
    assert snapshot.sharded is not None
    return snapshot.sharded.name(
        0, int(snapshot.sharded.shards_of(snapshot.slots_of_ids([anchor]))[0])
    )


def summary(store: osc.Store, name: str) -> dict[str, Any]:
    (found,) = [row for row in store.summaries().to_pylist() if row["id"] == name]
    return found


def test_a_suppressed_shard_scales_what_is_in_it(store: osc.Store) -> None:
    before = store.search(vector=question(4), k=50, route=False)
    shard = shard_of(store, before.ids[0])
    report = store.set_gates(0.25, shards=shard)
    assert (report.changed, report.unchanged) == (1, 0)
    after = store.search(vector=question(4), k=200, route=False)
    evidence = {hit.id: hit.evidence for hit in after}
    inside = 0
    for hit in before:
        if hit.id not in evidence or hit.evidence <= 0:
            continue
        mine = shard_of(store, hit.id) == shard
        inside += mine
        assert evidence[hit.id] == pytest.approx(hit.evidence * (0.25 if mine else 1.0), rel=1e-6)
    assert inside
    assert store.get(before.ids[:1])[0]["gate"] == 1.0  # its own is what it was


def test_gates_multiply_down_the_levels(store: osc.Store) -> None:
    first = store.search(vector=question(2), k=1, route=False)[0]
    shard = shard_of(store, first.id)
    region = summary(store, shard)["parent"]
    assert region is not None
    for name in (shard, region):
        store.set_gates(0.5, shards=name)
    store.set_gates(0.5, ids=first.id)
    snapshot = store.current()
    slots = snapshot.slots_of_ids([first.id])
    assert snapshot.trust(slots).tolist() == [0.125]
    assert snapshot.gates[slots].tolist() == [0.5]


def test_a_node_without_trust_hides_what_is_below(store: osc.Store) -> None:
    shard = shard_of(store, store.search(vector=question(7), k=1)[0].id)
    store.set_gates(0.0, shards=shard)
    for route in (True, False):
        found = store.search(vector=question(7), k=5, route=route)
        assert all(shard_of(store, name) != shard for name in found.ids)
    store.set_gates(1.0, shards=shard)
    assert shard_of(store, store.search(vector=question(7), k=1)[0].id) == shard


def test_counts_above_follow_at_once(store: osc.Store) -> None:
    shard = shard_of(store, "a3")
    region = summary(store, shard)["parent"]
    whole = summary(store, region)["weight"]
    store.set_gates(0.5, shards=shard)
    node = summary(store, shard)
    assert (node["held"], node["gate"]) == (0.5, 0.5)
    assert node["weight"] == node["anchors"]  # its anchors' own gates
    assert summary(store, region)["weight"] == pytest.approx(whole - node["weight"] / 2)


def test_gates_of_anchors_reach_their_node(store: osc.Store) -> None:
    shard = shard_of(store, "a3")
    before = summary(store, shard)
    store.set_gates({"a3": 0.25})
    assert summary(store, shard)["weight"] == pytest.approx(before["weight"] - 0.75)


def test_a_node_keeps_its_gate(store: osc.Store) -> None:
    shard = shard_of(store, "a3")
    store.set_gates(0.5, shards=shard)
    store.ingest(rows(1000, 40))
    store.delete([f"a{number}" for number in range(100, 140)])
    store.maintain()
    assert summary(store, shard)["held"] == 0.5
    with osc.connect(store.path) as again:
        slots = again.current().slots_of_ids(["a3"])
        assert again.current().trust(slots).tolist() == [0.5]


def test_pieces_of_a_divided_shard_inherit_the_gate(store: osc.Store) -> None:
    shard = shard_of(store, "a4")
    store.set_gates(0.5, shards=shard)
    vector = store.get("a4")[0]["vector"]
    near = [
        {"id": f"n{number}", "text": "near", "tenant": 0,
         "vector": vector + 0.01 * np.random.default_rng(number).standard_normal(12)}
        for number in range(120)
    ]  # fmt: skip
    store.ingest(near)
    snapshot = store.current()
    slots = snapshot.slots_of_ids([row["id"] for row in near])
    assert len({shard_of(store, row["id"]) for row in near}) > 1
    assert set(snapshot.trust(slots).tolist()) == {0.5}


def test_receipts_tell_and_replay(store: osc.Store) -> None:
    shard = shard_of(store, "a4")
    before = store.search(vector=question(4), k=5)
    report = store.set_gates(0.5, shards=[shard, shard])
    assert report.receipt is not None
    assert report.receipt.content["nodes"] is True
    assert report.receipt.content["count"] == 1
    after = store.search(vector=question(4), k=5)
    assert before.receipt.content["state"]["gates"] != after.receipt.content["state"]["gates"]
    assert store.replay(after.receipt).status == "identical"
    assert store.verify().ok


def test_the_same_gate_again_is_no_new_generation(store: osc.Store) -> None:
    shard = shard_of(store, "a4")
    store.set_gates(0.1, shards=shard)
    again = store.set_gates(0.1, shards=shard)
    assert (again.changed, again.unchanged, again.receipt) == (0, 1, None)


def test_another_column_is_refused_while_nodes_have_gates(store: osc.Store) -> None:
    shard = shard_of(store, "a4")
    store.set_gates(0.1, shards=shard)
    with pytest.raises(InputError, match="set those to 1 first"):
        store.ingest(rows(500, 1), fields=osc.Fields(shard="tenant"))
    store.set_gates(1.0, shards=shard)
    store.ingest(rows(500, 1), fields=osc.Fields(shard="tenant"))
    names = {row["id"] for row in store.summaries().to_pylist()}
    assert names == {"tenant=0", "tenant=1", "tenant=2"}


def test_what_is_no_node_is_refused(store: osc.Store, tmp_path: Path) -> None:
    generation = store.generation
    with pytest.raises(MissingError, match="'nowhere' is no summary node"):
        store.set_gates(0.5, shards="nowhere")
    with pytest.raises(QueryError, match="one of ids, where and shards"):
        store.set_gates(0.5, shards="shard-0", ids="a1")
    with pytest.raises(InputError, match="from 0 to 1"):
        store.set_gates(1.5, shards="shard-0")
    assert store.generation == generation
    with osc.connect(tmp_path / "flat.osc") as flat:
        flat.ingest(rows(0, 5))
        with pytest.raises(MissingError, match="the store has none"):
            flat.set_gates(0.5, shards="shard-0")


def test_the_command_line(store: osc.Store, cli: Callable[..., Run]) -> None:
    path, shard = str(store.path), shard_of(store, "a4")
    store.close()
    ran = cli("gate", path, "0.5", "--shard", shard)
    assert ran.code == 0, ran.err
    assert "1 gates changed" in ran.out
    assert cli("gate", path, "0.5", "--shard", shard, "--id", "a1").code == 2
