"""Several stores, searched as if they were one."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, get_args

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.arguments import checked_detail
from oscillink_store.engine.replay import Asked
from oscillink_store.errors import ClosedError, QueryError, UnansweredError
from oscillink_store.filters import Filter
from oscillink_store.many import tasks
from oscillink_store.many.answers import Description, Place
from oscillink_store.many.asking import Asking, Busy
from oscillink_store.many.composed import composed
from oscillink_store.many.ledger import ManyLedger
from oscillink_store.many.opened import forget
from oscillink_store.many.places import named_paths
from oscillink_store.many.question import Question
from oscillink_store.many.replay import replay
from oscillink_store.many.result import ManyReplay, ManyResult, ManyVerification, StoreHit
from oscillink_store.many.rounds import search
from oscillink_store.many.threads import DaemonThreads
from oscillink_store.model import Detail, Durability, Parameters, Ranking
from oscillink_store.receipts.key import Key, keys_by_id
from oscillink_store.receipts.receipt import Payload, Receipt

if TYPE_CHECKING:
    import numpy.typing as npt

    from oscillink_store.embed.protocol import Embedder

__all__ = ["ManyStores", "connect_many"]

_MOST_THREADS = 32


def connect_many(
    stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any],
    *,
    embedder: object | None = None,
    ledger: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    read_only: bool = False,
    durability: Durability = "batch",
    detail: Detail = "full",
    payload: Payload = "extended",
    key: Key | str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> ManyStores:
    """Open several stores to be searched as if they were one.

    None is opened yet: a store that is not there or damaged when it is asked is left out, and
    named in the receipt.

    Args:
        stores: Their paths, a mapping of names and paths, or the file of a catalogue. In place of
            a path may stand the URI of a mirror (:mod:`oscillink_store.storage.mirror`).
        embedder: What turns questions into vectors, as of :func:`oscillink_store.connect`. The
            built-in one of stores that were filled with it is found by itself.
        ledger: A folder for the composed receipts; without one they are not recorded.
        executor: Where the stores are searched: any ``concurrent.futures.Executor``, whose
            processes must have been spawned, not forked. Threads of this process if None.
        timeout: Seconds that a search takes at most; what has not answered by then is left out.
            The embedder's share of them counts, but it is not cut short.
        read_only: Write nothing to the stores: the receipts of their parts are not recorded.
        durability: When a receipt counts as written, as of :func:`oscillink_store.connect`.
        detail: How much a search finds out for its receipts.
        payload: Whether receipts keep the question itself.
        key: A key, or the file of one, that seals all receipts.
        cache: The folder for local copies of mirrors; by default one at home.

    Raises:
        QueryError: an argument is something else than it should be.
        InputError, FormatError: the catalogue or the file of the key cannot be used.
        ReadOnlyError, DiskError: the folder of the ledger cannot be made.
    """
    if durability not in get_args(Durability):
        raise QueryError(f"durability is {durability!r}: use 'sync', 'batch' or 'off'")
    checked_detail(detail)
    if payload not in get_args(Payload):
        raise QueryError(f"payload is {payload!r}: use 'minimal' or 'extended'")
    sealing = key if key is None or isinstance(key, Key) else Key.from_file(key)
    places = {
        name: Place(path, read_only, durability, sealing, None if cache is None else str(cache))
        for name, path in named_paths(stores).items()
    }
    return ManyStores(
        places,
        embedder=None if embedder is None else resolve(embedder),
        ledger=ManyLedger(None if ledger is None else Path(ledger), durability, sealing),
        executor=executor,
        timeout=checked_timeout(timeout),
        detail=detail,
        payload=payload,
        key=sealing,
    )


def checked_timeout(given: Any) -> float | None:
    """A number of seconds, or None for as long as it takes.

    Raises:
        QueryError: it is none above 0.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise QueryError(f"timeout is {given!r:.80}: pass seconds above 0, or None")
    return float(given) if given < TIMEOUT_MAX else None


