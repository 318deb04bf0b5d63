"""``replay`` and ``key``: a recorded answer made again, and the keys that seal receipts."""

from pathlib import Path
from typing import Annotated

import typer

from oscillink_store.cli.asking import EmbedderName, Vector, read_vector
from oscillink_store.cli.console import print_json, show
from oscillink_store.cli.inspect_commands import AsJson, StorePath
from oscillink_store.cli.opening import open_existing
from oscillink_store.errors import InputError

__all__ = ["key", "replay"]

_STYLES = {"identical": "green", "different": "bold red", "not replayable": "yellow"}


def replay(
    store: StorePath,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="The receipts' ids: 8 or more characters of the hash."),
    ],
    text: Annotated[
        str | None, typer.Option(help="The question, where a receipt keeps its digest alone.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Its SQL predicate, where only the digest is kept.")
    ] = None,
    vector: Vector = None,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded searches again on their generations and compare every bit of the answers.

    Ends with exit code 1 unless all come out identical.
    """
    psi = read_vector(vector)
    with open_existing(store, read_only=True, embedder=embedder) as opened:
        reports = [opened.replay(one, text, vector=psi, where=where) for one in ids]
    if as_json:
        print_json(
            [
                {
                    "receipt": report.receipt.hash,
                    "generation": report.receipt.generation,
                    "status": report.status,
                    "reason": report.reason,
                    "differences": report.differences,
                }
                for report in reports
            ]
        )
    else:
        for report in reports:
            show(str(report), style=_STYLES[report.status])
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    name: Annotated[
        str | None, typer.Option("--id", help="The key's name. [dim]\\[the file's name][/dim]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key that seals receipts, in a file that only you may read.

    Pass it to other commands with --key, or in OSCILLINK_KEY. Keep it away from the store.
    """
    from oscillink_store.receipts.key import Key

    made = Key.generate(name or file.stem)
    try:
        made.to_file(file)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror or error}): name a new file"
        ) from error
    if as_json:
        print_json({"key_id": made.id, "file": str(file)})
    else:
        show(f"key {made.id} is in {file}")
