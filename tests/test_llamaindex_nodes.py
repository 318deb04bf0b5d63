"""Nodes of LlamaIndex come back as they went in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import llamaindex_model as model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import node_to_metadata_dict

from oscillink_store.errors import InputError
from oscillink_store.integrations.llamaindex import OscillinkVectorStore
from oscillink_store.integrations.llamaindex.nodes import NODE_KEY

_texts = st.text(st.characters(codec="utf-8"), max_size=12)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    _texts,
)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(_texts, inner), max_leaves=8
)
_metadata = st.dictionaries(_texts | st.just(NODE_KEY), _json, max_size=4)
_related = st.builds(RelatedNodeInfo, node_id=_texts, metadata=_metadata, hash=st.none() | _texts)
_relationships = st.dictionaries(
    st.sampled_from(NodeRelationship).filter(lambda one: one is not NodeRelationship.CHILD),
    _related,
    max_size=3,
)
_base: dict[str, st.SearchStrategy[Any]] = {
    "metadata": _metadata,
    "relationships": _relationships,
    "excluded_embed_metadata_keys": st.lists(_texts, max_size=2),
    "excluded_llm_metadata_keys": st.lists(_texts, max_size=2),
    "metadata_template": st.sampled_from(["{key}: {value}", "{key}={value}"]),
    "metadata_separator": st.sampled_from(["\n", ", "]),
    "text_template": st.sampled_from(["{metadata_str}\n\n{content}", "{content}"]),
}
_text_node: dict[str, st.SearchStrategy[Any]] = {
    **_base,
    "text": _texts,
    "mimetype": st.sampled_from(["text/plain", "text/html"]),
    "start_char_idx": st.none() | st.integers(0, 9),
    "end_char_idx": st.none() | st.integers(0, 9),
}
_resources = st.none() | st.builds(
    MediaResource,
    data=st.none() | st.binary(min_size=1, max_size=9),
    text=st.none() | _texts,
    url=st.sampled_from([None, "https://example.org/a.png"]),
    path=st.sampled_from([None, "/tmp/a.png"]),
)
_nodes: st.SearchStrategy[BaseNode] = st.one_of(
    st.builds(TextNode, **_text_node),
    st.builds(ImageNode, **_text_node, image=st.none() | st.just("aGk="), image_path=st.none()),
    st.builds(IndexNode, **_text_node, index_id=_texts.filter(str.strip)),
    st.builds(Node, **_base, text_resource=_resources, image_resource=_resources),
    st.builds(Document, **_base, text=_texts),
)


@pytest.fixture(scope="module")
def vector_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OscillinkVectorStore]:
    store = OscillinkVectorStore(tmp_path_factory.mktemp("nodes") / "store.osc")
    yield store
    store.client.close()


def _near(embedding: list[float] | None, other: list[float] | None) -> bool:
    return bool(np.allclose(np.asarray(embedding), np.asarray(other), rtol=1e-6, atol=1e-6))


@settings(max_examples=40)
@given(nodes=st.lists(_nodes, min_size=1, max_size=6))
def test_every_node_comes_back(vector_store: OscillinkVectorStore, nodes: list[BaseNode]) -> None:
    for place, node in enumerate(nodes):
        node.id_, node.embedding = f"n{place}", [1.0 + place, 2.0]
    vector_store.clear()
    assert vector_store.add(nodes) == [node.node_id for node in nodes]
    question = VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=len(nodes))
    answer = vector_store.query(question)
    found = {node.node_id: node for node in answer.nodes}
    for node, stored in zip(
        nodes, vector_store.get_nodes([node.node_id for node in nodes]), strict=True
    ):
        assert _near(stored.embedding, node.embedding)
        bare = node.model_copy(update={"embedding": None})
        for copy in (stored.model_copy(update={"embedding": None}), found[node.node_id]):
            assert type(copy) is type(node)
            assert copy == bare
            assert copy.get_content(MetadataMode.LLM) == bare.get_content(MetadataMode.LLM)
            assert copy.hash == bare.hash
            assert list(copy.metadata) == list(bare.metadata)


def test_embeddings_come_with_an_answer_where_asked(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    vector_store.add([TextNode(id_="a", text="x", embedding=[3.0, 4.0])])
    question = VectorStoreQuery(query_embedding=[1.0, 1.0], output_fields=["embedding"])
    assert vector_store.query(question).nodes[0].embedding == pytest.approx([3.0, 4.0])
    question.output_fields = None
    assert vector_store.query(question).nodes[0].embedding is None


def test_whoever_changes_a_node_changes_no_answer(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    metadata = {"tags": ["a"], "deep": {"k": [1]}}
    vector_store.add([TextNode(id_="a", text="x", metadata=metadata, embedding=[1.0, 0.0])])
    question = VectorStoreQuery(query_embedding=[1.0, 0.0])
    for read in (lambda: vector_store.query(question).nodes, vector_store.get_nodes):
        (node,) = read()
        node.metadata["tags"].append("b")
        node.metadata["deep"]["k"] = None
        (again,) = read()
        assert again.metadata == metadata == {"tags": ["a"], "deep": {"k": [1]}}


def test_an_images_document_and_an_index_nodes_target_come_back(
    vector_store: OscillinkVectorStore,
) -> None:
    target = TextNode(id_="inner", text="inner")
    nodes = [
        IndexNode(id_="a", text="a", index_id="inner", obj=target, embedding=[1.0, 0.0]),
        ImageDocument(id_="b", image=b"aGk=", embedding=[0.0, 1.0]),
    ]
    vector_store.clear()
    vector_store.add(nodes)
    assert vector_store.get_nodes(["a", "b"]) == nodes


def test_a_class_of_ones_own_comes_back(vector_store: OscillinkVectorStore) -> None:
    class Clause(TextNode):
        article: int = 0

        @classmethod
        def class_name(cls) -> str:
            return "Clause"

    node = Clause(id_="c", text="Everyone has the right.", article=7, embedding=[1.0, 0.0])
    vector_store.clear()
    vector_store.add([node])
    (stored,) = vector_store.get_nodes()
    assert type(stored) is Clause
    assert stored == node


def test_dates_and_numpys_numbers_become_plain_and_other_objects_are_refused(
    vector_store: OscillinkVectorStore,
) -> None:
    vector_store.clear()
    metadata = {"when": datetime(2024, 5, 1, tzinfo=UTC), "scores": [np.float32(0.5), np.int64(3)]}
    node = TextNode(id_="a", text="x", metadata=metadata, embedding=[1.0, 0.0])
    vector_store.add([node])
    stored = vector_store.get_nodes()[0].metadata
    assert stored == {"when": "2024-05-01T00:00:00Z", "scores": [0.5, 3]}
    for value, remedy in ((object(), "'b'.*JSON"), (float("nan"), "JSON"), ("\ud800", "surrogate")):
        node = TextNode(id_="b", text="x", metadata={"k": value}, embedding=[1.0, 0.0])
        with pytest.raises(InputError, match=remedy):
            vector_store.add([node])
    assert [node.node_id for node in vector_store.get_nodes()] == ["a"]


def test_flat_metadata_refuses_what_is_not(tmp_path: Any) -> None:
    vector_store = OscillinkVectorStore(tmp_path / "flat.osc", flat_metadata=True)
    flat = TextNode(id_="a", metadata={"k": 1, "n": None}, text="x", embedding=[1.0, 0.0])
    vector_store.add([flat])
    deep = TextNode(id_="b", metadata={"tags": ["x"]}, text="x", embedding=[1.0, 0.0])
    with pytest.raises(InputError, match=r"'b'.*'tags'.*flat_metadata"):
        vector_store.add([deep])
    vector_store.client.close()


def test_anchors_from_elsewhere_are_nodes(vector_store: OscillinkVectorStore) -> None:
    exported = TextNode(
        id_="old",
        text="from another vector store",
        metadata={"year": 1999},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="book")},
        embedding=[1.0, 0.0],
    )
    rows = [
        {"id": "file", "text": "from a file", "title": "T", "year": 2001, "vector": [0.0, 1.0]},
        {"id": "json", "text": "a payload", "payload": {"year": 2002}, "vector": [0.0, 1.0]},
        {"id": "old", "text": exported.text, "vector": [1.0, 0.0],
         "payload": node_to_metadata_dict(exported, remove_text=True)},
    ]  # fmt: skip
    vector_store.clear()
    vector_store.client.ingest(rows)
    file, json, old = vector_store.get_nodes(["file", "json", "old"])
    assert (file.text, file.metadata) == ("from a file", {"title": "T", "year": 2001})
    assert json.metadata == {"year": 2002}
    assert old == exported
    asked = MetadataFilter(key="year", value=2001, operator=FilterOperator.GTE)
    found = vector_store.get_nodes(filters=MetadataFilters(filters=[asked]))
    assert {node.node_id for node in found} == {"file", "json"}
    vector_store.delete("book")
    assert [node.node_id for node in vector_store.get_nodes()] == ["file", "json"]


def test_nodes_without_embeddings_are_refused_by_name(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    with pytest.raises(InputError, match=r"'bare'.*VectorStoreIndex"):
        vector_store.add([model.nodes_of([{}])[0], TextNode(id_="bare", text="x")])
    assert vector_store.get_nodes() == []
