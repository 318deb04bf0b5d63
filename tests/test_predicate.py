"""``where``: its quoting, what it keeps, and that nothing which fails it has any say."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine.predicate import predicate
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import QueryError
from oscillink_store.storage.manifest import read_current

LANGS = ["en", "de", "it's", 'say "hi"', "", None]
COUNT = 120


def metadata(i: int) -> dict[str, Any]:
    return {
        "n": i,
        "part": None if i % 11 == 0 else i / 4,
        "lang": LANGS[i % 6],
        "Name": f"N{i % 9}",
        "has space": i % 2 == 0,
        "tags": [["x", "y"], ["y"], [], None][i % 4],
        "meta": None if i % 13 == 0 else {"a": i % 10, "b": {"c": f"c{i % 3}"}},
        "select": i % 5,
    }


ROWS = [
    {"id": f"r{i}", "text": f"word{i % 30} and other{i % 7} words", "title": f"T{i}", **metadata(i)}
    for i in range(COUNT)
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    path = tmp_path_factory.mktemp("predicate") / "s.osc"
    with osc.connect(path, embedder="hash:64", durability="off") as store:
        store.ingest(ROWS)
        yield store


def kept(store: osc.Store, where: str) -> list[str]:
    """The ids that ``where`` keeps, as a search, the table and the mask agree on."""
    found = store.search("and other words", k=COUNT, where=where)
    table = store.to_arrow(["id"], where=where)["id"].to_pylist()
    mask = Snapshot(store.path, read_current(store.path)).allowed(where)
    assert [f"r{i}" for i in np.flatnonzero(mask)] == table
    assert sorted(found.ids) == sorted(table)
    assert set(found.receipt.content["candidates"]) <= set(table)
    return list(table)


def rows_with(test: Callable[[dict[str, Any]], object]) -> list[str]:
    return [row["id"] for row in ROWS if test(row)]


CASES: dict[str, Callable[[dict[str, Any]], object]] = {
    "n < 10": lambda r: r["n"] < 10,
    "n >= 10 AND n <> 15 OR n = 3": lambda r: (r["n"] >= 10 and r["n"] != 15) or r["n"] == 3,
    "NOT (n BETWEEN 5 AND 100)": lambda r: not 5 <= r["n"] <= 100,
    "n IN (1, 2, 500)": lambda r: r["n"] in (1, 2, 500),
    "n % 7 = 3": lambda r: r["n"] % 7 == 3,
    "part > 20.5": lambda r: r["part"] is not None and r["part"] > 20.5,
    "part IS NULL": lambda r: r["part"] is None,
    "NOT part > 20.5": lambda r: r["part"] is not None and r["part"] <= 20.5,
    "lang = 'en'": lambda r: r["lang"] == "en",
    "lang = 'it''s'": lambda r: r["lang"] == "it's",
    "lang = 'say \"hi\"'": lambda r: r["lang"] == 'say "hi"',
    "lang = ''": lambda r: r["lang"] == "",
    "lang IS NOT NULL": lambda r: r["lang"] is not None,
    "lang <> 'en'": lambda r: r["lang"] not in ("en", None),
    "lang LIKE '%''%'": lambda r: r["lang"] == "it's",
    "lang = 'now()' OR lang = '--;?$1' OR lang = 'de'": lambda r: r["lang"] == "de",
    "\"Name\" = 'N3'": lambda r: r["Name"] == "N3",
    "`Name` = 'N3'": lambda r: r["Name"] == "N3",
    "Name = 'N3'": lambda r: r["Name"] == "N3",
    "name = 'N3'": lambda r: r["Name"] == "N3",
    '"has space"': lambda r: r["has space"],
    "`has space` = false AND n < 9": lambda r: not r["has space"] and r["n"] < 9,
    '"select" = 4': lambda r: r["select"] == 4,
    "array_has(tags, 'x')": lambda r: r["tags"] and "x" in r["tags"],
    "array_has(tags, 'y') AND NOT array_has(tags, 'x')": lambda r: r["tags"] == ["y"],
    "tags IS NULL": lambda r: r["tags"] is None,
    "meta.a = 4": lambda r: r["meta"] and r["meta"]["a"] == 4,
    '"meta"."a" = 4': lambda r: r["meta"] and r["meta"]["a"] == 4,
    "meta.b.c = 'c1'": lambda r: r["meta"] and r["meta"]["b"]["c"] == "c1",
    "meta IS NULL": lambda r: r["meta"] is None,
    "id = 'r17' OR title = 'T18'": lambda r: r["n"] in (17, 18),
    "text LIKE 'word3 %'": lambda r: r["n"] % 30 == 3,
    "gate = 1": lambda r: True,
    "lower(lang) = 'en' AND length(text) > 5": lambda r: r["lang"] == "en",
    "true": lambda r: True,
    "false": lambda r: False,
    "n > 1000": lambda r: False,
}


@pytest.mark.parametrize("where", CASES)
def test_what_is_kept(store: osc.Store, where: str) -> None:
    assert kept(store, where) == rows_with(CASES[where])


NUMBERS = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq, "<>": operator.ne, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


def truth(value: object, compare: Callable[[Any, Any], bool], other: object) -> bool | None:
    """SQL's three-valued comparison."""
    return None if value is None else compare(value, other)


