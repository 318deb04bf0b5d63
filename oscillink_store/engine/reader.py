"""Everything that only reads: the live generation's readers and those of pinned ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine.arguments import checked_ids, checked_label
from oscillink_store.engine.ask import build_query
from oscillink_store.engine.margins import Margins
from oscillink_store.engine.predicate import predicate
from oscillink_store.engine.record_reader import RecordReader
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import ClosedError, IntegrityError, QueryError
from oscillink_store.filters import Filter
from oscillink_store.model import Detail, Parameters, Ranking, SearchResult
from oscillink_store.receipts.receipt import Payload
from oscillink_store.storage.schemas import RESERVED_COLUMNS, anchors_schema
from oscillink_store.storage.wal import Ledger

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.engine.chain import ChainResult

__all__ = ["Reader"]

_ATTEMPTS = 5

Answer = TypeVar("Answer")


class Reader(RecordReader):
    """Searches and reads one generation after another, as :meth:`current` gives them."""

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        executor: Executor,
        parameters: Parameters,
        *,
        detail: Detail,
        payload: Payload,
        margins: Margins,
    ) -> None:
        self.path = path
        self.margins = margins
        self.parameters = parameters
        self.detail = detail
        self.payload = payload
        self.ledger = ledger
        self.executor = executor
        self._closed = False

    @abstractmethod
    def current(self) -> Snapshot:
        """The generation to read.

        Raises:
            ClosedError: it has been closed.
        """

    @abstractmethod
    def embedder_for(self, snapshot: Snapshot) -> Embedder | None:
        """The embedder that goes with a generation."""

    def __len__(self) -> int:
        return len(self.current())

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def generation(self) -> int:
        """The number of the generation that is read."""
        return self.current().generation

    @property
    def dimension(self) -> int | None:
        """D of the embeddings; None in a store without anchors."""
        return self.current().manifest.dimension

    @property
    def has_embedder(self) -> bool:
        """Whether texts can be turned into vectors."""
        return self.embedder_for(self.current()) is not None

    def search(
        self,
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        where: str | Filter | None = None,
        ranking: Ranking | None = None,
        label: str | None = None,
        parameters: Parameters | None = None,
        detail: Detail | None = None,
        route: bool | None = None,
    ) -> SearchResult:
        """The ranked coherent set for a question, with its receipt.

        Args:
            text: The question. With an embedder it is searched by meaning and by words;
                without one, and without ``vector``, by words alone.
            vector: The question's embedding (D,); any length but zero, it is normalized.
            k: How many hits at most.
            where: A SQL predicate over the metadata, or a filter of
                :mod:`oscillink_store.filters`; anchors that fail it neither rank nor carry
                evidence.
            ranking: ``"lattice"``, or without the lattice ``"hybrid"`` (by the evidence),
                ``"dense"`` (by cosine), ``"text"`` (by BM25) or ``"mmr"`` (maximal marginal
                relevance among the most similar); unless told otherwise what ``parameters`` say.
            label: A note of yours, kept in the receipt.
            parameters: Ranking constants for this search, in place of the store's.
            detail: ``"full"`` or ``"light"``: how much the receipt says, when not as the store
                was opened.
            route: Whether to look for similar vectors in the shards alone that the summary
                nodes lead to, and what the lattice connects with these, instead of in all;
                unless told otherwise where shards keep together what is
                connected, and there is no filter.

        Raises:
            QueryError: an argument cannot be used.
            ClosedError: the store has been closed.
        """
        from oscillink_store.engine.search import answer  # compiled kernels, on first use

        constants = parameters or self.parameters
        if ranking is not None and isinstance(constants, Parameters):
            constants = _ranked(constants, str(ranking))

        def run(snapshot: Snapshot) -> SearchResult:
            query = build_query(
                snapshot, self.embedder_for(snapshot), text, vector, k=k, where=where,
                label=label, parameters=constants, detail=detail or self.detail,
                payload=self.payload, route=route,
            )  # fmt: skip
            return answer(snapshot, query, self.ledger, self.margins, self.executor)

        return self._answered(run)

    def rerank(
        self,
        ids: str | Sequence[str],
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        label: str | None = None,
    ) -> SearchResult:
        """Rank exactly the anchors named by ``ids``; the lattice is theirs alone.

        Raises:
            MissingError: an id is not in the store.
            QueryError: an argument cannot be used.
        """
        from oscillink_store.engine.search import answer  # compiled kernels, on first use

        wanted = checked_ids(ids)

        def run(snapshot: Snapshot) -> SearchResult:
            query = build_query(
                snapshot, self.embedder_for(snapshot), text, vector, k=k, where=None,
                label=label, parameters=self.parameters, detail=self.detail, payload=self.payload,
                only=np.unique(snapshot.slots_of_ids(wanted)),
            )  # fmt: skip
            return answer(snapshot, query, self.ledger, self.margins, self.executor)

        return self._answered(run)

    def chain_receipt(
        self,
        ids: Sequence[str],
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        label: str | None = None,
    ) -> ChainResult:
        """Judge whether a path of anchors holds together, and record the verdict.

        Args:
            ids: The anchors in the path's order, at least two; one may come again.
            text: A question to judge the path under; it needs an embedder.
            vector: The question's embedding (D,).
            label: A note of yours, kept in the receipt.

        Raises:
            MissingError: an id is not in the store.
            QueryError: an argument cannot be used.
        """
        from oscillink_store.engine.chain import judge  # compiled kernels, on first use

        path = checked_ids(ids)
        checked_label(label)

        def run(snapshot: Snapshot) -> ChainResult:
            query = None
            if text is not None or vector is not None:
                query = build_query(
                    snapshot, self.embedder_for(snapshot), text, vector, k=len(path) or 1,
                    where=None, label=label, parameters=self.parameters, detail=self.detail,
                    payload=self.payload,
                )  # fmt: skip
                if query.vector is None:
                    raise QueryError(
                        "a chain is judged under a question's vector: pass one, or open the "
                        "store with an embedder"
                    )
            return judge(snapshot, path, query, self.parameters, self.ledger, label)

        return self._answered(run)

    def _answered(self, run: Callable[[Snapshot], Answer]) -> Answer:
        for attempt in range(_ATTEMPTS):
            snapshot = self.current()
            try:
                return run(snapshot)
            except IntegrityError:
                # a writer may have taken away files that were not open yet
                if attempt == _ATTEMPTS - 1 or self.current() is snapshot:
                    raise
            except RuntimeError as error:  # the executor refuses once another thread closed it
                if self._closed:
                    raise ClosedError(
                        f"{self.path}: the store is closed: connect to it again"
                    ) from error
                raise
        raise AssertionError("unreachable")

    def get(self, ids: str | Sequence[str]) -> list[dict[str, Any]]:
        """Anchors by id, in the order asked for, with vectors, payloads as dicts.

        Raises:
            MissingError: an id is not in the store.
            QueryError: an id is no text.
        """
        snapshot = self.current()
        return snapshot.anchor_rows(snapshot.slots_of_ids(checked_ids(ids)))

    def find(self, ids: str | Sequence[str]) -> list[dict[str, Any] | None]:
        """Anchors by id as of :meth:`get`, with None for each id that is not in the store.

        Raises:
            QueryError: an id is no text.
        """
        snapshot = self.current()
        slots = snapshot.find_ids(checked_ids(ids))
        rows = iter(snapshot.anchor_rows(slots[slots >= 0]))
        return [next(rows) if slot >= 0 else None for slot in slots.tolist()]

    def to_arrow(
        self, columns: Sequence[str] | None = None, where: str | Filter | None = None
    ) -> pa.Table:
        """Anchors as an Arrow table, all of them or those that satisfy ``where``.

        Raises:
            QueryError: a column is unknown or the predicate cannot be used.
        """
        snapshot = self.current()
        schema = (
            snapshot.anchors.schema
            if len(snapshot)
            else anchors_schema(snapshot.manifest.dimension)
        )
        names = [name for name in schema.names if name not in RESERVED_COLUMNS]
        for name in columns or ():
            if name not in names:
                raise QueryError(f"columns: {name!r} is not among {', '.join(names)}")
        wanted = names if columns is None else list(columns)
        condition = None if where is None or isinstance(where, Filter) else predicate(where)
        if len(snapshot) == 0:
            return schema.empty_table().select(wanted)
        if isinstance(where, Filter):
            return snapshot.present(snapshot.allowed(where), wanted)
        return snapshot.anchors.read(wanted, condition)

    def edges(self) -> pa.Table:
        """The lattice as a table: source, target (ids), relation and raw weight.

        Each undirected edge stands once, its source the anchor that was stored first.
        """
        from oscillink_store.engine.views import edge_table

        return edge_table(self.current())

    def summaries(self) -> pa.Table:
        """The summary nodes over the shards, a row each; none in a store without shards."""
        from oscillink_store.engine.views import summary_table

        return summary_table(self.current())

    def stats(self) -> dict[str, Any]:
        """Counts and sizes of the live generation, as plain JSON values."""
        from oscillink_store.engine.views import statistics

        return statistics(self.current())


@lru_cache(maxsize=64)  # replace() takes as long as a scan of some thousand anchors
def _ranked(parameters: Parameters, ranking: str) -> Parameters:
    return replace(parameters, ranking=cast("Ranking", ranking))
