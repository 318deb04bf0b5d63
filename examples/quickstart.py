"""A store from nothing: ingest a few notes, ask a question, read the receipt.

python examples/quickstart.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import oscillink_store as osc

NOTES = [
    {
        "id": "collegian",
        "title": "The Collegian",
        "text": "The Collegian is the student newspaper of Houston Baptist University.",
        "year": 1963,
    },
    {
        "id": "hbu",
        "title": "Houston Baptist University",
        "text": "A private university in Texas, owned by the Baptist General Convention.",
        "year": 1960,
    },
    {
        "id": "cake",
        "title": "Marble cake",
        "text": "Flour, butter, eggs, sugar and cocoa; bake for fifty minutes.",
        "year": 2019,
    },
    {
        "id": "station",
        "title": "Dallas Union Station",
        "text": "A railway station in Dallas, opened in 1916.",
        "year": 1916,
    },
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # "hash" is a built-in embedder: lexical, deterministic, nothing to download
        with osc.connect(Path(folder) / "notes.osc", embedder="hash") as store:
            report = store.ingest(NOTES)
            print(f"{report.added} anchors, edges: {dict(report.edges)}\n")

            result = store.search("Who owns the university of The Collegian?", k=3)
            for hit in result:
                print(f"{hit.rank}  {hit.score:6.3f}  {hit.id:10}  {hit.text}")
            print(f"\n{result.receipt.summary()}")

            recent = store.search("cake", k=3, where="year >= 2000")
            print(f"\nsince 2000: {recent.ids}")
            print(f"store verifies: {store.verify().ok}")


if __name__ == "__main__":
    main()
