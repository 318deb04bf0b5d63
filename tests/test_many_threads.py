"""The threads that stores are searched in: what hangs in them keeps nobody waiting."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path
from threading import Event

import pytest
from many_stores import fill, make_rows

import oscillink_store as osc
from oscillink_store.many.threads import DaemonThreads


def test_tasks_run_beside_each_other_and_errors_come_back() -> None:
    threads, event = DaemonThreads(2, "test"), Event()
    waiting = threads.submit(event.wait, 10)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(5)
    event.set()
    assert waiting.result(5)
    assert [threads.submit(pow, 2, n).result(5) for n in range(9)] == [2**n for n in range(9)]
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.submit(pow, 2, 3)


def test_who_waits_for_a_cancelled_task_learns_of_it() -> None:
    threads, event = DaemonThreads(1, "test"), Event()
    running, due = threads.submit(event.wait, 10), threads.submit(pow, 2, 3)
    threads.shutdown(wait=False, cancel_futures=True)
    assert wait([due], 5).done == {due}
    with pytest.raises(CancelledError):
        due.result(5)
    event.set()
    assert running.result(5)


def test_a_task_that_never_ends_does_not_keep_the_process() -> None:
    program = """
from threading import Event
from oscillink_store.many.threads import DaemonThreads
threads = DaemonThreads(1, "test")
threads.submit(Event().wait)
threads.shutdown(wait=False)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)


def test_closing_ends_searches_of_other_threads(tmp_path: Path) -> None:
    """Those that have been asked still answer; nobody waits for ever."""
    rows = make_rows(6)
    path = fill(tmp_path / "a.osc", rows)
    many = osc.connect_many([path])
    askers = DaemonThreads(4, "askers")
    searches = [askers.submit(many.search, "word3 word9") for _ in range(8)]
    time.sleep(0.01)
    many.close()
    assert wait(searches, 20).not_done == set()
