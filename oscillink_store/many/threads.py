"""Threads that a task which never ends neither keeps alive nor is waited for by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeAlias, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")

_Work: TypeAlias = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(Executor):
    """At most so many threads, begun when there is work for them.

    Unlike those of a ``ThreadPoolExecutor`` they end with the process, whatever they wait for: a
    disk that does not answer must not keep a program from ending.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._guard = threading.Lock()
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task in one of the threads.

        Raises:
            RuntimeError: the executor has been shut down.
        """
        future: Future[T] = Future()
        with self._guard:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._work.put((future, lambda: fn(*args, **kwargs)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                thread = threading.Thread(
                    target=_run, args=(self._work, self._idle), daemon=True,
                    name=f"{self._name}-{len(self._threads)}",
                )  # fmt: skip
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once they have done what they were given."""
        with self._guard:
            self._closed = True
            while cancel_futures:
                try:
                    work = self._work.get_nowait()
                except Empty:
                    break
                if work is not None and work[0].cancel():
                    work[0].set_running_or_notify_cancel()  # who waits for it learns of it
            self._work.put(None)
        for thread in self._threads if wait else ():
            thread.join()


def _run(work: SimpleQueue[_Work | None], idle: threading.Semaphore) -> None:
    # nothing here holds the executor, so that it goes when nobody else does
    while True:
        try:
            given = work.get_nowait()
        except Empty:
            idle.release()
            given = work.get()
        if given is None:
            work.put(None)  # for the next thread
            return
        _done(*given)
        del given


def _done(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the future carries it to whoever asks
        future.set_exception(error)
    else:
        future.set_result(result)
