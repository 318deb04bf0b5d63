"""The reader of the standard library's docstrings: real sources, and a tree made for corners."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from oscillink_store.stdlib_docs import Documented, standard_library, stdlib_docs


def _tree(folder: Path, files: dict[str, str]) -> list[Documented]:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return stdlib_docs(folder)


@pytest.fixture(scope="module")
def json_rows() -> list[Documented]:
    return [row | {"id": f"json.{row['id']}"} for row in stdlib_docs(standard_library() / "json")]


def test_real_docstrings_are_what_inspect_sees(json_rows: list[Documented]) -> None:
    rows = {row["id"]: row for row in json_rows}
    for name in ("json.decoder.JSONDecoder.raw_decode", "json.encoder.JSONEncoder.default"):
        module, cls, method = name.removeprefix("json.").split(".")
        function = getattr(getattr(getattr(json, module), cls), method)
        row = rows[name]
        assert row["text"].endswith(f"\n\n{inspect.getdoc(function)}")
        assert row["text"].startswith(f"def {method}(self")
        _, start = inspect.getsourcelines(function)
        assert row["line"] == start
        assert row["kind"] == "method"


def test_positions_count_up_inside_each_module(json_rows: list[Documented]) -> None:
    places: dict[str, list[int]] = {}
    for row in json_rows:
        places.setdefault(row["sequence"], []).append(row["position"])
    assert len(places) > 2
    assert all(place == list(range(len(place))) for place in places.values())


def test_nothing_is_imported() -> None:
    code = (
        "import sys\n"
        "from oscillink_store.stdlib_docs import stdlib_docs, standard_library\n"
        "rows = stdlib_docs(standard_library() / 'xmlrpc')\n"
        "print(len(rows) > 30, [name for name in sys.modules if name.startswith('xmlrpc')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_names_kinds_and_signatures(tmp_path: Path) -> None:
    rows = _tree(
        tmp_path,
        {
            "pack/__init__.py": '"""The package."""\n',
            "pack/thing.py": (
                '"""The module.\n\n    With a second paragraph.\n    """\n'
                "class Base(dict, metaclass=type):\n"
                '    """A base."""\n'
                "    class Inner:\n"
                '        """Inside."""\n'
                "    def act(self, x, *, y=1):\n"
                '        """Acts."""\n'
                "        def hidden():\n"
                '            """Nobody reaches this."""\n'
                "async def wait(*events: int):\n"
                '    """Waits."""\n'
                "def bare():\n    pass\n"
            ),
        },
    )
    found = {row["id"]: (row["kind"], row["text"], row["line"]) for row in rows}
    assert found == {
        "pack": ("module", "The package.", 1),
        "pack.thing": ("module", "The module.\n\nWith a second paragraph.", 1),
        "pack.thing.Base": ("class", "class Base(dict)\n\nA base.", 5),
        "pack.thing.Base.Inner": ("class", "class Inner\n\nInside.", 7),
        "pack.thing.Base.act": ("method", "def act(self, x, *, y=1)\n\nActs.", 9),
        "pack.thing.wait": ("function", "async def wait(*events: int)\n\nWaits.", 13),
    }
    assert all(row["title"] == row["id"] for row in rows)
    assert {row["file"] for row in rows} == {"pack/__init__.py", "pack/thing.py"}


def test_links_lead_to_classes_and_bases(tmp_path: Path) -> None:
    rows = _tree(
        tmp_path,
        {
            "pack/__init__.py": "from .core import Core\n"
            "class Front(Core):\n"
            '    """A base from a module of the package."""\n',
            "pack/core.py": "class Core(object):\n"
            '    """No documented base."""\n'
            "    class Part:\n"
            "        def act(self):\n"
            '            """Its class has no docstring."""\n'
            "    def act(self):\n"
            '        """Acts."""\n',
            "pack/deep/__init__.py": "",
            "pack/deep/leaf.py": "import pack.core\n"
            "from .. import core as c\n"
            "from ..core import Core as Base\n"
            "class One(pack.core.Core):\n"
            '    """By a dotted name."""\n'
            "class Two(c.Core):\n"
            '    """By a module of another name."""\n'
            "class Three(Base, One):\n"
            '    """By another name, and from here."""\n'
            "class Base(Base):\n"
            '    """Not itself."""\n',
        },
    )
    assert {row["id"]: row["links"] for row in rows} == {
        "pack.Front": ["pack.core.Core"],
        "pack.core.Core": [],
        "pack.core.Core.Part.act": [],
        "pack.core.Core.act": ["pack.core.Core"],
        "pack.deep.leaf.One": ["pack.core.Core"],
        "pack.deep.leaf.Two": ["pack.core.Core"],
        "pack.deep.leaf.Three": ["pack.core.Core", "pack.deep.leaf.One"],
        "pack.deep.leaf.Base": ["pack.core.Core"],
    }


def test_private_names_are_left_out_and_public_aliases_used(tmp_path: Path) -> None:
    rows = _tree(
        tmp_path,
        {
            "_pydecimal.py": '"""Decimals."""\n'
            "class Decimal:\n"
            "    def _secret(self):\n"
            '        """Private."""\n'
            "    def __add__(self, other):\n"
            '        """Adds."""\n',
            "_private.py": '"""Not for users."""\n',
            "not-a-module.py": '"""A script."""\n',
        },
    )
    assert [row["id"] for row in rows] == ["decimal", "decimal.Decimal.__add__"]
    assert rows[0]["file"] == "_pydecimal.py"


def test_a_name_defined_twice_counts_once(tmp_path: Path) -> None:
    rows = _tree(
        tmp_path,
        {
            "m.py": "try:\n    import fast\n"
            "except ImportError:\n"
            "    def run():\n"
            '        """Slow."""\n'
            "else:\n"
            "    def run():\n"
            '        """Fast."""\n'
            "if True:\n"
            "    def late():\n"
            '        """Late."""\n'
        },
    )
    assert [row["id"] for row in rows] == ["m.run", "m.late"]
    assert rows[0]["text"].endswith("Slow.")


def test_tests_packages_and_broken_files_are_left_out(tmp_path: Path) -> None:
    rows = _tree(
        tmp_path,
        {
            "good.py": '"""Good."""\n',
            "broken.py": "def (:\n",
            "zero.py": '"""Nul."""\0\n',
            "odd.py": '"""An odd \\escape."""\n',
            "test/deep.py": '"""A test."""\n',
            "__hello__.py": '"""Frozen for a test."""\n',
            "site-packages/pack/__init__.py": '"""Installed."""\n',
            "good_data.txt": '"""No Python."""\n',
        },
    )
    assert [row["id"] for row in rows] == ["good", "odd"]


def test_progress_counts_files(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.py": "", "b.py": "def (:\n", "_c.py": "", "test/d.py": ""})
    calls: list[tuple[int, int]] = []
    stdlib_docs(tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_without_sources_gives_nothing(tmp_path: Path) -> None:
    assert stdlib_docs(tmp_path) == []
    assert stdlib_docs(tmp_path / "missing") == []
