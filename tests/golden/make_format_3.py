"""How format-3.tar.xz was made: run with the release of that format, then packed with tar.

    python make_format_3.py format-3.osc && tar -cJf format-3.tar.xz format-3.osc

It holds what the store of format 2 holds, and receipts of every kind that this format has:
with and without the question, in full and light, sealed with a key and not.
"""

from __future__ import annotations

import sys

from make_format_2 import TEXTS, row

import oscillink_store as osc
from oscillink_store.filters import Compare
from oscillink_store.receipts.key import Key

KEY = Key(id="golden", secret=b"no secret: it stands here for all")


def main() -> None:
    root = sys.argv[1]
    rows = [row(number, *text) for number, text in enumerate(TEXTS)]
    fields = osc.Fields(sequence="session", position="turn", facets=["lang"])
    parameters = osc.Parameters(knn_neighbors=4)
    with osc.connect(root, fields=fields, parameters=parameters, key=KEY) as store:
        store.ingest(rows[:4])
        store.write(put=[osc.Record(("users", "ann"), "drink", {"likes": "tea"})])
        store.tag("first")
    for number in range(20):  # enough ended writers to be folded by the next commit
        vector = [number % 5 - 2.5, 1, 2, 3, 0, 1, 0, 2]
        with osc.connect(
            root,
            payload="minimal" if number % 2 else "extended",
            detail="light" if number % 3 else "full",
            key=KEY if number % 4 else None,
        ) as store:
            store.search(f"who owns newspaper {number}", k=2, label=f"n{number}", vector=vector)
    with osc.connect(root) as store:
        store.ingest(rows[4:])
        store.delete("a2")
    with osc.connect(root) as store:
        store.search("university", where="lang = 'en'", k=3)
        store.search("cake", where=Compare("n", "gt", 1), k=3)
        store.chain_receipt(["a0", "a1", "a3"])
        store.set_gates(0.25, ids=["a4"])


if __name__ == "__main__":
    main()
