"""A batch of operations: taken apart, read, and handed on to be written."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from langgraph.store.base import (
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    validate_op_namespace,
)

import oscillink_store as osc

from .indexing import Index, Vectors
from .layout import Place, Text, item_of, search_item_of
from .reading import Reader
from .writing import Change, Put, Writer

__all__ = ["Batch", "Batcher"]

_MOST_COPIED = 200_000
"""Characters of the copies of one item's value in its anchors; beyond it there are none.

Items of many texts would else take space by the square of their size. A search by meaning under
a filter looks at such items one by one.
"""


@dataclass(kw_only=True)
class Batch:
    """Operations with what there is to embed, then the embeddings, then what keys lead to."""

    ops: list[Op]
    puts: dict[Place, PutOp] = field(default_factory=dict)
    texts: dict[Place, list[Text]] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    vectors: Vectors = field(default_factory=dict)
    asked: Vectors = field(default_factory=dict)
    found: dict[Place, osc.Record | None] = field(default_factory=dict)

    @property
    def documents(self) -> list[str]:
        """All texts of all items."""
        return [text.text for texts in self.texts.values() for text in texts]


class Batcher:
    """Takes batches through their steps, of which embedding alone has two ways.

    ``refreshes`` says whether the reads that ask for it start the time of items anew.
    """

    def __init__(
        self,
        store: osc.Store,
        *,
        index: Index | None,
        reader: Reader,
        writer: Writer,
        refreshes: bool,
    ) -> None:
        self._store = store
        self._index = index
        self._reader = reader
        self._writer = writer
        self._refreshes = refreshes
        self.last_receipt: osc.Receipt | None = None

    def prepare(self, ops: Iterable[Op]) -> Batch:
        """Check all operations and find what there is to embed.

        Raises:
            InvalidNamespaceError: a label cannot be used; nothing of the batch is done then.
            ValueError: a limit or an offset is negative.
        """
        batch = Batch(ops=list(ops))
        for op in batch.ops:
            validate_op_namespace(op)
            if isinstance(op, SearchOp | ListNamespacesOp) and min(op.limit, op.offset) < 0:
                raise ValueError(
                    f"limit is {op.limit} and offset {op.offset}: neither can be negative"
                )
            if isinstance(op, PutOp):
                place = _place(op)
                batch.puts.pop(place, None)  # the last word counts, and stands last
                batch.puts[place] = op
            elif isinstance(op, SearchOp) and self._by_meaning(op):
                batch.queries.append(op.query or "")
        if self._index is not None:
            for place, op in batch.puts.items():
                if op.value is not None:
                    batch.texts[place] = self._index.texts(op.value, op.index)
        return batch

    def embed(self, batch: Batch) -> None:
        """Embed what there is to embed."""
        if self._index is not None:
            batch.vectors, batch.asked = self._index.embed(batch.documents, batch.queries)

    async def aembed(self, batch: Batch) -> None:
        """Embed what there is to embed, without holding up the event loop."""
        if self._index is not None:
            batch.vectors, batch.asked = await self._index.aembed(batch.documents, batch.queries)

    def run(self, batch: Batch) -> tuple[list[Result], Future[None] | None]:
        """Read, then hand on what is to be written; with what tells that it is on the disk."""
        change = Change()
        results = self._read_all(batch, change.touched)
        for place, op in batch.puts.items():
            change.items[place] = None if op.value is None else self._put(place, op, batch)
        return results, self._writer.submit(change) if change else None

    def _by_meaning(self, op: SearchOp) -> bool:
        return self._index is not None and bool(op.query and op.query.strip())

    def _read_all(self, batch: Batch, touched: set[Place]) -> list[Result]:
        gets = any(isinstance(op, GetOp) for op in batch.ops)
        others = sum(not isinstance(op, GetOp | PutOp) for op in batch.ops)
        if gets + others > 1 or batch.queries:  # what takes several looks must see one state
            with self._store.snapshot() as snapshot:
                return self._read_from(replace(self._reader, view=snapshot), batch, touched)
        return self._read_from(self._reader, batch, touched)

    def _read_from(self, reader: Reader, batch: Batch, touched: set[Place]) -> list[Result]:
        asked = [_place(op) for op in batch.ops if isinstance(op, GetOp)]
        batch.found = dict(zip(asked, reader.find(asked), strict=True)) if asked else {}
        return [self._read(op, reader, batch, touched) for op in batch.ops]

    def _read(self, op: Op, reader: Reader, batch: Batch, touched: set[Place]) -> Result:
        records: list[osc.Record]
        result: Result
        if isinstance(op, GetOp):
            record = batch.found[_place(op)]
            records = [] if record is None else [record]
            result = None if record is None else item_of(record)
        elif isinstance(op, SearchOp) and self._by_meaning(op):
            query = op.query or ""
            ranked, self.last_receipt = reader.rank(op, batch.asked.get(query))
            records = [record for record, _ in ranked]
            result = [search_item_of(record, score) for record, score in ranked]
        elif isinstance(op, SearchOp):
            records = reader.select(op)
            result = [search_item_of(record) for record in records]
        elif isinstance(op, ListNamespacesOp):
            return reader.namespaces(op)
        elif isinstance(op, PutOp):
            return None
        else:
            raise TypeError(f"unknown operation: {op!r:.80}")
        if self._refreshes and op.refresh_ttl:
            touched.update(
                (record.namespace[1:], record.key) for record in records if record.ttl is not None
            )
        return result

    def _put(self, place: Place, op: PutOp, batch: Batch) -> Put:
        texts = batch.texts.get(place, [])
        if self._index is not None:
            texts = self._index.with_vectors(texts, batch.vectors)
        value = dict(op.value or {})
        copied = len(texts) * len(str(value)) if len(texts) > 1 else 0
        return Put(
            value=value,
            texts=texts,
            ttl=None if op.ttl is None else op.ttl * 60,
            filterable=copied <= _MOST_COPIED,
        )


def _place(op: GetOp | PutOp) -> Place:
    return tuple(op.namespace), op.key
