"""LanceDB with its own indices over the same rows, for the benchmarks to stand beside."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from common import milliseconds, recall

os.environ.setdefault("LANCEDB_LOG", "error")  # it would warn at each search

WANTED_RECALL = 0.95
_PROBES = (10, 20, 40, 80, 160, 320, 640)


def build(folder: Path, rows: pa.Table | pa.RecordBatchReader) -> float:
    """Write the rows and index vectors (IVF_RQ) and texts; seconds."""
    import lancedb

    started = time.perf_counter()
    table = lancedb.connect(folder).create_table("anchors", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_RQ")
        table.create_fts_index("text")
    return time.perf_counter() - started


class LanceDb:
    """The table, with the settings of its vector search."""

    def __init__(self, folder: Path) -> None:
        import lancedb
        from lancedb.rerankers import RRFReranker

        self.table = lancedb.connect(folder).open_table("anchors")
        self.reranker = RRFReranker()
        self.probes, self.refine, self.recall = _PROBES[0], 0, 0.0

    def tune(self, psi: Any, truth: list[set[int]], refinements: Sequence[int] = (0,)) -> None:
        """Find the fastest search by vector that reaches the wanted recall@10.

        For each refinement (how many times ten rows are scored exactly; 0 for none) that is
        the one with the fewest probes. If none reaches it, the one of highest recall is taken.
        """
        tried = []
        for refine in refinements:
            for probes in _PROBES:
                self.probes, self.refine = probes, refine
                found = [self.near(one) for one in psi]
                reached = recall(found, truth)
                enough = reached >= WANTED_RECALL
                taken = [milliseconds(lambda one=one: self.near(one)) for one in psi]
                cost = statistics.median(taken) if enough else -reached
                tried.append((not enough, cost, probes, refine, reached))
                if enough:
                    break
        _, _, self.probes, self.refine, self.recall = min(tried)

    def near(self, psi: Any, where: str | None = None) -> set[int]:
        """The numbers of the ten rows nearest to a vector, as its index finds them."""
        query = self.table.search(psi, vector_column_name="vector").distance_type("cosine")
        found = self._set(query, where).limit(10).select(["id"]).to_arrow()
        return {int(name[1:]) for name in found["id"].to_pylist()}

    def hybrid(self, text: str, psi: Any, where: str | None = None) -> pa.Table:
        """The best ten by vector and text, in reciprocal-rank order."""
        query = self.table.search(query_type="hybrid").vector(psi).text(text)
        query = self._set(query.distance_type("cosine"), where).rerank(self.reranker)
        return query.limit(10).select(["id", "text"]).to_arrow()

    def _set(self, query: Any, where: str | None) -> Any:
        query = query.nprobes(self.probes)
        if self.refine:
            query = query.refine_factor(self.refine)
        return query if where is None else query.where(where)

    def add(self, rows: pa.Table) -> None:
        """Append rows and bring the indices up to date."""
        self.table.add(rows)
        self.table.optimize()
