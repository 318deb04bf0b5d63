"""The tests that LangGraph's SQLite store brings along, run on OscillinkStore.

They are taken from the source distribution and run in a process of their own, where a plugin
puts our classes in the place of ``langgraph.store.sqlite``. What is left out looks into SQL; the
reasons stand below, one for each test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fetched import sdist

VERSION = "3.1.2"

PLUGIN = '''
import sys
from types import ModuleType

from langgraph.store.base import IndexConfig

from oscillink_store.integrations.langgraph import AsyncOscillinkStore, OscillinkStore


def folder(conn_string):
    """The tests name files that are there already, where a store wants a folder."""
    return conn_string if conn_string == ":memory:" else conn_string + ".osc"


class SqliteStore(OscillinkStore):
    @classmethod
    def from_conn_string(cls, conn_string, **options):
        return super().from_conn_string(folder(conn_string), **options)


class AsyncSqliteStore(AsyncOscillinkStore):
    @classmethod
    def from_conn_string(cls, conn_string, **options):
        return super().from_conn_string(folder(conn_string), **options)


# names of the SQL package that the tests import; what would use the last four is left out
names = {
    "SqliteStore": SqliteStore,
    "AsyncSqliteStore": AsyncSqliteStore,
    "SqliteIndexConfig": IndexConfig,
    "BaseSqliteStore": None,
    "NS_MATCH_FUNCTION": None,
    "_escape_glob_literal": None,
    "_namespace_match_pattern": None,
}
for name in ("langgraph.store.sqlite", "langgraph.store.sqlite.base", "langgraph.store.sqlite.aio"):
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(names)
'''

LEFT_OUT = {
    "test_store.py::test_vector_store_initialization":
        "lists the tables in sqlite_master; its twin in test_async_store.py runs",
    "test_store.py::test_nonnull_migrations":
        "reads the SQL statements of SqliteStore.MIGRATIONS",
    "test_store.py::test_escape_glob_literal":
        "calls the helper that escapes texts for SQL's GLOB",
    "test_store.py::test_namespace_match_pattern":
        "calls the helper that makes regular expressions for a function inside SQLite",
    "test_store.py::test_list_namespaces_prefix_uses_indexable_condition":
        "reads the text of the SQL query",
}  # fmt: skip

SUITES = {"test_store.py": 98, "test_async_store.py": 39, "test_ttl.py": 11}
"""How many tests of each file pass, so that none goes missing unseen."""


@pytest.mark.parametrize(
    "names",
    [("test_ttl.py",), ("test_store.py", "test_async_store.py")],  # the first one sleeps
    ids=" ".join,
)
def test_suites_pass(names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for file in ("__init__.py", *SUITES):
        shutil.copy(
            sdist("langgraph-checkpoint-sqlite", VERSION) / "tests" / file, tmp_path / "tests"
        )
    (tmp_path / "langgraph_plugin.py").write_text(PLUGIN)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    left_out = [test for test in LEFT_OUT if test.startswith(names)]
    result = subprocess.run(
        [
            sys.executable, "-m", "pytest", *(f"tests/{name}" for name in names), "-q",
            "-p", "langgraph_plugin", "-p", "no:cacheprovider",
            *(f"--deselect=tests/{test}" for test in left_out),
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=230,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    counts = {
        word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", summary(result.stdout))
    }
    assert counts.pop("deselected", 0) == len(left_out)
    counts.pop("retried", None)
    counts.pop("warnings", None)
    assert counts == {"passed": sum(SUITES[name] for name in names)}


def summary(output: str) -> str:
    """The line that tells the counts."""
    return next(line for line in reversed(output.splitlines()) if " passed" in line).partition(
        " in "
    )[0]
