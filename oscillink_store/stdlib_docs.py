"""The docstrings of the running Python's standard library, as rows to ingest.

Thousands of real texts that every machine with Python holds: the demo, the tests and the
benchmarks read them. The sources are parsed, never imported.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Documented", "standard_library", "stdlib_docs"]

# Tests and demos, code for other programs, and modules that are tables rather than texts.
_SKIPPED = frozenset(
    {
        "__hello__", "__phello__", "_bundled", "_vendor", "dist-packages", "encodings",
        "idle_test", "idlelib", "lib-dynload", "lib2to3", "pydoc_data", "site-packages", "test",
        "tests", "turtledemo",
    }
)  # fmt: skip

# Where the pure Python source of a public module carries another name.
_PUBLIC_NAMES = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
}

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Documented(TypedDict):
    """One docstring; ``id`` and ``title`` are the dotted name, ``file`` is below the library."""

    id: str
    title: str
    text: str
    sequence: str
    position: int
    links: list[str]
    module: str
    kind: str
    file: str
    line: int


def standard_library() -> Path:
    """Find the folder that the running Python's standard library was installed to."""
    return Path(sysconfig.get_paths()["stdlib"])


def stdlib_docs(
    root: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Documented]:
    """Read every documented public module, class, function and method below ``root``.

    Args:
        root: A folder of Python sources, by default :func:`standard_library`.
        progress: Called with the number of files done and of all files.

    Returns:
        Rows module by module, the modules in the order of their files. The text is the
        signature, an empty line, and the docstring without its indentation. ``sequence``
        and ``module`` are the module's name and ``position`` the definition's place in it;
        ``links`` lead from a method to its class and from a class to its bases; ``kind`` is
        ``module``, ``class``, ``function`` or ``method``. A name that is defined twice
        counts once, where it is first documented. Files that do not parse are left out.

    """
    root = standard_library() if root is None else root
    rows: dict[str, Documented] = {}
    sources = _sources(root)
    for done, path in enumerate(sources, 1):
        relative = path.relative_to(root)
        module = _module_name(relative.parts)
        tree = None if module is None else _parse(path)
        if module is not None and tree is not None:
            for row in _documented(tree, relative, module):
                rows.setdefault(row["id"], row)
        if progress is not None:
            progress(done, len(sources))
    for row in rows.values():
        row["links"] = [link for link in row["links"] if link in rows and link != row["id"]]
    return list(rows.values())


def _sources(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        # pruned on the way: installed packages may lie below the library
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(path for path in found if path.stem not in _SKIPPED)


def _module_name(parts: tuple[str, ...]) -> str | None:
    names = [*parts[:-1], parts[-1].removesuffix(".py")]
    if names[-1] == "__init__":
        names.pop()
    if not names:
        return None
    names[0] = _PUBLIC_NAMES.get(names[0], names[0])
    public = all(
        name.isidentifier() and not _private(name) for whole in names for name in whole.split(".")
    )
    return ".".join(names) if public else None


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            # an odd escape in somebody else's file is no news for our reader
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None


def _documented(tree: ast.Module, file: Path, module: str) -> Iterator[Documented]:
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imported = _imported(tree, package)
    place = 0
    for name, kind, node in _definitions(tree, module):
        doc = ast.get_docstring(node)
        if not doc:
            continue
        links: list[str] = []
        if kind == "method":
            links.append(name.rpartition(".")[0])
        elif isinstance(node, ast.ClassDef):
            links += _bases(node, module, imported)
        yield {
            "id": name,
            "title": name,
            "text": doc if isinstance(node, ast.Module) else f"{_signature(node)}\n\n{doc}",
            "sequence": module,
            "position": place,
            "links": links,
            "module": module,
            "kind": kind,
            "file": file.as_posix(),
            "line": 1 if isinstance(node, ast.Module) else node.lineno,
        }
        place += 1


def _definitions(
    tree: ast.Module, module: str
) -> Iterator[tuple[str, str, ast.Module | _Definition]]:
    yield module, "module", tree
    yield from _members(tree, module, in_class=False)


def _members(
    parent: ast.AST, prefix: str, *, in_class: bool
) -> Iterator[tuple[str, str, _Definition]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, _Definition):
            if _private(node.name):
                continue
            name = f"{prefix}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield name, "class", node
                yield from _members(node, name, in_class=True)
            else:
                yield name, "method" if in_class else "function", node
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            # what is defined under a condition is defined all the same
            yield from _members(node, prefix, in_class=in_class)


def _private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _signature(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{prefix} {node.name}({ast.unparse(node.args)})"


def _imported(tree: ast.Module, package: str) -> dict[str, str]:
    """Map the names that a module imports at its top to what they stand for."""
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        origin = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*above, origin] if origin else above)
        for alias in node.names:
            found[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return found


def _bases(node: ast.ClassDef, module: str, imported: dict[str, str]) -> Iterator[str]:
    for base in node.bases:
        name = ast.unparse(base)
        first, dot, rest = name.partition(".")
        if first in imported:
            yield f"{imported[first]}{dot}{rest}"
        else:
            yield name if dot else f"{module}.{name}"
