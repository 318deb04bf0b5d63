"""The house has floors: a module imports from its own floor or from below, never from above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import oscillink_store as osc

ROOT = Path(__file__).parent.parent

# Each part of the package and the parts that it may import, besides itself.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "filters": {"errors"},
    "records": {"errors"},
    "hypertext": set(),
    "snippet": set(),
    # the types of a result's receipt and explanation
    "model": {"errors", "hypertext", "snippet", "receipts", "explanation"},
    "explanation": {"errors", "hypertext"},
    "reports": {"receipts"},  # the type of a report's receipt
    "kernels": {"errors", "model"},
    "lattice": {"errors", "model", "kernels"},
    "receipts": {"errors", "model"},
    "storage": {"errors", "model", "receipts", "records"},
    "embed": {"errors", "model"},
    "migrations": {"errors", "storage"},
    "engine": {
        "errors", "filters", "model", "records", "kernels", "lattice", "receipts", "storage",
        "embed", "explanation", "migrations", "reports", "snippet",
    },
    # several stores, each searched by the engine's own stages
    "many": {
        "errors", "filters", "model", "lattice", "receipts", "storage", "embed", "engine",
        "explanation", "reports",
    },
    "cluster": {
        "errors", "filters", "model", "kernels", "lattice", "receipts", "storage", "embed",
        "engine", "reports", "many",
    },
}  # fmt: skip
# Faces may use each other: the command line runs the demo and attaches DuckDB.
FACES = set(BELOW) | {"cli", "demo", "sql", "sql_binding", "stdlib_docs"}
# Integrations are told apart from users by nothing: public names, errors and filters.
PUBLIC = {*osc.__all__, "errors", "filters"}


def _modules() -> list[tuple[str, Path]]:
    found = [
        (path.relative_to(ROOT / "oscillink_store").parts[0].removesuffix(".py"), path)
        for path in sorted((ROOT / "oscillink_store").rglob("*.py"))
    ]
    for part in ("integrations", "migrations", "sql"):
        found += [(part, path) for path in sorted((ROOT / part).rglob("*.py"))]
    return found


def _imports(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # within one integration, or the list of migrations
                homes = (ROOT / "integrations", ROOT / "migrations")
                assert any(map(path.is_relative_to, homes)), f"{path}: relative import"
                continue
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "oscillink_store" and len(pieces) > 1:
                parts.add(pieces[1])
    return parts


@pytest.mark.parametrize(
    ("part", "path"), _modules(), ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_no_import_goes_up(part: str, path: Path) -> None:
    if part == "__init__":
        return
    allowed = PUBLIC if part == "integrations" else BELOW.get(part, FACES | {part}) | {part}
    assert _imports(path) <= allowed | {"__version__"}


def test_the_package_has_no_cycles() -> None:
    graph = {part: below - {part} for part, below in BELOW.items()}
    graph["model"] -= {"receipts", "explanation"}  # needed for type annotations alone
    done: list[str] = []
    while graph:
        ready = sorted(part for part, below in graph.items() if below <= set(done))
        assert ready, f"cycle among {sorted(graph)}"
        done += ready
        for part in ready:
            del graph[part]


def test_the_top_level_is_fixed() -> None:
    expected = {
        "oscillink_store", "integrations", "sql", "migrations", "tests", "benchmarks", "examples",
    }  # fmt: skip
    assert all((ROOT / name).is_dir() for name in expected)
