"""Where tasks run: in this process, in processes of this machine, or in a Ray cluster.

All are :class:`concurrent.futures.Executor`. Tasks are functions of a module with arguments and
results that can be pickled; a task may run twice, since one whose worker was killed is run again.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import connection
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakSet

from oscillink_store.errors import QueryError, WorkerError

__all__ = ["ProcessExecutor", "SerialExecutor", "make_executor"]

P = ParamSpec("P")
T = TypeVar("T")

_ATTEMPTS = 2
_KINDS = "'serial', 'processes', 'processes:4', 'ray'"


def make_executor(given: Executor | str | None) -> tuple[Executor, bool]:
    """An executor by its name, and whether it was made here; None is ``"serial"``.

    Raises:
        QueryError: there is none of that name.
        DependencyError: Ray is not installed.
    """
    if isinstance(given, Executor):
        return given, False
    if given is None or given == "serial":
        return SerialExecutor(), True
    if not isinstance(given, str):
        raise QueryError(
            f"executor is a {type(given).__name__}: pass a concurrent.futures.Executor or one of "
            f"{_KINDS}"
        )
    kind, colon, count = given.partition(":")
    workers = int(count) if count.isascii() and count.isdigit() else 0
    if (kind in ("processes", "ray")) and (workers or not colon):
        if kind == "ray":
            from oscillink_store.cluster.ray_executor import RayExecutor

            return RayExecutor(workers or None), True
        return ProcessExecutor(workers or None), True
    raise QueryError(f"executor is {given!r:.80}: use {_KINDS}, or a concurrent.futures.Executor")


class SerialExecutor(Executor):
    """Runs every task at once, in the thread that submits it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task; the future is done when this returns."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future carries it to whoever asks
            future.set_exception(error)
        return future


class _Task(Future[T]):
    """What is submitted, whichever pools it runs in until it is done.

    One that is running cannot be cancelled, as ever; but nobody waits for it at the end then.
    """

    abandoned = False

    def cancel(self) -> bool:
        """Cancel the task, unless it is running."""
        if super().cancel():
            return True
        self.abandoned = not self.done()
        return False


@dataclass(frozen=True)
class _Run(Generic[T]):
    """A task that is to run, how it begins in a pool, and how often it may."""

    task: _Task[T]
    start: Callable[[ProcessPoolExecutor], Future[T]]
    attempts: int


class ProcessExecutor(Executor):
    """Processes of this machine, born by spawn, since what Lance holds open survives no fork.

    When a worker dies, all of them are made anew, and the tasks that were lost are run again,
    once. Workers end with the process that made them, however that ends. A task that somebody
    tried to cancel while it ran goes on, and is killed when the executor is shut down, or this
    process ends.

    Args:
        workers: How many processes, by default as many as there are processors.
    """

    # A pool gets no more tasks than it has workers: one that breaks while it holds a cancelled
    # future stops there (Python 3.11), and leaves its other futures waiting for ever.

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or os.cpu_count() or 1
        self._guard = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._tasks: set[_Task[Any]] = set()
        self._waiting: deque[_Run[Any]] = deque()
        self._free: float = self._workers
        self._closed = False
        self._ended = False
        _executors.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task in some worker.

        Raises:
            RuntimeError: the executor has been shut down.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        task: _Task[T] = _Task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._waiting.append(_Run(task, lambda pool: pool.submit(fn, *args, **kwargs), _ATTEMPTS))
        self._begin()
        return task

    def _begin(self) -> None:
        """Let waiting tasks run while there are free workers."""
        while True:
            with self._guard:
                if not self._waiting or self._free < 1:
                    return
                run = self._waiting.popleft()
                if not (run.task.running() or run.task.set_running_or_notify_cancel()):
                    continue
                self._free -= 1
                pool = self._pool = self._pool or self._made()
            try:  # not under the guard, as a pool that breaks calls back with its own lock held
                inner = run.start(pool)
            except BrokenProcessPool:  # by others, and nobody has noticed yet
                self._release(pool, broken=True)
                self._waiting.appendleft(run)
            except RuntimeError as error:  # the interpreter ends
                self._release(pool)
                run.task.set_exception(error)
            else:
                inner.add_done_callback(partial(self._finish, run, pool))

    def _release(self, pool: ProcessPoolExecutor, *, broken: bool = False) -> None:
        with self._guard:
            self._free += 1
            if broken and self._pool is pool:
                self._pool = None

    def _finish(self, run: _Run[T], pool: ProcessPoolExecutor, done: Future[T]) -> None:
        error = done.exception()
        broken = isinstance(error, BrokenProcessPool)
        self._release(pool, broken=broken)
        if broken and run.attempts > 1 and not self._ended and not run.task.abandoned:
            self._waiting.appendleft(replace(run, attempts=run.attempts - 1))
        elif broken:
            run.task.set_exception(
                WorkerError(
                    "the worker of a task was killed, and so was the one that ran it again: look "
                    "for what kills them (memory, most often), then repeat"
                )
            )
        elif error is None:
            run.task.set_result(done.result())
        else:
            run.task.set_exception(error)
        self._begin()

    def _made(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all tasks but those that somebody tried to cancel, and end the workers."""
        self._closed = True
        if cancel_futures:
            for task in list(self._tasks):
                task.cancel()
        if wait:
            while due := [task for task in list(self._tasks) if not task.abandoned]:
                # looked at again and again, as one may be given up meanwhile
                wait_for(due, 1.0, FIRST_COMPLETED)
        else:
            with self._guard:
                self._free = math.inf  # the pool is to hold what waits, which it still runs
            self._begin()
        self._ended = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        hung = any(task.abandoned for task in list(self._tasks))
        # Python 3.14 has kill_workers() for this
        processes = list((pool._processes or {}).values())  # noqa: SLF001
        pool.shutdown(wait=wait and not hung)
        if hung:
            for process in processes:
                process.kill()


_executors: WeakSet[ProcessExecutor] = WeakSet()


def _end_hung() -> None:
    for executor in list(_executors):
        if any(task.abandoned for task in list(executor._tasks)):  # noqa: SLF001
            executor.shutdown()


# before the pools' own end, which waits for every task
threading._register_atexit(_end_hung)  # type: ignore[attr-defined]  # noqa: SLF001


def _begin_worker() -> None:
    # Ctrl-C is for the process that submits the tasks, which lets the running ones end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended without a word, which the pool never notices."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
