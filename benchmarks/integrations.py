"""What the retrievers of LangChain and LlamaIndex add to a search, and searches at once.

    python benchmarks/integrations.py [--anchors 20000] [--queries 200] [--json FILE]

One store, the same questions, in turn: ``Store.search`` and the retrievers over it, which must
give the same ids (the exit code is 1 when they do not). Questions come with their embeddings
ready, so that only the way through the framework is timed; callbacks and tracing are on, without
listeners. Then searches at once: from threads, and from coroutines through LangChain, beside
which an event loop's longest gap between two ticks of one millisecond is measured. Threads share
the interpreter's lock, and one search uses both cores for part of its time; processes share
nothing but the pages of the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from common import interleaved
from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import QueryBundle
from rich.console import Console
from rich.table import Table
from rows import Rows, question_sample

import oscillink_store as osc
from oscillink_store.integrations import langchain, llamaindex

K = 10


class Known(Embeddings):
    """Embeds questions by looking them up."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.vectors[text]

    async def aembed_query(self, text: str) -> list[float]:
        return self.vectors[text]


class NoEmbedding(BaseEmbedding):
    """Stands where LlamaIndex wants a model; the questions bring their embeddings."""

    def _get_query_embedding(self, query: str) -> list[float]:
        raise AssertionError(query)

    _get_text_embedding = _get_query_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        raise AssertionError(query)


def ways(
    store: osc.Store, texts: list[str], vectors: dict[str, list[float]]
) -> dict[str, Callable[[int], list[str]]]:
    """Each way to ask question i, as a function that gives the ids."""
    through = langchain.OscillinkVectorStore(Known(vectors), store=store)
    by_lattice = through.as_retriever(search_type="coherence", search_kwargs={"k": K})
    by_cosine = through.as_retriever(search_kwargs={"k": K})
    bundles = [QueryBundle(query_str=text, embedding=vectors[text]) for text in texts]
    nodes = llamaindex.OscillinkRetriever(store, NoEmbedding(), similarity_top_k=K)
    plain = llamaindex.OscillinkRetriever(store, NoEmbedding(), similarity_top_k=K, ranking="dense")
    return {
        "lattice: Store.search": lambda i: (
            store.search(texts[i], vector=vectors[texts[i]], k=K).ids
        ),
        "lattice: LangChain": lambda i: [str(d.id) for d in by_lattice.invoke(texts[i])],
        "lattice: LlamaIndex": lambda i: [n.node_id for n in nodes.retrieve(bundles[i])],
        "dense: Store.search": lambda i: (
            store.search(vector=vectors[texts[i]], k=K, ranking="dense").ids
        ),
        "dense: LangChain": lambda i: [str(d.id) for d in by_cosine.invoke(texts[i])],
        "dense: LlamaIndex": lambda i: [n.node_id for n in plain.retrieve(bundles[i])],
    }


def compare(
    calls: dict[str, Callable[[int], list[str]]], count: int, console: Console
) -> tuple[list[dict[str, Any]], bool]:
    """Median milliseconds of each way, what it adds, and whether all give the same ids."""
    same = True
    for i in range(count):
        for name, call in calls.items():
            same &= call(i) == calls[f"{name.partition(':')[0]}: Store.search"](i)
    taken = interleaved(calls, count, console)
    rows = []
    for name, values in taken.items():
        own = taken[f"{name.partition(':')[0]}: Store.search"]
        added = [value - base for value, base in zip(values, own, strict=True)]
        rows.append(
            {
                "way": name,
                "median ms": round(statistics.median(values), 2),
                "added ms": round(statistics.median(added), 2),
            }
        )
    return rows, same


def per_second(call: Callable[[int], object], threads: int, count: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(call, range(count)))
        return count / (time.perf_counter() - started)


