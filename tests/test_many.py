"""Several stores give the answer of one store that holds all of their anchors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from many_stores import APART, FIELDS, Watched, fill, make_rows

import oscillink_store as osc
from oscillink_store.errors import ClosedError, EmbedderError, InputError, QueryError
from oscillink_store.filters import Compare

ROWS = make_rows(40)
PSI = np.random.default_rng(5).normal(size=24)
QUESTIONS: list[dict[str, Any]] = [
    {"text": "word3 word9"},
    {"vector": PSI},
    {"text": "word3 word9 word3", "vector": PSI, "k": 30},
    # titles: one within another's, one of too many anchors, and one of a few
    {"text": "an inn at Amber Road Inn, or Topic 7?"},
    {"text": "Amber, says Ann Lee about word4", "vector": PSI},
    {"text": "Blue Mill by Bob and Carla", "vector": PSI, "where": "speaker <> 'Bob'"},
    {"text": "word5 of Ann", "vector": PSI, "where": "lang = 'en'"},
    {"text": "word5 of Ann or Bob", "where": Compare("n", "lt", 90), "k": 5},
    {"vector": -PSI, "where": Compare("speaker", "eq", "Ann"), "k": 200},
    {"text": "word1", "where": "lang = 'fr'"},
    {"text": "nothing heard of"},
    {"text": "word2 word8", "vector": PSI, "parameters": osc.Parameters(
        **{**APART.to_dict(), "diffusion": "heat", "sources": 6, "dense_candidates": 9})},
    {"text": "word2", "parameters": osc.Parameters(
        **{**APART.to_dict(), "text_matches": 12, "text_candidates": 7, "evidence_floor_rank": 9})},
    *({"text": "word6 word7 Topic 4", "vector": PSI, "ranking": name, "k": k}
      for name in ("hybrid", "dense", "text", "mmr") for k in (4, 60)),
    {"text": "word6 word7", "vector": PSI, "ranking": "hybrid", "where": "lang = 'en'"},
]  # fmt: skip


def column(result: osc.SearchResult, name: str) -> np.ndarray:
    return np.array([getattr(hit, name) for hit in result], np.float64)  # None becomes NaN


def alike(one: osc.SearchResult, many: osc.ManyResult) -> None:
    assert many.ids == one.ids
    content, of_one = many.receipt.content, one.receipt.content
    for name in ("score", "evidence", "gate", "cosine"):
        np.testing.assert_allclose(column(many, name), column(one, name), 1e-9, 1e-9, err_msg=name)
    # settled store by store, each until its own residual is small enough
    np.testing.assert_allclose(column(many, "coherence"), column(one, "coherence"), atol=2e-4)
    assert content["candidate_count"] == of_one["candidate_count"]
    if of_one["delta_h"] is not None:
        assert content["delta_h"] == pytest.approx(of_one["delta_h"], rel=1e-4, abs=1e-6)
    for here, there in zip(many, one, strict=True):
        assert (here.text, here.title, here.metadata, here.payload) == (
            there.text, there.title, there.metadata, there.payload
        )  # fmt: skip
        assert here.rank == there.rank
    assert many.complete
    assert many.verify()


@settings(max_examples=3, phases=set(Phase) - {Phase.shrink})  # which takes minutes
@given(st.integers(3, 8), st.randoms(use_true_random=False))
def test_it_is_the_answer_of_one_store(stores: int, random: Any) -> None:
    check_any_division(stores, random)


@pytest.mark.slow
@settings(max_examples=30, phases=set(Phase) - {Phase.shrink})
@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_it_is_the_answer_of_one_store_however_divided(stores: int, random: Any) -> None:
    check_any_division(stores, random)


def check_any_division(stores: int, random: Any) -> None:
    home = {row["sequence"]: random.randrange(stores) for row in ROWS}
    with TemporaryDirectory() as folder:
        split = [[row for row in ROWS if home[row["sequence"]] == at] for at in range(stores)]
        paths = {f"n{at}": fill(Path(folder) / f"{at}.osc", rows) for at, rows in enumerate(split)}
        whole = fill(Path(folder) / "whole.osc", [row for rows in split for row in rows])
        with osc.connect(whole) as one, osc.connect_many(paths) as many:
            assert len(many) == len(one)
            for question in QUESTIONS:
                result = many.search(**question)
                alike(one.search(**question), result)
                for hit in result:
                    assert hit.id in {row["id"] for row in split[int(hit.store[1:])]}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three stores of a third of the rows each, for tests that only search them."""
    folder = tmp_path_factory.mktemp("many")
    home = [int(row["sequence"][1:]) % 3 for row in ROWS]
    return [
        fill(folder / f"{at}.osc", [row for row, its in zip(ROWS, home, strict=True) if its == at])
        for at in range(3)
    ]


