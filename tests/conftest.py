"""Fixtures shared by the tests: small stores on real text with real embeddings."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_run import Run
from hypothesis import HealthCheck, settings

import oscillink_store as osc
from oscillink_store.cli import main

settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("default")

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
CACHE = Path(__file__).parents[1] / ".pytest_cache"

# Stores of tests lie in memory where there is room, unless TMPDIR says where: thousands of them
# wait for a disk again and again. ``disk`` is for those that are killed.
if (
    "TMPDIR" not in os.environ
    and os.access(MEMORY, os.W_OK)
    and shutil.disk_usage(MEMORY).free > ROOM
):
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

ROWS = [
    {"id": "collegian", "title": "The Collegian",
     "text": "The Collegian was a student newspaper of Houston Baptist University.", "lang": "en"},
    {"id": "hbu", "title": "Houston Baptist University",
     "text": "The private university in Texas is owned by the Baptist General Convention.",
     "lang": "en"},
    {"id": "convention", "title": "Baptist General Convention",
     "text": "A convention of churches with its seat in Dallas, founded in 1886.", "lang": "en"},
    {"id": "dallas", "title": "Dallas (Texas)",
     "text": "Dallas is a city with tall buildings and a railway station.", "lang": "en"},
    {"id": "zeitung", "title": "Die Zeitung",
     "text": "Eine Zeitung erscheint am Morgen und wird von Studenten gelesen.", "lang": "de"},
    {"id": "cake", "title": "Marble cake",
     "text": "Flour, butter, eggs, sugar and cocoa make a marble cake.", "lang": "en"},
]  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _children_without_pandas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start other processes as on a machine that has what the package requires and no more.

    Arrow imports pandas at its start wherever there is one, a third of the time until a child
    has opened a store.
    """
    folder = tmp_path_factory.mktemp("children")
    (folder / "pandas.py").write_text("raise ModuleNotFoundError(__name__, name=__name__)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on the disk that holds the sources, for files that outlive their writer."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield Path(folder)


@pytest.fixture
def rows() -> list[dict[str, object]]:
    """Six short texts, four of them linked by the titles they mention."""
    return [dict(row) for row in ROWS]


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., osc.Store]]:
    """Open stores under the test's folder; all are closed afterwards."""
    opened: list[osc.Store] = []

    def make(name: str = "store.osc", **options: object) -> osc.Store:
        options.setdefault("embedder", "hash")
        store = osc.connect(tmp_path / name, **options)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store.osc"
    with osc.connect(path, embedder="hash") as store:
        store.ingest(ROWS)
    return path


@pytest.fixture
def store(make_store: Callable[..., osc.Store], tmp_path: Path, _filled: Path) -> osc.Store:
    """A store filled with :func:`rows`, embedded with the hash embedder: a copy of one."""
    shutil.copytree(_filled, tmp_path / "store.osc")
    return make_store()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run a command line in this process."""
    handler = signal.getsignal(signal.SIGINT)

    def run(*arguments: object) -> Run:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        signal.signal(signal.SIGINT, handler)  # or processes would be born deaf to it
        out, err = capsys.readouterr()
        return Run(int(end.value.code or 0), out, err)

    return run
