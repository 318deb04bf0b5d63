"""The command line as a process: signals, closed pipes, locales, terminals, permissions."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run

import oscillink_store as osc
from oscillink_store.stdlib_docs import standard_library, stdlib_docs

COMMAND = [sys.executable, "-m", "oscillink_store"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred docstrings as JSON Lines."""
    path = tmp_path_factory.mktemp("library") / "email.jsonl"
    rows = stdlib_docs(standard_library() / "email")
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Path:
    path = tmp_path_factory.mktemp("filled") / "email.osc"
    with osc.connect(path, embedder="hash") as store:
        store.ingest(library)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_leaves_everything_or_nothing(
    tmp_path: Path, library: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    def begin(path: Path) -> subprocess.Popen[bytes]:
        process = start("ingest", path, library, "--json")
        while not path.exists() and process.poll() is None:
            time.sleep(0.001)
        return process

    whole = begin(tmp_path / "whole.osc")
    began = time.monotonic()
    out, _ = whole.communicate()
    seconds = time.monotonic() - began
    rows = json.loads(out)["added"]
    codes = []
    for part in range(4):
        path = tmp_path / f"{part}.osc"
        process = begin(path)
        time.sleep(part / 4 * seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        codes.append(process.returncode)
        if process.returncode == 0:
            assert json.loads(out)["added"] == rows
        else:
            assert (process.returncode, out, err) == (130, b"", b"error: interrupted\n")
        with osc.connect(path, embedder="hash") as store:
            assert store.verify().ok
            assert len(store) == rows if process.returncode == 0 else len(store) in (0, rows)
            assert store.ingest(library).anchors == rows
            assert store.verify().ok
    assert 130 in codes


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_ctrl_c_ends_a_long_query(
    tmp_path: Path, filled: Path, start: Callable[..., subprocess.Popen[bytes]], seconds: float
) -> None:
    begun = tmp_path / "begun.csv"
    process = start(
        "sql",
        filled,
        f"COPY (SELECT 1) TO '{begun}'; "
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
    )
    while not begun.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"error: interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ("sql", "FROM coherent_anchors", "--json"),
        ("sql", "FROM coherent_anchors", "--rows", "1000"),
        ("search", "header", "-k", "300"),
        ("stats",),
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_error(
    filled: Path, start: Callable[..., subprocess.Popen[bytes]], arguments: tuple[str, ...]
) -> None:
    name, *rest = arguments
    process = start(name, filled, *rest)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.parametrize(
    ("locale", "options"),
    [
        ({"LANG": "C"}, ()),
        ({"LC_ALL": "POSIX"}, ("--json",)),
        ({"PYTHONIOENCODING": "latin-1"}, ()),
        ({"PYTHONIOENCODING": "latin-1"}, ("--json",)),
    ],
    ids=["C", "POSIX", "latin-1", "latin-1 --json"],
)
def test_output_is_utf8_in_any_locale(
    tmp_path: Path, locale: dict[str, str], options: tuple[str, ...]
) -> None:
    path = tmp_path / "ö.osc"
    with osc.connect(path, embedder="hash") as store:
        store.ingest([{"id": "ü", "text": "Grüße aus Łódź: λ → ∞"}])
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))
    }
    # the first of them finds its streams as the locale has made them
    script = (
        "import sys\nfrom oscillink_store.cli import main\n"
        "try:\n    main(sys.argv[2:])\nexcept SystemExit:\n    main(['stats', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "ß.osc", "search", path, "Grüße", *options],
        capture_output=True, env=kept | locale,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Grüße aus Łódź: λ → ∞" in done.stdout.decode()
    (problem,) = done.stderr.decode().splitlines()
    assert "ß.osc" in problem


@pytest.mark.parametrize("width", [40, 60, 100])
def test_narrow_terminals(
    filled: Path, cli: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (["search", filled, "encode a header"], ["stats", filled]):
        run = cli(*arguments)
        assert run.code == 0
        lines = run.out.splitlines()
        assert len(lines) > 5
        assert max(map(len, lines)) <= width


def test_progress_bars_stand_on_a_terminal_only(tmp_path: Path, library: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "ingest", str(tmp_path / "new.osc"), str(library), "--json"],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(slave)
    drawn = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    os.close(master)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["added"] > 100
    text = drawn.decode()
    for stage in ("reading", "embedding", "relation knn", "committing"):
        assert stage in text
    piped = subprocess.run(
        [*COMMAND, "verify", str(tmp_path / "new.osc")], capture_output=True, check=True
    )
    assert piped.stderr == b""


def test_an_error_shows_where_it_came_from_on_demand(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--traceback", "stats", str(tmp_path / "x.osc")],
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "NotAStoreError" in done.stderr


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_cannot_be_written(shared_folder: Path, library: Path) -> None:
    with osc.connect(shared_folder / "email.osc", embedder="hash") as store:
        store.ingest(library)
    # The superuser may write everywhere, so the child gives that up, after commands that have
    # imported everything they need.
    script = (
        "import os, sys\n"
        "from oscillink_store.cli import main\n"
        "def run(*arguments):\n"
        "    try:\n        main([*arguments, '--json'])\n"
        "    except SystemExit as end:\n        print(end.code, file=sys.stderr)\n"
        "run('search', 'email.osc', 'header', '--read-only')\n"
        "run('stats', 'email.osc')\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534)\n    os.setuid(65534)\n"
        "run('search', 'email.osc', 'header')\n"
        "run('search', 'email.osc', 'header', '--read-only')\n"
        "run('stats', 'email.osc')\n"
        "run('verify', 'email.osc')\n"
    )
    paths = [shared_folder / "email.osc", *(shared_folder / "email.osc").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=shared_folder,
            capture_output=True,
            encoding="utf-8",
        )
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    one, two, refused, *rest = done.stderr.splitlines()
    assert (one, two) == ("0", "0")
    assert refused.startswith("error: email.osc")
    assert "--read-only" in refused
    assert rest == ["1", "0", "0", "0"]