@pytest.fixture
def many(paths: list[Path]) -> Iterator[osc.ManyStores]:
    with osc.connect_many(paths) as stores:
        yield stores


def test_one_store_answers_for_itself(paths: list[Path]) -> None:
    with osc.connect(paths[0]) as one, osc.connect_many(paths[:1]) as alone:
        for question in QUESTIONS:
            alike(one.search(**question), alone.search(**question))


def test_empty_stores_change_nothing(paths: list[Path], tmp_path: Path) -> None:
    osc.connect(tmp_path / "empty.osc").close()
    with osc.connect_many(paths) as without:
        with osc.connect_many([tmp_path / "empty.osc", *paths]) as beside:
            for question in QUESTIONS:
                one, two = without.search(**question), beside.search(**question)
                assert [(hit.store, hit.id, hit.score) for hit in one] == [
                    (hit.store, hit.id, hit.score) for hit in two
                ]
                assert one.receipt.delta_h == two.receipt.delta_h
                assert two.parts["empty.osc"].candidate_count == 0
                assert beside.replay(two).ok


def test_questions_of_the_store_s_own_embedder_are_embedded(tmp_path: Path) -> None:
    for at in range(2):
        with osc.connect(tmp_path / f"{at}.osc", embedder="hash:32") as store:
            store.ingest([{"id": f"{at}-{i}", "text": f"word{i} of {at}"} for i in range(9)])
    with osc.connect_many([tmp_path / "0.osc", tmp_path / "1.osc"]) as many:
        hits = many.search("word3 of 1", k=2)
        assert hits.ids[0] == "1-3"
        assert hits[0].cosine is not None
    with osc.connect(tmp_path / "2.osc", embedder="hash:64") as store:
        store.ingest([{"id": "x", "text": "word3"}])
    everything = [tmp_path / f"{at}.osc" for at in range(3)]
    with osc.connect_many(everything) as mixed:
        with pytest.raises(EmbedderError, match=r"'hash:32' in '1.osc', 'hash:64' in '2.osc'"):
            mixed.search("word3")
        assert len(mixed.search("word3", ranking="text")) == 3
    with osc.connect_many(everything, embedder="hash:32") as chosen:
        result = chosen.search("word3")
        assert [left.store for left in result.missing] == ["2.osc"]
        assert "its vectors come from embedder 'hash:64'" in result.missing[0].reason
        assert len(result.parts) == 2
    with osc.connect_many(everything, embedder="hash:16") as wrong:
        with pytest.raises(EmbedderError, match="not 'hash:16'"):
            wrong.search("word3")


def test_no_text_leaves_a_store_but_that_of_hits(paths: list[Path]) -> None:
    for ranking in ("lattice", "hybrid", "text", "mmr"):
        executor = Watched()
        with osc.connect_many(paths, executor=executor) as many:
            result = many.search(
                "word3 Amber Topic 7 of Bob", vector=PSI, k=3, ranking=ranking, where="lang = 'en'"
            )
        executor.shutdown()
        chosen = {hit.store: [] for hit in result}
        for hit in result:
            chosen[hit.store].append(hit.id)
        rounds = {"lattice": 4}.get(ranking, 3)
        assert len({task for task, _, _ in executor.seen}) == rounds
        told = 0
        for task, folder, answer in executor.seen:
            content = pickle.dumps(answer)
            for row in ROWS:
                mark = f"mark{row['id'][1:]}".encode()
                held = any(content[at + len(mark) :][:1].isdigit() is False
                           for at in places(content, mark))  # fmt: skip
                assert held == (task == "settle_part" and row["id"] in chosen.get(folder, ())), (
                    task,
                    row["id"],
                )
                told += held
        assert told == 3


