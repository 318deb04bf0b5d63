"""A thread that deletes expired items now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

import oscillink_store as osc

__all__ = ["Sweeper"]

logger = logging.getLogger(__name__)


class Sweeper:
    """Calls ``sweep`` at intervals, from :meth:`start` to :meth:`stop`."""

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = sweep
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, minutes: float) -> Future[None]:
        """Start, unless it runs already; cancelling the future it gives ends it."""
        future: Future[None] = Future()
        if self._thread is None or not self._thread.is_alive():
            self._stopped = threading.Event()
            self._thread = threading.Thread(
                target=self._run,
                args=(minutes * 60, self._stopped, future),
                name="oscillink-ttl-sweeper",
                daemon=True,
            )
            self._thread.start()
        stopped = self._stopped
        future.add_done_callback(lambda done: stopped.set() if done.cancelled() else None)
        return future

    def stop(self, timeout: float | None) -> bool:
        """Stop, and wait for the thread at most ``timeout`` seconds; whether it has ended."""
        thread = self._thread
        if thread is None:
            return True
        self._stopped.set()
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self, seconds: float, stopped: threading.Event, future: Future[None]) -> None:
        while not stopped.wait(seconds):
            try:
                self._sweep()
            except osc.OscillinkError:  # another process may be writing: the next round will do
                logger.exception("expired items could not be deleted")
        if not future.done():
            future.set_result(None)
