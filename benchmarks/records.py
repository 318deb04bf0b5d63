"""Time records beside SQLite: writes, reads and lists in a store of many.

    python benchmarks/records.py [--records 100000] [--runs 100] [--json FILE]

Records are small JSON objects in namespaces of 100. SQLite holds the same values in one table,
its journal a write-ahead log, every commit synced. Figures are medians in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import milliseconds
from rich.console import Console
from rich.table import Table

import oscillink_store as osc
from oscillink_store.filters import Compare

Place = tuple[tuple[str, ...], str]


def place(number: int) -> Place:
    return ("memories", f"user{number // 100}"), f"k{number}"


def value(number: int) -> dict[str, Any]:
    return {"text": f"Remembers number {number} of them all", "number": number, "tags": ["a", "b"]}


class Store:
    """The store's own calls."""

    def __init__(self, folder: Path) -> None:
        self.store = osc.connect(folder / "store.osc")

    def put(self, numbers: range) -> None:
        self.store.write(put=[osc.Record(*place(n), value(n)) for n in numbers])

    def drop(self, number: int) -> None:
        self.store.write(drop=[place(number)])

    def get(self, number: int) -> object:
        return self.store.record(*place(number))

    def below(self, number: int) -> object:
        return self.store.records(place(number)[0])

    def newest(self) -> object:
        return self.store.records(("memories",), limit=10)

    def where(self, number: int) -> object:
        return self.store.records(place(number)[0], where=Compare("number", "eq", number))

    def close(self) -> None:
        self.store.close()


class Sqlite:
    """The same with one table."""

    def __init__(self, folder: Path) -> None:
        self.con = sqlite3.connect(folder / "store.db")
        self.con.execute("PRAGMA journal_mode = WAL")
        self.con.execute("PRAGMA synchronous = FULL")
        self.con.execute("CREATE TABLE r (ns TEXT, key TEXT, value TEXT, updated REAL, "
                         "PRIMARY KEY (ns, key)) WITHOUT ROWID")  # fmt: skip
        self.con.execute("CREATE INDEX u ON r (updated)")

    def put(self, numbers: range) -> None:
        rows = [(json.dumps(place(n)[0]), place(n)[1], json.dumps(value(n)), n) for n in numbers]
        with self.con:
            self.con.executemany("INSERT OR REPLACE INTO r VALUES (?, ?, ?, ?)", rows)

    def drop(self, number: int) -> None:
        with self.con:
            self.con.execute("DELETE FROM r WHERE ns = ? AND key = ?", self._name(number))

    def get(self, number: int) -> object:
        return self._values("WHERE ns = ? AND key = ?", *self._name(number))

    def below(self, number: int) -> object:
        return self._values("WHERE ns = ? ORDER BY updated DESC", self._name(number)[0])

    def newest(self) -> object:
        return self._values("WHERE ns LIKE '[\"memories\",%' ORDER BY updated DESC LIMIT 10")

    def where(self, number: int) -> object:
        return self._values(
            "WHERE ns = ? AND value ->> 'number' = ?", self._name(number)[0], number
        )

    def _name(self, number: int) -> tuple[str, str]:
        namespace, key = place(number)
        return json.dumps(namespace), key

    def _values(self, rest: str, *arguments: Any) -> list[Any]:
        found = self.con.execute(f"SELECT value FROM r {rest}", arguments)
        return [json.loads(text) for (text,) in found]

    def close(self) -> None:
        self.con.close()


def measure(peer: Store | Sqlite, records: int, runs: int) -> dict[str, float]:
    step = records // 10
    filled = [
        milliseconds(lambda s=start: peer.put(range(s, s + step)))
        for start in range(0, records, step)
    ]
    spread = [number * 7919 % records for number in range(runs)]

    def median(call: Callable[[int], object], times: int = runs) -> float:
        call(spread[0])
        return statistics.median(milliseconds(lambda n=n: call(n)) for n in spread[:times])

    def put_and_get(number: int) -> object:
        peer.put(range(number, number + 1))
        return peer.get(number)

    def put_and_list(number: int) -> object:
        peer.put(range(number, number + 1))
        return peer.newest()

    return {
        f"put {step:,}": statistics.median(filled),
        "put one": median(lambda n: peer.put(range(n, n + 1))),
        "put one, get it": median(put_and_get),
        "put 1,000": median(lambda n: peer.put(range(n, n + 1000)), max(5, runs // 10)),
        "get one": median(peer.get),
        "list a namespace of 100": median(peer.below),
        "filter a namespace of 100": median(peer.where),
        "newest 10 of all": median(lambda _: peer.newest()),
        "put one, newest 10 of all": median(put_and_list),
        "drop one": median(peer.drop),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    results = {}
    for name, peer_type in (("store", Store), ("SQLite", Sqlite)):
        with tempfile.TemporaryDirectory() as folder:
            peer = peer_type(Path(folder))
            results[name] = measure(peer, arguments.records, arguments.runs)
            peer.close()
    table = Table(title=f"{arguments.records:,} records: median milliseconds")
    for column in ("", *results):
        table.add_column(column, justify="right" if column else "left")
    for row in results["store"]:
        table.add_row(row, *(f"{figures[row]:.2f}" for figures in results.values()))
    Console(width=100).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
