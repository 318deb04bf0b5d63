"""The confidence of an answer: its margin's quantile in the store's own ledger."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import oscillink_store as osc
from oscillink_store.engine import margins as confidence
from oscillink_store.engine.margins import FEWEST

WORDS = ["harbour", "tide", "boat", "net", "gull", "rope", "sail", "storm", "salt", "pier"]


def filled(path: Path, **options: object) -> osc.Store:
    rng = np.random.default_rng(2)
    store = osc.connect(path, embedder="hash:64", **options)  # type: ignore[arg-type]
    if len(store) == 0:
        store.ingest([{"id": str(n), "text": " ".join(rng.choice(WORDS, 6))} for n in range(200)])
    return store


def questions(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 5))) for _ in range(count)]


def margin(result: osc.SearchResult) -> float:
    content = result.receipt.content
    return float(content["first_evidence"] - content["fifth_evidence"])


def share(margins: list[float], one: float) -> float:
    return float(np.mean([other <= one for other in margins]))


def test_confidence_is_the_quantile_of_the_margin(tmp_path: Path) -> None:
    with filled(tmp_path / "s.osc") as store:
        results = [store.search(text) for text in questions(60)]
        margins = [margin(result) for result in results]
        for result in results:
            assert result.confidence == share(margins, margin(result))
        assert max(result.confidence or 0.0 for result in results) == 1.0
        store.search("tide")
        assert results[0].confidence == share(margins, margins[0])  # as of the first look


def test_searches_of_earlier_processes_count(tmp_path: Path) -> None:
    margins = []
    for run in range(3):
        with filled(tmp_path / "s.osc") as store:
            margins += [margin(store.search(text)) for text in questions(15, seed=run)]
    with filled(tmp_path / "s.osc") as store:
        store.maintain()  # folds them
        last = store.search("gull rope")
        assert last.confidence == share([*margins, margin(last)], margin(last))
        with store.snapshot() as pinned:
            margins += [margin(last)]
            other = pinned.search("storm")
            assert other.confidence == share([*margins, margin(other)], margin(other))


def test_kinds_are_not_compared(tmp_path: Path) -> None:
    with filled(tmp_path / "s.osc") as store:
        both = [store.search(text) for text in questions(FEWEST + 5)]
        vectors = [row["vector"] for row in store.get([str(n) for n in range(FEWEST - 1)])]
        alone = [store.search(vector=vector) for vector in vectors]
        assert all(result.confidence is None for result in alone)
        alone.append(store.search(vector=store.get("150")[0]["vector"]))
        margins = [margin(result) for result in alone]
        assert alone[-1].confidence == share(margins, margins[-1])
        expected = share([margin(result) for result in both], margin(both[0]))
        assert both[0].confidence == expected
        assert store.rerank([str(n) for n in range(50)], "gull").confidence is None


def test_nothing_is_said_without_grounds(tmp_path: Path) -> None:
    with filled(tmp_path / "s.osc") as store:
        results = [store.search(text) for text in questions(FEWEST - 1)]
        assert all(result.confidence is None for result in results)
        store.search("gull")
        last = store.search("tide")
        assert last.confidence is not None
        few = store.search("gull", where="id IN ('1', '2', '3')")
        assert few.receipt.content["fifth_evidence"] is None
        assert few.confidence is None
        fresh = store.search("pier")
        for twin in (copy.copy(fresh), pickle.loads(pickle.dumps(fresh))):
            assert twin == fresh
            assert twin.confidence is None
        assert fresh.confidence is not None
        assert pickle.loads(pickle.dumps(fresh)).confidence == fresh.confidence


def test_unrecorded_searches_count_in_their_own_process(tmp_path: Path) -> None:
    with filled(tmp_path / "s.osc", durability="off") as store:
        margins = [margin(store.search(text)) for text in questions(40)]
        last = store.search("salt pier")
        assert last.confidence == share([*margins, margin(last)], margin(last))


def test_the_newest_searches_of_a_long_process_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confidence, "MOST", FEWEST)
    with filled(tmp_path / "s.osc") as store:
        margins = [margin(store.search(text)) for text in questions(3 * FEWEST)]
        last = store.search("salt pier")
        assert last.confidence == share([*margins[-FEWEST + 1 :], margin(last)], margin(last))


def test_confidence_is_no_part_of_the_receipt(tmp_path: Path) -> None:
    with filled(tmp_path / "s.osc") as store:
        first = store.search("gull rope")
        for text in questions(FEWEST):
            store.search(text)
        again = store.search("gull rope")
        assert again.confidence is not None
        assert again.receipt.content_hash == first.receipt.content_hash
