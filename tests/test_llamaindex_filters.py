"""Every query mode of LlamaIndex under every filter operator, against plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import llamaindex_model as model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.filters import Compare
from oscillink_store.integrations.llamaindex import OscillinkVectorStore

MODES = (
    VectorStoreQueryMode.DEFAULT,
    VectorStoreQueryMode.SPARSE,
    VectorStoreQueryMode.TEXT_SEARCH,
    VectorStoreQueryMode.HYBRID,
    VectorStoreQueryMode.SEMANTIC_HYBRID,
    VectorStoreQueryMode.MMR,
)
RANKINGS = dict(zip(MODES, ("dense", "text", "text", "hybrid", "lattice", "mmr"), strict=True))
QUESTION = np.random.default_rng(3).standard_normal(model.DIMENSION).tolist()
OPERATORS = pytest.mark.parametrize("operator", list(FilterOperator), ids=lambda o: o.name)


@pytest.fixture(scope="module")
def vector_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OscillinkVectorStore]:
    store = OscillinkVectorStore(tmp_path_factory.mktemp("filters") / "store.osc")
    yield store
    store.client.close()


def _query(
    vector_store: OscillinkVectorStore, mode: VectorStoreQueryMode, k: int, **options: Any
) -> VectorStoreQueryResult:
    return vector_store.query(
        VectorStoreQuery(
            query_embedding=QUESTION,
            query_str=model.WORD,
            mode=mode,
            similarity_top_k=k,
            **options,
        )
    )


def _check_answer(
    answer: VectorStoreQueryResult,
    mode: VectorStoreQueryMode,
    nodes: Sequence[TextNode],
    k: int,
) -> None:
    """The answer is what the mode says of exactly these nodes."""
    near = model.cosines(nodes, QUESTION)
    assert len(answer.ids) == len(set(answer.ids)) == min(k, len(nodes))
    assert set(answer.ids) <= set(near)
    assert [node.node_id for node in answer.nodes] == answer.ids
    if mode is VectorStoreQueryMode.DEFAULT:
        expected = sorted(near, key=lambda key: -near[key])[:k]
        assert answer.ids == expected
    if mode is VectorStoreQueryMode.MMR:
        assert answer.ids == model.diverse(nodes, QUESTION, k, 0.5)
    else:
        assert answer.similarities == sorted(answer.similarities, reverse=True)
    if mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        assert answer.similarities == pytest.approx([near[key] for key in answer.ids], abs=1e-5)


@OPERATORS
@settings(max_examples=4)
@given(data=st.data())
def test_every_mode_under_the_operator(
    vector_store: OscillinkVectorStore, operator: FilterOperator, data: st.DataObject
) -> None:
    nodes = model.nodes_of(data.draw(st.lists(model.metadatas, min_size=1, max_size=14)))
    vector_store.clear()
    vector_store.add(nodes)
    for _ in range(3):
        filters = data.draw(model.trees(operator))
        allowed = [node for node in nodes if model.allows(filters, node.metadata)]
        found = vector_store.get_nodes(filters=filters)
        assert {node.node_id for node in found} == {node.node_id for node in allowed}
        k = data.draw(st.sampled_from([3, len(nodes)]))
        for mode in MODES:
            _check_answer(_query(vector_store, mode, k, filters=filters), mode, allowed, k)


@settings(max_examples=8)
@given(allowed=st.lists(st.integers(0, 4), max_size=4))
def test_the_answer_is_that_of_the_store(
    vector_store: OscillinkVectorStore, allowed: list[int]
) -> None:
    vector_store.clear()
    vector_store.add(model.nodes_of([{"k": place % 4} for place in range(40)]))
    asked = MetadataFilter(key="k", value=allowed, operator=FilterOperator.IN)
    filters = MetadataFilters(filters=[asked])
    for mode, ranking in RANKINGS.items():
        by_words = ranking == "text"
        expected = vector_store.client.search(
            None if ranking in ("dense", "mmr") else model.WORD,
            vector=None if by_words else QUESTION,
            where=Compare("k", "in", allowed),
            ranking=ranking,
        )
        answer = _query(vector_store, mode, 10, filters=filters)
        assert answer.ids == expected.ids
        assert answer.similarities == [hit.score for hit in expected]
        receipt = vector_store.last_receipt
        assert receipt.candidate_ids == expected.receipt.candidate_ids
        assert receipt.delta_h == expected.receipt.delta_h


def test_alpha_goes_from_words_to_the_vector(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    vector_store.add(model.nodes_of([{}] * 20))

    def ids(mode: VectorStoreQueryMode, alpha: float | None = None) -> list[str]:
        return _query(vector_store, mode, 20, alpha=alpha).ids

    hybrid = VectorStoreQueryMode.HYBRID
    assert ids(hybrid, 1.0) == ids(VectorStoreQueryMode.DEFAULT)
    assert ids(hybrid, 0.0) == ids(VectorStoreQueryMode.SPARSE)
    parameters = osc.Parameters(text_weight=3.0)
    expected = vector_store.client.search(
        model.WORD, vector=QUESTION, k=20, ranking="hybrid", parameters=parameters
    )
    assert ids(hybrid, 0.25) == expected.ids
    assert len({tuple(ids(hybrid, alpha)) for alpha in (None, 0.0, 0.25, 1.0)}) == 4
    with pytest.raises(QueryError, match="alpha"):
        ids(hybrid, 1.5)


def test_zeros_leave_the_words(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    vector_store.add(model.nodes_of([{}] * 9))
    for mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID):
        zeros = [0.0] * model.DIMENSION
        question = VectorStoreQuery(zeros, query_str="word4", similarity_top_k=1, mode=mode)
        assert vector_store.query(question).ids == ["n4"]


def test_each_mode_has_its_own_k(vector_store: OscillinkVectorStore) -> None:
    vector_store.clear()
    vector_store.add(model.nodes_of([{}] * 20))
    wanted = {"hybrid_top_k": 7, "sparse_top_k": 5}
    counts = {mode: len(_query(vector_store, mode, 3, **wanted).ids) for mode in MODES}
    assert list(counts.values()) == [3, 5, 5, 7, 7, 3]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_mmr_weighs_by_the_threshold(vector_store: OscillinkVectorStore, weight: float) -> None:
    nodes = model.nodes_of([{}] * 20)
    vector_store.clear()
    vector_store.add(nodes)
    expected = model.diverse(nodes, QUESTION, 6, weight)
    mmr = VectorStoreQueryMode.MMR
    assert _query(vector_store, mmr, 6, mmr_threshold=weight).ids == expected
    question = VectorStoreQuery(
        query_embedding=QUESTION, similarity_top_k=6, mode=mmr, mmr_threshold=0.9
    )
    assert vector_store.query(question, mmr_threshold=weight).ids == expected
    nearest = vector_store.query(question, mmr_threshold=weight, mmr_prefetch_k=6).ids
    near = model.cosines(nodes, QUESTION)
    assert set(nearest) == set(sorted(near, key=lambda key: -near[key])[:6])


@pytest.mark.parametrize("mode", ["svm", "logistic_regression", "linear_regression"])
def test_learned_modes_are_refused(vector_store: OscillinkVectorStore, mode: str) -> None:
    with pytest.raises(QueryError, match="semantic_hybrid"):
        _query(vector_store, VectorStoreQueryMode(mode), 3)


def test_what_a_mode_needs_is_named(vector_store: OscillinkVectorStore) -> None:
    with pytest.raises(QueryError, match="query_embedding"):
        vector_store.query(VectorStoreQuery())
    with pytest.raises(QueryError, match="query_str"):
        vector_store.query(
            VectorStoreQuery(query_embedding=QUESTION, mode=VectorStoreQueryMode.SPARSE)
        )


@OPERATORS
@settings(max_examples=40)
@given(data=st.data())
def test_the_in_memory_store_agrees(operator: FilterOperator, data: st.DataObject) -> None:
    """The oracle and LlamaIndex's own evaluation, where that has an answer and a meaning."""
    asked = data.draw(model.leaves(operator))
    condition = data.draw(st.sampled_from([None, *FilterCondition]))
    filters = MetadataFilters(filters=[asked], condition=condition)
    metadata = data.draw(model.metadatas)
    value = metadata.get(asked.key)
    if operator in (FilterOperator.EQ, FilterOperator.NE) and asked.value is None:
        return  # never equal there
    into = operator in (FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL)
    if into and isinstance(value, str | dict | int | float):
        return  # pieces of a text and keys of an object count there
    if asked.key not in metadata and model.value_at(metadata, asked.key) is not None:
        return  # no nested keys there
    try:
        theirs = build_metadata_filter_fn(lambda _: metadata, filters)("n")
    except TypeError:
        return  # values of two types cannot be ordered there
    if isinstance(value, bool) and operator in (
        FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE
    ):  # fmt: skip
        return  # true is a number there
    assert theirs == model.allows(filters, metadata)


