"""Searching: candidates against brute force, and what a result holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import oscillink_store as osc
from oscillink_store.engine.candidates import dense_matches, text_matches
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.storage.manifest import read_current

WORDS = [f"word{i}" for i in range(60)]


def snapshot_of(store: osc.Store) -> Snapshot:
    return Snapshot(store.path, read_current(store.path))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """1,500 texts of a few words each, many of them alike."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"r{i}", "title": f"Title {i}" if i % 2 else None, "n": i,
            "text": " ".join(rng.choice(WORDS, rng.integers(3, 40))),
            "meta": {"list": [{"deep": str(i)}, None], "none": None}, "lang": ["en", "de"][i % 2],
        }
        for i in range(1500)
    ]  # fmt: skip
    with osc.connect(
        tmp_path_factory.mktemp("search") / "s.osc", embedder="hash:64", durability="off"
    ) as filled:
        filled.ingest(rows)
        yield filled


@pytest.fixture(
    scope="module",
    params=[None, (40, 0.3), (6, 0.05), (1, 0.01)],
    ids=["random", "clusters", "tight clusters", "one crowd"],
)
def vectors(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(3)
    made = rng.normal(size=(6_000, 64))
    if request.param is not None:
        count, spread = request.param
        made = rng.normal(size=(count, 64))[rng.integers(0, count, 6_000)] + spread * made
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def dense(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    parameters = osc.Parameters(knn_neighbors=2)
    path = tmp_path_factory.mktemp("dense") / "s.osc"
    with osc.connect(path, parameters=parameters, durability="off") as filled:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 64)
        count = len(vectors)
        filled.ingest(
            pa.table({"id": [str(i) for i in range(count)], "text": ["x"] * count,
                      "vector": column, "n": list(range(count))})
        )  # fmt: skip
        yield snapshot_of(filled)


class TestDenseCandidates:
    def test_the_best_are_found(self, dense: Snapshot, vectors: np.ndarray) -> None:
        rng = np.random.default_rng(4)
        exact = vectors.astype(np.float64)
        crowd = exact.mean(axis=0) @ exact.mean(axis=0) > 0.99
        missed = 0
        for turn in range(60):
            psi = vectors[rng.integers(len(vectors))] + 0.2 * rng.normal(size=64)
            psi = np.asarray(psi / np.linalg.norm(psi), np.float32)
            allowed = None
            if turn % 3:
                where = ["n % 100 = 7", "n % 10 < 3"][turn % 3 - 1]
                allowed = dense.allowed(where)
            similar = exact @ psi.astype(np.float64)
            if allowed is not None:
                similar[allowed == 0] = -2
            wanted = np.lexsort((np.arange(len(similar)), -similar))[:10]
            found = dense_matches(dense, psi, 50, allowed)
            assert len(found.rows) == 50
            missed += len(set(wanted.tolist()) - set(found.rows[:10].tolist()))
            assert similar[wanted[-1]] - similar[found.rows[9]] < (0.005 if crowd else 0.001)
            kept = similar[similar > -2]
            # exact without a mask; with one they come from the codes, which are off together
            # where the vectors are all alike
            tolerance = 1e-6 if allowed is None else 0.05
            assert found.mean == pytest.approx(kept.mean(), abs=tolerance)
            assert found.deviation == pytest.approx(kept.std(), abs=tolerance)
        # in a crowd the best are closer to each other than the codes can tell
        assert missed <= (0.05 if crowd else 0.005) * 60 * 10

    def test_more_than_there_are(self, dense: Snapshot, vectors: np.ndarray) -> None:
        found = dense_matches(dense, vectors[5], 10**6, None)
        similar = vectors.astype(np.float64) @ vectors[5].astype(np.float64)
        assert len(found.rows) == len(vectors)
        assert (np.diff(similar[found.rows]) <= 1e-12).all()


class TestTextCandidates:
    @pytest.mark.parametrize("limit", [1, 7, 40, 400, 3_000])
    @pytest.mark.parametrize(
        "where", ["n % 2 = 0", "n < 30", "n % 50 = 1", "true", "false", "lang = 'de' AND n > 700"]
    )
    def test_a_filter_is_the_full_list_filtered(
        self, store: osc.Store, where: str, limit: int
    ) -> None:
        snapshot = snapshot_of(store)
        allowed = snapshot.allowed(where)
        for words in ("word3", "word3 word7 word11", "nothing", "word5 nothing"):
            everything = text_matches(snapshot, words, 10**5, None)
            mine = allowed[everything.rows] == 1
            rows, scores = everything.rows[mine], everything.scores[mine]
            found = text_matches(snapshot, words, limit, allowed)
            # ties at the cut go to those that came first
            assert found.rows.tolist() == rows[:limit].tolist()
            assert found.scores.tolist() == scores[:limit].tolist()

    def test_scores_are_bm25(self, store: osc.Store) -> None:
        texts = store.to_arrow(["title", "text"]).to_pylist()
        documents = [
            f"{row['title']}\n{row['text']}".lower().split() if row["title"] else
            row["text"].lower().split() for row in texts
        ]  # fmt: skip
        mean = np.mean([len(words) for words in documents])
        holding = [i for i, words in enumerate(documents) if "word3" in words]
        count = len(documents)
        idf = np.log(1 + (count - len(holding) + 0.5) / (len(holding) + 0.5))
        found = text_matches(snapshot_of(store), "word3", 10**5, None)
        assert sorted(found.rows.tolist()) == holding
        for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            frequency = documents[row].count("word3")
            length = 0.25 + 0.75 * len(documents[row]) / mean
            wanted = idf * frequency * 2.2 / (frequency + 1.2 * length)
            assert score == pytest.approx(wanted, rel=1e-12)
        moments = np.zeros(count)
        moments[found.rows] = found.scores
        assert found.mean == pytest.approx(moments.mean())
        assert found.deviation == pytest.approx(moments.std())
        places = np.array([holding[0], 0 if 0 not in holding else 1, holding[-1]])
        assert found.scores_of(places).tolist() == moments[places].tolist()


class TestResults:
    def test_hits_are_in_order(self, store: osc.Store) -> None:
        for k in (1, 5, 40):
            result = store.search("word3 word9", k=k)
            assert len(result) == len(result.hits) == k
            assert [hit.rank for hit in result] == list(range(1, k + 1))
            scores = [hit.score for hit in result]
            assert scores == sorted(scores, reverse=True)
            assert result.ids == [hit.id for hit in result]
            assert result[0] is result.hits[0]
            assert len(set(result.ids)) == k
            assert result.seconds > 0
            content = result.receipt.content
            assert content["results"] == result.ids
            assert content["scores"] == scores
            assert content["k"] == k
            assert set(result.ids) <= set(content["candidates"])
            assert len(content["candidates"]) <= 300

    def test_fewer_are_the_first_of_more(self, store: osc.Store) -> None:
        many = store.search("word3 word9", k=40)
        for k in (1, 3, 17):
            assert store.search("word3 word9", k=k).hits == many.hits[:k]

    def test_hits_are_what_went_in(self, store: osc.Store) -> None:
        for hit in store.search("word3 word9", k=20):
            (record,) = store.get(hit.id)
            number = int(hit.id[1:])
            assert (hit.text, hit.title) == (record["text"], record["title"])
            assert hit.title == (f"Title {number}" if number % 2 else None)
            assert hit.metadata == {
                "n": number, "lang": ["en", "de"][number % 2],
                "meta": {"list": [{"deep": str(number)}, None], "none": None},
            }  # fmt: skip
            assert 0.0 <= hit.gate <= 1.0
            assert 0.0 <= hit.coherence <= 1.0
            assert hit.cosine == pytest.approx(
                float(record["vector"] @ store.embedder_for(store.current()).embed_query(
                    "word3 word9")), abs=1e-5,
            )  # fmt: skip

    def test_as_an_arrow_table(self, store: osc.Store) -> None:
        result = store.search("word3", k=7)
        table = result.to_arrow()
        assert table.schema.names == [
            "rank", "score", "id", "text", "title", "evidence", "gate", "coherence", "cosine",
            "contested", "payload", "n", "meta", "lang",
        ]  # fmt: skip
        assert table["id"].to_pylist() == result.ids
        assert table["score"].to_pylist() == [hit.score for hit in result]
        assert table["meta"].to_pylist() == [hit.metadata["meta"] for hit in result]
        assert table.schema.field("cosine").type == pa.float64()
        assert store.search("word3", where="false").to_arrow().schema.names[:3] == [
            "rank", "score", "id",
        ]  # fmt: skip

    def test_text_vector_and_both(self, store: osc.Store) -> None:
        vector = store.get("r700")[0]["vector"]
        text = store.search("word3", k=5)
        dense = store.search(vector=vector, k=5)
        both = store.search("word3", vector=vector, k=5)
        assert dense.ids[0] == "r700"
        assert dense[0].cosine == pytest.approx(1.0)
        assert dense.receipt.content["query"]["text"] is None
        assert dense.receipt.content["query"]["vector"] is not None
        # a text is embedded, unless a vector is given in its place
        assert text.receipt.content["query"]["vector"] is not None
        assert both.receipt.content["query"]["text"] == text.receipt.content["query"]["text"]
        assert both.receipt.content["query"]["vector"] == dense.receipt.content["query"]["vector"]
        assert len({tuple(result.ids) for result in (text, dense, both)}) == 3

    def test_parameters_of_one_search(self, store: osc.Store) -> None:
        flat = osc.Parameters(gate_weight=0.0)
        result = store.search("word3 word9", k=10, parameters=flat)
        assert result.receipt.content["parameters"]["gate_weight"] == 0.0
        evidence = [hit.evidence for hit in result]
        assert evidence == sorted(evidence, reverse=True)
        assert store.search("word3 word9").receipt.content["parameters"] == (
            store.parameters.to_dict()
        )
        heat = store.search("word3", parameters=osc.Parameters(diffusion="heat"))
        assert len(heat) == 10

    def test_a_receipt_names_no_text(self, store: osc.Store) -> None:
        with osc.connect(store.path, payload="minimal") as discreet:
            result = discreet.search("word3 of a secret", where="lang = 'en'", label="mine")
        line = result.receipt.to_json()
        assert "secret" not in line
        assert "lang" not in line
        assert result.receipt.payload == "minimal"
        assert result.receipt.content["asked"] is None
        assert result.receipt.label == "mine"
        assert result.receipt.content["generation"] == 1


class TestWithoutEmbedder:
    @pytest.fixture
    def plain(self, tmp_path: Path) -> Iterator[osc.Store]:
        rng = np.random.default_rng(0)
        with osc.connect(tmp_path / "s.osc") as store:
            store.ingest(
                [{"id": f"r{i}", "text": f"word{i % 10}", "vector": rng.normal(size=8).tolist()}
                 for i in range(50)]
            )  # fmt: skip
            yield store

    def test_text_is_full_text_only(self, plain: osc.Store) -> None:
        assert not plain.has_embedder
        result = plain.search("word3", k=50)
        matched = {hit.id for hit in result if hit.evidence > 0}
        assert matched == {"r3", "r13", "r23", "r33", "r43"}
        assert len(result) > 5  # their neighbours in the lattice
        assert all(hit.cosine is None for hit in result)
        assert result.receipt.content["best_cosine"] is None
        assert result.receipt.content["delta_h"] >= 0
        assert plain.search("unheard of", k=5).ids == []

    def test_a_vector_is_dense_only(self, plain: osc.Store) -> None:
        vector = plain.get("r20")[0]["vector"]
        result = plain.search(vector=vector, k=3)
        assert result.ids[0] == "r20"
        assert result.receipt.content["best_cosine"] == pytest.approx(1.0)

    def test_both(self, plain: osc.Store) -> None:
        vector = plain.get("r20")[0]["vector"]
        result = plain.search("word0", vector=vector, k=50)
        assert result.ids[0] == "r20"
        assert len(result) == 50


class TestSmallStores:
    def test_one_anchor(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
            store.ingest([{"id": "only", "text": "one anchor alone"}])
            for result in (
                store.search("anchor", k=9), store.search(vector=np.ones(16)),
                store.search("something else"), store.search("anchor", where="id = 'only'"),
                store.rerank(["only"], "anchor"),
            ):  # fmt: skip
                assert result.ids == ["only"]
                hit = result[0]
                numbers = [hit.score, hit.evidence, hit.gate, hit.coherence]
                assert np.isfinite(numbers).all()
                assert abs(hit.evidence) < 10
                assert result.receipt.verify()
            assert store.edges().num_rows == 0
            assert store.verify().ok

    @pytest.mark.parametrize("count", [2, 3, 7, 40])
    def test_nothing_but_duplicates(self, tmp_path: Path, count: int) -> None:
        rows = [{"id": f"r{i:02}", "text": "the same words", "n": i} for i in range(count)]
        with osc.connect(tmp_path / "s.osc", embedder="hash:16") as store:
            store.ingest(rows)
            for where in (None, "n >= 0"):
                result = store.search("same words", k=100, where=where)
                assert sorted(result.ids) == [row["id"] for row in rows]
                assert np.isfinite([hit.score for hit in result]).all()
                assert len({hit.cosine for hit in result}) == 1
                # ids of equal scores come in the order in which they were stored
                for one, two in zip(result, result.hits[1:], strict=False):
                    assert one.score > two.score or one.id < two.id
            for edge in store.edges().to_pylist():
                assert edge["source"] != edge["target"]

    def test_duplicates_among_others(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {"id": f"r{i}", "text": f"text number{i} of its own", "n": 0} for i in range(30)
        ]
        rows += [{"id": f"d{i}", "text": "the very same words", "n": 1} for i in range(5)]
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            store.ingest(rows)
            result = store.search("very same words", k=5)
            assert sorted(result.ids) == [f"d{i}" for i in range(5)]
            assert len(store.search("very same words", k=100)) == 35

    def test_k_beyond_the_store(self, store: osc.Store) -> None:
        result = store.search("word3", k=5_000)
        assert len(result) == 1500
        assert len(set(result.ids)) == 1500
        assert len(store.search("word3", k=5_000, where="n < 70")) == 70


def test_a_named_title_leads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"r{i}", "title": f"Person {chr(65 + i)}brams", "text": f"born in year {i}",
         "vector": rng.normal(size=8).tolist()}
        for i in range(20)
    ]  # fmt: skip
    with osc.connect(tmp_path / "s.osc") as store:
        store.ingest(rows)
        hits = store.search("when was Person Dbrams born", vector=rng.normal(size=8), k=20)
        by_id = {hit.id: hit for hit in hits}
        assert hits[0].id == "r3"
        plain = store.search(
            "when was Person Dbrams born", vector=rng.normal(size=8), k=20,
            parameters=osc.Parameters(name_bonus=0.0),
        )  # fmt: skip
        assert by_id["r3"].evidence > {hit.id: hit for hit in plain}["r3"].evidence + 1