class ManyStores:
    """Several stores; made by :func:`connect_many`. Safe to share between threads.

    Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        embedder: Embedder | None,
        ledger: ManyLedger,
        executor: Executor | None,
        timeout: float | None,
        detail: Detail,
        payload: Payload,
        key: Key | None,
    ) -> None:
        self.detail = detail
        self.payload = payload
        self.timeout = timeout
        self._places = places
        self._embedder = embedder
        self.ledger = ledger
        self._key = key
        self._busy: Busy = {}
        self._closed = False
        self._own: Executor | None = None
        if executor is None:
            # and some beside those that a store without an answer may hold up
            threads = min(2 * len(places), _MOST_THREADS + len(places))
            executor = self._own = DaemonThreads(threads, "oscillink-many")
        self._executor = executor
        # the process may end without close(): the last receipts are synced all the same
        self._finalizer = weakref.finalize(self, _release, places, ledger, self._own)

    def __enter__(self) -> ManyStores:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ManyStores {', '.join(self._places)}{' closed' if self._closed else ''}>"

    def close(self) -> None:
        """Sync the composed receipts and let go of the stores; further calls raise ClosedError.

        An executor that was given stays as it is, and so do the stores that its processes have
        open.
        """
        self._closed = True
        self._finalizer()

    @property
    def names(self) -> list[str]:
        """The stores by name, in their order."""
        return list(self._places)

    def __len__(self) -> int:
        """How many anchors all stores hold.

        Raises:
            UnansweredError: one of them did not answer.
        """
        asking = self._asking(self.timeout)
        told = asking.tell(tasks.describe, dict.fromkeys(asking.names, ()))
        if asking.missing:
            reasons = "; ".join(f"{left.store}: {left.reason}" for left in asking.missing)
            raise UnansweredError(f"{reasons}: use stats() to count those that answer")
        return sum(each.anchors for each in told.values())

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
        timeout: float | None = None,
    ) -> ManyResult:
        """The ranked coherent set of all stores for a question, with its receipts.

        It is the one that a single store of all their anchors would give, as long as no edge of
        its lattice runs between anchors of different stores. A store that fails, or does not
        answer in time, is left out from that round on: see ``missing`` of the result.

        Args:
            text: The question. With an embedder it is searched by meaning and by words.
            vector: The question's embedding (D,).
            k: How many hits at most.
            where: A SQL predicate or a filter. A store without a column that SQL names is left
                out; a filter takes what a store does not have for absent.
            ranking: As of :meth:`oscillink_store.Store.search`.
            label: A note of yours, kept in all receipts.
            parameters: Ranking constants, in place of the stores', which must agree without.
            detail: How much the receipts say, when not as on opening.
            route: Whether those stores that have shards look for similar vectors in some of
                them alone; unless told otherwise where there is no filter.
            timeout: Seconds in all, when not as on opening.

        Raises:
            QueryError: an argument cannot be used by any of the stores.
            EmbedderError: the embedder failed, or the stores have different ones.
            UnansweredError: none of the stores answered.
            ClosedError: it has been closed.
        """
        started = time.perf_counter()
        question = Question(
            text=text, vector=vector, k=k, where=where, ranking=ranking, label=label,
            parameters=parameters, detail=detail or self.detail, payload=self.payload,
            route=route, embedder=self._embedder,
        )  # fmt: skip
        asking = self._asking(self.timeout if timeout is None else checked_timeout(timeout))
        found = search(asking, text, where, question.query)
        content = composed(found, asking.missing)
        seconds = time.perf_counter() - started
        receipt = self.ledger.record(content, label=label, payload=self.payload, seconds=seconds)
        return ManyResult(
            hits=tuple(
                StoreHit.of(found.settled[name].hits[at], name, rank)
                for rank, (name, at) in enumerate(found.hits, 1)
            ),
            receipt=receipt,
            parts={name: each.receipt for name, each in found.settled.items()},
            missing=tuple(asking.missing),
            seconds=time.perf_counter() - started,
        )

    def describe(self, timeout: float | None = None) -> dict[str, Description]:
        """What each store holds, by name; those that do not answer are left out."""
        asking = self._asking(checked_timeout(timeout))
        return asking.tell(tasks.describe, dict.fromkeys(asking.names, ()))

    def stats(self, timeout: float | None = None) -> dict[str, Any]:
        """Counts and sizes of the stores by name, and of all together, as plain JSON values."""
        asking = self._asking(checked_timeout(timeout))
        stores = asking.tell(tasks.statistics_of, dict.fromkeys(asking.names, ()))
        return {
            "stores": stores,
            "missing": {left.store: left.reason for left in asking.missing},
            "anchors": sum(each["anchors"] for each in stores.values()),
        }

    def verify(
        self,
        timeout: float | None = None,
        *,
        keys: Key | str | os.PathLike[str] | Iterable[Key | str | os.PathLike[str]] | None = None,
    ) -> ManyVerification:
        """Check every store, as its own ``verify`` does, and the ledger of composed receipts.

        Args:
            timeout: Seconds in all; what takes longer is a problem. As long as it takes if None.
            keys: Keys, or files of keys, to check the macs of receipts with; unless told
                otherwise the one that was given on opening.

        Raises:
            InputError: a file holds no key.
        """
        if isinstance(keys, str | os.PathLike | Key):
            keys = [keys]
        given = ([self._key] if self._key else []) if keys is None else list(keys)
        known = keys_by_id(*given) or None
        asking = self._asking(checked_timeout(timeout))
        reports = asking.tell(tasks.verify_part, dict.fromkeys(asking.names, (known,)))
        chains, problems = self.ledger.verify(known)
        found = [f"{left.store}: {left.reason}" for left in asking.missing]
        for name, report in reports.items():
            found += [f"{name}: {problem}" for problem in report.problems]
        return ManyVerification(
            stores=reports, receipts=chains.receipts, problems=(*found, *problems)
        )

    def receipt(self, id: str) -> Receipt:  # noqa: A002 - what it is called everywhere
        """A composed receipt by its id, its hash, or what it begins with.

        Raises:
            MissingError: there is none, or more than one.
            QueryError: there is no ledger.
        """
        self._require_open()
        return self.ledger.find(id)

    def replay(
        self,
        receipt: Receipt | ManyResult | str,
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        where: str | Filter | None = None,
        timeout: float | None = None,
    ) -> ManyReplay:
        """Ask again what a composed receipt tells of, and replay every part by itself.

        Nothing is recorded.

        Args:
            receipt: A composed receipt, its id in the ledger, or a result, which brings the
                receipts of its parts along where the stores did not record them.
            text: The question, where the receipt keeps its digest alone.
            vector: The question's embedding, likewise.
            where: The filter or predicate, likewise.
            timeout: Seconds in all for the whole, and for all parts.

        Raises:
            IntegrityError: the receipt is not authentic, or a part's is not the one it names.
            MissingError: there is no such receipt.
            QueryError: it is not that of a search of several stores; or the question is not
                told, or another one.
        """
        parts: Mapping[str, Receipt] = {}
        if isinstance(receipt, ManyResult):
            parts, receipt = receipt.parts, receipt.receipt
        told = receipt if isinstance(receipt, Receipt) else self.receipt(receipt)
        told.verify(self._key if self._key and told.key_id == self._key.id else None)
        asked = Asked(text=text, vector=vector, where=where)

        def asking_of(names: list[str], leaving: Mapping[str, str]) -> Asking:
            places = {name: self._places[name] for name in names if name in self._places}
            return self._asking(checked_timeout(timeout), places, leaving)

        return replay(asking_of, told, parts, asked, self._embedder)

    def _asking(
        self,
        timeout: float | None,
        places: Mapping[str, Place] | None = None,
        leaving: Mapping[str, str] | None = None,
    ) -> Asking:
        self._require_open()
        return Asking(
            self._places if places is None else places, self._executor, busy=self._busy,
            timeout=timeout, leaving=leaving,
        )  # fmt: skip

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{', '.join(self._places)}: closed: connect to them again")


def _release(places: Mapping[str, Place], ledger: ManyLedger, executor: Executor | None) -> None:
    if executor is not None:
        executor.shutdown(wait=False, cancel_futures=True)
    for place in places.values():
        forget(place)
    ledger.close()
