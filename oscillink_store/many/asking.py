"""Asking several stores at once, and going on without those that fail or take too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from oscillink_store.errors import EmbedderError, OscillinkError, QueryError, UnansweredError
from oscillink_store.many.answers import Place

__all__ = ["Asking", "Busy", "Left"]


class _Late(NamedTuple):
    """What a store has not answered yet that was left out for it, and when it was asked."""

    answer: Future[Any]
    since: float


Busy: TypeAlias = dict[str, _Late]
"""By the name of the store."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Left:
    """A store that was left out: from which round on, and why.

    ``place`` is its own among all stores, ``error`` the name of the exception, ``generation``
    the one that it had counted before.
    """

    store: str
    place: int
    round: str
    error: str
    reason: str
    generation: int | None = None


class Asking:
    """The rounds of one search, or of another thing that several stores are asked for.

    ``names`` are the stores that have answered all rounds so far, in their order; ``left`` those
    that have not. All rounds together take no more than ``timeout`` seconds: each may use half of
    what is left, so that an answer can be made of what there is by then. What has not come then
    goes to ``busy``, and its store is not asked again until it has: a round waits for that as
    well, but not for a store that has been silent for longer already than the round may take.
    ``leaving`` are stores that are to be left out from a round on, whether they would answer it
    or not.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        executor: Executor,
        *,
        busy: Busy,
        timeout: float | None = None,
        leaving: Mapping[str, str] | None = None,
    ) -> None:
        self.names = list(places)
        self.left: dict[str, Left] = {}
        self._places = places
        self._executor = executor
        self._busy = busy
        self._timeout = timeout
        self._until = None if timeout is None else time.monotonic() + timeout
        self._leaving = leaving or {}
        self._errors: list[BaseException] = []

    def ask(
        self,
        turn: str,
        task: Callable[..., Answer],
        arguments: Mapping[str, Sequence[Any]],
        *,
        generations: Mapping[str, int] | None = None,
    ) -> dict[str, Answer]:
        """Run a task of a round for some of the stores, by name, each with its own arguments.

        Returns what came, in the order of the stores; the others are left out from now on, those
        of which a generation is known with it.

        Raises:
            QueryError, EmbedderError: no store is left, and to one the question makes no sense.
            UnansweredError: no store is left.
        """
        answers = self._run(turn, task, arguments, generations or {}, share=0.5)
        self.require()
        return answers

    def tell(
        self, task: Callable[..., Answer], arguments: Mapping[str, Sequence[Any]]
    ) -> dict[str, Answer]:
        """Run a task that is all there is to ask; as :meth:`ask`, but no store need be left."""
        return self._run("", task, arguments, {}, share=1.0)

    @property
    def missing(self) -> list[Left]:
        """Those that have been left out, in the order of the stores."""
        return [self.left[name] for name in self._places if name in self.left]

    def _run(
        self,
        turn: str,
        task: Callable[..., Answer],
        arguments: Mapping[str, Sequence[Any]],
        generations: Mapping[str, int],
        *,
        share: float,
    ) -> dict[str, Answer]:
        started = time.monotonic()
        seconds = None if self._until is None else share * max(self._until - started, 0.0)
        futures: dict[str, Future[Answer]] = {}
        late: dict[str, Future[Any]] = {}

        def start(name: str) -> None:
            try:
                futures[name] = self._executor.submit(task, self._places[name], *arguments[name])
            except RuntimeError as error:  # an executor that is broken or was shut down
                self.leave(name, turn, error, generations.get(name))

        def left() -> float | None:
            return None if seconds is None else max(started + seconds - time.monotonic(), 0.0)

        for name in [name for name in self.names if name in arguments]:
            earlier = self._busy.get(name)
            if self._leaving.get(name) == turn:
                self.leave(
                    name, turn, TimeoutError("it did not answer then"), generations.get(name)
                )
            elif earlier is None or earlier.answer.done():
                start(name)
            elif seconds is None or started - earlier.since < seconds:
                late[name] = earlier.answer
            else:
                self._leave_late(name, turn, generations)
        while late and wait(late.values(), left(), FIRST_COMPLETED).done:
            for name in [name for name, answer in late.items() if answer.done()]:
                del late[name]
                start(name)
        for name in late:
            self._leave_late(name, turn, generations)
        wait(futures.values(), left())
        answers: dict[str, Answer] = {}
        for name in [name for name in self.names if name in futures]:
            future = futures[name]
            try:
                if future.done():
                    answers[name] = future.result()
                    continue
                if not future.cancel():
                    self._busy[name] = _Late(future, started)
                reason = (
                    f"it did not answer in time, of {round(self._timeout or 0.0, 2):g} s in all"
                )
                self.leave(name, turn, TimeoutError(reason), generations.get(name))
            except Exception as error:  # noqa: BLE001 - whatever happened to a worker
                self.leave(name, turn, error, generations.get(name))
        return answers

    def _leave_late(self, name: str, turn: str, generations: Mapping[str, int]) -> None:
        error = TimeoutError("it has not answered an earlier question yet")
        self.leave(name, turn, error, generations.get(name))

    def leave(
        self,
        name: str,
        turn: str,
        error: BaseException,
        generation: int | None = None,
    ) -> None:
        """Leave a store out from now on."""
        self.names.remove(name)
        self._errors.append(error)
        self.left[name] = Left(
            store=name,
            place=list(self._places).index(name),
            round=turn,
            error=type(error).__name__,
            reason=str(error).encode("utf-8", "replace").decode() or "it did not say why",
            generation=generation,
        )

    def require(self, filled: Set[str] | None = None) -> None:
        """Raise when no store is left, or none of the ``filled`` ones and a question is to blame.

        Raises:
            QueryError, EmbedderError: to one of the stores the question makes no sense.
            UnansweredError: no store is left.
        """
        if any(filled is None or name in filled for name in self.names):
            return
        for error in self._errors:
            if isinstance(error, QueryError | EmbedderError):
                raise error
        if self.names:
            return
        if len(self._errors) == 1 and isinstance(self._errors[0], OscillinkError):
            raise self._errors[0]
        told = "; ".join(f"{left.store}: {left.reason}" for left in self.left.values())
        raise UnansweredError(f"none of the {len(self.left)} stores answered: {told}")
