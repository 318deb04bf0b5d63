"""Routing: where a question goes, that nothing is lost on the way, and what its receipt says."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_model import sharded_of

import oscillink_store as osc
from oscillink_store.engine import candidates
from oscillink_store.engine.candidates import dense_matches
from oscillink_store.engine.route import PER_CANDIDATE, route
from oscillink_store.errors import QueryError
from oscillink_store.lattice import hierarchy
from oscillink_store.lattice.rank import order, trusted
from oscillink_store.model import Detail

PARAMETERS = osc.Parameters(
    shards_from=1, shard_anchors=8, max_nodes=8, knn_neighbors=4, route_shards=2,
    dense_candidates=10, text_candidates=10,
)  # fmt: skip
EVERYWHERE = replace(PARAMETERS, route_share=1.0)
GROUPS, D = 12, 16


def rows(first: int, count: int) -> Iterator[dict[str, Any]]:
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        group = number % GROUPS
        vector = 2.0 * (np.arange(D) == group) + 0.6 * rng.standard_normal(D)
        yield {
            "id": f"a{number}", "text": f"note {number} on topic{group}", "vector": vector,
            "gate": [1.0, 1.0, 0.5][number % 3], "group": group, "title": f"Topic {number}",
            "links": [f"a{number // 2}"],
        }  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("routing") / "s.osc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hierarchy, "CHILDREN", 4)
        with osc.connect(path, parameters=PARAMETERS) as store:
            store.ingest(rows(0, 300))
            store.ingest(rows(300, 60))
            store.delete([f"a{number}" for number in range(0, 60, 7)])
    return path


@pytest.fixture(scope="module")
def store(root: Path) -> Iterator[osc.Store]:
    with osc.connect(root) as opened:
        assert len(sharded_of(opened).levels) == 3
        yield opened


def question(number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(1000 + number)
    return (np.arange(D) == number % GROUPS) + 0.2 * rng.standard_normal(D)


def unit(vector: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@given(st.integers(0, 500))
def test_the_way_down_is_as_told(store: osc.Store, number: int) -> None:
    """At every level the best of what is under the nodes chosen above, enough of them."""
    snapshot, sharded = store.current(), sharded_of(store)
    parameters = replace(
        PARAMETERS, route_shards=1 + number % 5, route_share=(number % 7) / 20,
        route_flow=float(number % 2),
    )  # fmt: skip
    psi = unit(question(number))
    count = number % 3 * 5
    routed = route(snapshot, sharded, psi, count, parameters)
    assert [layer.level for layer in routed.layers] == [2, 1, 0]
    nodes = np.arange(len(sharded.levels[-1].items))
    for layer in routed.layers:
        level = sharded.levels[layer.level]
        assert layer.nodes.tolist() == nodes.tolist()
        wanted = trusted(level.centres[nodes].astype(np.float64) @ psi, level.gates[nodes])
        np.testing.assert_allclose(layer.evidence, wanted, atol=1e-6)
        assert (layer.gates is None) == (layer.level < 2 or not parameters.route_flow)
        best = nodes[order(layer.scores, nodes)]
        best = best[level.anchors[best] > 0]
        assert layer.chosen.tolist() == best[: len(layer.chosen)].tolist()
        if layer.level:
            parents = sharded.levels[layer.level - 1].parents
            nodes = np.flatnonzero(np.isin(parents, layer.chosen))
    shards = routed.layers[-1].chosen
    anchors = sharded.levels[0].anchors[shards]
    wanted = max(parameters.route_share * len(store), PER_CANDIDATE * count)
    assert len(shards) >= parameters.route_shards
    assert anchors.sum() >= wanted
    assert anchors[:-1].sum() < wanted or len(shards) == parameters.route_shards
    assert routed.slots.tolist() == sharded.slots_in(shards.tolist(), snapshot.alive).tolist()


def test_empty_shards_are_none_of_those_that_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hierarchy, "CHILDREN", 16)
    with osc.connect(tmp_path / "s.osc", parameters=PARAMETERS) as store:
        store.ingest(rows(0, 400))
        sharded = sharded_of(store)
        top = sharded.levels[1]
        crowd = int(np.argmax(top.items))
        under = np.flatnonzero(sharded.levels[0].parents == crowd)
        slots = sharded.slots_in(under[1:].tolist(), None)
        store.delete([row["id"] for row in store.current().anchor_rows(slots)])
        parameters = replace(PARAMETERS, route_shards=len(under) // 4, route_share=0.0)
        routed = route(store.current(), sharded_of(store), top.centres[crowd], 0, parameters)
        assert crowd in routed.layers[0].chosen
        assert len(routed.layers[-1].chosen) >= parameters.route_shards


@given(st.integers(0, 500), st.sampled_from([1, 10, 40]))
def test_with_all_shards_the_candidates_are_those_of_a_whole_scan(
    store: osc.Store, number: int, count: int
) -> None:
    snapshot, psi = store.current(), unit(question(number))
    routed = route(snapshot, sharded_of(store), psi, count, EVERYWHERE)
    assert routed.slots.tolist() == snapshot.alive_slots.tolist()
    flat = dense_matches(snapshot, psi, count, None)
    found = dense_matches(snapshot, psi, count, None, routed)
    assert found.rows.tolist() == flat.rows.tolist()
    assert (found.mean, found.deviation) == (flat.mean, flat.deviation)
    assert found.routed is not None
    assert found.routed.walked == 0


@pytest.mark.parametrize("ranking", ["lattice", "hybrid", "dense", "mmr"])
def test_answers_with_all_shards_are_those_without(store: osc.Store, ranking: Any) -> None:
    parameters = replace(EVERYWHERE, ranking=ranking)
    for number in range(6):
        asked: dict[str, Any] = {"vector": question(number), "k": 7, "parameters": parameters}
        if number % 2:
            asked["text"] = f"what of topic{number}"
        routed, flat = (store.search(**asked, route=route) for route in (True, False))
        assert routed.hits == flat.hits
        assert routed.receipt.content["candidates"] == flat.receipt.content["candidates"]
        assert flat.receipt.content["layers"]["route"] is None
        assert routed.receipt.content["layers"]["route"]["visited"] == len(store)


def test_neighbours_in_other_shards_are_walked_to(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few shards find most of what a whole scan does; without the lattice they find less."""
    monkeypatch.setattr(candidates, "_ASTRAY", 1.0)
    few = replace(PARAMETERS, route_shards=1, route_share=0.0)

    def shared() -> tuple[int, int]:
        found = walked = 0
        for number in range(24):
            asked = {"vector": question(number), "k": 10, "ranking": "dense"}
            routed = store.search(**asked, parameters=few, route=True)
            flat = store.search(**asked, route=False)
            found += len(set(routed.ids) & set(flat.ids))
            told = routed.receipt.content["layers"]["route"]
            assert told["visited"] < len(store) / 4
            assert told["visited"] + told["walked"] <= told["anchors"] == len(store)
            walked += told["walked"]
        return found, walked

    found, walked = shared()
    assert found > 0.8 * 240
    assert walked > 0
    monkeypatch.setattr(candidates, "_ROUNDS", 0)
    less, none = shared()
    assert (less < found, none) == (True, 0)


