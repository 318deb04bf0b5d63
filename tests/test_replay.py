"""Replays: the same bits from the same generation, in whichever process, and honest refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_run import Run

import oscillink_store as osc
from oscillink_store.errors import IntegrityError, MissingError, QueryError
from oscillink_store.filters import And, Compare, Filter, Ids, Not, Or, from_json
from oscillink_store.receipts.key import Key
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.receipts.state import state_signature
from oscillink_store.stdlib_docs import standard_library, stdlib_docs

PROGRAM = Path(__file__).with_name("replay_all.py")


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "text": f"word{i % 13} word{i % 31} thing {i}", "title": f"Topic {i}",
         "lang": "en" if i % 2 else "de", "n": i, "payload": {"n": i},
         "links": [f"r{i // 2}"] if i else []}
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[osc.Store]:
    with osc.connect(tmp_path / "s.osc", embedder="hash:32") as store:
        store.ingest(rows(120))
        yield store


WHERE: list[Filter] = [
    Compare("n", "gt", 20), ~Compare("lang", "eq", "de") & Compare(("n",), "lt", 100.5),
    Ids(["r1", "r2", "r40"]) | Compare("n", "in", [3, 4, None]), And(()), Not(Or(())),
]  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "word3 thing"},
        {"text": "word3", "where": "lang = 'en'", "k": 3},
        {"vector": [1.0] * 32},
        {"text": "Topic 7", "vector": [1.0] * 32, "k": 200},
        *({"text": "word5", "where": where} for where in WHERE),
        *({"text": "word5", "ranking": name} for name in ("hybrid", "dense", "text", "mmr")),
        {"text": "word9", "parameters": osc.Parameters(diffusion="heat", sources=5)},
        {"text": "word9", "detail": "light"},
        {"text": "word9", "where": "false"},
    ],
)
def test_a_search_comes_out_again(store: osc.Store, asked: dict[str, Any]) -> None:
    result = store.search(**asked)
    before = store.receipts().num_rows
    report = store.replay(result.receipt)
    assert report.ok, str(report)
    assert report.differences == ()
    assert store.replay(result.receipt.id).status == "identical"
    assert store.replay(Receipt.from_json(result.receipt.to_json())).ok
    assert store.receipts().num_rows == before


def test_a_rerank_comes_out_again(store: osc.Store) -> None:
    assert store.replay(store.rerank(["r5", "r1", "r77"], "word5").receipt).ok
    with osc.connect(store.path, detail="light") as light:
        report = light.replay(light.rerank(["r5", "r1"], "word5").receipt)
    assert report.status == "not replayable"
    assert "which anchors" in str(report.reason)


@pytest.mark.parametrize("where", WHERE)
def test_filters_come_back_from_their_json(where: Filter) -> None:
    assert from_json(json.loads(where.text)) == where


@pytest.mark.parametrize("value", [None, [], ["eq"], ["eq", 3, 4], ["not"], ["ids", 3], "and", {}])
def test_what_is_no_json_of_a_filter_is_refused(value: Any) -> None:
    with pytest.raises(QueryError, match="filter"):
        from_json(value)


def test_a_later_generation_does_not_matter_while_the_first_is_kept(store: osc.Store) -> None:
    early = store.search("word3 thing", k=5)
    store.tag("audit", early.receipt.generation)
    for i in range(5):
        store.ingest([{"id": f"new{i}", "text": f"word3 thing {i}"}])
    store.maintain()
    assert store.search("word3 thing", k=5).ids != early.ids
    assert store.replay(early.receipt).ok
    store.untag("audit")
    store.maintain()
    report = store.replay(early.receipt)
    assert report.status == "not replayable"
    assert str(report).endswith("authentic, not replayable: generation 1 has been dropped")
    assert not report.ok


def test_a_forged_receipt_is_told_from_one_that_differs(store: osc.Store) -> None:
    receipt = store.search("word3 thing", k=3).receipt
    content = json.loads(json.dumps(dict(receipt.content)))
    content["results"].reverse()
    with pytest.raises(IntegrityError, match="was edited"):
        store.replay(replace(receipt, content=content))
    # sealed by somebody who makes things up: authentic as a receipt, and not what comes out
    invented = store.ledger.record(content, payload="extended")
    report = store.replay(invented)
    assert (report.status, report.differences) == ("different", ("results",))
    assert "different in results" in str(report)


def test_a_minimal_receipt_needs_to_be_told_the_question(store: osc.Store) -> None:
    with osc.connect(store.path, payload="minimal") as discreet:
        receipt = discreet.search("word3 thing", where="lang = 'en'", k=4).receipt
    assert "word3" not in receipt.to_json()
    with pytest.raises(QueryError, match=r"does not keep the text that was asked.*pass text="):
        store.replay(receipt)
    with pytest.raises(QueryError, match="pass where="):
        store.replay(receipt, "word3 thing")
    assert store.replay(receipt, "word3 thing", where="lang = 'en'").ok
    with pytest.raises(QueryError, match="text is not the one that receipt"):
        store.replay(receipt, "word3", where="lang = 'en'")
    with pytest.raises(QueryError, match="vector is not the one"):
        store.replay(receipt, "word3 thing", vector=[1.0] * 32, where="lang = 'en'")


def test_what_cannot_be_replayed_says_why(store: osc.Store) -> None:
    ingest = Receipt.from_json(store.receipts(["body"])["body"][0].as_py())
    with pytest.raises(QueryError, match="only searches can be replayed"):
        store.replay(ingest)
    receipt = store.search("word3").receipt
    content = {**receipt.content, "kernel_version": 1}
    older = store.ledger.record({**content, "state_sig": state_signature(content)})
    assert "kernel version 1, this release has" in str(store.replay(older))
    with pytest.raises(MissingError, match="no receipt begins"):
        store.replay("0" * 16)
    with pytest.raises(QueryError, match="8 to 64 hexadecimal"):
        store.replay("xyz")
    with pytest.raises(QueryError, match="8 to 64 hexadecimal"):
        store.replay(older.sequence)  # type: ignore[arg-type]


def test_folded_receipts_are_found(store: osc.Store) -> None:
    with osc.connect(store.path) as other:
        receipts = [other.search(f"word{i}", k=2).receipt for i in range(300)]
    store.ingest([{"id": "late", "text": "late"}])
    assert store.stats()["folded_receipts"] >= 300
    assert store.receipt(receipts[7].hash) == receipts[7]
    assert store.replay(receipts[8].id).ok


@pytest.mark.parametrize("threads", ["1", "2"])
def test_five_hundred_receipts_replay_in_another_process(
    corpora: tuple[Path, Path], threads: str
) -> None:
    found = 0
    for path in corpora:
        names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        done = subprocess.run(
            [sys.executable, PROGRAM, path],
            env={**os.environ, **dict.fromkeys(names, threads)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout)
        assert told["wrong"] == []
        found += told["identical"]
    assert found == 500


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two collections, each asked 250 questions: docstrings, and made-up rows with filters."""
    folder = tmp_path_factory.mktemp("replay")
    packages = ("asyncio", "email")
    docs = [row for name in packages for row in stdlib_docs(standard_library() / name)]
    with osc.connect(folder / "docs.osc", embedder="hash") as store:
        store.ingest(docs)
        for row in docs[-250:]:
            store.search(" ".join(str(row["text"]).split()[:12]) or "empty", k=5)
    rng = np.random.default_rng(3)
    with osc.connect(folder / "rows.osc", embedder="hash:32") as store:
        store.ingest(rows(400))
        for i in range(250):
            where = [None, "lang = 'en'", Compare("n", "lt", 300)][i % 3]
            vector = rng.normal(size=32) if i % 2 else None
            store.search(f"word{i % 13} word{i % 31}", vector=vector, k=1 + i % 9, where=where)
    return folder / "docs.osc", folder / "rows.osc"