@settings(max_examples=15)
@given(data=st.data())
def test_plain_filters_give_what_the_in_memory_store_gives(
    vector_store: OscillinkVectorStore, data: st.DataObject
) -> None:
    nodes = model.nodes_of(
        [{"k": place % 5, "flag": place % 2 == 0, "tags": ["a", "b"][: place % 3]}
         for place in range(12)]
    )  # fmt: skip
    simple = SimpleVectorStore()
    simple.add(nodes)
    vector_store.clear()
    vector_store.add(nodes)
    asked = data.draw(
        st.one_of(
            st.builds(
                MetadataFilter,
                key=st.sampled_from(["k", "flag", "none"]),
                value=st.integers(0, 5),
                operator=st.sampled_from([FilterOperator.EQ, FilterOperator.NE]),
            ),
            st.builds(
                MetadataFilter,
                key=st.just("tags"),
                value=st.lists(st.sampled_from("abc"), min_size=1, max_size=2),
                operator=st.sampled_from([FilterOperator.ANY, FilterOperator.ALL]),
            ),
        )
    )
    query = VectorStoreQuery(
        query_embedding=QUESTION,
        similarity_top_k=4,
        filters=MetadataFilters(
            filters=[asked], condition=data.draw(st.sampled_from(list(FilterCondition)))
        ),
    )
    theirs, ours = simple.query(query), vector_store.query(query)
    assert ours.ids == theirs.ids
    assert ours.similarities == pytest.approx(theirs.similarities, abs=1e-5)


