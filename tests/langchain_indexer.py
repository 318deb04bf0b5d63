"""A program that indexes documents, round after round, until it is killed.

Round n has the documents ``n`` to ``n + 5``, so one comes and one goes; full cleanup.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from kill_writer import Countdown
from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_helpers import Hashing

from oscillink_store.integrations.langchain import OscillinkRecordManager, OscillinkVectorStore


def documents(round_: int) -> list[Document]:
    return [
        Document(page_content=f"page {number}", metadata={"source": str(number % 2)})
        for number in range(round_, round_ + 6)
    ]


def run(
    manager: OscillinkRecordManager, store: OscillinkVectorStore, round_: int
) -> dict[str, int]:
    return dict(index(documents(round_), manager, store, cleanup="full", key_encoder="sha256"))


def kill(*_: object, group_ids: object = None, **__: object) -> None:
    if group_ids is not None:  # the update behind the writing, not the one before it
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    root, when = sys.argv[1:]
    with OscillinkVectorStore(Hashing(), root) as store:
        manager = store.record_manager("pages")
        run(manager, store, 0)
        if when == "written":
            manager.update = kill
        elif when == "deleted":
            manager.delete_keys = partial(kill, group_ids=())
        else:
            Countdown(Path(root).resolve(), int(when))
        for round_ in range(1, 100):
            run(manager, store, round_)


if __name__ == "__main__":
    main()
