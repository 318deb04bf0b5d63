"""What the commands that ask a question have in common: arguments, and reading them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oscillink_store.cli.console import note
from oscillink_store.errors import QueryError

if TYPE_CHECKING:
    from oscillink_store.engine.store import Store

__all__ = [
    "Count", "EmbedderName", "Question", "ReadOnly", "Vector", "Where", "read_vector",
    "say_words_only",
]  # fmt: skip

Question = Annotated[str | None, typer.Argument(metavar="QUESTION", help="What you want to know.")]
Count = Annotated[int, typer.Option("-k", min=1, help="How many hits at most.")]
Where = Annotated[
    str | None, typer.Option(help="A SQL predicate over the metadata: \"lang = 'en'\".")
]
Vector = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|JSON",
        help="The question's embedding: a .npy or .json file, or a JSON list of numbers.",
    ),
]
EmbedderName = Annotated[
    str | None, typer.Option(help="The store's embedder, when it is not the built-in one.")
]
ReadOnly = Annotated[
    bool, typer.Option("--read-only", help="Record no receipt; for folders of others.")
]


def read_vector(given: str | None) -> Any:
    """Read the embedding that ``--vector`` gives; None without one.

    Raises:
        QueryError: it cannot be read or is no vector.

    """
    if given is None:
        return None
    import numpy as np

    try:
        if given.endswith(".npy"):
            return np.load(given, allow_pickle=False)
        return json.loads(Path(given).read_text() if given.endswith(".json") else given)
    except OSError as error:
        raise QueryError(
            f"--vector: {given} cannot be read ({error.strerror}): pass a .npy or .json file, or "
            "a JSON list of numbers"
        ) from error
    except ValueError as error:
        raise QueryError(
            f"--vector: {given[:60]} holds no vector: pass a .npy or .json file, or a JSON list "
            "of numbers such as '[0.1, 0.2]'"
        ) from error


def say_words_only(store: "Store", vector: Any) -> None:
    """Tell the person when only the question's words are searched for."""
    if vector is not None or store.has_embedder:
        return
    name = store.stats()["embedder"]
    if name is not None:
        note(f"searching by words alone: --embedder {name} would search by meaning too")
