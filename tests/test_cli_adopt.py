"""``adopt``: stores of real LanceDB tables, and of collections in the shape that Chroma gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from cli_run import Run
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import node_to_metadata_dict

import oscillink_store as osc
from oscillink_store.engine.adopt import open_adopted
from oscillink_store.errors import DependencyError, InputError
from oscillink_store.filters import Compare
from oscillink_store.integrations.llamaindex import OscillinkVectorStore

DIMENSION = 8
CLI = Callable[..., Run]


def _vectors(count: int) -> list[list[float]]:
    return np.random.default_rng(1).standard_normal((count, DIMENSION)).astype("f4").tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def create(folder: Path) -> Iterator[Callable[..., Any]]:
    def make(name: str, rows: Any) -> Any:
        return lancedb.connect(str(folder)).create_table(name, rows)

    return make


@pytest.fixture
def notes() -> list[dict[str, Any]]:
    return [
        {"id": f"n{place}", "title": f"Title {place}", "content": f"text {place} of many",
         "embedding": vector, "year": 1990 + place, "tags": ["a", "b"][: place % 3],
         "position": "front", "_score": place / 2}
        for place, vector in enumerate(_vectors(30))
    ]  # fmt: skip


def _opened(folder: Path, name: str = "notes") -> osc.Store:
    return osc.connect(folder / f"{name}.osc", read_only=True)


def test_a_table_becomes_a_store_beside_it(
    cli: CLI, create: Callable[..., Any], folder: Path, notes: list[dict[str, Any]]
) -> None:
    table = create("notes", notes)
    run = cli("adopt", f"lancedb://{folder}/notes")
    assert run.code == 0, run.err
    assert "text from content" in run.out
    assert "vector from embedding" in run.out
    assert "by its words" in run.err
    with _opened(folder) as store:
        assert len(store) == 30
        for note, row in zip(notes, store.get([note["id"] for note in notes]), strict=True):
            assert (row["title"], row["text"]) == (note["title"], note["content"])
            assert (row["year"], row["tags"]) == (note["year"], note["tags"])
            # neither could be a column of metadata
            assert row["payload"] == {"position": "front", "_score": note["_score"]}
            unit = np.asarray(note["embedding"]) / np.linalg.norm(note["embedding"])
            assert np.allclose(row["vector"], unit, atol=1e-6)
        assert (
            store.search(vector=notes[7]["embedding"], where="year > 1990", ranking="dense").ids[0]
            == "n7"
        )
        assert store.search("text 9", where=Compare("_score", "eq", 4.5)).ids == ["n9"]
    assert table.count_rows() == len(table.to_arrow()) == 30
    assert lancedb.connect(str(folder)).list_tables().tables == ["notes"]


def test_a_second_run_catches_up(
    cli: CLI, create: Callable[..., Any], folder: Path, tmp_path: Path,
    notes: list[dict[str, Any]],
) -> None:  # fmt: skip
    table = create("notes", notes)
    command = ("adopt", f"lancedb://{folder}/notes.lance/", "--store", tmp_path / "s.osc", "--json")
    assert cli(*command, "--batch", 7).document["added"] == 30
    again = cli(*command).document
    assert (again["added"], again["unchanged"]) == (0, 30)
    table.update(where="id = 'n3'", values={"content": "rewritten"})
    table.add([notes[0] | {"id": "new"}])
    later = cli(*command).document
    assert (later["added"], later["updated"], later["unchanged"]) == (1, 1, 29)
    assert later["columns"] == {
        "id": "id", "text": "content", "title": "title", "vector": "embedding",
    }  # fmt: skip
    with osc.connect(tmp_path / "s.osc") as store:
        assert store.get(["n3"])[0]["text"] == "rewritten"


def test_columns_of_other_names_are_named(
    cli: CLI, create: Callable[..., Any], folder: Path
) -> None:
    rows = [
        {"nr": place, "prose": f"chunk {place}", "about": f"Name {place}", "v": vector,
         "chapter": "one", "place": place, "see": ["0"]}
        for place, vector in enumerate(_vectors(5))
    ]  # fmt: skip
    create("book", rows)
    url = f"lancedb://{folder}/book"
    refused = cli("adopt", url)
    assert refused.code == 1
    assert "--text COLUMN" in refused.err
    assert not (folder / "book.osc").exists()
    missing = cli("adopt", url, "--text", "proze")
    assert "'proze'" in missing.err
    assert "prose" in missing.err
    named = {"id": "nr", "text": "prose", "title": "about", "vector": "v", "sequence": "chapter",
             "position": "place", "links": "see"}  # fmt: skip
    run = cli("adopt", url, *(word for pair in named.items() for word in (f"--{pair[0]}", pair[1])))
    assert run.code == 0, run.err
    with _opened(folder, "book") as store:
        assert store.stats()["edges"]["next"] == 4
        assert store.stats()["edges"]["link"] == 4
        row = store.get(["3"])[0]
        assert (row["title"], row["sequence"], row["position"]) == ("Name 3", "one", 3.0)


def test_rows_without_ids_are_known_by_what_they_say(
    create: Callable[..., Any], folder: Path
) -> None:
    rows = [
        {"vector": vector, "text": f"text {place // 2}"} for place, vector in enumerate(_vectors(8))
    ]
    create("plain", rows)
    create("turned", rows[::-1])
    ids = []
    for name in ("plain", "turned"):
        (batch,) = open_adopted(f"lancedb://{folder}/{name}").source
        ids.append(batch.data.column("id").to_pylist())
        assert len(set(ids[-1])) == 8
    assert set(ids[0]) == set(ids[1])


def test_a_langchain_table_keeps_its_metadata(
    cli: CLI, create: Callable[..., Any], folder: Path
) -> None:
    create("docs", [
        {"id": "a", "text": "one", "vector": [1.0, 0.0], "metadata": {"page": 1, "tag": None}},
        {"id": "b", "text": "two", "vector": [0.0, 1.0], "metadata": {"page": 2, "tag": "x"}},
    ])  # fmt: skip
    assert cli("adopt", f"lancedb://{folder}/docs").code == 0
    with _opened(folder, "docs") as store:
        assert [row["payload"] for row in store.get(["a", "b"])] == [
            {"page": 1}, {"page": 2, "tag": "x"},
        ]  # fmt: skip
        assert store.search(vector=[1.0, 1.0], where=Compare("page", "gt", 1)).ids == ["b"]


def test_a_llamaindex_table_keeps_its_nodes(
    cli: CLI, create: Callable[..., Any], folder: Path
) -> None:
    text = " ".join(f"Sentence {number} of a document." for number in range(40))
    nodes = SentenceSplitter(chunk_size=40, chunk_overlap=0).get_nodes_from_documents(
        [Document(id_=name, text=text, metadata={"name": name}) for name in ("d0", "d1")]
    )
    for node, vector in zip(nodes, _vectors(len(nodes)), strict=True):
        node.embedding = vector
    create("nodes", [
        {"id": node.node_id, "doc_id": node.ref_doc_id, "vector": node.embedding,
         "text": node.text, "metadata": node_to_metadata_dict(node)}
        for node in nodes
    ])  # fmt: skip
    assert cli("adopt", f"lancedb://{folder}/nodes").code == 0
    vector_store = OscillinkVectorStore(folder / "nodes.osc")
    ids = [node.node_id for node in nodes]

    def bare(some: Sequence[BaseNode]) -> list[BaseNode]:
        return [node.model_copy(update={"embedding": None}) for node in some]

    assert bare(vector_store.get_nodes(ids)) == bare(nodes)
    asked = MetadataFilters(filters=[MetadataFilter(key="name", value="d1")])
    assert len(vector_store.get_nodes(filters=asked)) == len(nodes) // 2
    # written by the vector store itself, their order becomes edges
    assert vector_store.client.stats()["edges"]["next"] == 0
    vector_store.add(vector_store.get_nodes())
    assert vector_store.client.stats()["edges"]["next"] == len(nodes) - 2
    assert bare(vector_store.get_nodes(ids)) == bare(nodes)
    vector_store.delete("d0")
    assert {node.ref_doc_id for node in vector_store.get_nodes()} == {"d1"}
    vector_store.client.close()


def test_odd_types_are_kept_in_their_plain_form(
    cli: CLI, create: Callable[..., Any], folder: Path
) -> None:
    when = datetime(2024, 5, 1, tzinfo=UTC)
    create("odd", pa.table({
        "id": pa.array([1, 2]),
        "text": pa.array(["a", "b"], pa.large_string()),
        "vector": pa.FixedSizeListArray.from_arrays(
            pa.array(np.arange(1, 5, dtype=np.float16)), 2
        ),
        "ID": pa.array([b"\x01", None], pa.binary()),
        "when": pa.array([when, None]),
        "_n": pa.array([float("nan"), 0.5]),
        "metadata": pa.array(['{"k": 1}', "no json"]),
    }))  # fmt: skip
    assert cli("adopt", f"lancedb://{folder}/odd").code == 0
    with _opened(folder, "odd") as store:
        first, second = store.get(["1", "2"])
        assert first["when"] == when
        assert first["payload"] == {"ID": "01", "_n": None, "k": 1}
        assert second["payload"] == {"_n": 0.5, "metadata": "no json"}


@pytest.mark.parametrize("text", ["2024", '["a", "b"]', "true", "null", '"x"', "[" * 100_000])
def test_metadata_of_json_that_is_no_object_is_kept(
    cli: CLI, create: Callable[..., Any], folder: Path, text: str
) -> None:
    create("odd", [{"id": "a", "text": "one", "vector": [1.0, 0.0], "metadata": text}])
    assert cli("adopt", f"lancedb://{folder}/odd").code == 0
    with _opened(folder, "odd") as store:
        assert store.get("a")[0]["payload"] == {"metadata": text}


def test_a_table_without_vectors_is_embedded(
    cli: CLI, create: Callable[..., Any], folder: Path
) -> None:
    create("words", [{"id": "a", "text": "one word"}, {"id": "b", "text": "another"}])
    run = cli("adopt", f"lancedb://{folder}/words")
    assert run.code == 0
    assert "'hash'" in run.err
    with osc.connect(folder / "words.osc") as store:
        assert store.search("one word").ids[0] == "a"


def test_bad_rows_stop_or_are_left_out(cli: CLI, create: Callable[..., Any], folder: Path) -> None:
    create("gaps", [
        {"id": "a", "text": "one", "vector": [1.0, 0.0]},
        {"id": "b", "text": None, "vector": [1.0, 0.0]},
        {"id": "c", "text": "three", "vector": [0.0, 0.0]},
    ])  # fmt: skip
    url = f"lancedb://{folder}/gaps"
    stopped = cli("adopt", url)
    assert stopped.code == 1
    assert "row 1" in stopped.err
    left = cli("adopt", url, "--on-error", "skip", "--json").document
    assert (left["added"], left["rejected"]) == (1, 2)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("notes", "lancedb://PATH/TABLE"),
        ("s3://bucket/table", "lancedb://PATH/TABLE"),
        ("lancedb:///nowhere/at/all", "no Lance table"),
    ],
)
def test_what_is_no_table_is_refused(cli: CLI, url: str, words: str) -> None:
    run = cli("adopt", url)
    assert run.code == 1
    assert words in run.err
    assert run.err.count("\n") == 1


def test_without_chroma_its_collections_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(DependencyError, match="pip install chromadb"):
        open_adopted(f"chroma://{tmp_path}/docs")


@pytest.mark.skipif(find_spec("chromadb") is None, reason="Chroma is no part of the test install")
def test_a_collection_of_chroma_becomes_a_store(cli: CLI, tmp_path: Path) -> None:
    import chromadb

    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    collection = client.create_collection("docs")
    collection.add(
        ids=["a", "b"],
        documents=["one", "two"],
        embeddings=[[1.0, 0.0], [0.0, 1.0]],
        metadatas=[{"page": 1}, {"page": 2}],
    )
    run = cli("adopt", f"chroma://{tmp_path}/chroma/docs", "--position", "page")
    assert run.code == 0, run.err
    with _opened(tmp_path, "docs") as store:
        (row,) = store.get(["b"])
        assert (row["payload"], row["position"]) == ({"page": 2}, 2.0)
        assert store.search(vector=[0.0, 1.0], where=Compare("page", "eq", 2)).ids == ["b"]
    with pytest.raises(InputError, match="no collection 'other'"):
        open_adopted(f"chroma://{tmp_path}/chroma/other")


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"body": "content"}, "'body' is no part: use one of id, text"), (["content"], "a list")],
)
def test_what_names_no_parts_is_refused(
    create: Callable[..., Any], notes: list[dict[str, Any]], folder: Path, columns: Any, words: str
) -> None:
    create("notes", notes)
    with pytest.raises(InputError, match=words):
        osc.adopt(f"lancedb://{folder}/notes", columns=columns)
    not_a_url: Any = folder / "notes"
    with pytest.raises(InputError, match="names no table"):
        osc.adopt(not_a_url)
    assert not (folder / "notes.osc").exists()
