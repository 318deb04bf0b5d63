"""Upserts of one row each, in a process of their own; part of benchmarks/ingest.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Report, interleaved, medians, memory_mib, on_disk
from rows import Rows, question_sample

import oscillink_store as osc

_SAMPLES = 40


def state(store: osc.Store) -> dict[str, Any]:
    """How tidy a store is."""
    stats, snapshot = store.stats(), store.current()
    return {
        "anchors": stats["anchors"],
        "generation": stats["generation"],
        "parts": stats["parts"],
        "deleted slots": stats["deleted_slots"],
        "corrections": stats["corrections"],
        "fragments": len(snapshot.anchors.fragments),
        **on_disk(store.path),
    }


def single_upserts(
    path: Path, untouched: Path, anchors: int, count: int, searches: int, report: Report
) -> dict[str, Any]:
    """Upsert row by row into the store at ``path``, every other one in place of an old row.

    Searches run in turn with those of the ``untouched`` copy, before, after, and once more
    after a maintenance.
    """
    rows = Rows()
    texts, psi = question_sample(rows, anchors, searches)
    fresh = rows.table(anchors, count + 2).to_pylist()
    old = np.random.default_rng(29).permutation(anchors).tolist()
    for place in range(0, len(fresh), 2):
        fresh[place]["id"] = f"d{old[place // 2 % anchors]}"
    with osc.connect(path) as store, osc.connect(untouched) as base:
        calls: dict[str, Callable[[int], object]] = {
            "store": lambda i: store.search(texts[i], vector=psi[i], k=10),
            "untouched": lambda i: base.search(texts[i], vector=psi[i], k=10),
        }

        def latency() -> dict[str, float]:
            taken = medians(interleaved(calls, searches))
            return {**taken, "ratio": round(taken["store"] / taken["untouched"], 3)}

        for row in fresh[count:]:  # loads what only writing needs
            store.ingest([row])
        before = latency()
        tidy = state(store)
        memory, taken = [(0, memory_mib("RssAnon"))], []
        for done, row in enumerate(fresh[:count], 1):
            started = time.perf_counter()
            store.ingest([row])
            taken.append(time.perf_counter() - started)
            report("upserts", done, count)
            if done % max(1, count // _SAMPLES) == 0 or done in (count // 2, count):
                memory.append((done, memory_mib("RssAnon")))
        after, untidy = latency(), state(store)
        started = time.perf_counter()
        store.maintain()
        seconds = time.perf_counter() - started
        folded = latency()
        anonymous = dict(memory)
        return {
            "upserts": count,
            "upserts per second": round(count / sum(taken), 1),
            "median ms": round(1000 * float(np.median(taken)), 2),
            "99th percentile ms": round(1000 * float(np.percentile(taken, 99)), 2),
            "slowest ms": round(1000 * max(taken), 1),
            "RssAnon MiB": {
                "start": round(anonymous[0], 1),
                "middle": round(anonymous[count // 2], 1),
                "end": round(memory[-1][1], 1),
                "after maintenance and searches": round(memory_mib("RssAnon"), 1),
            },
            "search median ms": {"before": before, "after": after, "after maintain": folded},
            "after / before": round(after["ratio"] / before["ratio"], 3),
            "after maintain / before": round(folded["ratio"] / before["ratio"], 3),
            "maintain seconds": round(seconds, 2),
            "state": {"before": tidy, "after": untidy, "after maintain": state(store)},
            "memory over upserts": [(done, round(mib, 1)) for done, mib in memory],
            "ms of each upsert": [round(1000 * seconds, 2) for seconds in taken],
        }