def places(content: bytes, mark: bytes) -> Iterator[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


class TestArguments:
    def test_stores_are_named(self, paths: list[Path], tmp_path: Path) -> None:
        with osc.connect_many({"a": paths[0], "b": str(paths[1])}) as many:
            assert many.names == ["a", "b"]
            assert {hit.store for hit in many.search("word3 word9 word5", k=20)} == {"a", "b"}
        twins = [paths[0], tmp_path / "0.osc"]
        with osc.connect_many(twins) as many:
            assert many.names == [str(path) for path in twins]
        with pytest.raises(QueryError, match=r"0\.osc is there twice"):
            osc.connect_many([paths[0], paths[0]])

    def test_a_catalogue_names_stores_beside_it(self, paths: list[Path]) -> None:
        catalogue = paths[0].parent / "catalogue.json"
        catalogue.write_text('{"version": 1, "stores": {"x": "1.osc", "y": "2.osc"}}')
        with osc.connect_many(catalogue) as many:
            assert many.names == ["x", "y"]
            assert many.search("word3").complete
        catalogue.write_text('{"version": 2, "stores": {}}')
        with pytest.raises(ValueError, match=r"catalogue .* has version 2"):
            osc.connect_many(catalogue)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "stores": [1]}', "[" * 9999])
    def test_what_is_no_catalogue_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(InputError, match="holds no stores"):
            osc.connect_many(tmp_path / "c.json")

    @pytest.mark.parametrize("stores", [[], {}, 3, [3], {"a": 3}, {"": "x"}, {3: "x"}])
    def test_what_are_no_stores_is_refused(self, stores: Any) -> None:
        with pytest.raises(QueryError, match="stores"):
            osc.connect_many(stores)

    @pytest.mark.parametrize(
        "options", [{"timeout": 0}, {"timeout": "x"}, {"timeout": True}, {"detail": "some"},
                    {"payload": "none"}, {"durability": "never"}],
    )  # fmt: skip
    def test_bad_options_are_refused(self, paths: list[Path], options: dict[str, Any]) -> None:
        with pytest.raises(QueryError, match=f"{next(iter(options))} is"):
            osc.connect_many(paths, **options)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({}, "neither text nor vector"),
            ({"text": " "}, "text is"),
            ({"text": "a", "k": 0}, "k is 0"),
            ({"text": "a", "where": "lang ="}, "where"),
            ({"text": "a", "where": "nowhere = 3"}, "nowhere"),
            ({"text": "a", "ranking": "best"}, "ranking is 'best'"),
            ({"text": "a", "ranking": "dense"}, "needs a vector"),
            ({"vector": PSI, "ranking": "text"}, "needs words"),
            ({"vector": PSI[:5]}, r"shape \(5,\), the store's embeddings have dimension 24"),
            ({"text": "a", "parameters": osc.Parameters(knn_neighbors=3)}, "knn_neighbors is 3"),
            ({"text": "a", "detail": "some"}, "detail is 'some'"),
            ({"text": "a", "timeout": -1}, "timeout is -1"),
            ({"text": "a", "route": True}, "route: only a question with a vector"),
            ({"text": "a", "route": "yes"}, "route is 'yes'"),
            ({"text": "a", "label": 3}, "label is a int"),
        ],
    )
    def test_questions_that_make_no_sense_are_refused(
        self, many: osc.ManyStores, asked: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(QueryError, match=message):
            many.search(**asked)

    @pytest.mark.parametrize("timeout", [1e12, float("inf")])
    def test_a_limit_beyond_all_clocks_is_none(self, many: osc.ManyStores, timeout: float) -> None:
        assert many.search("word3", timeout=timeout).complete

    def test_stores_of_other_constants_need_to_be_told(
        self, paths: list[Path], tmp_path: Path
    ) -> None:
        fill(tmp_path / "other.osc", ROWS[:9], osc.Parameters())
        with osc.connect_many([paths[0], tmp_path / "other.osc"]) as many:
            with pytest.raises(QueryError, match=r"mention_weight is 0\.0 in store '0.osc' and 1"):
                many.search("word3")
            assert many.search("word3", parameters=APART).complete

    def test_a_closed_one_answers_nothing(self, paths: list[Path]) -> None:
        many = osc.connect_many(paths)
        many.search("word3")
        many.close()
        for act in (lambda: many.search("word3"), many.stats, many.verify, many.describe):
            with pytest.raises(ClosedError, match="closed"):
                act()


class TestResults:
    def test_as_an_arrow_table(self, many: osc.ManyStores) -> None:
        result = many.search("word3 word9", k=6)
        table = result.to_arrow()
        assert table.schema.names[:4] == ["rank", "score", "id", "store"]
        assert table["store"].to_pylist() == [hit.store for hit in result]
        assert table["id"].to_pylist() == result.ids
        assert pickle.loads(pickle.dumps(result)) == result
        with pytest.raises(QueryError, match="explain the search of one of the stores"):
            result.explain()

    def test_a_column_of_that_name_keeps_its_values(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc") as store:
            store.ingest([{"id": "a", "text": "one", "store": "corner", "vector": [1.0, 0.0]}])
        with osc.connect_many([tmp_path / "s.osc"]) as many:
            table = many.search("one").to_arrow()
        assert table["store"].to_pylist() == ["s.osc"]
        assert table["metadata.store"].to_pylist() == ["corner"]

    def test_ids_may_come_again(self, paths: list[Path], tmp_path: Path) -> None:
        fill(tmp_path / "twin.osc", [ROWS[0]])
        with osc.connect_many([*paths, tmp_path / "twin.osc"]) as many:
            result = many.search("mark0", k=2)
        assert result.ids == ["r0", "r0"]
        assert {hit.store for hit in result} == {"0.osc", "twin.osc"}

    def test_stores_describe_themselves(self, many: osc.ManyStores, paths: list[Path]) -> None:
        described = many.describe()
        assert list(described) == many.names
        with osc.connect(paths[1], fields=FIELDS) as store:
            vectors = np.array([row["vector"] for row in store.to_arrow().to_pylist()])
            assert described["1.osc"].mean == pytest.approx(vectors.mean(axis=0), abs=1e-5)
            assert described["1.osc"].anchors == len(store)
            assert many.stats()["stores"]["1.osc"]["anchors"] == len(store)
        assert many.stats()["anchors"] == len(many) == len(ROWS)


def test_stores_with_shards_are_routed(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(6, 24))
    rows = [
        {"id": f"r{i}", "text": f"word{i % 9} mark{i}", "speaker": "Ann",
         "vector": (centres[i % 6] + 0.1 * rng.normal(size=24)).tolist()}
        for i in range(140)
    ]  # fmt: skip
    parameters = osc.Parameters(**{
        **APART.to_dict(), "shards_from": 60, "shard_anchors": 20, "dense_candidates": 8,
        "route_shards": 1, "route_share": 0.1,
    })  # fmt: skip
    paths = [
        fill(tmp_path / "a", rows[:120], parameters),
        fill(tmp_path / "b", rows[120:], parameters),
    ]
    whole = fill(tmp_path / "whole", rows, parameters)
    with osc.connect_many(paths) as many, osc.connect(whole) as one:
        asked = {"text": "word3", "vector": centres[2], "k": 5}
        assert [each["shards"] > 0 for each in many.stats()["stores"].values()] == [True, False]
        result = many.search(**asked)
        routes = {name: part.content.get("layers") for name, part in result.parts.items()}
        assert routes["a"]["route"]["visited"] < 120
        assert routes["b"] is None
        assert result.receipt.content["route"] is True
        assert many.replay(result).ok
        alike(one.search(**asked, route=False), many.search(**asked, route=False))
        assert many.search(**asked, route=True).ids == result.ids
        with pytest.raises(QueryError, match="route: only a question with a vector"):
            many.search("word3", route=True)
