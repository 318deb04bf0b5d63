"""The LangGraph store on event loops: nothing blocks, and writes that wait share a commit."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import PutOp

import oscillink_store as osc
from oscillink_store.integrations.langgraph import AsyncOscillinkStore, OscillinkStore


class Slow(Embeddings):
    """Embeddings that take their time, on whatever thread they are asked on."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.threads.add(threading.get_ident())
        time.sleep(0.3)
        return [[1.0, float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


async def longest_pause(work: Any) -> float:
    """The longest time that the event loop did not get to tick while something was done."""
    task = asyncio.ensure_future(work)
    pause, last = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0.002)
        now = time.perf_counter()
        pause, last = max(pause, now - last), now
    await task
    return pause


def test_no_call_holds_up_the_loop(tmp_path: Path) -> None:
    slow = Slow()
    index = {"embed": slow, "fields": ["text"]}

    async def work(store: OscillinkStore) -> None:
        await asyncio.gather(*(store.aput(("a",), str(n), {"text": "x" * n}) for n in range(1, 20)))
        await store.aput(("a",), "big", {"text": "x" * 1_000_000})
        for n in range(5):
            assert len(await store.asearch(("a",), query="x" * n + "y")) == 10
        assert (await store.aget(("a",), "3")).value == {"text": "xxx"}
        await store.adelete(("a",), "3")
        assert await store.alist_namespaces() == [("a",)]

    async def main() -> float:
        async with OscillinkStore.from_conn_string(tmp_path / "s.osc", index=index) as store:
            await work(store)  # compiles kernels, some of it under the interpreter's lock
            return await longest_pause(work(store))

    assert asyncio.run(main()) < 0.25  # one embedding takes longer
    assert threading.get_ident() not in slow.threads


def test_an_asynchronous_function_embeds(tmp_path: Path) -> None:
    async def embed(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return [[1.0, float(len(text))] for text in texts]

    store = OscillinkStore(
        tmp_path / "s.osc", index={"embed": embed, "dims": 2, "fields": ["text"]}
    )

    async def main() -> list[str]:
        await store.aput(("a",), "k", {"text": "x"})
        return [item.key for item in await store.asearch((), query="y")]

    with store:
        assert asyncio.run(main()) == ["k"]
        assert asyncio.run(main()) == ["k"]  # on another loop
        with pytest.raises(ValueError, match="async"):
            store.put(("a",), "k", {"text": "x"})


def test_writes_that_wait_share_a_commit(tmp_path: Path) -> None:
    with osc.connect(tmp_path / "s.osc", embedder="hash") as folder:
        store = OscillinkStore(folder, index={"fields": ["text"]})
        before = folder.generation

        async def main() -> None:
            await asyncio.gather(
                *(store.aput(("a",), str(n), {"text": f"text {n}"}) for n in range(300))
            )

        asyncio.run(main())
        assert len(store.search(("a",), limit=1000)) == 300
        assert folder.generation - before < 100
        store.close()


def test_a_bad_write_fails_alone(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc") as store:

        async def main() -> list[Any]:
            values: list[Any] = [{"n": 1}, {"n": object()}, {"n": 2}, {1: 2}, {"n": 3}]
            return await asyncio.gather(
                *(store.aput(("a",), str(n), value) for n, value in enumerate(values)),
                return_exceptions=True,
            )

        results = asyncio.run(main())
        assert [isinstance(result, ValueError) for result in results] == [
            False, True, False, True, False,
        ]  # fmt: skip
        assert {item.key for item in store.search(("a",))} == {"0", "2", "4"}


def test_the_later_of_two_writes_that_wait_wins(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc") as store:
        writes = [
            store._batcher.run(store._batcher.prepare([PutOp(("a",), "k", {"n": n})]))[1]
            for n in range(50)
        ]
        for write in writes:
            assert write is not None
            write.result()
        assert store.get(("a",), "k").value == {"n": 49}


def test_a_call_that_is_given_up_breaks_nothing(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc") as store:

        async def main() -> None:
            tasks = [asyncio.ensure_future(store.aput(("a",), str(n), {"n": n})) for n in range(50)]
            await asyncio.sleep(0.01)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.aput(("a",), "last", {})

        asyncio.run(main())
        found = {item.key for item in store.search(("a",), limit=100)}
        assert found >= {"last", *(str(n) for n in range(1, 50, 2))}


def test_synchronous_calls_on_the_loop_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with OscillinkStore.from_conn_string(tmp_path / "s.osc") as store:
            assert isinstance(store, AsyncOscillinkStore)
            await store.setup()
            with pytest.raises(asyncio.InvalidStateError, match=r"store\.aget"):
                store.put(("a",), "k", {})
            await asyncio.to_thread(store.put, ("a",), "k", {"n": 1})
            assert (await asyncio.to_thread(store.get, ("a",), "k")).value == {"n": 1}
            assert await store.sweep_ttl() == 0

    asyncio.run(main())


def test_threads_share_a_store(tmp_path: Path) -> None:
    with OscillinkStore(tmp_path / "s.osc", index={"embed": "hash"}) as store:

        def work(number: int) -> None:
            for step in range(10):
                store.put((f"t{number}",), str(step), {"text": f"{number} {step}"})
                assert store.get((f"t{number}",), str(step)).value["text"] == f"{number} {step}"
                found = store.search((f"t{number}",), query="text", limit=100)
                assert len(found) == step + 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert len(store.list_namespaces()) == 4
