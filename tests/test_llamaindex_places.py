"""Relationships between nodes of LlamaIndex become edges of the lattice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import llamaindex_model as model
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
)
from llama_index.core.schema import (
    BaseNode,
    Document,
    IndexNode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)

from oscillink_store.integrations.llamaindex import OscillinkVectorStore
from oscillink_store.integrations.llamaindex.places import places

Pairs = set[frozenset[str]]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Long docstrings of the standard library."""
    longest = sorted(model.docstrings("unittest", "email"), key=lambda row: -len(row["text"]))[:6]
    return [Document(id_=row["id"], text=row["text"]) for row in longest]


@pytest.fixture
def vector_store(tmp_path: Path) -> Iterator[OscillinkVectorStore]:
    store = OscillinkVectorStore(tmp_path / "store.osc")
    yield store
    store.client.close()


def _split(documents: list[Document], size: int = 120) -> list[BaseNode]:
    return SentenceSplitter(chunk_size=size, chunk_overlap=20).get_nodes_from_documents(documents)


def _embedded(nodes: Iterable[BaseNode]) -> list[BaseNode]:
    nodes = list(nodes)
    embedding = model.HashEmbedding()
    for node in nodes:
        node.embedding = embedding.get_text_embedding(node.get_content() or "x")
    return nodes


def _edges(vector_store: OscillinkVectorStore, *relations: str) -> Pairs:
    return {
        frozenset((edge["source"], edge["target"]))
        for edge in vector_store.client.edges().to_pylist()
        if edge["relation"] in relations
    }


def _chain(nodes: Iterable[BaseNode]) -> Pairs:
    """The pairs that nodes name as previous and next, where both are there."""
    nodes = list(nodes)
    ids = {node.node_id for node in nodes}
    return {
        frozenset((node.node_id, other.node_id))
        for node in nodes
        for other in (node.prev_node, node.next_node)
        if other is not None and other.node_id in ids
    }


def test_chunks_of_a_document_are_a_sequence(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = _split(documents)
    assert len(_chain(nodes)) == len(nodes) - len(documents) > 20
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "next") == _chain(nodes)
    assert _edges(vector_store, "link") == set()  # no document is an anchor


def test_a_chunk_that_is_written_again_keeps_its_place(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = _embedded(_split(documents))
    for node in nodes[::-1]:  # one by one, last first
        vector_store.add([node])
    assert _edges(vector_store, "next") == _chain(nodes)
    nodes[3].set_content("Something else.")
    vector_store.add(_embedded([nodes[3]]))
    assert _edges(vector_store, "next") == _chain(nodes)


def test_documents_that_are_anchors_are_linked_to_their_chunks(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = _split(documents)
    vector_store.add(_embedded([*documents, *nodes]))
    assert _edges(vector_store, "link") == {
        frozenset((node.node_id, node.ref_doc_id)) for node in nodes
    }
    assert _edges(vector_store, "next") == _chain(nodes)


def test_levels_of_a_hierarchy_are_linked_and_each_is_in_order(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[1024, 256, 64])
    nodes = parser.get_nodes_from_documents(documents)
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "link") == {
        frozenset((node.node_id, node.parent_node.node_id))
        for node in nodes
        if node.parent_node is not None
    }
    assert _edges(vector_store, "next") == _chain(nodes)


def test_chains_without_offsets_are_linked(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = _split(documents)
    for node in nodes:
        node.start_char_idx = None
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "next") == set()
    assert _edges(vector_store, "link") == _chain(nodes)


def test_two_splits_of_one_document_do_not_mix(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = [
        *_split(documents),
        *_split(documents, 200),
    ]
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "next", "link") == _chain(nodes)
    assert _edges(vector_store, "link")


def test_sentence_windows_are_in_order(
    vector_store: OscillinkVectorStore, documents: list[Document]
) -> None:
    nodes = SentenceWindowNodeParser.from_defaults().get_nodes_from_documents(documents[:2])
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "next", "link") == _chain(nodes)


def test_children_and_targets_are_linked(vector_store: OscillinkVectorStore) -> None:
    parent = TextNode(id_="parent", text="parent", relationships={
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="one"), RelatedNodeInfo(node_id="two")],
    })  # fmt: skip
    nodes = [
        parent,
        TextNode(id_="one", text="one"),
        TextNode(id_="two", text="two"),
        IndexNode(id_="index", text="index", index_id="two"),
    ]
    vector_store.add(_embedded(nodes))
    assert _edges(vector_store, "link") == {
        frozenset(("parent", "one")), frozenset(("parent", "two")), frozenset(("index", "two")),
    }  # fmt: skip


@given(data=st.data())
def test_no_pair_of_a_chain_is_lost_and_none_is_made_up(data: st.DataObject) -> None:
    """Whatever the offsets say, the edges are the chains that the relationships tell."""
    count = data.draw(st.integers(1, 8))
    order = data.draw(st.permutations(range(count)))
    cuts = data.draw(st.sets(st.integers(1, 8)))  # where one chain ends and another begins
    nodes = []
    for place in range(count):
        related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
        if place and place not in cuts:
            related[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=str(place - 1))
        if place + 1 < count and place + 1 not in cuts:
            related[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=str(place + 1))
        start = data.draw(st.none() | st.just(10 * place) | st.integers(0, 80))
        nodes.append(TextNode(id_=str(place), relationships=related, start_char_idx=start))
    written = [nodes[place] for place in order]
    stood = list(zip(written, places(written), strict=True))
    made = {
        frozenset((node.node_id, key))
        for node, place in stood
        for key in place.links
        if key != "doc"
    }
    line = sorted(
        (place.position, node.node_id) for node, place in stood if place.sequence is not None
    )
    made |= {frozenset((one, other)) for (_, one), (_, other) in pairwise(line)}
    assert made == _chain(nodes)