def both(one: bool | None, two: bool | None) -> bool | None:
    if one is False or two is False:
        return False
    return None if one is None or two is None else True


def negated(one: bool | None) -> bool | None:
    return None if one is None else not one


Predicate = tuple[str, Callable[[dict[str, Any]], bool | None]]


def _compare(column: str, sign: str, value: Any) -> Predicate:
    literal = str(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
    return (
        f'"{column}" {sign} {literal}',
        lambda row: truth(row[column], NUMBERS[sign], value),
    )


def _and(one: Predicate, two: Predicate) -> Predicate:
    return f"({one[0]} AND {two[0]})", lambda row: both(one[1](row), two[1](row))


def _or(one: Predicate, two: Predicate) -> Predicate:
    return (
        f"({one[0]} OR {two[0]})",
        lambda row: negated(both(negated(one[1](row)), negated(two[1](row)))),
    )


def _not(one: Predicate) -> Predicate:
    return f"NOT ({one[0]})", lambda row: negated(one[1](row))


leaves: st.SearchStrategy[Predicate] = st.one_of(
    st.builds(_compare, st.just("n"), st.sampled_from(list(NUMBERS)), st.integers(-3, COUNT + 3)),
    st.builds(_compare, st.just("part"), st.sampled_from(list(NUMBERS)),
              st.integers(0, 4 * COUNT).map(lambda i: i / 8)),
    st.builds(_compare, st.just("lang"), st.sampled_from(["=", "<>"]),
              st.sampled_from([value for value in LANGS if value is not None])),
    st.builds(_compare, st.just("Name"), st.sampled_from(list(NUMBERS)),
              st.integers(0, 10).map(lambda i: f"N{i}")),
)  # fmt: skip
predicates = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(_and, inner, inner), st.builds(_or, inner, inner), st.builds(_not, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(predicates)
def test_any_predicate_against_python(store: osc.Store, made: Predicate) -> None:
    where, test = made
    assert kept(store, where) == rows_with(lambda row: test(row) is True)


class TestRestriction:
    def test_what_fails_has_no_say(self, store: osc.Store, tmp_path: Any) -> None:
        """The same hits, to the bit, as a store in which the filtered rows hold nonsense."""
        mask = [row["n"] % 3 != 0 for row in ROWS]
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(COUNT, 64))
        other = rng.normal(size=(COUNT, 64))
        paths = []
        for name, outsiders in (("a", vectors), ("b", other)):
            rows = [
                {"id": f"r{i}", "text": "same words here", "n": i,
                 "vector": (vectors if mask[i] else outsiders)[i].tolist()}
                for i in range(COUNT)
            ]  # fmt: skip
            with osc.connect(tmp_path / f"{name}.osc", durability="off") as filled:
                filled.ingest(rows)
            paths.append(tmp_path / f"{name}.osc")
        results = []
        for path in paths:
            with osc.connect(path, read_only=True) as opened:
                results.append(opened.search("words", vector=vectors[1], k=20, where="n % 3 <> 0"))
        assert all(hit.metadata["n"] % 3 for hit in results[0])
        assert results[0].receipt.content["best_cosine"] == pytest.approx(1.0)
        first = {hit.id: (hit.cosine, round(hit.evidence, 9)) for hit in results[0]}
        second = {hit.id: (hit.cosine, round(hit.evidence, 9)) for hit in results[1]}
        for name in first.keys() & second.keys():
            assert first[name] == second[name]
        assert len(first.keys() & second.keys()) >= 10

    def test_nothing_kept_is_an_empty_result(self, store: osc.Store) -> None:
        for arguments in ({"text": "word3"}, {"vector": [1.0] * 64},
                          {"text": "word3", "vector": [1.0] * 64}):  # fmt: skip
            result = store.search(**arguments, where="n < 0", k=5)
            assert (len(result), result.ids, result.to_arrow().num_rows) == (0, [], 0)
            assert result.receipt.verify()
            assert result.receipt.content["candidates"] == []

    def test_one_kept_is_the_whole_result(self, store: osc.Store) -> None:
        for i in (0, 17, 119):
            result = store.search("word3 words", where=f"n = {i}")
            assert result.ids == [f"r{i}"]
            assert np.isfinite([result[0].score, result[0].evidence, result[0].gate]).all()

    def test_equal_questions_with_and_without_a_mask_of_all(self, store: osc.Store) -> None:
        plain = store.search("word3 other2", k=10)
        masked = store.search("word3 other2", k=10, where="true")
        assert plain.ids == masked.ids
        # the moments over what a filter keeps are taken from the 8-bit codes
        for one, two in zip(plain, masked, strict=True):
            assert one.score == pytest.approx(two.score, abs=0.02)
            assert one.cosine == two.cosine


class TestRewriting:
    @pytest.mark.parametrize(
        ("where", "wanted"),
        [
            ("lang = 'en'", "lang = 'en'"),
            ("\"Lang\" = 'en'", "`Lang` = 'en'"),
            ('"a b"."c" = \'x"y\'', "`a b`.`c` = 'x\"y'"),
            ("`a` = 1", "`a` = 1"),
            ("a = 'it''s'", "a = 'it''s'"),
            ("a = '\"b\"' AND \"c\" = '`'", "a = '\"b\"' AND `c` = '`'"),
            ("uuid = 'x' AND now > 1 AND today < 2", "uuid = 'x' AND now > 1 AND today < 2"),
            ("my_random(1) = 2", "my_random(1) = 2"),
            ('"current_date" = 1', "`current_date` = 1"),
            ("a - -1 = b", "a - -1 = b"),
        ],
    )
    def test_names_in_double_quotes(self, where: str, wanted: str) -> None:
        assert predicate(where) == wanted

    @pytest.mark.parametrize(
        "where",
        [
            "", " ", "a = 'x", 'a = "x', "a = `x", "a = 1; b = 2", "a = 1 -- all", "a /* */ = 1",
            "random() < 1", "rand ( ) < 1", "RANDOM() < 1", "uuid() = 'x'", "at < now()",
            "day = today()", "day < current_date", "at < CURRENT_TIMESTAMP", "t = current_time",
            "a = ?", "a = $1", "a = $name", "'a' = '' '",
        ],
    )  # fmt: skip
    def test_refused(self, where: str) -> None:
        with pytest.raises(QueryError, match="where"):
            predicate(where)

    @given(st.text(alphabet="ab1 ='\"`;-/*?$().,<>", max_size=24))
    def test_any_text_is_refused_or_evaluated(self, store: osc.Store, where: str) -> None:
        words = "where"
        try:
            assert len(store.search("words", where=where, k=3)) <= 3
        except QueryError as error:
            words = str(error)
        assert words.startswith("where")
