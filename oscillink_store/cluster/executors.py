"""Where tasks run: in this process, in processes of this machine, or in a Ray cluster.

All are :class:`concurrent.futures.Executor`. Tasks are functions of a module with arguments and
results that can be pickled; a task may run twice, since one whose worker was killed is run again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, ParamSpec, TypeVar

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
    """What a task becomes, in whichever pool it runs in the end.

    One that is running cannot be cancelled, as ever; but nobody waits for it at the end then.
    """

    inner: Future[T] | None = None
    abandoned = False

    def cancel(self) -> bool:
        """Cancel the task, unless it is running."""
        if self.inner is None or self.inner.cancel():
            return super().cancel()
        self.abandoned = not self.done()
        return self.cancelled()


class ProcessExecutor(Executor):
    """Processes of this machine, born by spawn, since what Lance holds open survives no fork.

    When a worker dies, all of them are made anew, and the tasks that were lost are run again,
    once. Workers end with the process that made them, however that ends. A task that somebody
    tried to cancel while it ran goes on, and is killed when the executor is shut down.

    Args:
        workers: How many processes, by default as many as there are processors.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or os.cpu_count() or 1
        self._guard = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._tasks: set[_Task[Any]] = set()
        self._closed = False
        self._ended = False

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
        self._run(task, lambda pool: pool.submit(fn, *args, **kwargs), _ATTEMPTS)
        return task

    def _run(
        self, task: _Task[T], start: Callable[[ProcessPoolExecutor], Future[T]], attempts: int
    ) -> None:
        with self._guard:
            while True:
                pool = self._pool = self._pool or self._made()
                try:
                    task.inner = start(pool)
                    break
                except BrokenProcessPool:  # by others, and nobody has noticed yet
                    self._pool = None

        def finish(done: Future[T]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if isinstance(error, BrokenProcessPool):
                with self._guard:
                    if self._pool is pool:
                        self._pool = None
                if attempts > 1 and not self._ended and not task.abandoned:
                    self._run(task, start, attempts - 1)
                    return
                error = WorkerError(
                    "the worker of a task was killed, and so was the one that ran it again: look "
                    "for what kills them (memory, most often), then repeat"
                )
            if error is None:
                task.set_result(done.result())
            else:
                task.set_exception(error)

        task.inner.add_done_callback(finish)

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
        self._ended = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        hung = any(task.abandoned for task in list(self._tasks))
        # Python 3.14 has kill_workers() for this
        processes = list((pool._processes or {}).values())  # noqa: SLF001
        pool.shutdown(wait=wait and not hung, cancel_futures=cancel_futures)
        if hung:
            for process in processes:
                process.kill()


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
