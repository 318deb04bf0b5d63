"""Records of what is indexed, committed together with the documents; bytes by key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_helpers import Hashing
from langchain_indexer import documents, run

import oscillink_store as osc
from oscillink_store.errors import InputError, QueryError
from oscillink_store.integrations.langchain import (
    OscillinkByteStore,
    OscillinkDocumentIndex,
    OscillinkRecordManager,
    OscillinkVectorStore,
)

INDEXER = Path(__file__).parent / "langchain_indexer.py"


@pytest.fixture
def store() -> Iterator[OscillinkVectorStore]:
    with OscillinkVectorStore(Hashing()) as made:
        yield made


def ids(store: OscillinkVectorStore) -> list[str]:
    return sorted(store.store.to_arrow(columns=["id"])["id"].to_pylist())


@pytest.mark.parametrize("when", ["written", "deleted", "5", "50", "140"])
def test_after_a_kill_a_record_is_where_its_document_is(tmp_path: Path, when: str) -> None:
    root = tmp_path / "killed.osc"
    ended = subprocess.run([sys.executable, INDEXER, root, when], check=False, cwd=INDEXER.parent)
    assert ended.returncode == -signal.SIGKILL
    with OscillinkVectorStore(Hashing(), root) as store:
        manager = store.record_manager("pages")
        assert 6 <= len(ids(store)) <= 7
        assert sorted(manager.list_keys()) == ids(store)
        if when == "written":
            assert len(ids(store)) == 7
        if when == "deleted":
            assert len(ids(store)) == 6
        run(manager, store, 1000)
        assert sorted(manager.list_keys()) == ids(store)
        texts = sorted(document.page_content for document in store.get_by_ids(ids(store)))
        assert texts == sorted(document.page_content for document in documents(1000))
        assert store.store.verify().ok


def test_writing_and_deleting_a_document_takes_its_record_along(
    store: OscillinkVectorStore,
) -> None:
    manager = store.record_manager("notes")
    before = store.store.generation
    store.add_texts(["one", "two"], ids=["a", "b"])
    assert manager.exists(["a", "b", "c"]) == [True, True, False]
    store.delete(["a", "c"])
    assert manager.list_keys() == ["b"]
    assert store.store.generation == before + 2
    store.delete(delete_all=True)
    assert manager.list_keys() == []


def test_a_record_goes_to_the_manager_that_asked(store: OscillinkVectorStore) -> None:
    ours, theirs = store.record_manager("ours"), store.record_manager("theirs")
    pages = [Document(page_content="one", metadata={"source": "s"})]
    more = [Document(page_content="two", metadata={"source": "s"})]
    index(pages, ours, store, cleanup="full", key_encoder="sha256")
    index(more, theirs, store, cleanup="full", key_encoder="sha256")
    index(more, theirs, store, cleanup="full", key_encoder="sha256", force_update=True)
    assert len(ids(store)) == 2
    assert len(ours.list_keys()) == len(theirs.list_keys()) == 1
    store.add_texts(["loose"], ids=["loose"])
    assert ours.exists(["loose"]) == theirs.exists(["loose"]) == [True]
    store.delete(["loose"])
    assert ours.exists(["loose"]) == theirs.exists(["loose"]) == [False]


def test_writing_a_document_anew_keeps_its_group(store: OscillinkVectorStore) -> None:
    manager = store.record_manager("notes")
    store.add_texts(["one"], ids=["a"])
    manager.update(["a"], group_ids=["group"])
    store.add_texts(["two"], ids=["a"])
    assert manager.list_keys(group_ids=["group"]) == ["a"]
    manager.update(["b"], group_ids=[""])
    manager.update(["c", "b", "a"])
    assert manager.list_keys(group_ids=["group"]) == ["a"]
    assert manager.list_keys(group_ids=[""]) == ["b"]


def test_what_another_process_says_of_a_record_stays(tmp_path: Path) -> None:
    start = threading.Barrier(3)

    def work(what: Callable[[OscillinkVectorStore, OscillinkRecordManager, int], object]) -> None:
        # what is behind a store is as apart from another as in another process
        with OscillinkVectorStore(Hashing(), tmp_path / "s.osc") as store:
            manager = store.record_manager("notes")
            for step in range(12):
                start.wait(timeout=60)
                what(store, manager, step)
                start.wait(timeout=60)
                assert manager.list_keys(group_ids=[str(step)]) == ["a"]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, [
            lambda store, _, step: store.add_texts([f"page {step}"], ids=["a"]),
            lambda _, manager, __: manager.update(["a"]),
            lambda _, manager, step: manager.update(["a"], group_ids=[str(step)]),
        ]))  # fmt: skip


def test_time_never_goes_back(store: OscillinkVectorStore, tmp_path: Path) -> None:
    manager = store.record_manager("notes")
    times = [manager.get_time() for _ in range(1000)]
    assert all(earlier < later for earlier, later in pairwise(times))
    ahead = time.time() + 1000
    with patch.object(time, "time", return_value=ahead):
        manager.update(["a"])
    again = OscillinkRecordManager("notes", store=store.store)
    assert again.get_time() > ahead
    assert again.list_keys(before=ahead) == []
    with pytest.raises(InputError, match="ahead of the clock"):
        again.update(["b"], time_at_least=ahead + 1000)
    assert again.exists(["b"]) == [False]


def test_a_manager_needs_one_store_and_a_group_for_each_key(store: OscillinkVectorStore) -> None:
    with pytest.raises(QueryError, match="either a vector store or an open store"):
        OscillinkRecordManager("notes")
    with pytest.raises(QueryError, match="either a vector store or an open store"):
        OscillinkRecordManager("notes", store, store=store.store)
    with pytest.raises(InputError, match="1 group_ids for 2 keys"):
        store.record_manager("notes").update(["a", "b"], group_ids=["g"])


def test_namespaces_are_apart(store: OscillinkVectorStore) -> None:
    first = OscillinkRecordManager("a", store=store.store)
    for name in ("a.b", "a/b", " ", "", "langchain"):
        other = OscillinkRecordManager(name, store=store.store)
        other.update([f"key of {name}"])
        assert other.list_keys() == [f"key of {name}"]
    assert first.list_keys() == []


def test_a_document_index_is_indexed_with_records(store: OscillinkVectorStore) -> None:
    documents_ = OscillinkDocumentIndex(vectorstore=store, k=1)
    manager = store.record_manager("notes")
    pages = [Document(page_content=text) for text in ("a marble cake", "a railway station")]
    result = index(pages, manager, documents_, cleanup="full", key_encoder="sha256")
    assert (result["num_added"], result["num_deleted"]) == (2, 0)
    assert documents_.invoke("railway")[0].page_content == "a railway station"
    result = index(pages[:1], manager, documents_, cleanup="full", key_encoder="sha256")
    assert (result["num_skipped"], result["num_deleted"]) == (1, 1)
    assert manager.list_keys() == ids(store)
    with pytest.raises(QueryError, match="ids"):
        documents_.delete()


def test_bytes_by_key_stay_in_their_namespace(tmp_path: Path) -> None:
    path = tmp_path / "bytes.osc"
    with osc.connect(path) as opened:
        bytes_ = OscillinkByteStore(opened, "parents")
        values = {key: os.urandom(20) for key in ("a/1", "a/2", "é", "' OR 1", "")}
        bytes_.mset([("a/1", b"old"), *values.items()])
        OscillinkByteStore(opened).mset([("a/1", b"other")])
    reopened = OscillinkByteStore(path, "parents")
    assert reopened.mget([*values, "none"]) == [*values.values(), None]
    assert sorted(reopened.yield_keys(prefix="a/")) == ["a/1", "a/2"]
    reopened.mdelete(["a/1", "none"])
    assert reopened.mget(["a/1"]) == [None]
    assert OscillinkByteStore(reopened.store).mget(["a/1"]) == [b"other"]
    reopened.store.close()
