"""What ``oscillink-store demo`` does: fill a store with the standard library, ask it, check it.

Nothing is printed here; the command prints what these functions return.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.store import Store, connect
from oscillink_store.errors import InputError, NotAStoreError
from oscillink_store.model import RELATIONS, SearchResult
from oscillink_store.reports import IngestReport
from oscillink_store.sql_binding import attach
from oscillink_store.stdlib_docs import standard_library, stdlib_docs

if TYPE_CHECKING:
    from pathlib import Path

    from oscillink_store.reports import VerifyReport

__all__ = ["QUESTIONS", "Answer", "Connection", "Tour", "open_demo", "tour"]

Progress = Callable[[str, int, int | None], None]

EMBEDDER = "hash"
K = 5

# Chosen because the three ways differ on them: the rest of the answer stands in texts that
# are connected to the matching one rather than similar to the question.
QUESTIONS = (
    "How do I take memory snapshots and compare them?",
    "How do I sort topologically with graphlib?",
    "How do I profile a function and print the statistics?",
)

# The columns that tell a demo store from a store of the person's own.
_OWN_COLUMNS = {"module", "kind", "file", "line"}


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How one hit hangs together with a better one: an edge of the lattice between them."""

    hit: str
    relation: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question answered in three ways, and what brought the hits of the third.

    ``named`` are the ids of those whose title stands in the question.
    """

    question: str
    vector: SearchResult
    hybrid: SearchResult
    lattice: SearchResult
    connections: tuple[Connection, ...]
    named: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tour:
    """Everything that the demo shows of a filled store."""

    answers: tuple[Answer, ...]
    statement: str
    """SQL that asks the first question."""
    rows: tuple[tuple[int, str, float], ...]
    """What DuckDB answered: rank, id, score."""
    check: VerifyReport

    @property
    def same(self) -> bool:
        """Whether DuckDB gave the lattice's own ids in its own order."""
        return [row[1] for row in self.rows] == self.answers[0].lattice.ids


def open_demo(path: Path, progress: Progress | None = None) -> tuple[Store, IngestReport | None]:
    """Open the demo's store, filled; the report is None when it was full already.

    Raises:
        InputError: this Python came without the sources of its standard library.
        NotAStoreError: the folder holds something else than a demo store.

    """
    store = connect(path, embedder=EMBEDDER)
    try:
        return store, _fill(store, progress)
    except BaseException:
        store.close()
        raise


def _fill(store: Store, progress: Progress | None) -> IngestReport | None:
    if len(store):
        columns = set(store.stats()["metadata"])
        if not columns.issuperset(_OWN_COLUMNS):
            raise NotAStoreError(
                f"{store.path} is a store of other things: pass another place with --store"
            )
        return None
    parsed = None if progress is None else partial(progress, "parse")
    rows = stdlib_docs(progress=parsed)
    if not rows:
        raise InputError(
            f"{standard_library()} holds no sources of the standard library: run the demo with "
            "a Python that has them"
        )
    return store.ingest(rows, progress=progress)


def tour(store: Store) -> Tour:
    """Ask the three questions in every way, the first in SQL too, and verify what was kept."""
    answers = tuple(_ask(store, question) for question in QUESTIONS)
    statement = _statement(QUESTIONS[0])
    con = duckdb.connect()
    try:
        attach(con, store)
        rows = tuple(con.execute(statement).fetchall())
    finally:
        con.close()
    answers[0].lattice.receipt.verify()
    return Tour(answers=answers, statement=statement, rows=rows, check=store.verify())


def _ask(store: Store, question: str) -> Answer:
    """Answer a question by vectors alone, by vectors and words, and by the lattice."""
    flat = replace(store.parameters, gate_weight=0.0, name_bonus=0.0)
    lattice = store.search(question, k=K, label="demo: lattice")
    return Answer(
        question=question,
        vector=store.search(
            vector=resolve(EMBEDDER).embed_query(question), k=K, parameters=flat,
            label="demo: vector",
        ),
        hybrid=store.search(question, k=K, parameters=flat, label="demo: hybrid"),
        lattice=lattice,
        connections=_connections(store, lattice),
        named=tuple(
            hit.id
            for hit in lattice
            if hit.title and re.search(rf"(?i)\b{re.escape(hit.title)}\b", question)
        ),
    )  # fmt: skip


def _connections(store: Store, result: SearchResult) -> tuple[Connection, ...]:
    """For every hit but the first its strongest edge to a better hit, if there is one."""
    places = {id_: place for place, id_ in enumerate(result.ids)}
    ids = pa.array(result.ids, pa.string())
    edges = store.edges()
    inside = pc.and_(pc.is_in(edges["source"], ids), pc.is_in(edges["target"], ids))
    weights = dict(zip(RELATIONS, store.parameters.relation_weights, strict=True))
    best: dict[str, tuple[float, Connection]] = {}
    for edge in edges.filter(inside).to_pylist():
        better, hit = sorted((edge["source"], edge["target"]), key=places.__getitem__)
        weight = weights[edge["relation"]] * edge["weight"]
        if hit not in best or weight > best[hit][0]:
            best[hit] = weight, Connection(hit=hit, relation=edge["relation"], other=better)
    return tuple(best[id_][1] for id_ in result.ids if id_ in best)


def _statement(question: str) -> str:
    quoted = question.replace("'", "''")
    return f"SELECT rank, id, round(score, 3) AS score\nFROM coherent_search('{quoted}', k := {K});"
