"""``demo``: the standard library's docstrings, three questions, three ways."""

import platform
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.console import bars, print_json, show, width
from oscillink_store.cli.ingest_command import print_report, report_document
from oscillink_store.cli.inspect_commands import AsJson

if TYPE_CHECKING:
    from rich.text import Text

    from oscillink_store.demo import Answer, Tour
    from oscillink_store.model import SearchResult
    from oscillink_store.reports import IngestReport

__all__ = ["demo"]

_WAYS = {
    "vector": "nearest to the question by the cosine of their embeddings",
    "hybrid": "by cosine and full-text relevance (BM25), added up",
    "lattice": "hybrid, titles in the question count, and the best three pass evidence along edges",
}
_HONEST = (
    "The embedder is the built-in 'hash': no model, it knows spellings and no meanings. The "
    "questions were chosen because the ways differ on them; a line with + tells what brought the "
    "lattice to a text that the other ways miss."
)
_EDGES = {
    "next": "next to",
    "mention": "mention of or by",
    "link": "linked to",
    "shared": "shares a rare phrase with",
    "knn": "nearest neighbour of",
}


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
        _heading(f"1  A store of the standard library of Python {platform.python_version()}")
    with bars() as progress:
        opened, report = open_demo(store, progress)
    with opened:
        if not as_json:
            _filled(store, len(opened), report)
        shown = tour(opened)
    seconds = time.perf_counter() - started
    if as_json:
        print_json(_document(store, report, shown, seconds))
        return
    _heading("2  Three questions, three ways")
    _legend()
    for answer in shown.answers:
        _side_by_side(answer)
    _heading("3  The same in SQL")
    _sql(shown)
    _heading("4  The receipt")
    _receipt(shown)
    _heading("5  Now you")
    _next(store, seconds)


def _heading(text: str) -> None:
    from rich.rule import Rule

    show(Rule(text, align="left", style="bold"))


def _filled(store: Path, anchors: int, report: "IngestReport | None") -> None:
    if report is None:
        show(
            f"{store} is there already, with {anchors:,} docstrings, and is used again; "
            f"to start anew: rm -r {shlex.quote(str(store))}\n"
        )
    else:
        print_report(report, str(store))
        show()


def _legend() -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for way, meaning in _WAYS.items():
        table.add_row(way, meaning)
    show(table)
    show(f"{_HONEST}\n", style="dim")


def _side_by_side(answer: "Answer") -> None:
    from rich import box
    from rich.table import Table

    ways = {"vector": answer.vector, "hybrid": answer.hybrid, "lattice": answer.lattice}
    table = Table(box=box.HORIZONTALS, expand=True, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", style="dim")
    for way in ways:
        table.add_column(way, ratio=1, no_wrap=True)
    room = (width() - 10) // len(ways)
    known = {*answer.vector.ids, *answer.hybrid.ids}
    for place in range(max(map(len, ways.values()))):
        cells = [_cell(result, place, room, known) for result in ways.values()]
        table.add_row(str(place + 1), *cells)
    show(answer.question, style="bold")
    show(table)
    reasons = dict.fromkeys(answer.named, "named in the question")
    reasons |= {link.hit: f"{_EDGES[link.relation]} {link.other}" for link in answer.connections}
    for hit in answer.lattice:
        if hit.id not in known and hit.id in reasons:
            show(f"+ {hit.id}: {reasons[hit.id]}", style="green", wrap=False)
    show()


def _cell(result: "SearchResult", place: int, room: int, known: set[str]) -> "Text | str":
    from rich.text import Text

    if place >= len(result):
        return ""
    name = result[place].id
    short = name if len(name) <= room else f"…{name[1 - room :]}"
    return Text(short, style="" if name in known else "green")


def _sql(shown: "Tour") -> None:
    from rich.syntax import Syntax
    from rich.table import Table

    show(Syntax(shown.statement, "sql", background_color="default", word_wrap=True))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rank", justify="right")
    table.add_column("id")
    table.add_column("score", justify="right")
    for rank, name, score in shown.rows:
        table.add_row(str(rank), name, f"{score:.3f}")
    show()
    show(table)
    if shown.same:
        show("DuckDB gives what Store.search gave: the same texts in the same order.\n")
    else:
        show("DuckDB gives other texts than Store.search gave: please report that.\n")


def _receipt(shown: "Tour") -> None:
    show(shown.answers[0].lattice.receipt.summary(), wrap=False)
    check = shown.check
    counted = f"{check.files} files and {check.receipts} receipts"
    if check.ok:
        show(f"Its hashes hold, and so do the store's: {counted} verified.\n")
    else:
        show(f"The store is damaged ({counted} read): {'; '.join(check.problems)}\n")


def _next(store: Path, seconds: float) -> None:
    place = shlex.quote(str(store))
    show(f"The store lies in {store.resolve()}; all of this took {seconds:.1f} s. Try:")
    for line in (
        f'search {place} "How do I wait for several tasks?" --receipt',
        f'search {place} "temporary file" --where "kind = \'class\'"',
        f"sql {place} \"FROM coherent_edges WHERE relation = 'link' LIMIT 5\"",
        f"verify {place}",
    ):
        show(f"  oscillink-store {line}", style="bold", wrap=False)


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
                "vector": _ranking(answer.vector),
                "hybrid": _ranking(answer.hybrid),
                "lattice": _ranking(answer.lattice),
                "connections": [
                    {"hit": link.hit, "relation": link.relation, "other": link.other}
                    for link in answer.connections
                ],
                "named": list(answer.named),
            }
            for answer in shown.answers
        ],
        "sql": {
            "statement": shown.statement,
            "rows": [{"rank": rank, "id": id_, "score": score} for rank, id_, score in shown.rows],
            "same_as_lattice": shown.same,
        },
        "receipt": {"id": receipt.id, "hash": receipt.hash, "delta_h": receipt.delta_h},
        "verified": {
            "ok": shown.check.ok,
            "files": shown.check.files,
            "receipts": shown.check.receipts,
            "problems": list(shown.check.problems),
        },
    }


def _ranking(result: "SearchResult") -> list[dict[str, Any]]:
    return [{"rank": hit.rank, "id": hit.id, "score": hit.score} for hit in result]
