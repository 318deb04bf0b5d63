"""Many tenants in one store: nobody sees another's rows, and a filter costs next to nothing.

python benchmarks/tenants.py
python benchmarks/tenants.py --anchors 100000 --queries 300

Every anchor's payload names its tenant. Each query is a vector near a row of *another* tenant,
so that what is most similar must be kept out; it runs with the tenant's filter and, in turn,
without one. The same goes through the LangGraph store, where a namespace takes the filter's
place. The exit code is 1 when anything of another tenant comes back.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import interleaved
from langgraph.store.base import PutOp, SearchItem
from rich.console import Console
from rich.table import Table

import oscillink_store as osc
from oscillink_store.filters import Compare
from oscillink_store.integrations.langgraph import OscillinkStore

DIMENSION = 384

Vectors = npt.NDArray[np.float32]
Calls = dict[str, Callable[[int], object]]


class Data:
    """Rows of all tenants in turn, and for each query a tenant and a vector near a stranger."""

    def __init__(self, tenants: int, anchors: int, queries: int) -> None:
        chance = np.random.default_rng(7)
        self.tenants = tenants
        self.vectors = chance.standard_normal((anchors, DIMENSION), np.float32)
        self.asking = chance.integers(tenants, size=queries).tolist()
        strangers = (
            np.array(self.asking) + 1 + chance.integers(tenants - 1, size=queries)
        ) % tenants
        near = strangers + tenants * chance.integers(anchors // tenants, size=queries)
        noise = chance.standard_normal((queries, DIMENSION), np.float32)
        self.queries = self.vectors[near] + 0.3 * noise

    def tenant(self, row: int) -> str:
        return f"tenant {row % self.tenants}"

    def embed(self, texts: Iterable[str]) -> list[list[float]]:
        """The vector of "note 5" or of "query 5"."""
        table = {"note": self.vectors, "query": self.queries}
        words = (text.split() for text in texts)
        return [table[kind][int(number)].tolist() for kind, number in words]


def core(
    folder: Path, data: Data, count: int, held: ExitStack
) -> tuple[Calls, Callable[[int], list[str]]]:
    """Searches of the store itself, and the tenants whose rows a filtered one gives."""
    store = held.enter_context(osc.connect(folder / "core.osc"))
    store.ingest(
        {"id": str(row), "text": f"note {row}", "vector": vector,
         "payload": {"tenant": data.tenant(row), "number": row}}
        for row, vector in enumerate(data.vectors)
    )  # fmt: skip
    filters = [Compare("tenant", "eq", data.tenant(number)) for number in data.asking]

    def call(ranking: str, *, filtered: bool) -> Callable[[int], osc.SearchResult]:
        return lambda i: store.search(
            vector=data.queries[i], k=count, where=filters[i] if filtered else None, ranking=ranking
        )

    mine = [call(ranking, filtered=True) for ranking in ("lattice", "dense")]
    calls: Calls = {
        "lattice": call("lattice", filtered=False), "lattice, one tenant": mine[0],
        "dense": call("dense", filtered=False), "dense, one tenant": mine[1],
    }  # fmt: skip
    return calls, lambda i: [hit.payload["tenant"] for each in mine for hit in each(i)]


def langgraph(
    folder: Path, data: Data, count: int, held: ExitStack
) -> tuple[Calls, Callable[[int], list[str]]]:
    """Searches of the LangGraph store, and the tenants whose items one in a namespace gives."""
    index = {"embed": data.embed, "dims": DIMENSION, "fields": ["text"]}
    store = held.enter_context(OscillinkStore(folder / "langgraph.osc", index=index))
    store.batch(
        PutOp((data.tenant(row), "notes"), str(row), {"text": f"note {row}"})
        for row in range(len(data.vectors))
    )

    def call(*, filtered: bool) -> Callable[[int], list[SearchItem]]:
        return lambda i: store.search(
            (data.tenant(data.asking[i]),) if filtered else (), query=f"query {i}", limit=count
        )

    mine = call(filtered=True)
    calls: Calls = {"LangGraph": call(filtered=False), "LangGraph, one namespace": mine}
    return calls, lambda i: [item.namespace[0] for item in mine(i)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--anchors", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, default=10)
    options = parser.parse_args()
    console = Console()
    data = Data(options.tenants, options.anchors, options.queries)
    table = Table(title=f"{options.tenants} tenants, {options.anchors:,} anchors, k = {options.k}")
    for name in ("search", "median ms", "one tenant", "ratio", "rows", "of others"):
        table.add_column(name, justify="left" if name == "search" else "right")
    strangers = 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        for part in (core, langgraph):
            calls, tenants_of = part(Path(folder), data, options.k, held)
            medians = {
                name: statistics.median(taken)
                for name, taken in interleaved(calls, options.queries, console).items()
            }
            found = [tenants_of(i) for i in range(options.queries)]
            others = sum(
                tenant != data.tenant(asking)
                for asking, tenants in zip(data.asking, found, strict=True) for tenant in tenants
            )  # fmt: skip
            strangers += others
            names = list(medians)
            for name, narrow in zip(names[::2], names[1::2], strict=True):
                table.add_row(
                    name, f"{medians[name]:.2f}", f"{medians[narrow]:.2f}",
                    f"{medians[narrow] / medians[name]:.2f}",
                    f"{sum(map(len, found)):,}", str(others),
                )  # fmt: skip
    console.print(table)
    sys.exit(1 if strangers else 0)


if __name__ == "__main__":
    main()
