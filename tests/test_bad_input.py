"""What cannot be used is refused by name, and a store that refused something is as it was."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import oscillink_store as osc
from oscillink_store.engine.candidates import text_matches
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import (
    ClosedError,
    DiskError,
    EmbedderError,
    InputError,
    NotAStoreError,
    QueryError,
    ReadOnlyError,
)
from oscillink_store.storage.manifest import read_current

ROWS = [
    {"id": f"r{i}", "text": f"word{i} of many words", "title": f"Title {i}", "year": 2000 + i}
    for i in range(12)
]
NEW = [{"id": "new", "text": "a row that is fine", "year": 1999}]


def files(root: Path) -> dict[str, int]:
    """Every file of a store with its size, receipts and the lock left out."""
    return {
        str(path.relative_to(root)): path.stat().st_size
        for path in root.rglob("*")
        if path.is_file()
        and path.parent.name != "receipts"
        and path.name not in ("LOCK", "latest_version_hint.json")
    }


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "t.osc"
    with osc.connect(path, embedder="hash:64") as store:
        store.ingest(ROWS)
    return path


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Iterator[osc.Store]:
    """Twelve rows of generation 1, in a folder of the test's own."""
    shutil.copytree(template, tmp_path / "t.osc")
    with osc.connect(tmp_path / "t.osc") as store:
        yield store


def assert_unharmed(store: osc.Store, before: dict[str, int]) -> None:
    """The store is what ``before`` lists, verifies, and takes a good batch."""
    assert store.generation == 1
    assert files(store.path) == before
    assert store.to_arrow(columns=["id"])["id"].to_pylist() == [row["id"] for row in ROWS]
    assert store.verify().problems == ()
    report = store.ingest(NEW)
    assert (report.generation, report.added, len(store)) == (2, 1, len(ROWS) + 1)
    assert store.search("a row that is fine", k=1).ids == ["new"]
    assert store.verify().problems == ()


def refused(store: osc.Store, source: Any, kind: type[Exception], words: str) -> Exception:
    before = files(store.path)
    with pytest.raises(kind, match=words) as caught:
        store.ingest(source)
    assert_unharmed(store, before)
    return caught.value


UNIT = [1.0] + [0.0] * 63
BAD_ROWS: dict[str, tuple[list[dict[str, Any]], str, str, int | None]] = {
    "missing id": ([{"id": "a", "text": "x"}, {"text": "y"}], "'id' is missing", "id", 1),
    "null id": ([{"id": "a", "text": "x"}, {"id": None, "text": "y"}], "'id' is missing", "id", 1),
    "blank id": ([{"id": " ", "text": "y"}], "'id' is empty", "id", 0),
    "no id column": ([{"text": "y"}], "no column 'id'", "id", None),
    "missing text": ([{"id": "a", "text": "x"}, {"id": "b"}], "'text' is missing", "text", 1),
    "blank text": ([{"id": "a", "text": "\n "}], "'text' is empty", "text", 0),
    "no text column": ([{"id": "a"}], "no column 'text'", "text", None),
    "duplicate id": (
        [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}, {"id": "a", "text": "z"}],
        "repeats 'a'", "id", 2,
    ),
    "NaN vector": ([{"id": "a", "text": "x", "vector": [np.nan, *UNIT[1:]]}], "NaN", "vector", 0),
    "inf vector": ([{"id": "a", "text": "x", "vector": [np.inf, *UNIT[1:]]}], "inf", "vector", 0),
    "zero vector": ([{"id": "a", "text": "x", "vector": [0.0] * 64}], "zeros", "vector", 0),
    "wrong dimension": (
        [{"id": "a", "text": "x", "vector": UNIT}, {"id": "b", "text": "x", "vector": [1.0]}],
        "1 numbers where 64", "vector", 1,
    ),
    "all of a wrong dimension": (
        [{"id": "a", "text": "x", "vector": [1.0] * 65}], "65 numbers where 64", "vector", 0,
    ),
    "a vector for some rows": (
        [{"id": "a", "text": "x", "vector": UNIT}, {"id": "b", "text": "x"}], "no vector",
        "vector", 1,
    ),
    "a lone surrogate": ([{"id": "a", "text": "\ud800"}], "surrogate", "text", 0),
    "two types in a column": (
        [{"id": "a", "text": "x", "n": 1}, {"id": "b", "text": "x", "n": "one"}], "'n'", "n", 1,
    ),
    "a type unlike the store's": ([{"id": "a", "text": "x", "year": "MM"}], "'year'", "year", 0),
    "a reserved name": ([{"id": "a", "text": "x", "digest": "d"}], "reserved", "digest", None),
    "a gate beyond 1": ([{"id": "a", "text": "x", "gate": 1.5}], "from 0 to 1", "gate", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_are_refused_whole(filled: osc.Store, case: str) -> None:
    rows, words, field, row = BAD_ROWS[case]
    error = refused(filled, rows, InputError, words)
    assert isinstance(error, ValueError)
    assert isinstance(error, InputError)
    assert (error.field, error.row) == (field, row)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("latin.jsonl", '{"id": "a", "text": "caf\xe9"}\n'.encode("latin-1"), "UTF-8"),
        ("latin.csv", "id,text\na,caf\xe9\n".encode("latin-1"), "UTF-8"),
        ("empty.jsonl", b"", "is empty"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"id,text\n", "no rows"),
        ("blank.jsonl", b"\n\n", "is empty"),
        ("broken.jsonl", b'{"id": "a", "text": "x"}\n{"id": \n', "JSON"),
        ("broken.parquet", b"PAR1 this is not parquet", "parquet|Parquet"),
    ],
)
def test_files_are_refused_whole(
    filled: osc.Store, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert name in str(refused(filled, path, InputError, words))


def test_a_parquet_file_without_rows(filled: osc.Store, tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}),
                   path)  # fmt: skip
    refused(filled, path, InputError, "no rows")


