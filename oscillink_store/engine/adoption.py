"""A store beside a table of another vector store, filled by a job that can catch up with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oscillink_store.engine.adopt import open_adopted
from oscillink_store.engine.store import connect
from oscillink_store.model import Fields
from oscillink_store.reports import JobReport

__all__ = ["Adoption", "adopt"]


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What an adoption did.

    ``columns`` tells which column plays which part, ``lexical`` that the table has no vectors
    and the built-in embedder made some, ``searchable`` whether the store can embed questions by
    itself.
    """

    store: Path
    columns: Mapping[str, str]
    lexical: bool
    searchable: bool
    job: JobReport


def adopt(
    table: str,
    store: str | os.PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    embedder: object | None = None,
    batch: int = 50_000,
    on_error: Literal["stop", "skip"] = "stop",
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Adoption:
    """Make a store of a table of another vector store, which stays as it is.

    Run it again to catch up with the table: rows that are in the store already cost a
    comparison.

    Args:
        table: ``lancedb://PATH/TABLE`` or ``chroma://PATH/COLLECTION``.
        store: The store's folder, by default ``TABLE.osc`` beside the table.
        columns: Part → column, where the usual names (id, text, content, document, vector,
            embedding, title) do not tell; the parts are id, text, title, vector, sequence,
            position and links. All other columns become metadata.
        embedder: What made the vectors, so that texts can be searched by meaning.
        batch: Rows per commit.
        on_error: As for :meth:`~oscillink_store.Store.ingest_job`.
        progress: Called with (stage, done, total or None).

    Raises:
        InputError: there is no such table, none of its columns holds the texts, or a row cannot
            be stored.
        DependencyError: Chroma is not installed.
    """
    adopted = open_adopted(table, columns, skip=on_error == "skip")
    path = Path(store or adopted.beside)
    lexical = embedder is None and not adopted.has_vectors
    with connect(path, embedder="hash" if lexical else embedder) as opened:
        report = opened.ingest_job(
            adopted.source, name=adopted.job, batch=batch, on_error=on_error, fields=Fields(),
            progress=progress,
        )  # fmt: skip
        searchable = opened.has_embedder
    return Adoption(
        store=path,
        columns=adopted.columns,
        lexical=lexical,
        searchable=searchable,
        job=report,
    )