def test_documents_and_nodes_restrict_every_mode(vector_store: OscillinkVectorStore) -> None:
    nodes = model.nodes_of([{"k": place} for place in range(9)])
    vector_store.clear()
    vector_store.add(nodes)
    for mode in MODES:
        for doc_ids, node_ids, wanted in (
            (["d1"], None, {"n1", "n4", "n7"}),
            (["d1", "d2"], ["n0", "n1", "n2"], {"n1", "n2"}),
            (None, ["n3", "elsewhere"], {"n3"}),
            (["elsewhere"], None, set()),
            ([], None, set()),
            (None, [], {node.node_id for node in nodes}),  # an index passes it with every question
        ):
            answer = _query(vector_store, mode, 9, doc_ids=doc_ids, node_ids=node_ids)
            assert set(answer.ids) == wanted


@pytest.mark.parametrize("key", ["ref_doc_id", "doc_id", "document_id"])
def test_the_documents_id_is_a_key(vector_store: OscillinkVectorStore, key: str) -> None:
    vector_store.clear()
    vector_store.add(model.nodes_of([{key: "other"}, {}, {}, {}]))
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value="d0")])
    assert [node.node_id for node in vector_store.get_nodes(filters=filters)] == ["n0", "n3"]


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        (FilterOperator.GT, None),
        (FilterOperator.LTE, ["a"]),
        (FilterOperator.TEXT_MATCH, 3),
        (FilterOperator.CONTAINS, ["a"]),
    ],
)
def test_values_that_an_operator_cannot_take_are_refused(
    vector_store: OscillinkVectorStore, operator: FilterOperator, value: Any
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="k", value=value, operator=operator)])
    with pytest.raises(QueryError, match="k"):
        vector_store.get_nodes(filters=filters)