def test_no_rows_at_all(filled: osc.Store) -> None:
    refused(filled, [], InputError, "no rows")


def test_a_source_that_fails_midway(filled: osc.Store) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"id": "a", "text": "x"}
        raise ZeroDivisionError

    refused(filled, rows(), ZeroDivisionError, "^$")


def test_an_interrupt_while_rows_are_planned(filled: osc.Store) -> None:
    before = files(filled.path)

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == "commit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filled.ingest([{"id": "a", "text": "x"}], progress=interrupt)
    assert_unharmed(filled, before)


@pytest.mark.parametrize(
    ("embed", "words"),
    [
        (lambda texts: np.ones((len(texts), 63)), "63"),
        (lambda texts: np.ones((len(texts) + 1, 64)), "one vector per text"),
        (lambda texts: np.zeros((len(texts), 64)), "zeros"),
        (lambda texts: np.full((len(texts), 64), np.nan), "NaN"),
    ],
)
def test_an_embedder_that_misbehaves(
    tmp_path: Path, embed: Callable[[list[str]], Any], words: str
) -> None:
    class Embedder:
        name, dimension = "mine", 64

        def embed(self, texts: list[str]) -> Any:
            return np.eye(64)[: len(texts)] if good else embed(texts)

    good = True
    with osc.connect(tmp_path / "s.osc", embedder=Embedder()) as store:
        store.ingest(ROWS)
        before, good = files(store.path), False
        with pytest.raises(EmbedderError, match=words):
            store.ingest(NEW)
        assert files(store.path) == before
        assert store.generation == 1
        assert store.verify().problems == ()
        good = True
        assert store.ingest(NEW).added == 1