class TestKeys:
    def test_receipts_are_sealed_and_checked(self, tmp_path: Path) -> None:
        key = Key.generate("k1")
        key.to_file(tmp_path / "k1.json")
        with osc.connect(tmp_path / "s.osc", embedder="hash:16", key=tmp_path / "k1.json") as store:
            store.ingest([{"id": "a", "text": "one"}])
            receipt = store.search("one").receipt
            assert receipt.key_id == "k1"
            assert receipt.verify(key)
            assert store.replay(receipt).ok
            assert store.verify().sealed == 2
            with pytest.raises(IntegrityError, match="pass that one, not 'k2'"):
                receipt.verify(Key.generate("k2"))
            with pytest.raises(IntegrityError, match="its mac is not that of key 'k1'"):
                receipt.verify(Key.generate("k1"))
        with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
            plain = store.search("one").receipt
            with pytest.raises(IntegrityError, match="was not sealed with a key"):
                plain.verify(key)
            report = store.verify(keys=[tmp_path / "k1.json"])
            assert (report.ok, report.sealed, report.unsealed) == (True, 2, 1)

    def test_a_key_file_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        key = Key.generate("k1")
        key.to_file(tmp_path / "k.json")
        assert (tmp_path / "k.json").stat().st_mode & 0o777 == 0o600
        assert Key.from_file(tmp_path / "k.json") == key
        assert key.secret.hex() not in repr(key)
        with pytest.raises(FileExistsError):
            key.to_file(tmp_path / "k.json")

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"key_id": "a", "secret": "zz"}', '{"key_id": 3, "secret": "00"}',
                 '{"key_id": "a", "secret": "00"}', "[" * 10_000],
    )  # fmt: skip
    def test_what_is_no_key_file_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "k.json").write_text(text)
        with pytest.raises(ValueError, match=r"key"):
            osc.connect(tmp_path / "s.osc", key=tmp_path / "k.json")
        assert not (tmp_path / "s.osc").exists()


