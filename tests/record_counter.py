"""A program that counts in a record which others count in too.

``record_counter.py FOLDER NAME TIMES`` adds one, and an anchor with a record that tells the count.
"""

from __future__ import annotations

import sys

import oscillink_store as osc
from oscillink_store.errors import ConflictError

TOTAL = ("count",), "total"


def count(store: osc.Store, name: str, times: int) -> int:
    """Count so often, and tell how often somebody else was quicker."""
    conflicts = done = 0
    while done < times:
        record = store.record(*TOTAL)
        total = 1 if record is None else record.value + 1
        try:
            store.write(
                [{"id": f"{name}-{done}", "text": f"number {total}"}],
                put=[osc.Record(*TOTAL, total), osc.Record(("by", name), str(done), total)],
                expect=[record or TOTAL],
            )
        except ConflictError:
            conflicts += 1
        else:
            done += 1
    return conflicts


def main(folder: str, name: str, times: str) -> None:
    with osc.connect(folder, embedder="hash:16", lock_timeout=60) as store:
        print(count(store, name, int(times)))


if __name__ == "__main__":
    main(*sys.argv[1:])