def in_processes(
    path: Path, processes: int, texts: list[str], vectors: dict[str, list[float]]
) -> float:
    """Searches a second by the lattice, of processes with the store open each."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(processes + 1)
    asked = (str(path), texts, vectors, ready)
    children = [spawn.Process(target=_child, args=asked) for _ in range(processes)]
    for child in children:
        child.start()
    ready.wait()  # all have searched
    started = time.perf_counter()
    for child in children:
        child.join()
    return processes * len(texts) / (time.perf_counter() - started)


def _child(path: str, texts: list[str], vectors: dict[str, list[float]], ready: Barrier) -> None:
    with osc.connect(path, read_only=True) as store:
        for text in texts[:20]:
            store.search(text, vector=vectors[text], k=K)
        ready.wait()
        for text in texts:
            store.search(text, vector=vectors[text], k=K)


async def beside(work: Awaitable[object] | None, seconds: float = 1.0) -> float:
    """The longest gap in milliseconds between ticks of an event loop while it awaits work."""
    longest, last = 0.0, time.perf_counter()
    ended = asyncio.ensure_future(work) if work else asyncio.ensure_future(asyncio.sleep(seconds))
    while not ended.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await ended
    return 1000 * longest


def at_once(
    store: osc.Store, texts: list[str], vectors: dict[str, list[float]]
) -> list[dict[str, Any]]:
    count = len(texts)

    def lattice(i: int) -> object:
        return store.search(texts[i], vector=vectors[texts[i]], k=K)

    def dense(i: int) -> object:
        return store.search(vector=vectors[texts[i]], k=K, ranking="dense")

    figures: list[dict[str, Any]] = []
    for name, call in {"lattice": lattice, "dense": dense}.items():
        one = per_second(call, 1, count)
        for threads in (1, 2, 4):
            rate = per_second(call, threads, count)
            figures.append(
                {
                    "what": f"{name}, {threads} threads",
                    "searches a second": round(rate),
                    "against one": round(rate / one, 2),
                }
            )
    one = in_processes(store.path, 1, texts * 5, vectors)
    for processes in (1, 2):
        rate = in_processes(store.path, processes, texts * 5, vectors)
        figures.append(
            {
                "what": f"lattice, {processes} processes",
                "searches a second": round(rate),
                "against one": round(rate / one, 2),
            }
        )
    through = langchain.OscillinkVectorStore(Known(vectors), store=store)

    async def all_of_them() -> None:
        await asyncio.gather(*(through.acoherence_search(text, k=K) for text in texts))

    idle = asyncio.run(beside(None))
    started = time.perf_counter()
    gap = asyncio.run(beside(all_of_them()))
    rate = count / (time.perf_counter() - started)
    figures.append({"what": "LangChain, coroutines", "searches a second": round(rate)})
    figures.append({"what": "event loop's longest gap, idle, ms", "value": round(idle, 1)})
    figures.append({"what": "… while all coroutines search, ms", "value": round(gap, 1)})
    return figures


def shown(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title=title, title_justify="left")
    for name in dict.fromkeys(name for row in rows for name in row):
        table.add_column(name, justify="left" if name in ("way", "what") else "right")
    for row in rows:
        table.add_row(*(str(row.get(column.header, "")) for column in table.columns))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anchors", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console, rows = Console(), Rows()
    texts, psi = question_sample(rows, given.anchors, given.queries)
    texts = [f"{text} {i}" for i, text in enumerate(texts)]  # no two are the same
    vectors = dict(zip(texts, psi.tolist(), strict=True))
    with (
        tempfile.TemporaryDirectory() as folder,
        osc.connect(Path(folder) / "store.osc") as store,
    ):
        with console.status(f"{given.anchors:,} anchors: ingest"):
            for batch in rows.batches(given.anchors, given.anchors):
                store.ingest(batch)
        added, same = compare(ways(store, texts, vectors), len(texts), console)
        concurrent = at_once(store, texts, vectors)
    shown(f"{given.anchors:,} anchors, k = {K}: what a retriever adds", added, console)
    shown("Searches at once", concurrent, console)
    console.print("same ids everywhere" if same else "[bold red]other ids than Store.search")
    if given.json:
        given.json.write_text(json.dumps({"ways": added, "at once": concurrent, "same": same}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
