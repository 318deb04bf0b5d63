"""Receipts in layers: what the whole says of the parts, and how it is checked and replayed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from math import fsum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from many_stores import APART, fill, make_rows

import oscillink_store as osc
from oscillink_store.errors import IntegrityError, MissingError, QueryError
from oscillink_store.filters import Compare
from oscillink_store.receipts.composed import composed_state, total_delta_h
from oscillink_store.receipts.key import Key
from oscillink_store.receipts.receipt import Receipt, seal
from oscillink_store.receipts.schema import receipt_schema
from oscillink_store.receipts.state import state_signature

ROWS = make_rows(21, seed=3)
PSI = np.random.default_rng(6).normal(size=24)
QUESTION = "word3 word9 Topic 4 by Bob"
ASKED: list[dict[str, Any]] = [
    {"text": QUESTION},
    {"text": QUESTION, "vector": PSI, "k": 30},
    {"vector": PSI, "where": "lang = 'en'"},
    {"text": QUESTION, "where": Compare("n", "lt", 40), "detail": "light"},
    {"text": QUESTION, "vector": PSI, "ranking": "mmr"},
    {"text": QUESTION, "ranking": "text"},
    {"text": QUESTION, "vector": PSI, "ranking": "hybrid"},
    {"vector": PSI, "ranking": "dense", "where": "lang = 'en'"},
    {"text": "nothing heard of"},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three stores; the last holds a copy of some of the first's anchors."""
    folder = tmp_path_factory.mktemp("receipts")
    thirds = [[row for row in ROWS if int(row["sequence"][1:]) % 3 == at] for at in range(3)]
    copied = [row for row in thirds[0] if row["sequence"] in ("s0", "s6", "s12")]
    return [
        fill(folder / f"{at}.osc", rows)
        for at, rows in enumerate([thirds[0], thirds[1], [*thirds[2], *copied]])
    ]


@pytest.fixture
def paths(filled: list[Path], tmp_path: Path) -> list[Path]:
    """The same as one's own."""
    return [Path(shutil.copytree(path, tmp_path / path.name)) for path in filled]


@pytest.fixture
def many(filled: list[Path], tmp_path: Path) -> Iterator[osc.ManyStores]:
    with osc.connect_many(filled, ledger=tmp_path / "ledger") as stores:
        yield stores


@pytest.fixture(scope="module")
def checked() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(receipt_schema())


@pytest.mark.parametrize("asked", ASKED)
def test_every_layer_is_whole_and_comes_out_again(
    many: osc.ManyStores, filled: list[Path], asked: dict[str, Any],
    checked: jsonschema.Draft202012Validator,
) -> None:  # fmt: skip
    result = many.search(**asked, label="mine")
    assert result.verify()
    for receipt in (result.receipt, *result.parts.values()):
        assert receipt.verify()
        assert receipt.label == "mine"
        checked.validate(json.loads(receipt.to_json()))
        assert Receipt.from_json(receipt.to_json()) == receipt
        assert receipt.seconds is not None
    report = many.replay(result.receipt)
    assert report.ok, str(report)
    assert list(report.parts) == many.names
    assert many.replay(result.receipt.id).ok
    # a part by itself, as any other search of its store
    for path in filled:
        with osc.connect(path) as store:
            part = store.receipt(result.parts[path.name].id)
            assert part == result.parts[path.name]
            assert store.replay(part).ok


def test_the_whole_adds_up(many: osc.ManyStores) -> None:
    result = many.search(QUESTION, vector=PSI, k=12)
    content = result.receipt.content
    parts = list(result.parts.values())
    overlap = content["overlap"]
    copies = [share for pair in overlap for _, _, share in pair["also"]]
    assert copies
    assert content["delta_h"] == fsum([*(p.delta_h for p in parts), *(-each for each in copies)])
    assert 0 < sum(copies) < sum(p.delta_h for p in parts)
    for pair in overlap:
        (store, name), ((other, twin, share),) = pair["counted"], pair["also"]
        assert (store, other, name) == ("0.osc", "2.osc", twin)
        assert name in result.parts["0.osc"].candidate_ids
        assert name in result.parts["2.osc"].candidate_ids
        assert share >= 0
    shared = set(result.parts["0.osc"].candidate_ids) & set(result.parts["2.osc"].candidate_ids)
    assert {pair["counted"][1] for pair in overlap} == shared
    assert content["candidate_count"] == sum(part.candidate_count for part in parts)
    assert content["results"] == result.ids
    assert content["result_stores"] == [hit.store for hit in result]
    assert [part["receipt"] for part in content["stores"]] == [part.hash for part in parts]