def test_vectors_unlike_the_embedder(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
        with pytest.raises(InputError, match="2 numbers where 64"):
            store.ingest([{"id": "a", "text": "x", "vector": [1.0, 0.0]}])
        assert store.ingest([{"id": "a", "text": "x", "vector": UNIT}]).added == 1
    with osc.connect(tmp_path / "s.osc") as store:
        assert store.dimension == 64


def test_rows_without_vectors_need_an_embedder(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc") as store:
        with pytest.raises(InputError, match="no embedder"):
            store.ingest([{"id": "a", "text": "x"}])
        assert (len(store), store.generation) == (0, 0)
        assert store.ingest([{"id": "a", "text": "x", "vector": [1.0, 0.0]}]).added == 1


def test_ten_megabytes_of_text(filled: osc.Store) -> None:
    text = "needle " + "hay stack straw field " * (10_000_000 // 22)
    assert len(text) > 9_999_000
    filled.ingest([{"id": "long", "text": text, "year": 1}])
    assert filled.search("needle", k=1).hits[0].text == text
    assert filled.get("long")[0]["text"] == text
    assert filled.verify().problems == ()


BAD_SEARCHES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to search": ({}, "neither text nor vector"),
    "blank text": ({"text": " \n"}, "non-empty string"),
    "text of bytes": ({"text": b"word1"}, "non-empty string"),
    "text with a lone surrogate": ({"text": "a \udcff b"}, "Unicode"),
    "k of zero": ({"text": "word1", "k": 0}, "k is 0"),
    "k below zero": ({"text": "word1", "k": -3}, "k is -3"),
    "a fraction of k": ({"text": "word1", "k": 2.5}, "k is 2.5"),
    "k beyond all numbers": ({"text": "word1", "k": 10**20}, "at most"),
    "k of True": ({"text": "word1", "k": True}, "k is True"),
    "k of None": ({"text": "word1", "k": None}, "k is None"),
    "NaN vector": ({"vector": [np.nan] * 64}, "NaN"),
    "inf vector": ({"vector": [np.inf] * 64}, "infinity"),
    "zero vector": ({"vector": [0.0] * 64}, "zeros"),
    "wrong dimension": ({"vector": [1.0] * 65}, "dimension 64"),
    "a number for a vector": ({"vector": 1.0}, "dimension 64"),
    "words for a vector": ({"vector": ["a"] * 64}, "numbers"),
    "complex numbers": ({"vector": np.ones(64) * 1j}, "real numbers"),
    "two vectors": ({"vector": np.ones((2, 64))}, "dimension 64"),
    "unknown column": ({"text": "word1", "where": "colour = 'red'"}, "colour"),
    "unfinished predicate": ({"text": "word1", "where": "year >"}, "year >"),
    "unfinished string": ({"text": "word1", "where": "id = 'r1"}, "does not end"),
    "two predicates": ({"text": "word1", "where": "year > 1; year > 2"}, "one expression"),
    "a predicate of no truth": ({"text": "word1", "where": "year"}, "boolean"),
    "a predicate of two types": ({"text": "word1", "where": "year = 'abc'"}, "abc"),
    "a predicate that fails": ({"text": "word1", "where": "year / (year - year) = 1"}, "zero"),
    "an aggregate": ({"text": "word1", "where": "sum(year) > 1"}, "sum"),
    "a subquery": ({"text": "word1", "where": "id IN (SELECT id)"}, "not supported"),
    "a parameter": ({"text": "word1", "where": "year = $1"}, "parameters"),
    "another parameter": ({"text": "word1", "where": "year = ?"}, "parameters"),
    "a random predicate": ({"text": "word1", "where": "random() < 0.5"}, "changes"),
    "a predicate of bytes": ({"text": "word1", "where": b"year = 1"}, "SQL predicate"),
    "a list for a predicate": ({"text": "word1", "where": ["year = 1"]}, "SQL predicate"),
    "blank predicate": ({"text": "word1", "where": " "}, "SQL predicate"),
    "a number for a label": ({"text": "word1", "label": 5}, "label is a int"),
    "parameters of another lattice": (
        {"text": "word1", "parameters": osc.Parameters(knn_neighbors=3)}, "knn_neighbors",
    ),
    "a dict for parameters": ({"text": "word1", "parameters": {"sources": 1}}, "dict"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(template: Path) -> Iterator[osc.Store]:
    with osc.connect(template, read_only=True) as store:
        yield store


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_searches_are_refused(shared: osc.Store, case: str) -> None:
    arguments, words = BAD_SEARCHES[case]
    with pytest.raises(QueryError, match=words) as caught:
        shared.search(**arguments)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert shared.search("word3", k=1).ids == ["r3"]


def test_vectors_of_any_length_but_zero(shared: osc.Store) -> None:
    direction = np.arange(1.0, 65.0)
    wanted = shared.search(vector=direction).receipt.content_hash
    for factor in (1e300, 1e-300, 3.0):
        assert shared.search(vector=direction * factor).ids == shared.search(vector=direction).ids
    assert shared.search(vector=[list(direction)]).receipt.content_hash == wanted
    assert shared.search(vector=direction.astype(int).tolist()).receipt.content_hash == wanted


@pytest.mark.parametrize("text", ['"many words"', "a AND b", "(((", "x:y~2^3", "\x00", "!?", "of"])
def test_any_words_are_a_question(shared: osc.Store, text: str) -> None:
    assert len(shared.search(text, k=3)) == 3


def test_a_quoted_question_is_searched_by_its_words(template: Path) -> None:
    snapshot = Snapshot(template, read_current(template))
    for words in ("word4 word7", '"word4 word7"'):
        matches = text_matches(snapshot, words, 10, None)
        assert matches.rows.tolist() == [4, 7]


@pytest.mark.parametrize("read", ["get", "find", "delete"])
def test_ids_are_strings(filled: osc.Store, read: str) -> None:
    call = getattr(filled, read)
    with pytest.raises(QueryError, match="id 5 is a int"):
        call([5])
    with pytest.raises(QueryError, match="ids is a int"):
        call(5)
    with pytest.raises(QueryError, match="surrogate"):
        call(["\ud800"])
    assert len(filled) == 12


def test_one_id_may_stand_alone(shared: osc.Store) -> None:
    (found,) = shared.find("r7")
    assert found is not None
    assert found["id"] == "r7"
    assert shared.find("r9999") == [None]


@pytest.mark.parametrize("where", [5, {"year": 1}, b"year = 1", ["year = 1"], " "])
def test_what_is_no_predicate_selects_no_rows(shared: osc.Store, where: Any) -> None:
    with pytest.raises(QueryError, match="SQL predicate"):
        shared.to_arrow(where=where)


def test_fields_and_parameters_are_what_they_are_called(filled: osc.Store, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "new", "body": "New"}]
    wrong: Any = {"text": "body"}
    for call in (filled.ingest, filled.write, partial(filled.ingest_job, name="job")):
        with pytest.raises(QueryError, match=r"fields is a dict: pass Fields\("):
            call(rows, fields=wrong)
    with pytest.raises(QueryError, match="fields is a dict"):
        osc.connect(tmp_path / "other.osc", fields=wrong)
    with pytest.raises(QueryError, match=r"parameters is a dict: pass Parameters\("):
        osc.connect(tmp_path / "other.osc", parameters=wrong)
    assert len(filled) == 12
    assert not (tmp_path / "other.osc").exists()


def test_an_unknown_column_of_the_table(shared: osc.Store) -> None:
    with pytest.raises(QueryError, match="'colour' is not among id, title, text"):
        shared.to_arrow(columns=["id", "colour"])
    with pytest.raises(QueryError, match="digest"):
        shared.to_arrow(columns=["digest"])
    with pytest.raises(QueryError, match="colour"):
        shared.to_arrow(where="colour = 1")


class TestEmptyStore:
    def test_everything_works_without_anchors(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc", embedder="hash:64") as store:
            result = store.search("anything", k=3, where="year > 1", label="none")
            assert (len(result), result.ids, result.to_arrow().num_rows) == (0, [], 0)
            assert result.receipt.verify()
            assert result.receipt.content["results"] == []
            assert result.receipt.label == "none"
            assert len(store.search(vector=[1.0, 2.0])) == 0
            assert len(store.rerank([], "anything")) == 0
            assert len(store) == store.stats()["anchors"] == 0
            assert store.dimension is None
            assert store.edges().num_rows == store.summaries().num_rows == 0
            assert store.to_arrow().schema.names[:3] == ["id", "title", "text"]
            assert store.to_arrow(columns=["id"], where="id = 'a'").num_rows == 0
            assert store.receipts().num_rows == 3
            assert store.verify().ok
            assert store.generation == 0

    def test_it_still_refuses(self, tmp_path: Path) -> None:
        with osc.connect(tmp_path / "s.osc") as store:
            for arguments in ({"text": "x", "k": 0}, {"text": "x", "where": "a = '"}, {}):
                with pytest.raises(QueryError):
                    store.search(**arguments)
            with pytest.raises(osc.OscillinkError, match="'a' is not in the store"):
                store.get("a")
            with pytest.raises(QueryError, match="nope"):
                store.to_arrow(columns=["nope"])


class TestPaths:
    def test_a_folder_of_other_things(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(NotAStoreError, match="not a store"):
            osc.connect(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("mine")
        with pytest.raises(NotAStoreError, match="is a file"):
            osc.connect(path)
        with pytest.raises(NotAStoreError, match="below a file"):
            osc.connect(path / "deeper" / "store.osc")
        assert path.read_text() == "mine"

    def test_nothing_to_open_read_only(self, tmp_path: Path) -> None:
        with pytest.raises(NotAStoreError, match="read-only"):
            osc.connect(tmp_path / "none.osc", read_only=True)
        assert list(tmp_path.iterdir()) == []

    def test_a_store_that_was_removed(self, filled: osc.Store) -> None:
        assert filled.search("word1").ids
        shutil.rmtree(filled.path)
        for call in (filled.stats, filled.verify, lambda: filled.search("word1"),
                     lambda: filled.ingest(NEW)):  # fmt: skip
            with pytest.raises(NotAStoreError, match="no store any more"):
                call()
        assert not filled.path.exists()

    @pytest.mark.parametrize("option", [{"durability": "never"}, {"embedder": "hash:zero"}])
    def test_options(self, tmp_path: Path, option: dict[str, Any]) -> None:
        with pytest.raises((QueryError, EmbedderError), match=next(iter(option.values()))):
            osc.connect(tmp_path / "s.osc", **option)


def test_a_closed_store(template: Path) -> None:
    store = osc.connect(template, read_only=True)
    store.close()
    store.close()
    assert store.closed
    for call in (lambda: store.search("x"), lambda: store.ingest(NEW), lambda: store.get("r1"),
                 lambda: len(store), store.stats, store.verify, store.receipts,
                 store.edges, store.to_arrow):  # fmt: skip
        with pytest.raises(ClosedError):
            call()
    assert "closed" in repr(store)


def test_a_read_only_store_refuses_writes(shared: osc.Store) -> None:
    with pytest.raises(ReadOnlyError, match="read-only") as caught:
        shared.ingest(NEW)
    assert isinstance(caught.value, PermissionError)


def run(script: str, *arguments: object) -> dict[str, Any]:
    """Run a script in a process of its own; it prints one JSON object last."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


READ_ONLY = """
import json, os, sys
from pathlib import Path
import oscillink_store as osc
root = Path(sys.argv[1])
new = [{"id": "new", "text": "a row that is fine", "year": 1999}]
with osc.connect(root / "warm.osc", embedder="hash:64") as warm:  # all modules are loaded now
    warm.ingest(new); warm.search("fine", where="year > 1"); warm.verify(); warm.receipts()
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
outcome = {}
def note(name, call):
    try:
        outcome[name] = call()
    except Exception as error:
        outcome[name] = f"{type(error).__name__}: {error}"
def forbid(mode):
    for path in folders:
        path.chmod(mode)
store = root / "t.osc"
folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
opened = osc.connect(store)
forbid(0o555)
note("ingest", lambda: opened.ingest(new).generation)
note("generation", lambda: opened.generation)
note("verify", lambda: opened.verify().problems)
note("open", lambda: osc.connect(store).generation)
note("create", lambda: osc.connect(store / "deeper.osc").generation)
with osc.connect(store, read_only=True) as reader:
    note("search", lambda: reader.search("word3", k=1, where="year > 1").ids)
    note("receipts", lambda: reader.receipts().num_rows)
forbid(0o755)
note("again", lambda: opened.ingest(new).generation)
note("whole", lambda: opened.verify().problems)
opened.close()
store.chmod(0)
note("closed folder", lambda: osc.connect(store).generation)
print(json.dumps(outcome))
"""


def test_a_read_only_folder(template: Path) -> None:
    # not below the test's own folder, which only its owner may enter
    with tempfile.TemporaryDirectory(prefix="oscillink-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        shutil.copytree(template, root / "t.osc")
        before = files(root / "t.osc")
        if os.getuid() == 0:
            for path in (root / "t.osc", *(root / "t.osc").rglob("*")):
                os.chown(path, 65534, 65534)
        try:
            outcome = run(READ_ONLY, root)
        finally:
            (root / "t.osc").chmod(stat.S_IRWXU)
            for path in (root / "t.osc").rglob("*"):
                if path.is_dir():
                    path.chmod(stat.S_IRWXU)
        assert outcome["ingest"].startswith("ReadOnlyError: ")
        assert str(root / "t.osc") in outcome["ingest"]
        assert outcome["generation"] == 1
        assert outcome["verify"] == []
        assert outcome["open"].startswith("ReadOnlyError: ")
        assert "read_only=True" in outcome["open"]
        assert outcome["create"].startswith("ReadOnlyError: ")
        assert outcome["search"] == ["r3"]
        assert outcome["receipts"] == 1
        assert outcome["again"] == 2
        assert outcome["whole"] == []
        assert outcome["closed folder"].startswith("DiskError: ")
        assert "cannot be read" in outcome["closed folder"]
        assert len(files(root / "t.osc")) > len(before)


LIMITED = """
import json, resource, sys
import oscillink_store as osc
store = osc.connect(sys.argv[1])
rows = [{"id": f"x{i}", "text": f"more {i} " * 40} for i in range(300)]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    outcome = {"error": store.ingest(rows).generation}
except osc.OscillinkError as error:
    outcome = {"error": f"{type(error).__name__}: {error}", "oserror": isinstance(error, OSError)}
outcome["generation"], outcome["anchors"] = store.generation, len(store)
outcome["problems"] = store.verify().problems
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outcome["again"] = store.ingest(rows).generation
outcome["whole"] = store.verify().problems
store.close()
print(json.dumps(outcome))
"""


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY,
    reason="the size of files is limited here already",
)
@pytest.mark.parametrize("limit", [12_000, 60_000])
def test_a_quota(template: Path, tmp_path: Path, limit: int) -> None:
    shutil.copytree(template, tmp_path / "t.osc")
    outcome = run(LIMITED, tmp_path / "t.osc", limit)
    assert outcome["error"].startswith("DiskError: ")
    assert "free some space" in outcome["error"]
    assert outcome["oserror"] is True
    assert (outcome["generation"], outcome["anchors"]) == (1, len(ROWS))
    assert outcome["problems"] == outcome["whole"] == []
    assert outcome["again"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.getuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)],
        capture_output=True, check=False,
    ).returncode  # fmt: skip
    if not mounted:
        pytest.skip("mounting a small disk is not allowed here; test_a_quota covers the rest")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_at_every_stage(template: Path, small_disk: Path) -> None:
    shutil.copytree(template, small_disk / "t.osc")
    rows = [{"id": f"x{i}", "text": f"more {i} of it", "year": i} for i in range(150)]
    ballast = small_disk / "ballast"
    with osc.connect(small_disk / "t.osc") as store:
        before, failures, generation = files(store.path), 0, 1
        for free in range(0, 3_000_000, 20_000):
            ballast.unlink(missing_ok=True)
            space = os.statvfs(small_disk)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - free, 1))
            try:
                generation = store.ingest(rows).generation
                break
            except DiskError as error:
                message = str(error)
            failures += 1
            assert "free some space" in message, free
            assert files(store.path) == before, free
            assert (store.generation, len(store)) == (1, len(ROWS)), free
            assert store.verify().problems == (), free
        # several stages were met: data, index, segments, manifest
        assert failures >= 10
        # a number is given up where a commit may have left a receipt that names it
        assert generation == store.generation in (2, 3)
        assert len(store) == len(ROWS) + len(rows)
        assert store.verify().problems == ()
        receipts = store.receipts()
        assert receipts["kind"].to_pylist() == ["ingest", "ingest"]
        assert sorted(receipts["generation"].to_pylist()) == [1, generation]


def test_a_full_disk_takes_no_receipts(template: Path, small_disk: Path) -> None:
    shutil.copytree(template, small_disk / "t.osc")
    with osc.connect(small_disk / "t.osc") as store:
        space = os.statvfs(small_disk)
        with (small_disk / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
        with pytest.raises(osc.OscillinkError, match='durability="off"'):
            store.search("word3")
        with osc.connect(store.path, durability="off") as quiet:
            assert quiet.search("word3", k=1).ids == ["r3"]
        (small_disk / "ballast").unlink()
        assert store.search("word3", k=1).receipt.sequence == 1
        assert store.verify().problems == ()
