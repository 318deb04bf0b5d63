"""The vector store of LlamaIndex: writes, persistence, indexes over it, threads and event loops."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llamaindex_model as model
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms.mock import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

import oscillink_store as osc
from oscillink_store.errors import ClosedError, NotAStoreError, QueryError
from oscillink_store.integrations.llamaindex import OscillinkVectorStore


@pytest.fixture
def vector_store(tmp_path: Path) -> Iterator[OscillinkVectorStore]:
    store = OscillinkVectorStore(tmp_path / "store.osc")
    yield store
    store.client.close()


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [
        Document(id_=row["id"], text=row["text"], metadata={"module": row["module"]})
        for row in model.docstrings("unittest")
    ]


def _ids(vector_store: OscillinkVectorStore) -> list[str]:
    return sorted(node.node_id for node in vector_store.get_nodes())


def _is(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


# writing


def test_adding_is_an_upsert_and_the_last_of_an_id_counts(
    vector_store: OscillinkVectorStore,
) -> None:
    first, second = model.nodes_of([{"v": 1}, {"v": 1}])
    assert vector_store.add([first, second]) == ["n0", "n1"]
    newer = first.model_copy(update={"metadata": {"v": 2}})
    newest = first.model_copy(update={"metadata": {"v": 3}})
    assert vector_store.add([newer, newest]) == ["n0", "n0"]
    assert [node.metadata for node in vector_store.get_nodes(["n0", "n1"])] == [{"v": 3}, {"v": 1}]
    assert vector_store.add([]) == []


def test_one_call_is_one_commit(vector_store: OscillinkVectorStore) -> None:
    vector_store.add(model.nodes_of([{}] * 5))
    assert vector_store.client.generation == 1
    vector_store.delete("d0")
    assert vector_store.client.generation == 2
    vector_store.delete("no such document")
    vector_store.delete_nodes(["no such node"])
    assert vector_store.client.generation == 2


def test_deleting_a_document_leaves_the_others(vector_store: OscillinkVectorStore) -> None:
    nodes = model.nodes_of([{}] * 7)
    hostile = TextNode(
        id_="x", text="x", embedding=nodes[0].embedding, metadata={"ref_doc_id": "d1"},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d1' OR '1'='1")},
    )  # fmt: skip
    vector_store.add([*nodes, hostile])
    vector_store.delete("d1")
    assert _ids(vector_store) == ["n0", "n2", "n3", "n5", "n6", "x"]
    vector_store.delete("d1' OR '1'='1")
    assert _ids(vector_store) == ["n0", "n2", "n3", "n5", "n6"]


def test_nodes_are_deleted_by_ids_and_filters(vector_store: OscillinkVectorStore) -> None:
    vector_store.add(model.nodes_of([{"v": place} for place in range(6)]))
    vector_store.delete_nodes(["n0", "elsewhere"])
    vector_store.delete_nodes(filters=_is("v", 4, FilterOperator.GTE))
    vector_store.delete_nodes(["n1", "n2"], _is("v", 2))
    assert _ids(vector_store) == ["n1", "n3"]
    vector_store.delete_nodes([])
    with pytest.raises(QueryError, match="clear"):
        vector_store.delete_nodes()
    assert _ids(vector_store) == ["n1", "n3"]
    vector_store.clear()
    vector_store.clear()
    assert _ids(vector_store) == []


def test_nodes_come_in_the_order_asked_for(vector_store: OscillinkVectorStore) -> None:
    vector_store.add(model.nodes_of([{"v": place % 2} for place in range(6)]))
    asked = ["n5", "n0", "elsewhere", "n3"]
    assert [node.node_id for node in vector_store.get_nodes(asked)] == ["n5", "n0", "n3"]
    assert [n.node_id for n in vector_store.get_nodes(asked, _is("v", 1))] == ["n5", "n3"]
    assert vector_store.get_nodes([]) == []
    assert len(vector_store.get_nodes()) == 6


def test_an_empty_store_answers(vector_store: OscillinkVectorStore) -> None:
    answer = vector_store.query(VectorStoreQuery(query_embedding=[1.0, 0.0]))
    assert (answer.nodes, answer.similarities, answer.ids) == ([], [], [])
    vector_store.delete("d")
    vector_store.clear()
    assert vector_store.get_nodes(filters=_is("v", 1)) == []


# where it lies


def test_nodes_are_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    nodes = model.nodes_of([{"v": [1, {"deep": True}]}] * 4)
    question = VectorStoreQuery(query_embedding=nodes[2].embedding, similarity_top_k=4)
    vector_store = OscillinkVectorStore(tmp_path / "store.osc")
    vector_store.add(nodes)
    answer = vector_store.query(question)
    vector_store.persist(str(tmp_path / "elsewhere.json"))
    vector_store.client.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.osc"]
    again = OscillinkVectorStore.from_persist_dir(str(tmp_path / "store.osc"))
    assert again.query(question) == answer
    again.client.close()
    with pytest.raises(NotAStoreError):
        OscillinkVectorStore.from_persist_dir(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_store_without_a_path_goes_with_its_object() -> None:
    vector_store = OscillinkVectorStore()
    path = Path(vector_store.path)
    vector_store.add(model.nodes_of([{}]))
    with pytest.warns(UserWarning, match="temporary"):
        vector_store.persist("anywhere")
    assert path.is_dir()
    del vector_store
    gc.collect()
    assert not path.exists()


def test_a_copy_opens_the_same_folder(vector_store: OscillinkVectorStore) -> None:
    vector_store.add(model.nodes_of([{}]))
    for twin in (
        pickle.loads(pickle.dumps(vector_store)),
        copy.copy(vector_store),
        copy.deepcopy(vector_store),
        OscillinkVectorStore.from_dict(vector_store.to_dict()),
    ):
        assert _ids(twin) == ["n0"]
        assert twin.path == vector_store.path
        twin.client.close()


def test_a_store_that_was_open_stays_open(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "store.osc") as store:
        vector_store = OscillinkVectorStore(store)
        vector_store.add(model.nodes_of([{}]))
        del vector_store
        gc.collect()
        assert len(store) == 1
    with pytest.raises(ClosedError):
        OscillinkVectorStore(store).get_nodes()


def test_titles_are_those_of_the_metadata_key(tmp_path: Path) -> None:
    nodes = model.nodes_of([{"name": "Marble cake", "title": "T"}, {}])
    nodes[1].set_content("Flour and sugar make a marble cake.")
    with osc.connect(tmp_path / "store.osc") as store:
        OscillinkVectorStore(store, title_key="name").add(nodes)
        mentions = [
            {edge["source"], edge["target"]}
            for edge in store.edges().to_pylist()
            if edge["relation"] == "mention"
        ]
        assert mentions == [{"n0", "n1"}]
        assert store.get(["n0"])[0]["title"] == "Marble cake"


# through LlamaIndex


def test_an_index_over_it_answers_updates_and_forgets(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    context = StorageContext.from_defaults(vector_store=vector_store)
    options: dict[str, Any] = {
        "embed_model": model.HashEmbedding(),
        "transformations": [SentenceSplitter(chunk_size=120, chunk_overlap=20)],
    }
    VectorStoreIndex.from_documents(documents, storage_context=context, **options)
    count = len(vector_store.client)
    assert count > len(documents)
    index = VectorStoreIndex.from_vector_store(vector_store, **options)
    wanted = documents[17]
    for mode in ("default", "hybrid", "semantic_hybrid", "text_search", "mmr"):
        retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=5)
        found = retriever.retrieve(wanted.text)
        assert found[0].node.ref_doc_id == wanted.doc_id
        assert found[0].score is not None
        assert found[0].node.source_node is not None
    only = index.as_retriever(filters=_is("module", wanted.metadata["module"])).retrieve("error")
    assert {one.node.metadata["module"] for one in only} == {wanted.metadata["module"]}
    newer = Document(id_=wanted.doc_id, text="Lemons, butter and eggs.", metadata=wanted.metadata)
    index.update_ref_doc(newer)
    (found, *_) = index.as_retriever(similarity_top_k=1).retrieve("Lemons, butter and eggs.")
    assert (found.node.ref_doc_id, found.text) == (wanted.doc_id, newer.text)
    assert len(vector_store.get_nodes(filters=_is("ref_doc_id", wanted.doc_id))) == 1
    index.delete_ref_doc(wanted.doc_id)
    assert vector_store.get_nodes(filters=_is("ref_doc_id", wanted.doc_id)) == []
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3)
    assert len(engine.query("What waits for tasks?").source_nodes) == 3


def test_a_pipeline_writes_to_it(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=200, chunk_overlap=0), model.HashEmbedding()],
        vector_store=vector_store,
        disable_cache=True,
    )
    written = pipeline.run(documents=documents[:20])
    assert _ids(vector_store) == sorted(node.node_id for node in written)


# threads and event loops


def test_the_event_loop_goes_on_during_a_write_that_waits(
    vector_store: OscillinkVectorStore,
) -> None:
    nodes = model.nodes_of([{}] * 40)
    vector_store.add(nodes[:20])
    begun, leave = threading.Event(), threading.Event()
    left: list[bool] = []

    def slow() -> Iterator[dict[str, Any]]:
        begun.set()
        left.append(leave.wait(5))
        yield {"id": "slow", "text": "x", "vector": [1.0] * model.DIMENSION}

    writer = threading.Thread(target=vector_store.client.ingest, args=(slow(),))
    writer.start()
    assert begun.wait(5)

    async def meanwhile() -> None:
        waiting = asyncio.create_task(vector_store.async_add(nodes[20:]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        leave.set()
        await waiting

    asyncio.run(meanwhile())
    writer.join()
    assert left == [True]  # by the loop, and not in vain
    assert len(vector_store.client) == 41


@pytest.mark.parametrize(
    "call",
    [
        lambda store, nodes: store.async_add(nodes),
        lambda store, nodes: store.adelete("d1"),
        lambda store, nodes: store.adelete_nodes(["n0"], _is("v", 0)),
        lambda store, nodes: store.aget_nodes(["n4"], _is("v", 4)),
        lambda store, nodes: store.aquery(
            VectorStoreQuery(query_embedding=nodes[3].embedding, similarity_top_k=5)
        ),
        lambda store, nodes: store.aclear(),
    ],
    ids=["add", "delete", "delete_nodes", "get_nodes", "query", "clear"],
)
def test_async_twins_do_the_same(tmp_path: Path, call: Callable[..., Any]) -> None:
    nodes = model.nodes_of([{"v": place} for place in range(9)])
    twins = {
        "async_add": "add", "adelete": "delete", "adelete_nodes": "delete_nodes",
        "aget_nodes": "get_nodes", "aquery": "query", "aclear": "clear",
    }  # fmt: skip

    class Plain:
        """The store with each async name standing for its twin."""

        def __init__(self, store: OscillinkVectorStore) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, twins[name])

    stores = [OscillinkVectorStore(tmp_path / name) for name in ("async.osc", "plain.osc")]
    for store in stores:
        store.add(nodes)
    answers = [asyncio.run(call(stores[0], nodes)), call(Plain(stores[1]), nodes)]
    assert answers[0] == answers[1]
    assert _ids(stores[0]) == _ids(stores[1])
    for store in stores:
        store.client.close()


def test_many_tasks_read_and_write_at_once(vector_store: OscillinkVectorStore) -> None:
    nodes = model.nodes_of([{"v": place} for place in range(120)])
    vector_store.add(nodes[:60])
    questions = [
        VectorStoreQuery(
            query_embedding=node.embedding,
            similarity_top_k=1,
            filters=_is("v", 60, FilterOperator.LT),
        )
        for node in nodes[:60]
    ]

    async def work() -> list[Any]:
        writes = [vector_store.async_add([node]) for node in nodes[60:72]]
        return await asyncio.gather(*map(vector_store.aquery, questions), *writes)

    answers = asyncio.run(work())
    assert [answer.ids for answer in answers[:60]] == [[node.node_id] for node in nodes[:60]]
    assert _ids(vector_store) == sorted(node.node_id for node in nodes[:72])
