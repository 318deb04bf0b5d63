"""Rankings without the lattice, against what they mean computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.filters import Compare

N, D = 400, 32


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> osc.Store:
    rng = np.random.default_rng(7)
    store = osc.connect(tmp_path_factory.mktemp("rankings") / "s.osc")
    store.ingest(
        [
            {"id": f"r{i}", "text": f"word{i % 20} common", "payload": {"n": i},
             "vector": rng.standard_normal(D)}
            for i in range(N)
        ]
    )  # fmt: skip
    return store


def unit_rows(store: osc.Store) -> np.ndarray:
    Y = np.array([row["vector"] for row in store.get([f"r{i}" for i in range(N)])], np.float64)
    assert np.allclose(np.linalg.norm(Y, axis=1), 1.0)
    return Y


@pytest.mark.parametrize("where", [None, Compare("n", "lt", 150)])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_dense_is_the_order_of_cosine(filled: osc.Store, k: int, where: Compare | None) -> None:
    psi = np.random.default_rng(1).standard_normal(D)
    cosine = unit_rows(filled) @ (psi / np.linalg.norm(psi))
    allowed = np.arange(N if where is None else 150)
    expected = allowed[np.argsort(-cosine[allowed], kind="stable")][:k]
    result = filled.search(vector=psi, k=k, where=where, ranking="dense")
    assert result.ids == [f"r{i}" for i in expected]
    assert [hit.score for hit in result] == pytest.approx(cosine[expected], abs=1e-6)
    assert all(hit.gate is None and hit.coherence is None for hit in result)
    assert result.receipt.verify()
    assert result.receipt.content["parameters"]["ranking"] == "dense"
    assert result.receipt.content["delta_h"] is None


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_mmr_is_carbonells(filled: osc.Store, balance: float) -> None:
    psi = np.random.default_rng(2).standard_normal(D)
    Y = unit_rows(filled)
    cosine = Y @ (psi / np.linalg.norm(psi))
    pool = list(np.argsort(-cosine)[:30])
    chosen: list[int] = []
    while len(chosen) < 8:
        marginal = [
            balance * cosine[i] - (1 - balance) * max((Y[i] @ Y[j] for j in chosen), default=0.0)
            for i in pool
        ]
        chosen.append(pool.pop(int(np.argmax(marginal))))
    parameters = replace(filled.parameters, mmr_fetch=30, mmr_lambda=balance)
    result = filled.search(vector=psi, k=8, ranking="mmr", parameters=parameters)
    assert result.ids == [f"r{i}" for i in chosen]
    assert [hit.rank for hit in result] == list(range(1, 9))


def test_text_finds_words_alone(filled: osc.Store) -> None:
    result = filled.search("word3", k=50, ranking="text")
    assert sorted(result.ids) == sorted(f"r{i}" for i in range(3, N, 20))
    scores = [hit.score for hit in result]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.cosine is None for hit in result)
    assert len(filled.search("common", k=N, ranking="text")) == N
    assert len(filled.search("absent", ranking="text")) == 0


def test_hybrid_is_the_order_of_evidence(filled: osc.Store) -> None:
    psi = np.random.default_rng(3).standard_normal(D)
    result = filled.search("word7", vector=psi, k=20, ranking="hybrid")
    assert [hit.score for hit in result] == [hit.evidence for hit in result]
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)
    full = filled.search("word7", vector=psi, k=20)
    assert max(hit.evidence for hit in full) == pytest.approx(result[0].evidence)


def test_a_rerank_takes_the_stores_ranking(filled: osc.Store) -> None:
    psi = np.random.default_rng(4).standard_normal(D)
    flat = osc.connect(filled.path, parameters=replace(filled.parameters, ranking="dense"))
    ids = [f"r{i}" for i in range(0, 100, 3)]
    result = flat.rerank(ids, vector=psi, k=5)
    by_filter = filled.search(
        vector=psi, k=5, ranking="dense", where=Compare("n", "in", list(range(0, 100, 3)))
    )
    assert result.ids == by_filter.ids
    flat.close()


def test_a_rerank_by_words_scores_all_that_it_is_given(filled: osc.Store) -> None:
    everything = filled.search("common word3", k=N, ranking="text")
    scores = {hit.id: hit.score for hit in everything}
    given = everything.ids[-30::2] + everything.ids[:4]
    few = replace(filled.parameters, ranking="text", text_matches=10)
    with osc.connect(filled.path, parameters=few) as store:
        result = store.rerank(given, "common word3", k=len(given))
    assert result.ids == sorted(given, key=everything.ids.index)
    assert [hit.score for hit in result] == [scores[hit.id] for hit in result]
    assert min(scores.values()) > 0


def test_what_a_ranking_needs(filled: osc.Store) -> None:
    for ranking in ("dense", "mmr"):
        with pytest.raises(QueryError, match=f"'{ranking}' needs a vector"):
            filled.search("word3", ranking=ranking)
    with pytest.raises(QueryError, match="'text' needs words"):
        filled.search(vector=np.ones(D), ranking="text")
    with pytest.raises(QueryError, match="ranking is 'best'"):
        filled.search("word3", ranking="best")
    with pytest.raises(QueryError, match="mmr_lambda"):
        osc.Parameters(mmr_lambda=1.5)