def test_trust_gates_weaken_their_anchor(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "text": f"word{i} in common", "gate": 1.0} for i in range(12)]
    with (
        osc.connect(tmp_path / "a.osc", embedder="hash:32") as trusted,
        osc.connect(tmp_path / "b.osc", embedder="hash:32") as doubted,
    ):
        trusted.ingest(rows)
        doubted.ingest([row | {"gate": 0.25 if row["id"] == "r3" else 1.0} for row in rows])
        one = {hit.id: hit for hit in trusted.search("word3", k=12)}
        two = {hit.id: hit for hit in doubted.search("word3", k=12)}
        assert two["r3"].evidence == pytest.approx(one["r3"].evidence / 4)
        assert all(two[name].evidence == one[name].evidence for name in one if name != "r3")
        assert two["r3"].gate == pytest.approx(one["r3"].gate / 4)
        assert doubted.get("r3")[0]["gate"] == 0.25


def test_a_filter_that_keeps_equal_vectors_alone_gives_sane_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    one = rng.standard_normal(32)
    others = rng.standard_normal((20, 32))
    rows = [{"id": f"a{n}", "text": f"same {n}", "vector": one, "kept": True} for n in range(3)] + [
        {"id": f"b{n}", "text": f"other {n}", "vector": others[n], "kept": False} for n in range(20)
    ]
    with osc.connect(tmp_path / "equal.osc") as store:
        store.ingest(rows)
        result = store.search(vector=rng.standard_normal(32), where="kept = true")
    assert sorted(result.ids) == ["a0", "a1", "a2"]
    assert all(hit.evidence == 0.0 for hit in result)
