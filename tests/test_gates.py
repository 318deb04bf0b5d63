"""Trust gates: what they do to a ranking, and how they are set, kept, carried over and folded."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import lance
import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_run import Run
from dense_lattice import adjacency_of, laplacian_of, random_weights
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

import oscillink_store as osc
from oscillink_store.errors import InputError, MissingError, QueryError, ReadOnlyError
from oscillink_store.filters import Compare, Ids
from oscillink_store.lattice.settle import diffuse
from oscillink_store.receipts.canonical import digest, text_digest
from oscillink_store.storage.manifest import publish, read_current

QUESTION = "who owned The Collegian?"


def gates(reader: Any) -> dict[str, float]:
    """The gates other than 1, which the table, the mapped rows and single anchors agree on."""
    table = reader.to_arrow(["id", "gate"])
    assert reader.current().present(names=["id", "gate"]).equals(table)
    ids = table["id"].to_pylist()
    assert [row["gate"] for row in reader.get(ids)] == table["gate"].to_pylist()
    held = zip(ids, table["gate"].to_pylist(), strict=True)
    return {name: round(gate, 6) for name, gate in held if gate != 1.0}


def numbers(hit: osc.Hit) -> tuple[Any, ...]:
    return hit.id, hit.score, hit.evidence, hit.gate, hit.coherence, hit.cosine


# what a gate does


@given(
    n=st.integers(1, 60),
    degree=st.floats(0.0, 8.0),
    screening=st.floats(0.05, 4.0),
    cut=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_trust_restrains_what_flows(
    n: int, degree: float, screening: float, cut: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole = random_weights(2 * n, degree, rng)
    trust = np.where(rng.random(n) < 0.5, rng.random(n), 1.0)
    sources = np.where(rng.random(n) < 0.3, rng.random(n), 0.0)
    A = whole[:n, :n].copy()
    L = laplacian_of(whole)[:n, :n] if cut else laplacian_of(A)
    L = np.diag(np.diag(L)) + (L - np.diag(np.diag(L))) * np.outer(trust, trust)
    spectrum = np.linalg.eigvalsh(L)
    assert spectrum.min() >= -1e-12
    assert spectrum.max() <= 2 + 1e-12
    degrees = whole.sum(axis=1)[:n].copy() if cut else None
    parameters = osc.Parameters(screening=screening, tolerance=1e-10)
    found = diffuse(adjacency_of(A), sources, parameters, degrees=degrees, trust=trust)
    exact = np.linalg.solve(L + screening * np.eye(n), screening * sources)
    assert found.converged
    np.testing.assert_allclose(found.gates, exact, atol=1e-8)
    free = diffuse(adjacency_of(A), sources, parameters, degrees=degrees)
    assert (found.gates <= free.gates + 1e-8).all()  # lost, not sent elsewhere
    heat = osc.Parameters(diffusion="heat")
    found = diffuse(adjacency_of(A), sources, heat, degrees=degrees, trust=trust)
    np.testing.assert_allclose(found.gates, expm(-heat.heat_time * L) @ sources, atol=3e-5)


@pytest.mark.parametrize("diffusion", ["screened", "heat"])
def test_full_trust_is_no_trust_to_the_bit(diffusion: Any) -> None:
    rng = np.random.default_rng(3)
    adjacency = adjacency_of(random_weights(40, 5, rng))
    sources, parameters = rng.random(40), osc.Parameters(diffusion=diffusion)
    plain = diffuse(adjacency, sources, parameters)
    assert np.array_equal(
        diffuse(adjacency, sources, parameters, trust=np.ones(40)).gates, plain.gates
    )


def test_gates_of_one_change_no_bit_of_an_answer(store: osc.Store) -> None:
    before = [numbers(hit) for hit in store.search(QUESTION)]
    store.set_gates(0.3, where="lang = 'en'")
    between = [numbers(hit) for hit in store.search(QUESTION)]
    store.set_gates(1.0, where="true")
    assert [numbers(hit) for hit in store.search(QUESTION)] == before != between
    assert store.current().gate_overlay is not None


def test_what_is_distrusted_sinks(store: osc.Store) -> None:
    trusted = {hit.id: hit for hit in store.search(QUESTION)}
    assert next(iter(trusted)) == "collegian"
    store.set_gates(0.02, ids="collegian")
    doubted = {hit.id: hit for hit in store.search(QUESTION)}
    assert next(iter(doubted)) != "collegian"
    assert doubted["collegian"].evidence == pytest.approx(trusted["collegian"].evidence * 0.02)
    assert doubted["collegian"].gate < 0.02


@pytest.mark.parametrize("diffusion", ["screened", "heat"])
def test_what_is_distrusted_passes_nothing_on(tmp_path: Path, diffusion: Any) -> None:
    """From a source through a bridge to a leaf, and from the same source to another leaf."""
    rng = np.random.default_rng(1)
    question = np.eye(16)[0]
    rows = [{"id": f"x{n}", "text": f"x {n}", "vector": rng.normal(size=16)} for n in range(40)]
    for name, links in {
        "source": ["bridge", "other"],
        "bridge": ["leaf"],
        "other": ["twig"],
    }.items():
        vector = question if name == "source" else rng.normal(size=16)
        rows.append({"id": name, "text": name, "vector": vector, "links": links})
    rows += [{"id": name, "text": name, "vector": rng.normal(size=16)} for name in ("leaf", "twig")]
    parameters = osc.Parameters(
        sources=1, shared_weight=0.0, knn_weight=0.0, diffusion=diffusion, dense_candidates=100
    )
    with osc.connect(tmp_path / "flow.osc") as store:
        store.ingest(rows)
        one = {h.id: h.gate for h in store.search(vector=question, k=50, parameters=parameters)}
        store.set_gates(0.1, ids="bridge")
        two = {h.id: h.gate for h in store.search(vector=question, k=50, parameters=parameters)}
    assert one["leaf"] > 0.01
    assert two["leaf"] < one["leaf"] / 50  # once into the bridge and once out of it
    assert two["twig"] == pytest.approx(one["twig"], rel=0.2)


def test_evidence_against_an_anchor_counts_in_full(store: osc.Store) -> None:
    """Else a gate would lift what the question speaks against."""
    before = {hit.id: hit.evidence for hit in store.search(QUESTION, k=6)}
    assert before["cake"] < 0 < before["hbu"]
    store.set_gates(0.5, ids=["cake", "hbu"])
    after = {hit.id: hit.evidence for hit in store.search(QUESTION, k=6)}
    assert after["cake"] == before["cake"]
    assert after["hbu"] == before["hbu"] / 2


@pytest.mark.parametrize("ranking", ["dense", "text", "mmr"])
def test_plain_rankings_stay_plain(store: osc.Store, ranking: Any) -> None:
    before = [(hit.id, hit.score) for hit in store.search(QUESTION, ranking=ranking)]
    store.set_gates(0.02, ids="collegian")
    assert [(hit.id, hit.score) for hit in store.search(QUESTION, ranking=ranking)] == before


def test_hybrid_and_reranked_answers_follow_gates(store: osc.Store) -> None:
    some = ["collegian", "hbu", "cake"]
    assert store.search(QUESTION, ranking="hybrid").ids[0] == "collegian"
    assert store.rerank(some, QUESTION).ids[0] == "collegian"
    store.set_gates(0.0, ids="collegian")
    assert store.search(QUESTION, ranking="hybrid").ids[0] != "collegian"
    assert store.rerank(some, QUESTION).ids[0] != "collegian"


# setting them


def frame(store: osc.Store) -> pd.DataFrame:
    return pd.DataFrame({"id": ["hbu", "cake"], "gate": [0.5, 0.25]})


def relation(store: osc.Store) -> Any:
    return duckdb.sql("SELECT * FROM (VALUES ('hbu', 0.5), ('cake', 0.25)) t(id, gate)")


FORMS: dict[str, Callable[[osc.Store], Any]] = {
    "mapping": lambda store: {"hbu": 0.5, "cake": np.float32(0.25)},
    "rows": lambda store: [{"id": "hbu", "gate": 0.5}, {"id": "cake", "gate": 0.25}],
    "table": lambda store: pa.table(
        {"id": ["hbu", "cake", "cake"], "more": [1, 2, 3], "gate": [0.5, 0.25, 0.25]}
    ),
    "frame": frame,
    "relation": relation,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_gate_for_each(store: osc.Store, form: str) -> None:
    report = store.set_gates(FORMS[form](store))
    assert (report.generation, report.changed, report.unchanged) == (2, 2, 0)
    assert gates(store) == {"hbu": 0.5, "cake": 0.25}
    again = store.set_gates(FORMS[form](store))
    assert (again.generation, again.changed, again.unchanged) == (2, 0, 2)
    assert again.receipt is None


@pytest.mark.parametrize(
    "options",
    [
        {"where": "lang = 'de' OR id = 'cake'"},
        {"where": Compare("lang", "eq", "de") | Ids(["cake"])},
        {"ids": ["zeitung", "cake", "zeitung"]},
    ],
    ids=repr,
)
def test_one_gate_for_all_that_are_chosen(store: osc.Store, options: dict[str, Any]) -> None:
    assert store.set_gates(0, **options).changed == 2
    assert gates(store) == {"zeitung": 0.0, "cake": 0.0}


def test_predicates_see_the_gates(store: osc.Store) -> None:
    store.set_gates({"hbu": 0.5, "cake": 0.25})
    assert store.set_gates(0.75, where="gate < 0.5").changed == 1
    assert gates(store) == {"hbu": 0.5, "cake": 0.75}
    assert set(store.search(QUESTION, where="gate < 1").ids) == {"hbu", "cake"}
    assert store.set_gates(1, where="gate < 1").changed == 2
    assert gates(store) == {}


def test_nothing_chosen_is_nothing_done(store: osc.Store) -> None:
    for given_, options in ((0.5, {"where": "lang = 'fr'"}), (0.5, {"ids": []}), ({}, {})):
        report = store.set_gates(given_, **options)
        assert (report.generation, report.changed, report.unchanged) == (1, 0, 0)
    with osc.connect(store.path.with_name("empty.osc")) as empty:
        assert empty.set_gates(0.5, where="true").changed == 0
        with pytest.raises(MissingError, match="'a' is not in the store"):
            empty.set_gates({"a": 0.5})


WRONG: dict[str, tuple[type[Exception], str, Any, dict[str, Any]]] = {
    "an unknown id": (MissingError, "'nobody' is not in", {"hbu": 0.5, "nobody": 0.5}, {}),
    "more than 1": (InputError, "gate is 1.5: give a number from 0", 1.5, {"ids": "hbu"}),
    "less than 0": (InputError, "gate of 'hbu' is -0.1", {"hbu": -0.1}, {}),
    "NaN": (InputError, "gate is nan", math.nan, {"where": "true"}),
    "a truth value": (InputError, "gate is True", True, {"ids": "hbu"}),
    "text": (InputError, "gate of 'hbu' is '0.5'", {"hbu": "0.5"}, {}),
    "no gate": (InputError, "row 1: 'gate' is missing",
                [{"id": "hbu", "gate": 1}, {"id": "cake", "gate": None}], {}),
    "no id": (InputError, "row 0: 'id' is missing", [{"id": None, "gate": 1}], {}),
    "no column": (InputError, "no column 'gate' among id, trust", [{"id": "a", "trust": 1}], {}),
    "two gates": (InputError, "row 1: 'gate' is 0.5 where an earlier row has 0.25 for 'hbu'",
                  [{"id": "hbu", "gate": 0.25}, {"id": "hbu", "gate": 0.5}], {}),
    "beyond 1 in a table": (InputError, "row 0: 'gate' is 2.0",
                            pa.table({"id": ["hbu"], "gate": [2.0]}), {}),
    "a missing file": (InputError, "gates.csv", "gates.csv", {}),
    "an object": (InputError, "holds no rows", object(), {}),
    "neither ids nor where": (QueryError, "one of ids, where and shards", 0.5, {}),
    "both": (QueryError, "one of ids, where and shards", 0.5, {"ids": "hbu", "where": "true"}),
    "a table and ids": (QueryError, "go with one gate", {"hbu": 0.5}, {"ids": "hbu"}),
    "ids that are numbers": (QueryError, "pass ids as strings", {5: 0.5}, {}),
    "no predicate": (QueryError, "where", 0.5, {"where": ""}),
    "an unknown column": (QueryError, "No field named year", 0.5, {"where": "year = 3"}),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_set_changes_nothing(store: osc.Store, case: str) -> None:
    kind, words, given_, options = WRONG[case]
    with pytest.raises(kind, match=words):
        store.set_gates(given_, **options)
    assert (store.generation, gates(store)) == (1, {})


def test_the_receipt_names_what_was_changed(store: osc.Store) -> None:
    report = store.set_gates(0.25, where="lang = 'de' OR id = 'cake'")
    assert report.receipt is not None
    assert report.receipt.verify()
    assert report.receipt.content == {
        "kind": "gates", "generation": 2, "parent": 1, "count": 2, "anchors": 6,
        "where": text_digest("lang = 'de' OR id = 'cake'"),
        "gates": digest([["cake", 0.25], ["zeitung", 0.25]]),
        "manifest": store.current().manifest.sha256,
    }  # fmt: skip
    assert store.set_gates({"hbu": 0.5}).receipt.content["where"] is None
    assert sorted(store.receipts()["kind"].to_pylist()) == ["gates", "gates", "ingest"]
    assert store.verify().problems == ()


def test_a_search_is_replayed_with_the_gates_of_its_generation(store: osc.Store) -> None:
    store.set_gates({"collegian": 0.25})
    receipt = store.search(QUESTION).receipt
    store.set_gates({"collegian": 0.5})
    assert store.replay(receipt, text=QUESTION).status == "identical"
    other = store.search(QUESTION).receipt
    assert receipt.content["state"]["gates"] != other.content["state"]["gates"]


def test_a_generation_made_up_in_place_of_one_with_other_gates_is_told(store: osc.Store) -> None:
    store.set_gates({"hbu": 0.5})
    manifest = read_current(store.path)
    publish(store.path, replace(manifest, created="2020-01-01T00:00:00.000000+00:00"))
    (problem,) = store.verify().problems
    assert "0000000002.json is not the manifest that was written" in problem


# what becomes of them


def test_a_gate_outlives_new_content_unless_that_brings_its_own(store: osc.Store) -> None:
    store.set_gates({"hbu": 0.5, "cake": 0.25, "dallas": 0.75})
    report = store.ingest(
        [
            {"id": "hbu", "text": "Sold since."},
            {"id": "cake", "text": "Only flour.", "gate": 0.9},
            {"id": "dallas", "text": "A town.", "gate": None},
            {"id": "new", "text": "Never seen before."},
        ]
    )
    assert (report.added, report.updated) == (1, 3)
    assert gates(store) == {"hbu": 0.5, "cake": 0.9, "dallas": 0.75}
    store.maintain()
    store.ingest([{"id": "hbu", "text": "Bought again."}, {"id": "cake", "text": "No flour."}])
    assert gates(store) == {"hbu": 0.5, "cake": 0.9, "dallas": 0.75}


def test_the_same_content_again_leaves_gates_alone(
    store: osc.Store, rows: list[dict[str, object]]
) -> None:
    store.set_gates({"hbu": 0.5})
    for _ in range(2):
        assert store.ingest(rows).unchanged == len(rows)
        assert store.ingest([row | {"gate": 1.0} for row in rows]).unchanged == len(rows)
        assert gates(store) == {"hbu": 0.5}
        store.maintain()


def test_a_job_keeps_gates(store: osc.Store, rows: list[dict[str, object]]) -> None:
    store.set_gates({"hbu": 0.5})
    changed = [row | {"text": f"{row['text']} Again."} for row in rows]
    assert store.ingest_job(changed, name="nightly", batch=2).updated == len(rows)
    assert gates(store) == {"hbu": 0.5}


def test_a_gate_goes_with_its_anchor(store: osc.Store, rows: list[dict[str, object]]) -> None:
    store.set_gates({"hbu": 0.5, "cake": 0.25})
    store.delete("hbu")
    overlay = store.current().gate_overlay
    assert overlay is not None
    assert overlay.values.tolist() == [0.25]
    store.ingest(rows)
    assert gates(store) == {"cake": 0.25}
    store.delete("cake")
    assert store.current().gate_overlay is None


def test_a_column_that_takes_a_wider_type_keeps_gates(store: osc.Store) -> None:
    store.ingest([{"id": "n", "text": "one", "n": 1}])
    store.set_gates({"n": 0.5, "cake": 0.25})
    store.ingest([{"id": "m", "text": "more", "n": 1.5}, {"id": "cake", "text": "x", "n": 0.5}])
    assert gates(store) == {"n": 0.5, "cake": 0.25}
    assert store.verify().problems == ()


def test_merged_parts_take_their_gates_in(store: osc.Store) -> None:
    store.ingest([{"id": f"a{n}", "text": f"more {n}"} for n in range(40)])
    store.set_gates({"hbu": 0.5, "a3": 0.25})
    store.ingest([{"id": "b", "text": "small"}])
    assert len(store.current().parts) == 2
    store.set_gates({"b": 0.125})
    store.ingest([{"id": "c", "text": "small too"}])
    overlay = store.current().gate_overlay
    assert overlay is not None
    assert overlay.values.tolist() == [0.5, 0.25]
    assert gates(store) == {"hbu": 0.5, "a3": 0.25, "b": 0.125}
    store.ingest([{"id": f"d{n}", "text": f"much {n}"} for n in range(60)])
    assert store.current().gate_overlay is None
    assert gates(store) == {"hbu": 0.5, "a3": 0.25, "b": 0.125}


def test_maintenance_writes_gates_into_the_rows(store: osc.Store) -> None:
    store.maintain()
    store.set_gates({"hbu": 0.5, "cake": 0.25})
    answer = [numbers(hit) for hit in store.search(QUESTION)]
    assert "gates" in store.current().manifest.segments
    store.maintain()
    assert "gates" not in store.current().manifest.segments
    assert store.current().manifest.features["gates"]
    assert gates(store) == {"hbu": 0.5, "cake": 0.25}
    assert [numbers(hit) for hit in store.search(QUESTION)] == answer
    generation = store.generation
    assert store.maintain().generation == generation


def test_only_gates_are_written(store: osc.Store) -> None:
    store.ingest([{"id": f"a{n}", "text": f"more {n}"} for n in range(3)])
    before = store.current().manifest
    table = lance.dataset(str(store.path / "anchors.lance"))
    ids = table.scanner(columns=["id"], with_row_id=True).to_table()
    store.set_gates({"hbu": 0.5})
    after = store.current().manifest
    assert {name: after.segments[name] for name in before.segments} == dict(before.segments)
    known = {file.path for table in before.tables.values() for file in table.files}
    fresh = [f for table in after.tables.values() for f in table.files if f.path not in known]
    # of a fragment without such an anchor not even the gates
    assert sum("/data/" in file.path for file in fresh) == 1
    table = lance.dataset(str(store.path / "anchors.lance"))
    assert table.scanner(columns=["id"], with_row_id=True).to_table().equals(ids)


def test_lancedb_sees_the_gates(store: osc.Store) -> None:
    store.set_gates({"hbu": 0.5})
    store.set_gates({"cake": 0.25, "hbu": 0.75})
    table = lancedb.connect(store.path).open_table("anchors")
    found = table.search().where("gate < 0.8").select(["id", "gate", "text"]).to_list()
    assert {row["id"]: row["gate"] for row in found} == {"hbu": 0.75, "cake": 0.25}
    assert all(row["text"] for row in found)


def test_pinned_generations_keep_their_gates(
    store: osc.Store, make_store: Callable[..., osc.Store]
) -> None:
    store.set_gates({"hbu": 0.5})
    reader = make_store(read_only=True)
    with store.snapshot() as pinned:
        answer = [numbers(hit) for hit in pinned.search(QUESTION)]
        store.set_gates({"hbu": 0.25, "cake": 0.0})
        store.maintain()
        assert gates(pinned) == {"hbu": 0.5}
        assert [numbers(hit) for hit in pinned.search(QUESTION)] == answer
        assert pinned.to_arrow(["id"], where="gate < 1")["id"].to_pylist() == ["hbu"]
    assert gates(reader) == gates(store) == {"hbu": 0.25, "cake": 0.0}
    with pytest.raises(ReadOnlyError, match="set_gates needs a writable store"):
        reader.set_gates(0.5, ids="hbu")


def test_gates_are_there_when_the_store_is_opened_again(
    store: osc.Store, make_store: Callable[..., osc.Store]
) -> None:
    store.set_gates({"hbu": 0.5})
    answer = [numbers(hit) for hit in store.search(QUESTION)]
    store.close()
    again = make_store()
    assert gates(again) == {"hbu": 0.5}
    assert [numbers(hit) for hit in again.search(QUESTION)] == answer


def test_records_and_gates_do_not_forget_each_other(store: osc.Store) -> None:
    store.set_gates({"hbu": 0.5})
    store.write(put=[osc.Record(("n",), "k", 1)])
    store.set_gates({"cake": 0.25})
    assert store.current().manifest.features == {"gates": True, "records": True}
    assert gates(store) == {"hbu": 0.5, "cake": 0.25}


VICTIM = """
import os, signal, sys
import oscillink_store as osc

