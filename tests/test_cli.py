"""The command line on real stores: what it prints, where, and with which exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_run import Run

import oscillink_store as osc
from oscillink_store.cli.app import app

QUESTION = "who owned The Collegian?"
COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)


@pytest.fixture
def source(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def filled(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "filled.osc"
    with osc.connect(path, embedder="hash") as store:
        store.ingest(rows)
    return path


def _fails(run: Run, *pieces: str, code: int = 1) -> None:
    """One line on standard error, nothing on standard output."""
    assert run.code == code
    assert run.out == ""
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    for piece in pieces:
        assert piece in run.err


# help and usage


def test_every_command_has_help_with_an_example(cli: Callable[..., Run]) -> None:
    assert COMMANDS == [
        "adopt", "delete", "demo", "explain", "gate", "ingest", "jobs", "key", "maintain",
        "migrate", "replay", "search", "sql", "stats", "tag", "verify",
    ]  # fmt: skip
    overview = cli("--help")
    for name in COMMANDS:
        assert name in overview.out
        page = cli(name, "--help")
        assert page.code == 0
        assert f"Example: oscillink-store {name}" in page.out
        assert "--json" in page.out
        assert page.err == ""


def test_the_exit_codes_are_documented(cli: Callable[..., Run]) -> None:
    page = " ".join(cli().out.split())
    for piece in ("0 done", "1 error", "2 wrong usage", "130 interrupted"):
        assert piece in page


def test_version(cli: Callable[..., Run]) -> None:
    assert cli("--version") == Run(0, f"{osc.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("serch",),
        ("search",),
        ("search", "store.osc", "question", "--colour"),
        ("search", "store.osc", "question", "-k", "0"),
        ("search", "store.osc", "question", "-k", "many"),
        ("ingest", "store.osc"),
        ("sql", "store.osc"),
        ("sql", "store.osc", "SELECT 1", "--rows", "0"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    cli: Callable[..., Run], arguments: tuple[str, ...]
) -> None:
    _fails(cli(*arguments), "--help", code=2)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from oscillink_store.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'duckdb', 'lance', 'numba', 'numpy', 'pyarrow', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


# ingest


def test_ingest_makes_a_store_and_says_what_it_did(
    cli: Callable[..., Run], tmp_path: Path, source: Path
) -> None:
    run = cli("ingest", tmp_path / "new.osc", source)
    assert run.code == 0
    for piece in ("generation 1", "added", "6", "mention", "total"):
        assert piece in " ".join(run.out.split())  # the path may be long
    assert run.err.startswith("note: ")
    assert "lexical" in run.err
    with osc.connect(tmp_path / "new.osc") as store:
        assert len(store) == 6
        assert store.stats()["embedder"].startswith("hash")


def test_ingest_as_json_and_again(cli: Callable[..., Run], tmp_path: Path, source: Path) -> None:
    first = cli("ingest", tmp_path / "new.osc", source, "--json").document
    assert (first["added"], first["updated"], first["unchanged"], first["anchors"]) == (6, 0, 0, 6)
    assert first["edges"]["mention"] > 0
    assert set(first["seconds"]) >= {"read", "embed", "lattice", "commit", "total"}
    assert len(first["receipt"]["hash"]) == 64
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[0]["text"] = "The Collegian is out of print."
    source.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[1] | {"id": "new"}]))
    again = cli("ingest", tmp_path / "new.osc", source, "--json")
    assert again.err == ""
    counts = [again.document[name] for name in ("added", "updated", "unchanged", "anchors")]
    assert counts == [1, 1, 5, 7]


def test_columns_are_named_once_and_kept(cli: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "turns.csv"
    path.write_text(
        "turn,said,day,hour,who\n"
        "a,We meet at the harbour,1,1,Ann\n"
        "b,I bring the boat,1,2,Bob\n"
        "c,The harbour was closed,2,1,Ann\n"
    )
    columns = ("--id", "turn", "--text", "said", "--sequence", "day", "--position", "hour")
    store = tmp_path / "turns.osc"
    first = cli("ingest", store, path, *columns, "--facet", "who", "--json").document
    assert first["edges"]["next"] == 1
    path.write_text("turn,said,day,hour,who\nd,It opens tomorrow,2,2,Bob\n")
    again = cli("ingest", store, path, "--json").document
    assert again["anchors"] == 4
    assert again["edges"]["next"] == 2
    assert cli("stats", store, "--json").document["facets"] == {"who": 2}


def test_given_vectors_need_no_embedder(cli: Callable[..., Run], tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    table = pa.table(
        {
            "id": ["x", "y", "z"],
            "text": ["first axis", "second axis", "third axis"],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 3),
        }
    )
    pq.write_table(table, tmp_path / "axes.parquet")
    store = tmp_path / "axes.osc"
    run = cli("ingest", store, tmp_path / "axes.parquet")
    assert (run.code, run.err) == (0, "")
    assert cli("stats", store, "--json").document["embedder"] is None
    np.save(tmp_path / "psi.npy", vectors[1])
    (tmp_path / "psi.json").write_text("[0, 1, 0]")
    for psi in (tmp_path / "psi.npy", tmp_path / "psi.json", "[0, 2, 0]"):
        found = cli("search", store, "--vector", psi, "-k", 1, "--json")
        assert [hit["id"] for hit in found.document["hits"]] == ["y"]
        assert found.document["question"] is None


def test_vectors_of_another_embedder_are_asked_for_by_name(
    cli: Callable[..., Run], tmp_path: Path, source: Path
) -> None:
    def letters(texts: list[str]) -> np.ndarray:
        return np.array([[1.0 + text.count(letter) for letter in "aeiou"] for text in texts])

    letters.name = "vowels"
    store = tmp_path / "vowels.osc"
    with osc.connect(store, embedder=letters) as opened:
        opened.ingest([{"id": "a", "text": "a text of its own"}])
    _fails(cli("ingest", store, source), "--embedder vowels")
    found = cli("search", store, "text", "--json")
    assert [hit["id"] for hit in found.document["hits"]] == ["a"]
    assert found.err.startswith("note: searching by words alone")
    assert "--embedder vowels" in found.err


def test_rows_without_vectors_do_not_join_given_vectors(
    cli: Callable[..., Run], tmp_path: Path, source: Path
) -> None:
    with osc.connect(tmp_path / "own.osc") as store:
        store.ingest([{"id": "a", "text": "a text", "vector": [1.0, 2.0]}])
    _fails(cli("ingest", tmp_path / "own.osc", source), "'vector'", "column of vectors")


def test_an_empty_store_is_filled_like_a_new_one(
    cli: Callable[..., Run], tmp_path: Path, source: Path
) -> None:
    osc.connect(tmp_path / "empty.osc", fields=osc.Fields(facets=["lang"])).close()
    run = cli("ingest", tmp_path / "empty.osc", source)
    assert run.code == 0
    assert "lexical" in run.err
    with osc.connect(tmp_path / "empty.osc") as store:
        assert store.stats()["facets"] == {"lang": 2}


def test_several_sources_are_one_commit(cli: Callable[..., Run], tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "text": f"text {name}"}))
    store = tmp_path / "new.osc"
    both = cli("ingest", store, tmp_path / "[ab].jsonl", tmp_path / "c.jsonl", "--json").document
    assert (both["added"], both["generation"]) == (3, 1)


def test_standard_input(
    cli: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    typed('{"id": "a", "text": "für Elise"}\n')
    store = tmp_path / "new.osc"
    assert cli("ingest", store, "-", "--json").document["added"] == 1
    typed('{"id": "b", "text": "fine"}\n{"id": "c", "text"\n')
    _fails(cli("ingest", store, "-"), "standard input", "line 2")
    typed("SELECT id, text FROM coherent_anchors")
    assert cli("sql", store, "-", "--json").document == [{"id": "a", "text": "für Elise"}]


def test_a_source_that_is_not_there_makes_no_store(cli: Callable[..., Run], tmp_path: Path) -> None:
    _fails(cli("ingest", tmp_path / "new.osc", tmp_path / "rows.jsonl"), "rows.jsonl")
    assert not (tmp_path / "new.osc").exists()


def test_a_bad_row_adds_nothing(cli: Callable[..., Run], filled: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "fine", "text": "fine"}\n{"id": "bad"}\n')
    _fails(cli("ingest", filled, bad), "text", "bad.jsonl")
    assert cli("stats", filled, "--json").document["anchors"] == 6


def test_ingest_into_a_folder_of_other_things(cli: Callable[..., Run], source: Path) -> None:
    _fails(cli("ingest", source.parent, source), "not a store")


def test_another_embedder_is_refused(cli: Callable[..., Run], filled: Path, source: Path) -> None:
    _fails(cli("ingest", filled, source, "--embedder", "nonsense"), "nonsense")


# search


def test_search_as_json_is_what_python_gets(cli: Callable[..., Run], filled: Path) -> None:
    where = "lang = 'en'"
    run = cli("search", filled, QUESTION, "-k", 3, "--where", where, "--json")
    with osc.connect(filled) as store:
        expected = store.search(QUESTION, k=3, where=where)
    assert run.document["hits"] == [json.loads(json.dumps(asdict(hit))) for hit in expected]
    assert run.document["receipt"]["content_hash"] == expected.receipt.content_hash
    assert run.document["receipt"]["delta_h"] == expected.receipt.delta_h
    assert (run.code, run.err) == (0, "")


def test_search_prints_hits_and_records_the_receipt(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("search", filled, QUESTION, "-k", 2, "--label", "friday")
    lines = run.out.splitlines()
    assert "The Collegian" in lines[0]
    assert any("student newspaper" in line for line in lines)
    assert all(len(line) <= 100 for line in lines)
    assert lines[-1].startswith("receipt ")
    shown = lines[-1].split()[1].rstrip(":")
    with osc.connect(filled) as store:
        labels = {row["hash"][:16]: row["label"] for row in store.receipts().to_pylist()}
    assert labels[shown] == "friday"


def test_read_only_records_nothing(cli: Callable[..., Run], filled: Path) -> None:
    with osc.connect(filled) as store:
        before = store.receipts().num_rows
    run = cli("search", filled, QUESTION, "--read-only")
    assert run.code == 0
    assert "not recorded" in run.out
    with osc.connect(filled) as store:
        assert store.receipts().num_rows == before


def test_the_whole_receipt_can_be_verified(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("search", filled, QUESTION, "--receipt", "--json")
    receipt = osc.Receipt.from_json(json.dumps(run.document["receipt"]))
    assert receipt.verify()
    assert receipt.result_ids == [hit["id"] for hit in run.document["hits"]]
    shown = cli("search", filled, QUESTION, "--receipt").out
    assert f"content     {receipt.content_hash}" in shown


def test_nothing_found_is_said(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("search", filled, QUESTION, "--where", "lang = 'fr'")
    assert run.code == 0
    assert run.out.startswith("No anchor matches.")


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ((QUESTION, "--where", "colour = 'red'"), ("colour",)),
        ((QUESTION, "--where", "lang ="), ("where",)),
        (("",), ("text",)),
        ((), ("text", "vector")),
        ((QUESTION, "--vector", "[1, 2]"), ("vector", "dimension")),
        ((QUESTION, "--vector", "nowhere.npy"), ("nowhere.npy", "No such file")),
        ((QUESTION, "--vector", "north"), ("--vector", "JSON")),
        ((QUESTION, "--vector", '["a"]'), ("vector",)),
        ((QUESTION, "--embedder", "hash:9"), ("hash",)),
    ],
)
def test_bad_questions_are_one_line(
    cli: Callable[..., Run], filled: Path, arguments: tuple[str, ...], pieces: tuple[str, ...]
) -> None:
    _fails(cli("search", filled, *arguments), *pieces)


# sql


def test_sql_gives_the_same_hits(cli: Callable[..., Run], filled: Path) -> None:
    found = cli("search", filled, QUESTION, "-k", 3, "--json").document["hits"]
    query = f"SELECT id, score FROM coherent_search('{QUESTION}', k := 3)"
    run = cli("sql", filled, query, "--json")
    assert run.document == [{"id": hit["id"], "score": hit["score"]} for hit in found]


def test_sql_draws_a_table_of_so_many_rows(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("sql", filled, "SELECT id, lang FROM coherent_anchors ORDER BY id", "--rows", 2)
    assert run.code == 0
    assert "cake" in run.out
    assert "zeitung" in run.out
    assert "collegian" not in run.out
    assert all(len(line) <= 100 for line in run.out.splitlines())


def test_sql_values_become_json(cli: Callable[..., Run], filled: Path) -> None:
    query = (
        "SELECT 1 AS a, 2 AS a, 'NaN'::DOUBLE AS nan, DATE '2024-02-29' AS day, 1.5::DECIMAL AS d, "
        "[1, 2] AS list, {'x': NULL} AS struct, 'ab'::BLOB AS bytes, MAP {'k': 1} AS map, "
        "TIMESTAMP '2024-02-29 12:00:00' AS at, INTERVAL 1 DAY AS span"
    )
    assert cli("sql", filled, query, "--json").document == [
        {
            "a": 1, "a:1": 2, "nan": None, "day": "2024-02-29", "d": 1.5, "list": [1, 2],
            "struct": {"x": None}, "bytes": "6162", "map": {"k": 1},
            "at": "2024-02-29T12:00:00", "span": "1 day, 0:00:00",
        }
    ]  # fmt: skip


def test_sql_without_a_result(cli: Callable[..., Run], filled: Path) -> None:
    assert cli("sql", filled, "CREATE TABLE t (a INTEGER)").code == 0
    assert cli("sql", filled, "CREATE TABLE t (a INTEGER)", "--json").document == []


@pytest.mark.parametrize(
    ("query", "piece"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT colour FROM coherent_anchors", "colour"),
        ("FROM coherent_search('x', filter := 'colour = 1')", "colour"),
        ("FROM coherent_search(NULL, k := 0)", ""),
    ],
)
def test_sql_errors_are_one_line(
    cli: Callable[..., Run], filled: Path, query: str, piece: str
) -> None:
    _fails(cli("sql", filled, query), piece)


# stats and verify


def test_stats(cli: Callable[..., Run], filled: Path) -> None:
    with osc.connect(filled) as store:
        expected = store.stats()
    assert cli("stats", filled, "--json").document == expected
    shown = cli("stats", filled).out
    for piece in ("anchors", "6", "mention", "hash", "lang"):
        assert piece in shown


def test_verify_a_whole_store(cli: Callable[..., Run], filled: Path) -> None:
    run = cli("verify", filled)
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("whole: generation 1")
    document = cli("verify", filled, "--json").document
    assert document["ok"] is True
    assert document["files"] > 0


def test_verify_a_damaged_store(cli: Callable[..., Run], filled: Path) -> None:
    victim = next((filled / "segments").rglob("moments.arrays"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    run = cli("verify", filled)
    assert run.code == 1
    assert run.out.startswith("damaged: ")
    assert "moments.arrays" in run.out
    document = cli("verify", filled, "--json")
    assert document.code == 1
    assert document.document["ok"] is False
    assert len(document.document["problems"]) == 1


# what is no store


@pytest.mark.parametrize(
    "command",
    [
        ("search", QUESTION),
        ("sql", "SELECT 1"),
        ("stats",),
        ("verify",),
        ("jobs",),
        ("maintain",),
        ("delete", "a"),
        ("tag", "t"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("kind", ["missing", "empty folder", "other folder", "file"])
def test_only_ingest_and_demo_make_a_store(
    cli: Callable[..., Run], tmp_path: Path, command: tuple[str, ...], kind: str
) -> None:
    path = tmp_path / "x.osc"
    if kind == "file":
        path.write_text("text")
    elif kind != "missing":
        path.mkdir()
    if kind == "other folder":
        (path / "notes.txt").write_text("text")
    before = sorted(path.rglob("*"))
    name, *rest = command
    _fails(cli(name, path, *rest), "x.osc", "no store")
    assert sorted(path.rglob("*")) == before
    assert path.exists() == (kind != "missing")
