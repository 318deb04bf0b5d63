"""How format-2.tar.xz was made: run with the release of that format, then packed with tar.

    python make_format_2.py format-2.osc && tar -cJf format-2.tar.xz format-2.osc

It has six anchors in two parts, a deletion, corrections, a record, a tag, folded receipts and
write-ahead files that wait to be folded.
"""

from __future__ import annotations

import sys
from typing import Any

import oscillink_store as osc
from oscillink_store.filters import Compare

TEXTS = (
    ("The Collegian",
     "The Collegian is the student newspaper of Houston Baptist University.", "en"),
    ("Houston Baptist University",
     "A private university in Texas, owned by the Baptist General Convention.", "en"),
    ("Marble cake", "Flour, butter, eggs, sugar and cocoa.", "en"),
    ("Lemon cake", "Flour, butter, eggs and lemon.", "en"),
    ("Zitronenkuchen", "Mehl, Butter, Eier und Zitrone.", "de"),
    ("Texas", "Texas has many universities, Houston Baptist University among them.", "en"),
)  # fmt: skip


def row(number: int, title: str, text: str, lang: str) -> dict[str, Any]:
    return {
        "id": f"a{number}",
        "vector": [((number + 2) * (place + 1)) % 7 - 3 for place in range(8)],
        "title": title,
        "text": text,
        "lang": lang,
        "session": "s",
        "turn": number,
        "links": ["a0"] if number == 3 else [],
        "payload": {"n": number},
    }


def main() -> None:
    root = sys.argv[1]
    rows = [row(number, *text) for number, text in enumerate(TEXTS)]
    fields = osc.Fields(sequence="session", position="turn", facets=["lang"])
    with osc.connect(root, fields=fields, parameters=osc.Parameters(knn_neighbors=4)) as store:
        store.ingest(rows[:4])
        store.write(put=[osc.Record(("users", "ann"), "drink", {"likes": "tea"})])
        store.tag("first")
    for number in range(20):  # enough ended writers to be folded by the next commit
        vector = [number % 5 - 2.5, 1, 2, 3, 0, 1, 0, 2]
        with osc.connect(root) as store:
            store.search(f"who owns newspaper {number}", k=2, label=f"n{number}", vector=vector)
    with osc.connect(root) as store:
        store.ingest(rows[4:])
        store.delete("a2")
    with osc.connect(root) as store:
        store.search("university", where="lang = 'en'", k=3)
        store.search("cake", where=Compare("n", "gt", 1), k=3)


if __name__ == "__main__":
    main()
