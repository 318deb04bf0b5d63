"""The retriever, the postprocessor and the memory block of LlamaIndex."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import llamaindex_model as model
import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.embeddings.mock_embed_model import MockEmbedding
from llama_index.core.llms.mock import MockLLM
from llama_index.core.memory import Memory
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    IndexNode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.filters import Compare
from oscillink_store.integrations.llamaindex import (
    OscillinkMemoryBlock,
    OscillinkPostprocessor,
    OscillinkRetriever,
    OscillinkVectorStore,
)

QUESTIONS = (
    "How do I wait for several tasks?",
    "read until a separator is found",
    "What does events.TimerHandle do?",
)


def _docstrings() -> list[dict[str, Any]]:
    return [dict(row) for row in model.docstrings("asyncio")]


def _notes() -> list[dict[str, Any]]:
    """A dialogue in many sessions, whose turns hang together by their order alone."""
    draws = np.random.default_rng(5)
    words = [f"word{number}" for number in range(80)]
    return [
        {
            "id": f"s{session}-{turn}",
            "text": " ".join(draws.choice(words, 7)),
            "sequence": f"s{session}",
            "position": turn,
        }
        for session in range(60)
        for turn in range(10)
    ]


@pytest.fixture(scope="module", params=[_docstrings, _notes], ids=["docstrings", "dialogue"])
def vector_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OscillinkVectorStore]:
    with osc.connect(tmp_path_factory.mktemp("rows") / "store.osc", embedder="hash") as store:
        store.ingest(request.param())
        yield OscillinkVectorStore(store)


def test_the_retriever_gives_what_the_store_gives(vector_store: OscillinkVectorStore) -> None:
    embedding = model.HashEmbedding()
    index = VectorStoreIndex.from_vector_store(vector_store, embed_model=embedding)
    retrievers = [
        OscillinkRetriever(vector_store, embedding),
        OscillinkRetriever(index),
        OscillinkRetriever(vector_store.client),
    ]
    for question in (*QUESTIONS, "word3 word17 word41"):
        expected = vector_store.client.search(question)
        for retriever in retrievers:
            found = retriever.retrieve(question)
            assert [one.node.node_id for one in found] == expected.ids
            assert [one.score for one in found] == [hit.score for hit in expected]
            assert [one.text for one in found] == [hit.text for hit in expected]
            assert retriever.last_receipt.result_ids == expected.receipt.result_ids
            assert retriever.last_receipt.verify()
        later = asyncio.run(retrievers[0].aretrieve(question))
        assert [one.node.node_id for one in later] == expected.ids


def test_top_k_filters_ranking_and_label_are_passed_on(vector_store: OscillinkVectorStore) -> None:
    store = vector_store.client
    longest = store.to_arrow(["sequence"])["sequence"].to_pylist()[40]
    asked = MetadataFilter(key="module", value=longest, operator=FilterOperator.NE)
    for ranking in ("lattice", "hybrid", "dense", "text", "mmr"):
        retriever = OscillinkRetriever(
            store,
            similarity_top_k=4,
            filters=MetadataFilters(filters=[asked]),
            ranking=ranking,
            label="a note",
        )
        expected = store.search(
            QUESTIONS[0], k=4, where=~Compare("module", "eq", longest), ranking=ranking
        )
        assert [one.node.node_id for one in retriever.retrieve(QUESTIONS[0])] == expected.ids
        assert retriever.last_receipt.label == "a note"


def test_a_question_with_its_own_embedding_is_not_embedded(
    vector_store: OscillinkVectorStore,
) -> None:
    psi = vector_store.client.search(QUESTIONS[0])[0]
    (row,) = vector_store.client.get([psi.id])
    bundle = QueryBundle(query_str="", embedding=row["vector"].tolist())
    found = OscillinkRetriever(vector_store, MockEmbedding(embed_dim=3)).retrieve(bundle)
    assert found[0].node.node_id == psi.id


def test_each_thread_gets_the_receipt_of_its_own_search(
    vector_store: OscillinkVectorStore,
) -> None:
    retriever = OscillinkRetriever(vector_store.client)
    expected = {question: vector_store.client.search(question).ids for question in QUESTIONS}
    with ThreadPoolExecutor(4) as pool:
        for question, (found, receipt) in zip(
            QUESTIONS * 4, pool.map(retriever.retrieve_with_receipt, QUESTIONS * 4), strict=True
        ):
            assert [one.node.node_id for one in found] == expected[question]
            assert receipt.result_ids == expected[question]
    found, receipt = asyncio.run(retriever.aretrieve_with_receipt(QUESTIONS[1]))
    assert receipt.result_ids == [one.node.node_id for one in found] == expected[QUESTIONS[1]]


def test_it_works_in_a_query_engine(vector_store: OscillinkVectorStore) -> None:
    retriever = OscillinkRetriever(vector_store.client, similarity_top_k=3)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    answer = engine.query(QUESTIONS[1])
    expected = vector_store.client.search(QUESTIONS[1], k=3)
    assert [one.node.node_id for one in answer.source_nodes] == expected.ids
    assert expected[0].text in str(answer)
    later = asyncio.run(engine.aquery(QUESTIONS[1]))
    assert [one.node.node_id for one in later.source_nodes] == expected.ids


def test_index_nodes_lead_to_their_objects(tmp_path: Path) -> None:
    embedding = model.HashEmbedding()
    vector_store = OscillinkVectorStore(tmp_path / "store.osc")
    index = VectorStoreIndex(
        [IndexNode(text="all about cakes", index_id="cakes", obj=TextNode(text="the cake book"))],
        storage_context=StorageContext.from_defaults(vector_store=vector_store),
        embed_model=embedding,
    )
    (found,) = OscillinkRetriever(index).retrieve("cakes")
    assert found.text == "the cake book"
    vector_store.client.close()


def test_an_index_over_another_vector_store_is_refused() -> None:
    index = VectorStoreIndex.from_documents(
        [Document(text="x")], embed_model=MockEmbedding(embed_dim=2)
    )
    assert isinstance(index.vector_store, SimpleVectorStore)
    with pytest.raises(QueryError, match=r"SimpleVectorStore.*OscillinkPostprocessor"):
        OscillinkRetriever(index)


# the postprocessor


def _scored(count: int, *, embedded: bool) -> list[NodeWithScore]:
    rows = model.docstrings("logging")[:count]
    embedding = model.HashEmbedding()
    return [
        NodeWithScore(
            node=TextNode(
                id_=row["id"],
                text=row["text"],
                embedding=embedding.get_text_embedding(row["text"]) if embedded else None,
            ),
            score=0.5,
        )
        for row in rows
    ]


@pytest.mark.parametrize("embedded", [True, False])
def test_the_postprocessor_ranks_as_the_lattice_does(embedded: bool) -> None:
    embedding = model.HashEmbedding()
    nodes = _scored(30, embedded=embedded)
    question = "print a traceback"
    lattice = osc.Lattice([embedding.get_text_embedding(one.text) for one in nodes], kneighbors=4)
    lattice.set_query(embedding.get_query_embedding(question))
    expected = lattice.bundle(k=7)
    postprocessor = OscillinkPostprocessor(embed_model=embedding, top_n=7, kneighbors=4)
    ranked = postprocessor.postprocess_nodes(nodes, query_str=question)
    assert [one.node for one in ranked] == [nodes[chosen.anchor].node for chosen in expected]
    assert [one.score for one in ranked] == [chosen.score for chosen in expected]
    assert postprocessor.last_receipt["delta_h"] == lattice.receipt()["delta_h"]
    later = asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=question))
    assert later == ranked
    assert all(one.score == 0.5 for one in nodes)


def test_the_postprocessor_keeps_all_nodes_unless_told_otherwise() -> None:
    postprocessor = OscillinkPostprocessor(embed_model=model.HashEmbedding())
    nodes = _scored(9, embedded=True)
    ranked = postprocessor.postprocess_nodes(nodes, query_str="future")
    assert {one.node_id for one in ranked} == {one.node_id for one in nodes}
    assert postprocessor.postprocess_nodes([], query_str="future") == []
    with pytest.raises(QueryError, match="question"):
        postprocessor.postprocess_nodes(nodes)


# the memory block

TALK = (
    ("user", "My bicycle is called Rosinante."),
    ("assistant", "What a fine name for it."),
    ("user", "I keep the spare key under the blue flowerpot."),
    ("assistant", "Noted, under the flowerpot."),
    ("user", "Tell me about the weather."),
    ("assistant", "Sunny, with wind from the west."),
)


def _messages(talk: tuple[tuple[str, str], ...] = TALK) -> list[ChatMessage]:
    return [ChatMessage(role=role, content=content) for role, content in talk]


def _asked(block: OscillinkMemoryBlock, question: str, session: str | None = None) -> str:
    return asyncio.run(block.aget(_messages((("user", question),)), session_id=session))


@pytest.fixture
def memory_path(tmp_path: Path) -> Path:
    return tmp_path / "memory.osc"


def test_turns_are_recalled_by_another_process_with_their_neighbours(memory_path: Path) -> None:
    with osc.connect(memory_path, embedder="hash") as store:
        block = OscillinkMemoryBlock(store=store)
        for start in range(0, len(TALK), 2):
            asyncio.run(block.aput(_messages(TALK[start : start + 2]), session_id="monday"))
        edges = {
            frozenset((edge["source"], edge["target"]))
            for edge in store.edges().to_pylist()
            if edge["relation"] == "next"
        }
        rows = sorted(store.to_arrow().to_pylist(), key=lambda row: row["position"])
        assert [row["text"] for row in rows] == [content for _, content in TALK]
        assert edges == {frozenset((one["id"], other["id"])) for one, other in pairwise(rows)}
    with osc.connect(memory_path, embedder="hash") as store:
        block = OscillinkMemoryBlock(store=store, similarity_top_k=2)
        told = _asked(block, "What is my bicycle called?", "monday")
        assert told.splitlines() == [
            "<message role='user'>My bicycle is called Rosinante.</message>",
            "<message role='assistant'>What a fine name for it.</message>",
        ]
        assert block.last_receipt.kind == "search"


def test_owners_and_sessions_do_not_hear_of_each_other(memory_path: Path) -> None:
    with osc.connect(memory_path, embedder="hash") as store:
        store.ingest([{"id": "note", "text": "The key is not here."}])
        blocks = {
            owner: OscillinkMemoryBlock(store=store, owner=owner) for owner in ("ann", "bob", None)
        }
        for owner, block in blocks.items():
            for session in ("one", "two"):
                said = _messages((("user", f"The key of {owner} in {session} is green."),))
                asyncio.run(block.aput(said, session_id=session))
        for owner in ("ann", "bob"):
            told = _asked(blocks[owner], "Where is the key?", "three")
            assert told.splitlines() == [
                f"<message role='user'>The key of {owner} in {session} is green.</message>"
                for session in ("one", "two")
            ]
        (told,) = _asked(blocks[None], "Where is the key?", "two").splitlines()
        assert "None in two" in told
        assert len(_asked(blocks[None], "Where is the key?").splitlines()) == 2
        assert {edge["relation"] for edge in store.edges().to_pylist()}.isdisjoint({"next"})


async def _chat(block: OscillinkMemoryBlock, question: str) -> list[ChatMessage]:
    """What a chat with a short memory has before it, when asked a question at its end."""
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    memory = Memory.from_defaults(
        session_id="monday",
        token_limit=40,
        token_flush_size=10,
        chat_history_token_ratio=0.5,
        memory_blocks=[block],
        async_engine=engine,
    )
    for message in _messages():
        await memory.aput(message)
    history = await memory.aget(input=question)
    await engine.dispose()
    return history


def test_it_serves_llamaindexs_memory(memory_path: Path) -> None:
    with osc.connect(memory_path) as store:
        block = OscillinkMemoryBlock(
            store=store, embed_model=model.HashEmbedding(), similarity_top_k=2
        )
        history = asyncio.run(_chat(block, "What is my bicycle called?"))
        assert 0 < len(store) < len(TALK)
        assert "Rosinante" in history[0].content
        assert "RetrievedMessages" in history[0].content


def test_a_store_with_columns_of_its_own_serves_nodes_and_messages(tmp_path: Path) -> None:
    fields = osc.Fields(id="key", text="body", vector="v", sequence="part", payload="more")
    nodes = model.nodes_of([{"k": 1}, {"k": 2}])
    for node, start in zip(nodes, (0, 9), strict=True):
        node.start_char_idx = start
        node.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d")}
    nodes[0].relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id="n1")
    with osc.connect(tmp_path / "store.osc", fields=fields) as store:
        vector_store = OscillinkVectorStore(store)
        vector_store.add(nodes)
        assert [node.metadata for node in vector_store.get_nodes(["n0", "n1"])] == [
            {"k": 1}, {"k": 2},
        ]  # fmt: skip
        assert store.stats()["edges"]["next"] == 1
        block = OscillinkMemoryBlock(
            store=store, embed_model=MockEmbedding(embed_dim=model.DIMENSION)
        )
        asyncio.run(block.aput(_messages(TALK[:2]), session_id="monday"))
        assert store.stats()["edges"]["next"] == 2
        assert "Rosinante" in _asked(block, "Which name has my bicycle?", "monday")


def test_what_has_no_text_is_not_kept(memory_path: Path) -> None:
    with osc.connect(memory_path, embedder="hash") as store:
        block = OscillinkMemoryBlock(store=store)
        asyncio.run(block.aput(_messages((("assistant", " "),))))
        asyncio.run(block.aput([]))
        assert len(store) == 0
        assert asyncio.run(block.aget([])) == ""
        assert _asked(block, "anything") == ""
        extra = {"tool_call_id": "t1", "score": float("nan")}
        kept = ChatMessage(role="tool", content="42", additional_kwargs=extra)
        asyncio.run(block.aput([kept], session_id="s"))
        payload = store.get(store.search("42").ids)[0]["payload"]
        assert payload["additional_kwargs"] == {"tool_call_id": "t1", "score": None}
        assert payload["session_id"] == kept.additional_kwargs["session_id"] == "s"


# event loops


class _Waiting:
    """Embeds when the event loop has come round meanwhile, or after ten seconds in vain."""

    name = "waiting"
    dimension = 2

    def __init__(self) -> None:
        self.asked, self.reached = threading.Event(), threading.Event()
        self.told: list[bool] = []

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked.set()
        self.told.append(self.reached.wait(10))
        return [[1.0, float(len(text))] for text in texts]

    async def during(self, work: Coroutine[Any, Any, Any]) -> None:
        self.told.clear()
        self.reached.clear()
        self.asked.clear()
        task = asyncio.create_task(work)
        while not self.asked.is_set() and not task.done():
            await asyncio.sleep(0.001)
        self.reached.set()
        await task


@pytest.mark.parametrize(
    "call",
    [
        lambda store: OscillinkRetriever(store).aretrieve("a question"),
        lambda store: OscillinkRetriever(store).aretrieve_with_receipt("a question"),
        lambda store: OscillinkVectorStore(store).aquery(
            VectorStoreQuery(query_str="a question", mode="semantic_hybrid")
        ),
        lambda store: OscillinkVectorStore(store).async_add([TextNode(text="new")]),
        lambda store: OscillinkMemoryBlock(store=store).aput(_messages()),
        lambda store: OscillinkMemoryBlock(store=store).aget(_messages()),
    ],
    ids=["aretrieve", "aretrieve_with_receipt", "aquery", "async_add", "aput", "aget"],
)
def test_the_event_loop_goes_on_while_the_store_embeds(
    memory_path: Path, call: Callable[[osc.Store], Any]
) -> None:
    embedder = _Waiting()
    embedder.reached.set()
    with osc.connect(memory_path, embedder=embedder) as store:
        store.ingest([{"id": "a", "text": "an anchor"}])
        asyncio.run(embedder.during(call(store)))
        assert embedder.told
        assert all(embedder.told)