def test_where_the_lattice_leads_away_all_anchors_are_looked_at(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(PARAMETERS, route_shards=1, route_share=0.0)
    monkeypatch.setattr(candidates, "_ASTRAY", 0.0)
    astray = 0
    for number in range(24):
        asked: dict[str, Any] = {"vector": question(number), "k": 10, "parameters": few}
        routed, flat = (store.search(**asked, route=route) for route in (True, False))
        if routed.receipt.content["layers"]["route"] is None:
            astray += 1
            assert routed.hits == flat.hits
            assert routed.receipt.content_hash == flat.receipt.content_hash
        assert store.replay(routed.receipt).status == "identical"
    assert astray > 0


def test_anchors_of_visited_shards_are_not_walked_to(
    store: osc.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the scan left them out, as there were better ones."""
    monkeypatch.setattr(candidates, "_RESCORED", 4)
    monkeypatch.setattr(candidates, "_MARGIN", 0.0)
    snapshot, psi = store.current(), unit(question(3))
    routed = route(snapshot, sharded_of(store), psi, 2, EVERYWHERE)
    found = dense_matches(snapshot, psi, 2, None, routed)
    assert found.routed is not None
    assert found.routed.walked == 0


def test_a_question_is_routed_where_it_can_be(store: osc.Store) -> None:
    asked = {"vector": question(1)}
    assert store.search(**asked).receipt.content["layers"]["route"] is not None
    for others in ({"where": "group = 1"}, {"ranking": "text", "text": "topic1"}):
        found = store.search(**{**asked, **others})
        assert found.receipt.content["layers"]["route"] is None
    reranked = store.rerank(["a1", "a13", "a20"], vector=question(1))
    assert reranked.receipt.content["layers"]["route"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": True, "where": "group = 1"}, "without a filter"),
        ({"route": True, "ranking": "text", "text": "topic1"}, "with a vector"),
        ({"route": True, "text": "topic1", "vector": None}, "with a vector"),
        ({"route": 1}, "route is 1: pass True, False"),
        ({"route": "yes"}, "route is 'yes'"),
        ({"parameters": replace(PARAMETERS, shard_anchors=9)}, "shard_anchors is 9"),
        ({"parameters": replace(PARAMETERS, max_nodes=9)}, "max_nodes is 9"),
    ],
)
def test_what_cannot_be_routed_is_refused(
    store: osc.Store, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        store.search(**{"vector": question(1), **options})


def test_a_store_without_shards_routes_nothing(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc") as store:
        store.ingest(rows(0, 5))
        with pytest.raises(QueryError, match="has no shards yet"):
            store.search(vector=question(1), route=True)
        for choice in (None, False):
            assert "layers" not in store.search(vector=question(1), route=choice).receipt.content


@pytest.mark.parametrize("name", ["route_shards", "shards_from", "shard_anchors", "max_nodes"])
def test_numbers_of_shards_are_whole_and_positive(name: str) -> None:
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(QueryError, match=name):
            osc.Parameters(**{name: wrong})


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "all"])
def test_a_share_of_the_anchors_is_a_share(wrong: Any) -> None:
    with pytest.raises(QueryError, match="route_share"):
        osc.Parameters(route_share=wrong)


def test_the_layers_of_a_receipt_add_up(store: osc.Store) -> None:
    names = {node["id"] for node in store.summaries().to_pylist()}
    crossing = 0
    for number in range(20):
        asked: dict[str, Any] = {"vector": question(number), "route": bool(number % 2)}
        if number % 3 == 0:
            asked["text"] = f"what of topic{number}"
        content = store.search(**asked, k=8).receipt.content
        layers = content["layers"]
        shards, overlap = layers["shards"], layers["overlap"]
        total = math.fsum([*(shard["delta_h"] for shard in shards), -overlap["delta_h"]])
        assert total == pytest.approx(content["delta_h"], rel=1e-6)
        count = sum(shard["null_points"] for shard in shards) - overlap["null_points"]
        assert count == content["null_point_count"]
        assert sum(shard["candidates"] for shard in shards) == len(content["candidates"])
        assert {shard["shard"] for shard in shards} == of_candidates(store, content["candidates"])
        crossing += overlap["edges"]
        if layers["route"] is not None:
            levels = layers["route"]["levels"]
            assert [level["level"] for level in levels] == [3, 2, 1]
            for level in levels:
                assert set(level["chosen"]) <= names
                assert len(level["chosen"]) == min(level["chosen_count"], 64)
            told = layers["route"]["super"]
            assert told["nodes"] >= levels[0]["chosen_count"]
            assert told["delta_h"] >= 0.0
            assert {name for point in told["null_points"] for name in point[:2]} <= names
    assert crossing > 0


def of_candidates(store: osc.Store, ids: Any) -> set[str]:
    sharded = sharded_of(store)
    own = sharded.shards_of(store.current().slots_of_ids(list(ids)))
    return {sharded.name(0, shard) for shard in own.tolist()}


@pytest.mark.parametrize("detail", ["light", "full"])
@pytest.mark.parametrize("routed", [True, False])
def test_it_is_replayed_to_the_bit(store: osc.Store, detail: Detail, routed: bool) -> None:
    results = [
        store.search(
            f"what of topic{number}", vector=question(number), route=routed, detail=detail,
            parameters=replace(PARAMETERS, route_flow=0.5 * number, route_shards=1 + number),
        )
        for number in range(3)
    ]  # fmt: skip
    for result in results:
        assert ("levels" in (result.receipt.content["layers"]["route"] or {})) == (
            routed and detail == "full"
        )
        report = store.replay(result.receipt)
        assert (report.status, report.differences) == ("identical", ())


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import oscillink_store as osc
from test_routing import asked_of
with osc.connect(Path(sys.argv[1]), read_only=True) as store:
    print(*asked_of(store))
"""


def asked_of(store: osc.Store) -> list[str]:
    """Hashes of routed answers."""
    flow = replace(PARAMETERS, route_flow=1.0)
    return [
        store.search(vector=question(number), parameters=flow, k=6).receipt.content_hash
        for number in range(6)
    ]


def test_threads_and_processes_answer_alike(store: osc.Store, root: Path) -> None:
    wanted = asked_of(store)
    assert len(set(wanted)) == 6
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(asked_of, [store] * 6):
            assert found == wanted
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(root), str(Path(__file__).parent)],
            capture_output=True, text=True, timeout=100, check=True,
            env={"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        )  # fmt: skip
        assert done.stdout.split() == wanted


def test_sql_shows_the_summary_nodes(store: osc.Store) -> None:
    with duckdb.connect() as con:
        osc.attach(con, store)
        shown = con.sql("FROM coherent_summaries").to_arrow_table()
        assert shown.to_pylist() == store.summaries().to_pylist()
        assert shown.schema.names == store.summaries().schema.names
        ((levels, anchors),) = con.execute(
            "SELECT max(level), sum(anchors) FILTER (level = 1) FROM coherent_summaries"
        ).fetchall()
    assert (levels, anchors) == (3, len(store))
