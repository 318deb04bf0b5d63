"""A program that puts and deletes items which others put, delete and sweep away too.

``memory_rival.py FOLDER NAME COUNT`` ends with a line of JSON: what it did last to each shared
item, a value or None. An item of its own expires again and again and is put anew at once, after
which it must be there whoever sweeps.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

from memory_writer import INDEX, value

from oscillink_store.integrations.langgraph import OscillinkStore

SHARED = ("shared",)
BRIEF = 0.001 / 60
"""A millisecond, in minutes."""


def main(folder: str, name: str, count: str) -> None:
    chance = random.Random(name)
    last: dict[str, Any] = {}
    with OscillinkStore(folder, index=INDEX) as store:
        for step in range(int(count)):
            key = chance.choice(["", "one", "two"])
            last[key] = value(name, step) if chance.random() < 0.8 else None
            if last[key] is None:
                store.delete(SHARED, key)
            else:
                store.put(SHARED, key, last[key])
            store.put(("own", name), "k", value(name, step), ttl=BRIEF)
            time.sleep(0.002 + 0.02 * chance.random())
            store.put(("own", name), "k", value(name, -step), ttl=None)
            time.sleep(0.02 * chance.random())
            item = store.get(("own", name), "k")
            assert item is not None, f"step {step}: what was put is gone"
            assert item.value == value(name, -step)
    print(json.dumps(last))


if __name__ == "__main__":
    main(*sys.argv[1:])
