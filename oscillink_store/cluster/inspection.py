"""A cluster as a whole: figures of all its shards, and what their verification adds up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oscillink_store.cluster.catalogue import Catalogue
from oscillink_store.cluster.placement import stored_column
from oscillink_store.cluster.tasks import Checked, Rule
from oscillink_store.errors import IntegrityError
from oscillink_store.receipts.chain import ChainReport
from oscillink_store.reports import ClusterVerifyReport

__all__ = ["judged", "rule_of", "statistics"]


def rule_of(catalogue: Catalogue) -> Rule | None:
    """The rule that anchors are placed by, or will be when a resize is done."""
    placement = catalogue.placement
    if placement is None:
        return None
    column = stored_column(placement.by, catalogue.fields)
    return Rule(column=column, shards=placement.target or placement.shards)


def statistics(catalogue: Catalogue, each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and sizes of all shards together, and of each."""
    edges: dict[str, int] = {}
    for figures in each.values():
        for relation, count in figures["edges"].items():
            edges[relation] = edges.get(relation, 0) + count
    placement = catalogue.placement
    return {
        "shards": len(each),
        "by": None if placement is None else placement.by,
        "resizing": None if placement is None else placement.target,
        "anchors": sum(figures["anchors"] for figures in each.values()),
        "edges": edges,
        "bytes": sum(sum(figures["bytes"].values()) for figures in each.values()),
        "stores": dict(each),
    }


def judged(
    root: Path,
    catalogue: Catalogue,
    found: Mapping[str, Checked],
    chains: ChainReport,
    broken: Sequence[str],
) -> ClusterVerifyReport:
    """What the verifications of all shards, and of the composed receipts, come to."""
    problems = [
        f"{name}: {problem}" for name, checked in found.items() for problem in checked.problems
    ]
    problems += [f"{root / 'receipts'}: {problem}" for problem in broken]
    twice = 0
    if catalogue.placement is not None:
        target = catalogue.placement.target
        remedy = f"run resize({target or catalogue.placement.shards})"
        for name, checked in found.items():
            if checked.misplaced:
                problems.append(
                    f"{name}: {checked.misplaced} anchors belong in other shards: {remedy}"
                )
        ids = np.concatenate([np.empty(0, np.uint64), *(each.ids for each in found.values())])
        twice = len(ids) - len(np.unique(ids))
        if twice and target is None:
            problems.append(f"{twice} anchors are in two shards: ingest them again, or delete them")
    try:
        catalogue.summary_bytes(root)
    except IntegrityError as error:
        problems.append(str(error))
    return ClusterVerifyReport(
        shards={name: checked.report for name, checked in found.items()},
        receipts=chains.receipts,
        problems=tuple(problems),
        misplaced=sum(checked.misplaced for checked in found.values()),
        twice=twice,
    )
