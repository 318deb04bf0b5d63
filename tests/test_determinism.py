"""The same rows make the same segments and the same questions the same bits, everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import oscillink_store as osc
from oscillink_store.storage.manifest import read_current

# Two thousand rows: enough for BLAS and Lance to use several threads.
SCRIPT = """
import hashlib, json, random, sys
import numpy as np
import oscillink_store as osc
from oscillink_store.storage.manifest import read_current
from pathlib import Path

def rows():
    chance = random.Random(7)
    words = [f"word{i}" for i in range(300)]
    for i in range(2000):
        yield {"id": f"r{i}", "title": f"Grand Title {i}", "sequence": f"s{i % 50}", "position": i,
               "text": " ".join(chance.choices(words, k=20)) + f" see Grand Title {i // 3}",
               "n": i % 10, "gate": chance.random(), "who": chance.choice(["Ann", "Bob"])}

QUESTIONS = [
    {"text": "word7 word21 word250"}, {"text": "what is Grand Title 77", "k": 30},
    {"text": "what Ann said of word3", "where": "n < 3"}, {"text": "word9", "where": "n = 4"},
    {"vector": np.cos(np.arange(384.0)), "k": 20}, {"text": "word1", "vector": np.arange(384.0)},
]

def answers(store):
    results = [store.search(**question) for question in QUESTIONS]
    results.append(store.rerank([f"r{i}" for i in range(0, 400, 3)], "word7 word8"))
    return {
        "hashes": [result.receipt.content_hash for result in results],
        "hits": hashlib.sha256(repr([result.hits for result in results]).encode()).hexdigest(),
        "first": [[hit.score.hex() for hit in result][:3] for result in results],
    }

if __name__ == "__main__":
    root, make = Path(sys.argv[1]), sys.argv[2] == "make"
    with osc.connect(root, embedder="hash", fields=osc.Fields(facets=["who"])) as store:
        if make:
            store.ingest(rows())
        found = answers(store)
    found["segments"] = {name: file.sha256 for name, file in read_current(root).segments.items()}
    print(json.dumps(found))
"""

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS", "LANCE_CPU_THREADS",
)  # fmt: skip


def run(root: Path, what: str, threads: int) -> dict[str, Any]:
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    environment["PYTHONHASHSEED"] = str(threads)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), what],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("determinism")


@pytest.fixture(scope="module")
def one(root: Path) -> dict[str, Any]:
    """The store made and asked with one thread."""
    return run(root / "one.osc", "make", 1)


def test_stores_made_with_other_numbers_of_threads(root: Path, one: dict[str, Any]) -> None:
    two = run(root / "two.osc", "make", 2)
    assert two["segments"] == one["segments"]
    assert two["first"] == one["first"]
    assert two["hashes"] == one["hashes"]
    assert two["hits"] == one["hits"]


def test_a_store_asked_with_other_numbers_of_threads(root: Path, one: dict[str, Any]) -> None:
    assert run(root / "one.osc", "ask", 2) == one


@pytest.fixture(scope="module")
def module() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "questions"}
    exec(SCRIPT, names)
    return names


@pytest.fixture
def store(root: Path, one: dict[str, Any]) -> Iterator[osc.Store]:
    with osc.connect(root / "one.osc", read_only=True) as store:
        yield store


def test_again_in_this_process(
    store: osc.Store, one: dict[str, Any], module: dict[str, Any]
) -> None:
    for _ in range(3):
        found = module["answers"](store)
        assert {name: one[name] for name in found} == found


def test_by_several_threads_at_once(
    store: osc.Store, one: dict[str, Any], module: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: module["answers"](store), range(6)):
            assert found["hashes"] == one["hashes"]
            assert found["hits"] == one["hits"]


def test_equal_content_hashes_mean_equal_results(store: osc.Store) -> None:
    first, again = (store.search("word7 word21", k=5) for _ in range(2))
    assert first.receipt.content_hash == again.receipt.content_hash
    assert first.receipt.hash != again.receipt.hash
    assert first.hits == again.hits
    for other in (
        store.search("word7 word22", k=5), store.search("word7 word21", k=6),
        store.search("word7 word21", k=5, where="n < 5"),
        store.search("word7 word21", k=5, parameters=osc.Parameters(sources=2)),
    ):  # fmt: skip
        assert other.receipt.content_hash != first.receipt.content_hash


def test_the_order_of_metadata_columns_has_no_say(tmp_path: Path) -> None:
    rows = [{"id": f"r{i}", "text": f"text {i}", "a": i, "b": str(i)} for i in range(20)]
    turned = [dict(reversed(row.items())) for row in rows]
    answers = []
    for name, batch in (("a", rows), ("b", turned)):
        with osc.connect(tmp_path / f"{name}.osc", embedder="hash:16") as store:
            store.ingest(batch)
            content = dict(store.search("text 7").receipt.content)
            # the files of the generation tell the order, nothing else does
            content["state"] = {**content["state"], "generation": None}
            answers.append({**content, "state_sig": None})
            assert store.ingest(rows if batch is turned else turned).unchanged == 20
    assert answers[0] == answers[1]


def test_receipts_of_equal_ingests_tell_of_their_segments(
    tmp_path: Path, module: dict[str, Any]
) -> None:
    rows = list(module["rows"]())[:50]
    contents = []
    for name in ("a", "b"):
        with osc.connect(tmp_path / name, embedder="hash:16") as store:
            receipt = store.ingest(rows).receipt
            assert receipt is not None
            contents.append(dict(receipt.content))
            digests = [file.sha256 for file in read_current(store.path).segments.values()]
            assert len(digests) == len(set(digests))
    for content in contents:
        del content["batch"], content["manifest"]  # Lance names its files at random
    assert contents[0] == contents[1]
