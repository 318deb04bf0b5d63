"""Rows of any source as rows of the anchors table: validated, typed, digested.

What a source may bring, by the names in :class:`~oscillink_store.model.Fields`:

======== ============================================= ===================================
part     accepted                                      stored as
======== ============================================= ===================================
id       text or whole numbers, unique, not blank      ``string``
text     text; not blank where it is to be embedded    ``string``
title    text or whole numbers                         ``string``; blank is null
vector   lists of numbers of one length, all rows or   D float32 with Euclidean norm 1
         none; JSON arrays as text
sequence text or whole numbers; several columns        ``string``; blank is null; several
                                                       are joined as a JSON array
position numbers; dates and timestamps (in seconds)    ``double``
links    lists of ids; JSON arrays as text             ``list<string>``; empty is null
gate     numbers in [0, 1]                             ``float``; null until it is held
                                                       against the store: the gate that the
                                                       anchor has, 1 when it is new
payload  JSON objects: dicts, structs or their text    ``string``, JSON
======== ============================================= ===================================

Every other column is metadata and keeps its name and type in its plain form
(:func:`~oscillink_store.storage.schemas.storable_type`). The columns named as sequence and
position stay as metadata too, unless their names are fixed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine import row_columns
from oscillink_store.engine.key_set import Keys, KeySet
from oscillink_store.engine.payloads import payloads
from oscillink_store.engine.row_digests import content_digests
from oscillink_store.engine.row_vectors import unit_vectors
from oscillink_store.engine.sources import Source
from oscillink_store.errors import InputError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.model import Fields
from oscillink_store.storage.schemas import (
    FIXED_COLUMNS,
    anchors_schema,
    cast_exactly,
    check_metadata_names,
    conform,
    first_failing,
    merge_metadata,
)

__all__ = ["Normalizer", "columns_of", "read_rows", "refused"]


class Normalizer:
    """Normalizes the batches of one ingest, remembering what must agree between them.

    Nothing is remembered of a batch that is refused, so its good rows may be tried again.

    Args:
        fields: Which columns play which part.
        dimension: The numbers per vector that the store holds, or None to take those of the
            first vector.
        needs_vector: Whether rows without vectors are refused, as nothing could embed them.
        known: The fields of a store that has anchors. Columns that only ``fields`` names must
            stand in some row; those that it named before may be missing, which means null.
        metadata: The metadata columns of the store.
    """

    def __init__(
        self,
        fields: Fields,
        *,
        dimension: int | None = None,
        needs_vector: bool = False,
        known: Fields | None = None,
        metadata: pa.Schema | None = None,
    ) -> None:
        self._fields = fields
        self._dimension = dimension
        self._needs_vector = needs_vector
        self._has_vectors: bool | None = None
        self._seen = KeySet()
        self._metadata = pa.schema([]) if metadata is None else metadata
        self._awaited = _explicit_columns(fields)
        self._declared = dict.fromkeys(fields.facets, "a facet")
        if fields.shard is not None and fields.shard != "sequence":
            self._declared[fields.shard] = "the shard"
        if known is not None:
            for name, part in _explicit_columns(known).items():
                if self._awaited.get(name) == part:
                    del self._awaited[name]
            for column in (*known.facets, known.shard or ""):
                self._declared.pop(column, None)

    @property
    def dimension(self) -> int | None:
        """The numbers per vector, as given or found, or None if no vector was seen."""
        return self._dimension

    @property
    def metadata(self) -> pa.Schema:
        """The metadata columns of the store and of all batches so far, in common types."""
        return self._metadata

    @property
    def seen(self) -> KeySet:
        """The keys of all ids so far; whoever goes on with an ingest adds those before."""
        return self._seen

    def normalize(
        self,
        batch: pa.RecordBatch,
        *,
        source: str = "the given rows",
        places: Sequence[int] | None = None,
    ) -> pa.Table:
        """One batch in the columns of :func:`anchors_schema`.

        The table has no ``vector`` column if the source brings no vectors, and nulls among the
        gates where it brings none, which stand for what the store has. Metadata types
        are those of this batch; :meth:`finish` tells the ones that fit all batches.

        Args:
            batch: The rows.
            source: Where they come from, for messages.
            places: The 0-based place of each row there; by default they count from 0.

        Raises:
            InputError: anything that cannot be stored, with field, row and remedy.
        """
        columns = columns_of(batch, source)
        if not batch.num_rows:
            return anchors_schema(None).empty_table()
        rows = range(batch.num_rows) if places is None else places
        refuse = partial(refused, source, rows)
        for name, column in columns.items():
            row_columns.check_encoding(column, partial(refuse, name))
        metadata = self._metadata_of(columns, refuse)
        merged = self._merged(metadata, source, rows, refuse)
        parts = self._parts(columns, source, refuse)
        keys = self._fresh_keys(parts["id"], partial(refuse, self._fields.id))
        vectors = self._vectors(columns, source, refuse)
        dimension = None
        if vectors is not None:
            parts["vector"] = vectors
            dimension = self._dimension = vectors.type.list_size
        self._has_vectors = vectors is not None
        self._metadata = merged
        self._seen.add(keys)
        schema = anchors_schema(dimension, metadata.schema)
        parts.update(zip(metadata.schema.names, metadata.columns, strict=True))
        plain = pa.table({name: parts[name] for name in schema.names if name != "digest"})
        parts["digest"] = content_digests(plain)
        for name in columns:
            self._awaited.pop(name, None)
        return pa.Table.from_arrays([parts[name] for name in schema.names], schema=schema)

    def finish(self) -> pa.Schema:
        """The metadata schema of all batches together.

        Raises:
            InputError: a column that was named explicitly stands in no row.
        """
        self.require_columns(())
        return self._metadata

    def require_columns(self, names: Collection[str], rows: str = "no row") -> None:
        """Refuse when a column that was named explicitly is neither known yet nor among these.

        Raises:
            InputError: it is missing; ``rows`` says from where.
        """
        for name, part in self._awaited.items():
            if name not in names:
                raise InputError(
                    f"{rows} has a column {name!r}, which Fields names as {part}: correct the "
                    "name or add the column",
                    field=name,
                )
        for name, part in self._declared.items():
            known = name in self._metadata.names or (name in names and name not in FIXED_COLUMNS)
            if not known:
                raise InputError(
                    f"{rows} has a metadata column {name!r}, which Fields names as {part}: "
                    "correct the name or add the column",
                    field=name,
                )

    def _metadata_of(
        self,
        columns: dict[str, pa.Array],
        refuse: Callable[[str, int | None, str], InputError],
    ) -> pa.RecordBatch:
        fields = self._fields
        parts = {
            fields.id, fields.text, fields.title, fields.vector, fields.links, fields.gate,
            fields.payload,
        }  # fmt: skip
        ordering = {*fields.sequence_columns, fields.position}
        kept = {
            name: row_columns.metadata_values(column, partial(refuse, name))
            for name, column in columns.items()
            if (name not in parts and name not in ordering)
            or (name in ordering and name not in FIXED_COLUMNS)
        }
        metadata = pa.RecordBatch.from_arrays(list(kept.values()), list(kept))
        check_metadata_names(metadata.schema.names)
        return metadata

    def _merged(
        self,
        metadata: pa.RecordBatch,
        source: str,
        places: Sequence[int],
        refuse: Callable[[str, int | None, str], InputError],
    ) -> pa.Schema:
        """The metadata columns with those of a batch."""
        try:
            merged = merge_metadata(self._metadata, metadata.schema)
        except InputError as error:
            raise _mismatch(error, metadata, source, places) from None
        for name, column in zip(metadata.schema.names, metadata.columns, strict=True):
            type_ = merged.field(name).type
            try:
                cast_exactly(column, type_)
            except pa.ArrowException:
                row = first_failing(column, partial(cast_exactly, type_=type_))
                raise refuse(
                    name,
                    row,
                    f"holds {column[row].as_py()!r}, which {type_}, the column's type, cannot "
                    "hold exactly: convert it, or give the column another name",
                ) from None
        return merged

    def _parts(
        self,
        columns: dict[str, pa.Array],
        source: str,
        refuse: Callable[[str, int | None, str], InputError],
    ) -> dict[str, pa.Array]:
        fields = self._fields
        for name, part in ((fields.id, "id"), (fields.text, "text")):
            if name not in columns:
                raise InputError(
                    f"{source} has no column {name!r} among {', '.join(columns)}: add it, or "
                    f"name the one to use with Fields({part}=...)",
                    field=name,
                )

        def part_of(name: str, normalized: Callable[..., pa.Array]) -> pa.Array:
            column = columns[name] if name in columns else pa.nulls(rows)
            return normalized(column, partial(refuse, name))

        rows = len(columns[fields.id])
        ids = part_of(fields.id, row_columns.identifiers)
        title = part_of(fields.title, row_columns.optional_texts)
        blank = self._brings_vectors(columns)
        text = part_of(fields.text, partial(row_columns.required_texts, blank=blank))
        return {
            "id": ids,
            "title": title,
            "text": text,
            "sequence": row_columns.sequences(
                [part_of(name, row_columns.optional_texts) for name in fields.sequence_columns]
            ),
            "position": part_of(fields.position, row_columns.positions),
            "links": part_of(fields.links, row_columns.link_lists),
            "gate": part_of(fields.gate, row_columns.gates),
            "payload": part_of(fields.payload, payloads),
            "fulltext": full_text(title, text),
        }

    def _fresh_keys(self, ids: pa.Array, refuse: Callable[[int | None, str], InputError]) -> Keys:
        """The keys of ids of which none was seen before."""
        values = ids.to_pylist()
        keys = keys_of(values)
        order = np.argsort(keys, kind="stable")
        twice = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        repeated = np.concatenate([np.flatnonzero(self._seen.holds(keys)), order[twice + 1]])
        if len(repeated):
            row = int(repeated.min())
            raise refuse(
                row, f"repeats {values[row]!r:.80} of an earlier row: give every row its own id"
            )
        return keys

    def _brings_vectors(self, columns: dict[str, pa.Array]) -> bool:
        column = columns.get(self._fields.vector)
        return column is not None and not pa.types.is_null(column.type)

    def _vectors(
        self,
        columns: dict[str, pa.Array],
        source: str,
        refuse: Callable[[str, int | None, str], InputError],
    ) -> pa.Array | None:
        name = self._fields.vector
        column = columns[name] if self._brings_vectors(columns) else None
        if column is None and self._needs_vector:
            raise InputError(
                f"{source} has no vectors in a column {name!r}, and the store has no embedder: "
                "add them, name their column with Fields(vector=...), or open the store with "
                "an embedder",
                field=name,
            )
        if self._has_vectors is not None and self._has_vectors != (column is not None):
            problem = "has no vector" if column is None else "has a vector but earlier rows none"
            raise refuse(name, 0, f"{problem}: give one for every row of a source, or for none")
        if column is None:
            return None
        vectors = unit_vectors(column, self._dimension, partial(refuse, name))
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def full_text(title: pa.Array, text: pa.Array) -> pa.Array:
    """What is embedded: the title, where there is one, and the text."""
    return pc.binary_join_element_wise(title, text, "\n", null_handling="skip")


def read_rows(
    source: Source, normalizer: Normalizer, progress: Callable[[int], Any] = lambda _: None
) -> pa.Table:
    """All rows of a source, normalized, in one table with common metadata types.

    ``progress`` is called with the number of rows read so far, after each batch.

    Raises:
        InputError: the source cannot be read or a row cannot be stored.
    """
    tables = []
    rows = 0
    for batch in source:
        table = normalizer.normalize(batch.data, source=batch.source, places=batch.places)
        tables.append(table)
        rows += batch.data.num_rows
        progress(rows)
    if not tables:
        return anchors_schema(normalizer.dimension).empty_table()
    metadata = normalizer.finish()
    dimension = normalizer.dimension if "vector" in tables[0].schema.names else None
    schema = anchors_schema(dimension, metadata)
    return pa.concat_tables([conform(table, schema) for table in tables])


def _explicit_columns(fields: Fields) -> dict[str, str]:
    """The optional columns that were named, with the parts they play."""
    defaults = Fields()
    awaited = {}
    for part in ("title", "vector", "position", "links", "gate", "payload"):
        name = getattr(fields, part)
        if name != getattr(defaults, part):
            awaited[name] = part
    if fields.sequence_columns != defaults.sequence_columns:
        awaited.update(dict.fromkeys(fields.sequence_columns, "sequence"))
    return awaited


def columns_of(batch: pa.RecordBatch, source: str) -> dict[str, pa.Array]:
    """The columns of a batch by their names.

    Raises:
        InputError: two have one name.
    """
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if len(columns) < batch.num_columns:
        names = batch.schema.names
        twice = min(name for name in names if names.count(name) > 1)
        raise InputError(f"{source} has two columns {twice!r}: rename one", field=twice)
    return columns


def refused(
    source: str, places: Sequence[int], field: str, row: int | None, problem: str
) -> InputError:
    """The error about a field, at the place in its source that a row of a batch has."""
    place = None if row is None else int(places[row])
    where = source if place is None else f"{source}, row {place}"
    return InputError(f"{where}: {field!r} {problem}", field=field, row=place)


def _mismatch(
    error: InputError, metadata: pa.RecordBatch, source: str, places: Sequence[int]
) -> InputError:
    """Add to an error about a batch's types the row in which it shows first."""
    first = row_columns.first_row(metadata.column(error.field).is_valid()) if error.field else None
    row = int(places[first or 0])
    return InputError(f"{source}, row {row}: {error}", field=error.field, row=row)