def test_a_copy_s_share_is_its_own_terms(paths: list[Path], tmp_path: Path) -> None:
    # of stores without edges ΔH is made of nothing else
    alone = [{"id": f"x{i}", "text": f"word{i} here", "vector": np.eye(4)[i].tolist()}
             for i in range(4)]  # fmt: skip
    for name in ("a", "b"):
        with osc.connect(tmp_path / name, parameters=APART) as store:
            store.ingest(alone)
    with osc.connect_many([tmp_path / "a", tmp_path / "b"]) as many:
        result = many.search(vector=[3.0, 2.0, 1.0, 0.5])
    parts = [part.delta_h for part in result.parts.values()]
    shares = [share for pair in result.receipt.content["overlap"] for _, _, share in pair["also"]]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(parts[1], rel=1e-6)
    assert result.receipt.delta_h == pytest.approx(parts[0], rel=1e-6)


def again(receipt: Receipt, change: Callable[[dict[str, Any]], Any]) -> Receipt:
    """A receipt that somebody has sealed after a change."""
    content = json.loads(json.dumps(dict(receipt.content)))
    change(content)
    return seal(
        content, writer=receipt.writer, sequence=receipt.sequence, previous=receipt.previous,
        time=receipt.time, payload=receipt.payload,
    )[0]  # fmt: skip


def signed(content: dict[str, Any]) -> None:
    content["state"] = composed_state(content["parameters"], content["stores"])
    content["state_sig"] = state_signature(content)


TAMPERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the total": lambda c: c.update(delta_h=c["delta_h"] + 1e-9),
    "no total": lambda c: c.update(delta_h=None),
    "a part": lambda c: c["stores"][1].update(delta_h=c["stores"][1]["delta_h"] * 2),
    "a share": lambda c: c["overlap"][0]["also"][0].__setitem__(2, 0.0),
    "a copy left out": lambda c: c["overlap"].pop(),
    "a part left out": lambda c: c["stores"].pop(),
    "a part twice": lambda c: c["stores"].append(dict(c["stores"][0])),
    "a store in part and missing": lambda c: c["missing"].append({"name": "0.osc"}),
    "a hit of another store": lambda c: c["result_stores"].__setitem__(
        0, {"0.osc": "1.osc"}.get(c["result_stores"][0], "0.osc")),
    "a hit left out": lambda c: c["results"].pop(),
    "more hits than asked for": lambda c: c.update(k=2),
    "candidates": lambda c: c.update(candidate_count=3),
    "parameters": lambda c: c["parameters"].update(sources=4),
    "the state of a part": lambda c: c["stores"][0].update(state_sig="0" * 64),
    "a copy in a store without a part": lambda c: c["overlap"][0]["counted"].__setitem__(0, "x"),
    "a copy in the store that counts": lambda c: c["overlap"][0]["also"][0].__setitem__(
        0, c["overlap"][0]["counted"][0]),
    "copies twice": lambda c: c.update(
        overlap=[*c["overlap"], {**c["overlap"][0], "also": []}]),
    "less than nothing": lambda c: c.update(
        delta_h=total_delta_h(
            [part["delta_h"] for part in c["stores"]],
            [c["overlap"][0]["also"][0].__setitem__(2, -1.0), *c["overlap"]][1:])),
    "stores that are none": lambda c: c.update(stores=3),
    "overlap that is none": lambda c: c["overlap"].append(None),
    "no overlap": lambda c: c.pop("overlap"),
}  # fmt: skip


