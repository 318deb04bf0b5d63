"""langchain-core's own tests of indexing and its stores in memory, re-pointed at ours.

They come from the source distribution of the installed version. The classes that they name are
ours in their eyes; what they look into is shown by :class:`Repointed`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from types import FunctionType
from typing import Any

import pytest
from fetched import sdist
from langchain_core.embeddings import DeterministicFakeEmbedding

from oscillink_store import Store
from oscillink_store.integrations.langchain import (
    OscillinkDocumentIndex,
    OscillinkRecordManager,
    OscillinkVectorStore,
)

LEFT_OUT = {
    "test_inmemory_dump_load": "dumps a store to a JSON file and loads it; ours is a folder",
    "test_inmemory_upsert": "compares the dict in which it keeps a vector; ours has unit length",
    "test_inmemory_call_embeddings_async": "its embeddings give a mock in place of vectors",
}
SLOW = {"test_aincremental_cleanup_with_different_batchsize",
        "test_afull_cleanup_with_different_batchsize"}  # fmt: skip
"""Thousands of documents once more, by the asynchronous calls that the others make as well."""
FILES = (
    "indexing/test_indexing.py",
    "indexing/test_in_memory_record_manager.py",
    "vectorstores/test_in_memory.py",
)


class Shown:
    """A store that also shows its ids the way the dict of a store in memory does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        return self._store.to_arrow(columns=["id"])["id"].to_pylist()


class Repointed(OscillinkVectorStore):
    """Our store, but that the tests read ids from ``store``."""

    @property
    def store(self) -> Shown:
        return Shown(self._opened)

    @store.setter
    def store(self, opened: Store) -> None:
        self._opened = opened


def document_index() -> OscillinkDocumentIndex:
    return OscillinkDocumentIndex(vectorstore=Repointed(DeterministicFakeEmbedding(size=5)))


def loaded(path: str) -> dict[str, FunctionType]:
    """The tests of one file, with our classes in the place of those in memory."""
    root = sdist("langchain_core", version("langchain-core"))
    spec = spec_from_file_location(
        f"langchain_core_{path.replace('/', '_')}", root / "tests" / "unit_tests" / path
    )
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.path.append(str(root))  # for the helpers that it imports
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(root))
    vars(module).update(InMemoryVectorStore=Repointed, InMemoryDocumentIndex=document_index)
    found = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    assert found
    return found


ALL = {name: test for path in FILES for name, test in loaded(path).items()}
for name in SLOW:
    ALL[name] = pytest.mark.slow(ALL[name])
globals().update({name: test for name, test in ALL.items() if name not in LEFT_OUT})


def test_what_is_left_out_exists() -> None:
    assert LEFT_OUT.keys() <= ALL.keys()


@pytest.fixture
def vector_store() -> Iterator[Repointed]:
    with Repointed(DeterministicFakeEmbedding(size=5)) as store:
        yield store


upserting_vector_store = vector_store


@pytest.fixture
def record_manager(vector_store: Repointed) -> OscillinkRecordManager:
    manager = vector_store.record_manager("hello")
    manager.create_schema()
    return manager


arecord_manager = manager = amanager = record_manager