root, event, part = sys.argv[1:]
armed = False

def hook(name, arguments):
    if armed and name == event and part in os.path.abspath(os.fsdecode(str(arguments[0]))):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
with osc.connect(root) as store:
    store.current().anchors
    armed = True
    store.set_gates(0.25, where="true")
"""


@pytest.mark.parametrize(
    "moment",
    [
        ("open", "/segments/0000000003/gates"),
        ("open", "/manifests/.0000000003.json.tmp"),
        ("os.rename", "/.CURRENT.tmp"),
    ],
    ids=["at the segment", "before the manifest", "before the swap"],
)
def test_a_killed_change_leaves_the_gates_as_they_were(
    store: osc.Store, make_store: Callable[..., osc.Store], moment: tuple[str, str]
) -> None:
    store.set_gates({"hbu": 0.5})
    store.close()
    command = [sys.executable, "-c", VICTIM, str(store.path), *moment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = make_store()
    assert (again.generation, gates(again)) == (2, {"hbu": 0.5})
    assert again.verify().problems == ()
    assert again.set_gates({"cake": 0.25}).generation in (3, 4)
    assert gates(again) == {"hbu": 0.5, "cake": 0.25}
    assert again.verify().problems == ()


# SQL and the command line


@pytest.fixture
def con(store: osc.Store) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        osc.attach(con, store)
        yield con


def test_gates_from_sql_are_one_commit(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    query = "SELECT coherent_gate(list(id), 0.02) FROM coherent_anchors WHERE lang = 'en'"
    con.sql(f"EXPLAIN {query}").fetchall()
    assert store.generation == 1
    assert con.sql(query).fetchall() == [(5,)]
    assert store.generation == 2
    assert set(gates(store).values()) == {0.02}
    assert con.sql("SELECT typeof(coherent_gate([], 1))").fetchall() == [("BIGINT",)]
    none = "SELECT coherent_gate(list(id), 0.02) FROM coherent_anchors WHERE lang = 'fr'"
    assert con.sql(none).fetchall() == [(0,)]
    each = (
        "SELECT coherent_gate(list(id), list(g)) FROM (VALUES ('hbu', 0.5), ('cake', 1)) t(id, g)"
    )
    assert con.sql(each).fetchall() == [(2,)]
    assert con.execute("SELECT coherent_gate($1, $2)", [["dallas"], 0]).fetchall() == [(1,)]
    assert store.generation == 4
    held = con.sql("FROM coherent_anchors SELECT id, gate WHERE gate <> 1").fetchall()
    assert {name: round(gate, 6) for name, gate in held} == gates(store)
    assert gates(store) == {
        "collegian": 0.02, "convention": 0.02, "dallas": 0.0, "hbu": 0.5
    }  # fmt: skip


def test_decimals_of_sql_are_numbers(con: duckdb.DuckDBPyConnection, store: osc.Store) -> None:
    number = con.sql("SELECT 0.25 AS g").fetchall()[0][0]
    assert isinstance(number, Decimal)
    assert con.execute("SELECT coherent_gate(['hbu'], ?)", [number]).fetchall() == [(1,)]
    assert gates(store) == {"hbu": 0.25}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_command_line_takes_a_file(
    cli: Callable[..., Run], store: osc.Store, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"gates{suffix}"
    rows = [{"id": "hbu", "gate": 0.5}, {"id": "cake", "gate": 1.0}]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        path.write_text("id,gate\nhbu,0.5\ncake,1\n")
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = cli("gate", store.path, "--from", path, "--json")
    document = run.document
    assert document.pop("receipt")["hash"] in store.receipts()["hash"].to_pylist()
    assert document == {"store": str(store.path), "generation": 2, "changed": 1, "unchanged": 1}
    assert gates(store) == {"hbu": 0.5}


def test_the_command_line_takes_ids_or_a_predicate(
    cli: Callable[..., Run], store: osc.Store
) -> None:
    run = cli("gate", store.path, "0.25", "--id", "hbu", "--id", "cake")
    assert run.out == "generation 2: 2 gates changed, 0 were so already\n"
    run = cli("gate", store.path, 0.25, "--where", "lang = 'de' OR id = 'cake'")
    assert run.out == "generation 3: 1 gates changed, 1 were so already\n"
    assert gates(store) == {"hbu": 0.25, "cake": 0.25, "zeitung": 0.25}


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ((), "either VALUE", 2),
        (("0.5", "--from", "x.csv"), "either VALUE", 2),
        (("0.5",), "choose the anchors", 2),
        (("0.5", "--id", "hbu", "--where", "true"), "choose the anchors", 2),
        (("--from", "x.csv", "--id", "hbu"), "leave out --id", 2),
        (("1.5", "--id", "hbu"), "from 0 to 1", 1),
        (("0.5", "--id", "nobody"), "'nobody' is not in the store", 1),
        (("--from", "none.csv"), "none.csv", 1),
    ],
)
def test_the_command_line_refuses(
    cli: Callable[..., Run], store: osc.Store, arguments: tuple[str, ...], words: str, code: int
) -> None:
    run = cli("gate", store.path, *arguments)
    assert (run.code, run.out) == (code, "")
    assert words in run.err
    assert store.generation == 1
