"""Tasks in a Ray cluster: ``pip install 'oscillink-store[ray]'``."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from oscillink_store.errors import DependencyError, WorkerError

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as _error:
    raise DependencyError("Ray is not installed: pip install 'oscillink-store[ray]'") from _error

__all__ = ["RayExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_OBJECT_STORE_BYTES = 100 << 20


class RayExecutor(Executor):
    """Runs each task as a Ray task, which Ray runs again where its worker or node was lost.

    A process that is connected to Ray already stays so. Else this one connects: to the cluster at
    ``address``, or to one that it starts on this machine and shuts down again.

    Args:
        workers: How many tasks run at once in a cluster that is started here; by default as many
            as there are processors.
        address: A running cluster, as ``ray.init`` takes it: ``"auto"`` or ``"ray://head:10001"``.
        retries: How often a task is run again whose worker was killed.
        object_store_bytes: The shared memory of a cluster that is started here; what tasks are
            given and what they answer passes through it.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        retries: int = 3,
        object_store_bytes: int = _OBJECT_STORE_BYTES,
    ) -> None:
        self._connected = not ray.is_initialized()
        if self._connected:
            with warnings.catch_warnings():
                # its processes are forked, but each of them begins another program at once
                warnings.filterwarnings("ignore", "lance is not fork-safe")
                _connect(address, workers or os.cpu_count() or 1, object_store_bytes)
        # Ray takes functions alone, and this one calls whatever can be called
        self._remote = ray.remote(num_cpus=1, max_retries=retries)(_called)
        self._tasks: set[Future[Any]] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task in the cluster; cancelling its future ends its worker.

        Raises:
            RuntimeError: the executor has been shut down.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        name = getattr(fn, "__name__", type(fn).__name__)
        reference = self._remote.options(name=name).remote(fn, args, kwargs)
        task: Future[T] = Future()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def finish(done: Future[T]) -> None:
            if task.cancelled():
                return
            error = done.exception()
            with suppress(InvalidStateError):  # cancelled just now
                if error is None:
                    task.set_result(done.result())
                else:
                    task.set_exception(_own(error))

        def give_up(_: Future[T]) -> None:
            if task.cancelled() and ray.is_initialized():
                ray.cancel(reference, force=True)

        task.add_done_callback(give_up)
        reference.future().add_done_callback(finish)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all tasks, and leave the cluster if it was joined or started here."""
        self._closed = True
        for task in list(self._tasks) if cancel_futures else ():
            task.cancel()
        if wait:
            wait_for(list(self._tasks))
        if self._connected and ray.is_initialized():
            self._connected = False
            ray.shutdown()


def _called(fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]) -> T:
    return fn(*args, **kwargs)


def _connect(address: str | None, workers: int, object_store_bytes: int) -> None:
    if address is not None:
        ray.init(address=address, logging_level=logging.ERROR)
        return
    ray.init(
        num_cpus=workers,
        object_store_memory=object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _own(error: BaseException) -> BaseException:
    """What the task itself raised, which Ray wraps in an exception with a traceback in words."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return error.cause
    if isinstance(error, RayError):
        lost = WorkerError(
            f"Ray gave a task up ({' '.join(str(error).split())[:200]}): look for what ends its "
            "workers (memory, most often), then repeat"
        )
        lost.__cause__ = error
        return lost
    return error
