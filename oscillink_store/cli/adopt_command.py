"""``adopt``: a store beside a table of LanceDB or a collection of Chroma."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from oscillink_store.cli.console import bars, note, print_json, show
from oscillink_store.cli.inspect_commands import AsJson
from oscillink_store.cli.job_commands import print_job

__all__ = ["adopt"]


def _column(name: str, meaning: str) -> Any:
    return typer.Option(f"--{name}", metavar="COLUMN", help=meaning, rich_help_panel="Columns")


def adopt(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="lancedb://PATH/TABLE or chroma://PATH/COLLECTION."),
    ],
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE", help="The store's folder. [dim]\\[TABLE.osc beside the table][/dim]"
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(help="What made the vectors, so that texts can be searched by meaning."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Rows per commit.", min=1)] = 50_000,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option("--on-error", help="What a bad row does.")
    ] = "stop",
    id_: Annotated[str | None, _column("id", "The key; made of the content without one.")] = None,
    text: Annotated[str | None, _column("text", "The text.")] = None,
    title: Annotated[str | None, _column("title", "A name.")] = None,
    vector: Annotated[str | None, _column("vector", "The embedding.")] = None,
    sequence: Annotated[str | None, _column("sequence", "What a row is a part of.")] = None,
    position: Annotated[str | None, _column("position", "Its place in there.")] = None,
    links: Annotated[str | None, _column("links", "Ids it is linked to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a store of a table of another vector store, which stays as it is.

    Columns are found by their usual names (id, text, content, document, vector, embedding,
    title); all others become metadata to filter by. Run it again to catch up with the table: rows
    that are in the store already cost a comparison.
    """
    from oscillink_store.engine.adoption import adopt as adopted_from

    named = {
        "id": id_, "text": text, "title": title, "vector": vector,
        "sequence": sequence, "position": position, "links": links,
    }  # fmt: skip
    chosen = {part: column for part, column in named.items() if column is not None}
    with bars() as progress:
        adopted = adopted_from(
            table, store, columns=chosen, embedder=embedder, batch=batch, on_error=on_error,
            progress=progress,
        )  # fmt: skip
    if adopted.lexical:
        note(
            "the table has no vectors; those of the store come from the embedder 'hash', which is "
            "lexical: --embedder names another one"
        )
    if as_json:
        print_json({"store": str(adopted.store), "columns": adopted.columns, **asdict(adopted.job)})
        return
    if adopted.columns:
        parts = ", ".join(f"{part} from {column}" for part, column in adopted.columns.items())
        show(f"{table}: {parts}", style="italic", wrap=False)
    print_job(adopted.job, str(adopted.store), None)
    if not adopted.searchable:
        note(
            "the vectors come from outside: a text is searched by its words until the store is "
            "opened with the embedder that made them; a vector is searched by meaning"
        )
