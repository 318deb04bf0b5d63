"""A program that remembers things in a LangGraph store, as another process of the tests.

``memory_writer.py FOLDER NAME COUNT`` writes COUNT items under NAME and ends; with a COUNT of 0
it goes on until it is killed, putting, changing and deleting items of one to five texts.
"""

from __future__ import annotations

import itertools
import random
import sys

from langgraph.store.base import PutOp

from oscillink_store.integrations.langgraph import OscillinkStore

INDEX = {"embed": "hash", "fields": ["texts[*]"]}


def value(name: str, step: int) -> dict[str, object]:
    return {"step": step, "texts": [f"{name} {step} {part}" for part in range(1 + step % 5)]}


def main(folder: str, name: str, count: str) -> None:
    chance = random.Random(name)
    with OscillinkStore(folder, index=INDEX) as store:
        print("ready", flush=True)
        for step in range(int(count)):
            store.put((name,), str(step), value(name, step))
        if count == "0":
            for step in itertools.count():
                gone = PutOp((name,), str(chance.randrange(8)), None)
                store.batch([gone, PutOp((name,), str(chance.randrange(8)), value(name, step))])
                print(step, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
