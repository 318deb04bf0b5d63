"""Tables of other vector stores as sources: ``lancedb://PATH/TABLE``, ``chroma://PATH/NAME``.

LanceDB's tables are read with pylance, Chroma's collections through Chroma itself, which has to
be installed. Columns that play no part become typed metadata; what no metadata column can be (a
struct ``metadata`` as LangChain and LlamaIndex write it, a name that the store needs itself) goes
into the payload, under its own keys.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from oscillink_store.engine.source_arrow import BATCH_ROWS
from oscillink_store.engine.sources import Part, Source, open_source
from oscillink_store.errors import DependencyError, InputError
from oscillink_store.storage.schemas import FIXED_COLUMNS, storable_type
from oscillink_store.storage.tables import open_foreign

__all__ = ["PARTS", "Adopted", "open_adopted"]

PARTS = ("id", "text", "title", "vector", "sequence", "position", "links")
"""The parts that a column of another store's table may play."""

_GUESSES = {
    "id": ("id", "_id", "uuid", "key"),
    "text": ("text", "content", "document", "page_content", "body", "chunk"),
    "title": ("title",),
    "vector": ("vector", "embedding", "embeddings"),
}
_SPREAD = "metadata"
_FORM = re.compile(r"(lancedb|chroma)://(.+)/([^/]+?)(?:\.lance)?/?")


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A table that is open for adoption, in columns by the names of its parts.

    ``columns`` tells which column plays which part, ``beside`` is where its store lies by
    default, ``job`` a name for an ingest job that catches up with it, ``has_vectors`` whether
    it brings embeddings.
    """

    source: Source
    columns: Mapping[str, str]
    beside: Path
    job: str
    has_vectors: bool


def open_adopted(
    url: str, columns: Mapping[str, str] | None = None, *, skip: bool = False
) -> Adopted:
    """Open a table of another store.

    Args:
        url: ``lancedb://PATH/TABLE`` or ``chroma://PATH/COLLECTION``.
        columns: Which column (for Chroma: which key of the metadata) plays which of
            :data:`PARTS`, where the usual names do not tell. Without an id, rows are known by
            what they say, so that a later run finds them.
        skip: Whether a row that cannot be read is left out instead of raising.

    Raises:
        InputError: there is no such table, none of its columns holds the texts, or ``columns``
            names something else than parts.
        DependencyError: Chroma is not installed.
    """
    _check_columns(columns)
    form = _FORM.fullmatch(url) if isinstance(url, str) else None
    if form is None:
        raise InputError(
            f"{url!r} names no table: write lancedb://PATH/TABLE or chroma://PATH/COLLECTION"
        )
    kind, folder, name = form.groups()
    path = Path(folder).expanduser()
    job = "adopt-" + re.sub(r"[^A-Za-z0-9.+=@_-]", "_", name)
    if kind == "chroma":
        chosen = dict(columns or {})
        return Adopted(
            source=open_source(_chroma_rows(path, name, chosen), skip=skip),
            columns=chosen,
            beside=path.parent / f"{name}.osc",
            job=job,
            has_vectors=True,
        )
    table = open_foreign(path / f"{name}.lance")
    chosen = _chosen(table.schema, columns or {}, url)
    arranged = partial(_arranged, columns=chosen, seen={})

    def read(_: object) -> Iterator[pa.RecordBatch]:
        yield from map(arranged, table.batches(BATCH_ROWS))

    source = Source(
        url,
        [Part(url, read, table.count)],
        skip=skip,
        identity=json.dumps([url, table.version, chosen]),
    )
    beside = path / f"{name}.osc"
    return Adopted(
        source=source, columns=chosen, beside=beside, job=job, has_vectors="vector" in chosen
    )


def _check_columns(columns: object) -> None:
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        raise InputError(
            f"columns is a {type(columns).__name__}: pass a dict from parts to columns",
            field="columns",
        )
    for part in columns:
        if part not in PARTS:
            raise InputError(
                f"columns: {part!r} is no part: use one of {', '.join(PARTS)}", field="columns"
            )


def _chosen(schema: pa.Schema, named: Mapping[str, str], url: str) -> dict[str, str]:
    """The column of each part: as named, else by its usual name and type."""
    for part, column in named.items():
        if column not in schema.names:
            raise InputError(
                f"{url} has no column {column!r} for {part}: it has {', '.join(schema.names)}",
                field=column,
            )
    chosen = dict(named)
    for part, names in _GUESSES.items():
        usual = [name for name in names if name in schema.names and name not in chosen.values()]
        if part not in chosen and usual and _fits(part, schema.field(usual[0]).type):
            chosen[part] = usual[0]
    if "vector" not in chosen:
        lists = [f.name for f in schema if pa.types.is_fixed_size_list(f.type)]
        if len(lists) == 1 and _fits("vector", schema.field(lists[0]).type):
            chosen["vector"] = lists[0]
    if "text" not in chosen:
        raise InputError(
            f"{url}: no column holds the texts by its name: name the one among "
            f"{', '.join(schema.names)} that does (columns={{'text': COLUMN}}, or --text COLUMN)",
            field="text",
        )
    return chosen


def _fits(part: str, type_: pa.DataType) -> bool:
    plain = storable_type(type_)
    if plain is None:
        return False
    if part == "vector":
        return bool(pa.types.is_list(plain) and pa.types.is_floating(plain.value_type))
    return bool(pa.types.is_string(plain) or (part == "id" and pa.types.is_integer(plain)))


def _arranged(
    batch: pa.RecordBatch, columns: Mapping[str, str], seen: dict[str, int]
) -> pa.RecordBatch:
    """A batch in the columns that the store reads by default."""
    arranged = {part: batch.column(name) for part, name in columns.items()}
    packed: list[str] = []
    taken = {name.lower() for name in FIXED_COLUMNS}
    for field in batch.schema:
        if field.name in columns.values():
            continue
        if field.name == _SPREAD or not _usable(field, taken):
            packed.append(field.name)
        else:
            arranged[field.name] = batch.column(field.name)
            taken.add(field.name.lower())
    if packed:
        rows = batch.select(packed).to_pylist()
        payloads = [_spread(row) for row in rows]
        arranged["payload"] = pa.array(
            [json.dumps(row, ensure_ascii=False) if row else None for row in payloads], pa.string()
        )
    if "id" not in arranged:
        arranged["id"] = pa.array(_ids(batch, columns, seen), pa.string())
    return pa.RecordBatch.from_arrays(list(arranged.values()), list(arranged))


def _usable(field: pa.Field, taken: set[str]) -> bool:
    """Whether a column can be a metadata column as it is."""
    name = field.name
    return (
        storable_type(field.type) is not None
        and name.lower() not in taken
        and not name.startswith("_")
        and name.strip() != ""
        and not any(character == "`" or ord(character) < 32 for character in name)
    )


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """One payload out of the columns that go there, that of metadata without its own name."""
    given = row.pop(_SPREAD, None)
    inner = _object_of(given) if isinstance(given, str) else given
    whole = {**row, **inner} if isinstance(inner, dict) else {**row, _SPREAD: given}
    return {key: _plain(value) for key, value in whole.items() if value is not None}


def _object_of(text: str) -> Any:
    """What a text tells that is JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _ids(batch: pa.RecordBatch, columns: Mapping[str, str], seen: dict[str, int]) -> list[str]:
    """An id for each row out of all that it says but its vector; equal rows are numbered."""
    said = [name for name in batch.schema.names if name != columns.get("vector")]
    ids = []
    for row in batch.select(said).to_pylist():
        text = json.dumps(_plain(row), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        seen[digest] = count = seen.get(digest, 0) + 1
        ids.append(digest if count == 1 else f"{digest}-{count}")
    return ids


def _plain(value: Any) -> Any:
    """A value of Arrow's as JSON has it; NaN and the infinities are null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _chroma_rows(path: Path, name: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    try:
        chromadb = import_module("chromadb")
    except ImportError as error:
        raise DependencyError(
            "collections of Chroma are read through Chroma: pip install chromadb"
        ) from error
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder: check the path")
    client = chromadb.PersistentClient(str(path))
    try:
        collection = client.get_collection(name)
    except Exception as error:  # of another class in each version
        raise InputError(f"{path} has no collection {name!r}: {error}") from error
    return _chroma_pages(collection, columns)


def _chroma_pages(collection: Any, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    wanted = ["embeddings", "documents", "metadatas"]
    for offset in range(0, collection.count(), BATCH_ROWS):
        page = collection.get(limit=BATCH_ROWS, offset=offset, include=wanted)
        rows = (page["ids"], page["documents"], page["embeddings"], page["metadatas"])
        for key, text, vector, metadata in zip(*rows, strict=True):
            payload = metadata or {}
            row = {"id": key, "text": text or "", "vector": vector, "payload": payload}
            yield row | {part: payload.get(name) for part, name in columns.items()}
