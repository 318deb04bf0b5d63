"""The application: its commands, and the one place where an error becomes a line and a code."""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

from oscillink_store.cli.adopt_command import adopt
from oscillink_store.cli.cluster_commands import cluster
from oscillink_store.cli.console import complain, flush, note, use_utf8
from oscillink_store.cli.demo_command import demo
from oscillink_store.cli.explain_command import explain
from oscillink_store.cli.gate_command import gate
from oscillink_store.cli.ingest_command import ingest
from oscillink_store.cli.inspect_commands import stats, verify
from oscillink_store.cli.job_commands import jobs
from oscillink_store.cli.maintain_command import delete, maintain, tag
from oscillink_store.cli.migrate_command import migrate
from oscillink_store.cli.opening import use_key
from oscillink_store.cli.receipt_commands import key, replay
from oscillink_store.cli.search_command import search
from oscillink_store.cli.sql_command import sql
from oscillink_store.errors import IntegrityWarning, OscillinkError

__all__ = ["app", "main"]

_CODES = (
    "Exit codes: 0 done, 1 error (one line on standard error; for verify also: something is "
    "wrong), 2 wrong usage, 130 interrupted (Ctrl-C leaves a store as it was before; a job keeps "
    "its finished batches and goes on from there)."
)

app = typer.Typer(
    name="oscillink-store",
    help="An embedded retrieval store whose answers are connected, ranked and receipted.",
    epilog=_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Run:
    """What the global options say about this run."""

    traceback = False


def _print_version(wanted: bool) -> None:
    if wanted:
        from oscillink_store import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Let an error end in Python's traceback.")
    ] = False,
    sealing: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="FILE",
            envvar="OSCILLINK_KEY",
            help="The key file that seals receipts, and that verify and replay check them with.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    _Run.traceback = traceback
    use_key(sealing)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_EXAMPLES: dict[Callable[..., None], str] = {
    demo: "oscillink-store demo",
    ingest: "oscillink-store ingest notes.osc notes.jsonl --facet speaker",
    adopt: "oscillink-store adopt lancedb://my-lancedb/notes",
    search: 'oscillink-store search notes.osc "who owned The Collegian?" -k 3 --receipt',
    explain: 'oscillink-store explain notes.osc "who owned The Collegian?" --out why.html',
    sql: "oscillink-store sql notes.osc \"FROM coherent_search('the owner', k := 3)\"",
    stats: "oscillink-store stats notes.osc",
    verify: "oscillink-store verify notes.osc",
    replay: "oscillink-store replay notes.osc 7c1d09a2e6b3f845",
    key: "oscillink-store key audit.json",
    jobs: "oscillink-store jobs notes.osc",
    maintain: "oscillink-store maintain notes.osc",
    gate: "oscillink-store gate notes.osc 0.02 --where \"source = 'forum'\"",
    migrate: "oscillink-store migrate notes.osc --backup notes-before.osc",
    delete: 'oscillink-store delete notes.osc --where "year < 2020"',
    tag: "oscillink-store tag notes.osc before-import",
}
for _command, _example in _EXAMPLES.items():
    app.command(epilog=f"Example: [bold]{_example}[/bold]")(_command)
app.add_typer(cluster, name="cluster")


_INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends in ``SystemExit`` with the code that ``--help`` documents."""
    use_utf8()
    try:
        with _noted_warnings():
            code = _run(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        code = _INTERRUPTED
    if code == _INTERRUPTED and arguments is None:
        # A thread whose start was interrupted is waited for at the end, for ever. Stores were
        # closed on the way here.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    with contextlib.suppress(ValueError):  # not in the main thread
        # all is done and said: an interrupt could only spoil the ending
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


@contextlib.contextmanager
def _noted_warnings() -> Iterator[None]:
    """Tell of damage in one line, as of everything else beside the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", IntegrityWarning)
        show = warnings.showwarning

        def noted(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, IntegrityWarning):
                note(str(message))
            else:
                show(message, category, *place)

        warnings.showwarning = noted  # type: ignore[assignment]
        yield


def _run(arguments: Sequence[str] | None) -> int:
    _Run.traceback = False
    try:
        code = app(arguments, prog_name="oscillink-store", standalone_mode=False)
        flush()
    except typer.TyperException as error:
        complain(f"{error.format_message()} (see oscillink-store --help)")
        return error.exit_code
    except typer.Abort:
        complain("aborted")
        return 1
    except OscillinkError as error:
        if _Run.traceback:
            raise
        complain(str(error))
        return 1
    except Exception as error:
        # a person at a shell gets one line, whatever failed
        if _Run.traceback:
            raise
        complain(
            f"unexpected {type(error).__name__}: {error} "
            "(oscillink-store --traceback … shows where)"
        )
        return 1
    if code == _INTERRUPTED:
        complain("interrupted")
    return int(code or 0)