class TestCommands:
    def test_replay(self, cli: Callable[..., Run], store: osc.Store) -> None:
        one = store.search("word3 thing", k=2).receipt
        run = cli("replay", store.path, one.id)
        assert (run.code, run.err) == (0, "")
        assert f"receipt {one.id}: identical, 2 results on generation 1" in run.out
        told = cli("replay", store.path, one.id, one.hash, "--json").document
        assert [each["status"] for each in told] == ["identical", "identical"]
        wrong = store.ledger.record({**one.content, "scores": [1.0, 0.5]}, payload="extended")
        run = cli("replay", store.path, wrong.id)
        assert run.code == 1
        assert "different in scores" in run.out
        run = cli("replay", store.path, "nonsense")
        assert (run.code, run.out) == (1, "")
        assert run.err.startswith("error: ")

    def test_a_minimal_receipt_is_told_the_question(
        self, cli: Callable[..., Run], store: osc.Store
    ) -> None:
        found = cli("search", store.path, "word3 thing", "--minimal", "--json").document
        refused = cli("replay", store.path, found["receipt"]["id"])
        assert "does not keep the text" in refused.err
        assert cli("replay", store.path, found["receipt"]["id"], "--text", "word3 thing").code == 0

    def test_a_tag_keeps_the_generation_of_a_receipt(
        self, cli: Callable[..., Run], store: osc.Store
    ) -> None:
        receipt = store.search("word3").receipt
        store.ingest([{"id": "new", "text": "new"}])
        run = cli("tag", store.path, "audit", "--receipt", receipt.id)
        assert run.out == "tag audit keeps generation 1\n"
        assert cli("tag", store.path, "x", "--receipt", receipt.id, "--delete").code == 2

    def test_keys(self, cli: Callable[..., Run], tmp_path: Path, store: osc.Store) -> None:
        file = tmp_path / "audit.json"
        told = cli("key", file).out.split()  # a long path takes a line of its own
        assert told == ["key", "audit", "is", "in", str(file)]
        assert cli("key", file).code == 1
        run = cli("--key", file, "search", store.path, "word3", "--receipt")
        assert "sealed with key audit" in run.out
        assert "1 checked with the key, 1 not" in " ".join(
            cli("--key", file, "verify", store.path).out.split()
        )
        other = tmp_path / "other.json"
        cli("key", other, "--id", "audit")
        run = cli("--key", other, "verify", store.path)
        assert run.code == 1
        assert "is not that of key 'audit'" in run.out
