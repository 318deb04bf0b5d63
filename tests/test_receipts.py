"""Receipts and their chains: what is sealed, and what every kind of tampering looks like."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.errors import InputError, IntegrityError
from oscillink_store.receipts.chain import Head, extend, fold_seal, verify_chains
from oscillink_store.receipts.content import ingest_content, search_content
from oscillink_store.receipts.layout import GENESIS
from oscillink_store.receipts.receipt import Receipt, seal, timestamp

QUESTION = "who owned The Collegian?"


def search_example(**changes):
    values = {
        "generation": 12,
        "text": QUESTION,
        "vector": np.linspace(-1, 1, 8, dtype=np.float32),
        "where": "lang = 'en'",
        "asked": None,
        "k": 3,
        "only": False,
        "detail": "full",
        "state": {"candidates": "ab" * 32, "generation": "cd" * 32},
        "parameters": {"gate_weight": 4.0, "sources": 3, "diffusion": "screened"},
        "parameter_version": 1,
        "kernel_version": 1,
        "candidates": ["a", "b", "c", "ä", "d"],
        "results": ["c", "a", "b"],
        "scores": np.array([2.5, 1.25, 1e-7]),
        "first_evidence": 3.25,
        "fifth_evidence": None,
        "best_cosine": np.float32(0.5),
        "delta_h": 12.5,
        "terms": {"anchor": 1.5, "graph": {"next": 2.0}, "query": 9.0, "chain": 0.0},
        "iterations": 6,
        "residual": 1.5e-5,
        "converged": True,
        "knn_recall": 1.0,
        "coherence": [0.5, 0.25, 1.0, 0.0, 0.75],
        "null_points": [["a", "c", ["knn"], 4.5]],
        "contested": [],
    }
    return search_content(**{**values, **changes})


def ingest_example():
    return ingest_content(
        generation=13,
        parent=12,
        batch="ab" * 32,
        added=5,
        updated=1,
        unchanged=2,
        deleted=0,
        anchors=40,
        edges={"next": 12, "knn": 30},
        embedder="hash:384",
        dimension=384,
        parameters={},
        parameter_version=1,
        kernel_version=1,
        knn_recall=1.0,
        manifest="ef" * 32,
        change={"edges_added": {"knn": 3}, "mean_drift": 0.25, "delta_h": None, "sampled": 0},
    )


def one(**changes):
    receipt, _ = seal(
        search_example(**changes),
        writer="w1",
        sequence=1,
        previous=GENESIS,
        time="2026-01-02T03:04:05.000006Z",
        label="night run",
    )
    return receipt


def chain_of(length, writer="w1"):
    head, receipts = Head(), []
    for number in range(length):
        content = search_example(generation=number, results=[f"r{number}"])
        receipt, _ = extend(head, content, writer=writer)
        head = Head(sequence=receipt.sequence, hash=receipt.hash)
        receipts.append(receipt)
    return receipts


CHAIN = chain_of(9)


def test_a_receipt_verifies_and_survives_every_round_trip():
    receipt, line = seal(
        search_example(), writer="w1", sequence=4, previous="ab" * 32, time=timestamp()
    )
    assert receipt.verify()
    assert receipt.to_bytes() == line
    assert receipt.to_json() == line.decode()
    again = Receipt.from_json(line)
    assert again == receipt
    assert again.verify()
    assert hash(again) == hash(receipt)
    assert pickle.loads(pickle.dumps(receipt)) == receipt


def test_anyone_can_check_a_receipt_with_the_standards_alone():
    line = one().to_json()
    value = json.loads(line)
    assert rfc8785.dumps(value).decode() == line
    content, stated = value.pop("content"), value.pop("hash")
    assert hashlib.sha256(rfc8785.dumps(content)).hexdigest() == value["content_hash"]
    assert hashlib.sha256(rfc8785.dumps(value)).hexdigest() == stated
    signed = ("generation", "k", "kernel_version", "only", "query", "state", "where")
    state = rfc8785.dumps({name: content[name] for name in signed})
    assert hashlib.sha256(state).hexdigest() == content["state_sig"]


def test_a_receipt_read_from_reformatted_json_still_verifies():
    receipt = one(delta_h=1e16, residual=1e300)
    again = Receipt.from_json(json.dumps(json.loads(receipt.to_json()), indent=2))
    assert again.verify()
    assert again.to_json() == receipt.to_json()


def test_equal_searches_have_one_content_hash_and_two_receipts():
    first, _ = extend(Head(), search_example(), writer="w1", label="x")
    second, _ = extend(Head(sequence=1, hash=first.hash), search_example(), writer="w1")
    assert first.content_hash == second.content_hash
    assert first.hash != second.hash
    other, _ = extend(Head(), search_example(scores=[2.5, 1.25, 1.1e-7]), writer="w1")
    assert other.content_hash != first.content_hash


def test_no_text_enters_a_receipt():
    line = one().to_json()
    assert "Collegian" not in line
    assert "lang" not in line
    content = one().content
    assert content["query"]["text"] == hashlib.sha256(QUESTION.encode()).hexdigest()
    assert content["where"] == hashlib.sha256(b"lang = 'en'").hexdigest()


def test_absent_parts_of_a_query_are_null():
    content = one(text=None, vector=None, where=None).content
    assert content["query"] == {"text": None, "vector": None}
    assert content["where"] is None


def test_accessors_and_texts():
    receipt = one()
    assert receipt.id == receipt.hash[:16]
    assert receipt.kind == "search"
    assert receipt.generation == 12
    assert receipt.candidate_ids == ["a", "b", "c", "ä", "d"]
    assert receipt.result_ids == ["c", "a", "b"]
    assert receipt.scores == [2.5, 1.25, 1e-7]
    assert receipt.delta_h == 12.5
    assert str(receipt) == f"receipt {receipt.id} (search, generation 12)"
    assert len(repr(receipt)) < 120
    summary = receipt.summary()
    for part in (
        "search on generation 12, 2026-01-02 03:04:05.000006 UTC",
        "night run",
        "3 of 5 candidates",
        "first 3.25, fifth none, best cosine 0.5",
        "12.5 (anchor 1.5, next 2, query 9)",
        "6 iterations, residual 1.5e-05, converged",
        receipt.hash,
        "entry 1 of writer w1",
    ):
        assert part in summary


def test_an_ingest_receipt_reads_well_too():
    receipt, _ = extend(Head(), ingest_example(), writer="w1")
    nothing, _ = extend(Head(), {"kind": "ingest"}, writer="w1")
    assert nothing.summary().count("none") == 2
    assert receipt.kind == "ingest"
    assert receipt.generation == 13
    assert receipt.delta_h is None
    assert receipt.result_ids == []
    assert "added 5, updated 1, unchanged 2, deleted 0, anchors 40\n" in receipt.summary()
    assert "edges       next 12, knn 30\n" in receipt.summary()


def test_times_are_utc_with_microseconds():
    moment = datetime(2026, 5, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-04-30T23:30:00.000000Z"
    now = datetime.fromisoformat(timestamp())
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "member",
    ["content", "content_hash", "hash", "label", "previous", "sequence", "time", "writer"],
)
def test_editing_any_member_is_found(member):
    value = json.loads(one().to_json())
    old = value[member]
    if member == "content":
        value[member]["scores"][0] += 1e-9
    elif isinstance(old, int):
        value[member] = old + 1
    else:
        value[member] = ("1" if old[0] == "0" else "0") + old[1:]
    edited = Receipt.from_json(json.dumps(value))
    with pytest.raises(IntegrityError, match="was edited"):
        edited.verify()


def test_editing_any_part_of_the_content_is_found():
    receipt = one()
    for name in receipt.content:
        value = json.loads(receipt.to_json())
        value["content"][name] = "edited"
        with pytest.raises(IntegrityError, match="content hash"):
            Receipt.from_json(json.dumps(value)).verify()
        del value["content"][name]
        with pytest.raises(IntegrityError, match="content hash"):
            Receipt.from_json(json.dumps(value)).verify()


def test_editing_a_receipt_in_memory_is_found():
    receipt = one()
    receipt.content["results"].reverse()
    with pytest.raises(IntegrityError, match=receipt.id):
        receipt.verify()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**json.loads(one().to_json()), "extra": 1}),
        json.dumps({**json.loads(one().to_json()), "sequence": "1"}),
        json.dumps({**json.loads(one().to_json()), "sequence": True}),
        json.dumps({**json.loads(one().to_json()), "content": []}),
        json.dumps({**json.loads(one().to_json()), "version": 1}),
        json.dumps({**json.loads(one().to_json()), "version": 0}),
        json.dumps({**json.loads(one().to_json()), "payload": "whole"}),
        json.dumps({**json.loads(one().to_json()), "must_understand": [1]}),
    ],
)
def test_what_is_no_receipt_is_refused(text):
    with pytest.raises(IntegrityError, match="cannot be read"):
        Receipt.from_json(text)


def test_numbers_out_of_range_in_a_file_are_found():
    text = one().to_json().replace('"delta_h":12.5', '"delta_h":1e999')
    with pytest.raises(IntegrityError, match=r"content\.delta_h is inf"):
        Receipt.from_json(text).verify()


def test_contents_and_labels_without_json_form_are_refused():
    with pytest.raises(InputError, match=r"content\.delta_h is nan"):
        extend(Head(), search_example(delta_h=float("nan")), writer="w1")
    with pytest.raises(InputError, match="label is a int"):
        extend(Head(), search_example(), writer="w1", label=3)
    with pytest.raises(InputError, match="surrogate"):
        extend(Head(), search_example(), writer="w1", label="\ud800")


def test_whole_chains_hold():
    report = verify_chains(CHAIN, {"w1": [Head(sequence=9, hash=CHAIN[-1].hash)]}).require()
    assert report.ok
    assert report.receipts == 9
    assert report.heads == {"w1": Head(sequence=9, hash=CHAIN[-1].hash)}
    assert CHAIN[0].previous == GENESIS
    assert verify_chains([]).ok


def test_chains_of_several_writers_may_alternate():
    other = chain_of(4, "w2")
    mixed = [CHAIN[0], other[0], other[1], CHAIN[1], CHAIN[2], other[2]]
    report = verify_chains(iter(mixed))
    assert report.ok
    assert {writer: head.sequence for writer, head in report.heads.items()} == {"w1": 3, "w2": 3}


def test_a_chain_can_begin_where_another_part_ended():
    start = {"w1": Head(sequence=4, hash=CHAIN[3].hash)}
    assert verify_chains(CHAIN[4:], after=start).ok
    assert not verify_chains(CHAIN[5:], after=start).ok


def faults(receipts, known=None):
    return [(item.sequence, item.fault) for item in verify_chains(receipts, known).problems]


@given(st.integers(0, 8))
def test_an_edited_entry_is_named(place):
    chain = list(CHAIN)
    value = json.loads(chain[place].to_json())
    value["content"]["results"] = ["forged"]
    chain[place] = Receipt.from_json(json.dumps(value))
    assert faults(chain) == [(place + 1, "edited")]


@given(st.integers(0, 7))
def test_an_entry_replaced_by_a_well_formed_one_is_named(place):
    chain = list(CHAIN)
    head = Head(sequence=place, hash=chain[place].previous)
    chain[place], _ = extend(head, search_example(results=["forged"]), writer="w1")
    assert faults(chain) == [(place + 2, "unlinked")]


@given(st.integers(0, 7), st.integers(1, 4))
def test_removed_entries_are_named(place, length):
    removed = CHAIN[place : min(place + length, 8)]
    chain = [receipt for receipt in CHAIN if receipt not in removed]
    report = verify_chains(chain)
    assert [(item.sequence, item.fault) for item in report.problems] == [(place + 1, "missing")]
    last = removed[-1].sequence
    expected = f"entries {place + 1} to {last}" if last > place + 1 else f"entry {last} "
    assert expected in str(report.problems[0])


@given(st.integers(0, 8), st.integers(0, 8))
def test_a_repeated_entry_is_named(place, target):
    chain = list(CHAIN)
    chain.insert(max(place, target) + 1, CHAIN[place])
    assert faults(chain) == [(place + 1, "repeated")]


@given(st.permutations(range(9)))
def test_moved_entries_are_named(order):
    moved = {
        number + 1
        for place, number in enumerate(order)
        if any(earlier > number for earlier in order[:place])
    }
    found = faults([CHAIN[number] for number in order])
    assert found == [(sequence, "moved") for sequence in sorted(moved)]


def test_a_chain_that_was_cut_or_forged_is_found_against_the_recorded_head():
    head = {"w1": [Head(sequence=9, hash=CHAIN[-1].hash)]}
    assert faults(CHAIN[:6]) == []
    assert faults(CHAIN[:6], head) == [(7, "missing")]
    assert faults([], head) == [(1, "missing")]
    forged, state = [], Head()
    for receipt in CHAIN:
        content = {**copy.deepcopy(receipt.content), "delta_h": 0.0}
        entry, _ = extend(state, content, writer="w1")
        state = Head(sequence=entry.sequence, hash=entry.hash)
        forged.append(entry)
    assert faults(forged) == []
    assert faults(forged, head) == [(9, "replaced")]


def test_growing_past_the_recorded_head_is_no_problem():
    assert faults(CHAIN, {"w1": [Head(sequence=5, hash=CHAIN[4].hash)]}) == []


def test_require_raises_the_first_problem():
    with pytest.raises(IntegrityError, match=r"entries 3 to 4 of writer w1 are missing$"):
        verify_chains(CHAIN[:2] + CHAIN[4:]).require()
    with pytest.raises(IntegrityError, match=r"\(1 more\)$"):
        verify_chains(CHAIN[:2] + CHAIN[4:6] + CHAIN[7:]).require()


def test_the_seal_pins_content_order_and_number():
    hashes = [receipt.hash for receipt in CHAIN]
    whole = fold_seal(GENESIS, hashes)
    assert fold_seal(fold_seal(GENESIS, hashes[:4]), hashes[4:]) == whole
    assert fold_seal(GENESIS, []) == GENESIS
    assert fold_seal(GENESIS, hashes[:-1]) != whole
    assert fold_seal(GENESIS, hashes[::-1]) != whole
    first = hashlib.sha256((GENESIS + hashes[0]).encode()).hexdigest()
    assert fold_seal(GENESIS, hashes[:1]) == first
