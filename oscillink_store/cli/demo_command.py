"""``demo``: the standard library's docstrings, three questions, three ways."""

import platform
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.console import bars, output, print_json
from oscillink_store.cli.ingest_command import print_report, report_document
from oscillink_store.cli.inspect_commands import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from oscillink_store.demo import Answer, Tour
    from oscillink_store.model import IngestReport, SearchResult

__all__ = ["demo"]

_WAYS = {
    "vector": "the embeddings nearest to the question's, by cosine",
    "hybrid": "cosine and full-text relevance (BM25), added",
    "lattice": "hybrid, and the evidence of its 3 best flows along the edges between texts",
}
_LEXICAL = (
    "The embedder is the built-in 'hash': lexical, it knows spellings and no meanings, and needs "
    "no model."
)


def demo(
    store: Annotated[
        Path, typer.Option("--store", metavar="STORE", help="Where to make the store.")
    ] = Path("demo.osc"),
    as_json: AsJson = False,
) -> None:
    """Fill a store with the docstrings of Python's standard library, and ask it.

    Three questions are answered by vectors alone, by vectors and words, and by the lattice;
    then the first once more through SQL. A demo store that is there already is used again.
    """
    # with them come DuckDB, Lance and the compiled kernels
    from oscillink_store.demo import open_demo, tour

    started = time.perf_counter()
    if not as_json:
        _title()
    with bars() as progress:
        opened, report = open_demo(store, progress)
    with opened:
        if not as_json:
            _filling(store, len(opened), report)
        shown = tour(opened)
    seconds = time.perf_counter() - started
    if as_json:
        print_json(_document(store, report, shown, seconds))
    else:
        _show(store, shown, seconds)


def _title() -> None:
    from rich.rule import Rule

    version = platform.python_version()
    output().print(Rule(f"The standard library of Python {version}, as a store", align="left"))


def _filling(store: Path, anchors: int, report: "IngestReport | None") -> None:
    if report is None:
        output().print(
            f"{store} is there already with {anchors:,} docstrings and is used again; "
            f"rm -r {shlex.quote(str(store))} to start anew.\n"
        )
    else:
        print_report(report, str(store))
        output().print()


def _show(store: Path, shown: "Tour", seconds: float) -> None:
    console = output()
    _legend(console)
    for answer in shown.answers:
        _side_by_side(console, answer)
    _sql(console, shown)
    _receipt(console, shown)
    _next(console, store, seconds)


def _legend(console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for way, meaning in _WAYS.items():
        table.add_row(way, meaning)
    console.print(table)
    console.print(f"{_LEXICAL}\n", style="dim")


def _side_by_side(console: "Console", answer: "Answer") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"“{answer.question}”", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        expand=True,
        pad_edge=False,
    )
    ways = {"vector": answer.vector, "hybrid": answer.hybrid, "lattice": answer.lattice}
    table.add_column("", justify="right", style="dim")
    for way in ways:
        table.add_column(way, ratio=1)
    width = (console.width - 12) // len(ways)
    known = {*answer.vector.ids, *answer.hybrid.ids}
    for place in range(max(map(len, ways.values()))):
        cells = [
            _cell(result, place, width, new=way == "lattice" and result.ids[place] not in known)
            for way, result in ways.items()
        ]
        table.add_row(str(place + 1), *cells)
    console.print(table)
    for link in answer.connections:
        if link.hit not in known:
            console.print(
                f"  {link.hit} —{link.relation}— {link.other}", style="green", soft_wrap=True
            )
    console.print()


def _cell(result: "SearchResult", place: int, width: int, *, new: bool) -> Any:
    from rich.text import Text

    if place >= len(result):
        return ""
    name = result[place].id
    if len(name) > width:
        name = f"…{name[1 - width :]}"
    return Text(name, style="green" if new else "")


def _sql(console: "Console", shown: "Tour") -> None:
    from rich.panel import Panel
    from rich.syntax import Syntax
    from rich.table import Table

    console.print("The same from DuckDB, after oscillink_store.attach(con, store):", style="bold")
    console.print(Syntax(shown.statement, "sql", background_color="default", word_wrap=True))
    table = Table(box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("id")
    table.add_column("score", justify="right")
    for rank, name, score in shown.rows:
        table.add_row(str(rank), name, f"{score:.3f}")
    console.print(Panel.fit(table))
    console.print(
        "These are the lattice's hits, in its order.\n"
        if shown.same
        else "These are NOT the lattice's hits: please report that.\n"
    )


def _receipt(console: "Console", shown: "Tour") -> None:
    console.print("Every search leaves a receipt; that of the first question:", style="bold")
    console.print(shown.answers[0].lattice.receipt.summary(), soft_wrap=True)
    check = shown.check
    counted = f"{check.files} files and {check.receipts} receipts"
    if check.ok:
        console.print(f"Its hashes hold, and so do the store's: {counted} verified.\n")
    else:
        console.print(f"The store is damaged ({counted} read): {'; '.join(check.problems)}\n")


def _next(console: "Console", store: Path, seconds: float) -> None:
    place = shlex.quote(str(store))
    console.print(f"Done in {seconds:.1f} s. The store lies in {store.resolve()}", style="bold")
    for line in (
        f'oscillink-store search {place} "your question" --receipt',
        f'oscillink-store search {place} "temporary files" --where "kind = \'class\'"',
        f'oscillink-store sql {place} "FROM coherent_edges LIMIT 5"',
        f"oscillink-store verify {place}",
    ):
        console.print(f"  {line}", soft_wrap=True)


def _document(
    store: Path, report: "IngestReport | None", shown: "Tour", seconds: float
) -> dict[str, Any]:
    receipt = shown.answers[0].lattice.receipt
    return {
        "store": str(store.resolve()),
        "seconds": seconds,
        "ingest": None if report is None else report_document(report),
        "questions": [
            {
                "question": answer.question,
                **{
                    way: [{"rank": h.rank, "id": h.id, "score": h.score} for h in result]
                    for way, result in (
                        ("vector", answer.vector),
                        ("hybrid", answer.hybrid),
                        ("lattice", answer.lattice),
                    )
                },
                "connections": [
                    {"hit": link.hit, "relation": link.relation, "other": link.other}
                    for link in answer.connections
                ],
            }
            for answer in shown.answers
        ],
        "sql": {
            "statement": shown.statement,
            "rows": [{"rank": rank, "id": id_, "score": score} for rank, id_, score in shown.rows],
            "same_as_lattice": shown.same,
        },
        "receipt": {"id": receipt.id, "hash": receipt.hash, "delta_h": receipt.delta_h},
        "verified": {"ok": shown.check.ok, "problems": list(shown.check.problems)},
    }