class TestTampering:
    @pytest.mark.parametrize("name", TAMPERED)
    def test_what_does_not_add_up_is_found_without_the_stores(
        self, many: osc.ManyStores, name: str
    ) -> None:
        receipt = many.search(QUESTION, vector=PSI, k=12).receipt
        assert again(receipt, lambda content: None).verify()
        with pytest.raises(IntegrityError, match="contradicts itself"):
            again(receipt, TAMPERED[name]).verify()

    @pytest.mark.parametrize(
        "change",
        [lambda told: told.update(scale=[1.0, 0.0]), lambda told: told["kept"].update(text=0),
         lambda told: told.clear()],
    )  # fmt: skip
    def test_what_a_part_was_told_is_signed(
        self, many: osc.ManyStores, change: Callable[[dict[str, Any]], Any]
    ) -> None:
        part = many.search(QUESTION).parts["0.osc"]
        with pytest.raises(IntegrityError, match="what the store was told is not what"):
            again(part, lambda content: change(content["part"])).verify()

    def test_an_edited_receipt(self, many: osc.ManyStores) -> None:
        line = many.search(QUESTION).receipt.to_json()
        with pytest.raises(IntegrityError, match="was edited"):
            Receipt.from_json(line.replace('"1.osc"', '"7.osc"', 1)).verify()

    def test_what_is_consistent_but_not_true_is_found_in_the_parts(
        self, many: osc.ManyStores
    ) -> None:
        result = many.search(QUESTION, vector=PSI)

        def invent(content: dict[str, Any]) -> None:
            content["stores"][0]["delta_h"] += 1.0
            parts = [part["delta_h"] for part in content["stores"]]
            content["delta_h"] = total_delta_h(parts, content["overlap"])
            signed(content)

        invented = again(result.receipt, invent)
        assert invented.verify()
        with pytest.raises(IntegrityError, match=r"of store '0\.osc' it tells delta_h"):
            many.replay(invented)
        with pytest.raises(IntegrityError, match=r"of store '0\.osc' it tells delta_h"):
            osc.ManyResult(**{**vars(result), "receipt": invented}).verify()

    def test_hits_that_a_part_does_not_have(self, many: osc.ManyStores) -> None:
        result = many.search(QUESTION, vector=PSI)
        invented = again(result.receipt, lambda content: content["results"].__setitem__(0, "r0"))
        assert result.ids[0] != "r0"
        assert invented.verify()
        for check in (
            osc.ManyResult(**{**vars(result), "receipt": invented}).verify,
            lambda: many.replay(invented),
        ):
            with pytest.raises(IntegrityError, match="are others than the receipt of the part has"):
                check()

    def test_what_only_a_replay_can_tell(self, many: osc.ManyStores) -> None:
        receipt = many.search(QUESTION, vector=PSI).receipt
        report = many.replay(again(receipt, lambda c: c["scores"].__setitem__(0, 99.0)))
        assert (report.whole.status, report.whole.differences) == ("different", ("scores",))
        assert all(part.ok for part in report.parts.values())
        assert not report.ok
        assert "different in scores" in str(report)

    def test_ledgers_that_were_edited(self, paths: list[Path], tmp_path: Path) -> None:
        with osc.connect_many(paths, ledger=tmp_path / "ledger") as many:
            result = [many.search(QUESTION) for _ in range(3)][-1]
            report = many.verify()
            assert (report.ok, report.receipts) == (True, 3)
        for folder, name, receipt in (
            (paths[1], "1.osc: ", result.parts["1.osc"]), (tmp_path / "ledger", "", result.receipt)
        ):  # fmt: skip
            (wal,) = folder.glob(f"receipts/{receipt.writer}.*.wal")
            content = wal.read_bytes()
            wal.write_bytes(content.replace(b'"k":10', b'"k":11', 1))
            with osc.connect_many(paths, ledger=tmp_path / "ledger") as many:
                problems = many.verify().problems
            assert any("was edited" in problem for problem in problems)
            assert all(problem.startswith(name) for problem in problems)
            wal.write_bytes(content)
        wal.write_bytes(content[: content.index(b"\n") + 1])
        with osc.connect_many(paths, ledger=tmp_path / "ledger") as many:
            assert "missing" in many.verify().problems[0]


class TestReplay:
    def test_later_generations_do_not_matter(self, paths: list[Path]) -> None:
        with osc.connect_many(paths) as many:
            result = many.search(QUESTION, vector=PSI)
            with osc.connect(paths[0]) as store:
                store.tag("audit")
                store.ingest([{**ROWS[0], "id": "new", "text": QUESTION}])
            assert many.search(QUESTION, vector=PSI).ids != result.ids
            assert many.replay(result).ok
            with osc.connect(paths[1]) as store:
                for i in range(6):
                    store.ingest([{**ROWS[0], "id": f"new{i}", "text": QUESTION}])
                store.maintain()
        with osc.connect_many(paths) as many:
            report = many.replay(result)
        assert report.whole.status == "not replayable"
        assert "1.osc: " in str(report.whole.reason)
        assert [report.parts[name].status for name in many.names] == [
            "identical", "not replayable", "identical",
        ]  # fmt: skip
        assert "has been dropped" in str(report.parts["1.osc"])

    def test_a_minimal_one_needs_to_be_told_the_question(self, filled: list[Path]) -> None:
        with osc.connect_many(filled, payload="minimal") as many:
            result = many.search(QUESTION, vector=PSI, where="lang = 'en'")
            assert "word3" not in result.receipt.to_json()
            assert not any("word3" in part.to_json() for part in result.parts.values())
            with pytest.raises(QueryError, match="does not keep the text"):
                many.replay(result)
            assert many.replay(result, QUESTION, vector=PSI, where="lang = 'en'").ok
            with pytest.raises(QueryError, match="vector is not the one"):
                many.replay(result, QUESTION, vector=-PSI, where="lang = 'en'")
            # what words alone are settled towards may be another store's
            words = many.search(QUESTION)
            report = many.replay(words, QUESTION)
            assert report.whole.ok
            assert {part.status for part in report.parts.values()} == {"not replayable"}
            assert "towards which a question of words alone settles" in str(report)

    def test_what_was_not_recorded_is_brought_along(self, filled: list[Path]) -> None:
        with osc.connect_many(filled, read_only=True) as many:
            result = many.search(QUESTION)
            assert many.replay(result).ok
            report = many.replay(result.receipt)
            assert report.whole.ok
            assert "no receipt begins with" in str(report.parts["0.osc"])
            with pytest.raises(QueryError, match="connect with ledger="):
                many.replay(result.receipt.id)

    def test_other_stores_cannot(self, many: osc.ManyStores, filled: list[Path]) -> None:
        receipt = many.search(QUESTION).receipt
        with osc.connect_many(filled[:2]) as fewer:
            report = fewer.replay(receipt)
        assert "store '2.osc' is not among these" in str(report.whole)
        assert "it is not among these stores" in str(report.parts["2.osc"])
        assert report.parts["0.osc"].ok

    def test_other_receipts_are_refused(self, many: osc.ManyStores, filled: list[Path]) -> None:
        result = many.search(QUESTION)
        with pytest.raises(QueryError, match="replay it with the store that it is of"):
            many.replay(result.parts["0.osc"])
        with osc.connect(filled[0]) as store:
            with pytest.raises(QueryError, match="tells of a many"):
                store.replay(result.receipt)
        with pytest.raises(MissingError, match="no receipt begins"):
            many.receipt("0" * 16)


def test_keys_seal_every_layer(paths: list[Path], tmp_path: Path) -> None:
    key = Key.generate("k1")
    with osc.connect_many(paths, ledger=tmp_path / "ledger", key=key) as many:
        result = many.search(QUESTION)
        assert result.verify(key)
        assert {part.key_id for part in result.parts.values()} == {"k1"}
        with pytest.raises(IntegrityError, match="pass that one"):
            result.verify(Key.generate("k2"))
        assert many.verify().ok
        assert not many.verify(keys=Key.generate("k1")).ok
        assert many.replay(result).ok


def test_a_ledger_goes_on(filled: list[Path], tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        with osc.connect_many(filled, ledger=tmp_path / "deep" / "ledger") as many:
            ids.append(many.search(QUESTION).receipt.id)
    with osc.connect_many(filled, ledger=tmp_path / "deep" / "ledger") as many:
        assert [many.receipt(each).id for each in ids] == ids
        assert many.verify().receipts == 2
    assert not list(tmp_path.glob("*.wal"))


def test_parts_do_not_count_for_confidence(paths: list[Path]) -> None:
    with osc.connect_many(paths[:1]) as many:
        for i in range(25):
            many.search(f"word{i} word3")
    with osc.connect(paths[0]) as store:
        assert store.receipts(["margin"])["margin"].null_count == len(store.receipts(["hash"]))
        assert store.search(QUESTION).confidence is None


def test_a_summary_names_the_parts(many: osc.ManyStores) -> None:
    result = many.search(QUESTION, k=4)
    told = result.receipt.summary()
    assert f"receipt {result.receipt.id}: many, " in told
    for name, part in result.parts.items():
        assert f"part        {name}, generation 3: " in told
        assert part.id in told


def test_threads_and_processes_say_the_same(filled: list[Path]) -> None:
    def contents(many: osc.ManyStores) -> list[Any]:
        said = []
        for asked in ASKED:
            result = many.search(**asked)
            content = dict(result.receipt.content)
            content["stores"] = [{**part, "receipt": None} for part in content["stores"]]
            parts = {name: part.content for name, part in result.parts.items()}
            said.append((content, parts, [hit.text for hit in result]))
        return said

    with osc.connect_many(filled) as here:
        wanted = contents(here)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        with osc.connect_many(filled, executor=executor) as elsewhere:
            assert contents(elsewhere) == wanted
            result = elsewhere.search(QUESTION, vector=PSI)
            assert elsewhere.replay(result).ok
            assert elsewhere.verify().ok
