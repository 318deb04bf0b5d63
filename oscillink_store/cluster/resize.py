"""Growing and shrinking a cluster, while others search it.

Rows are written to their new homes first. When all of them are there, the catalogue's epoch goes
up, and only then are they deleted from their old homes. Until then a search sees such a row twice,
never not at all: one that read the new home before and the old home after has an epoch on either
side, and is run again. Stopped anywhere, run it again: rows that are in place already cost a
comparison, and nothing is deleted that the new home does not hold as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from oscillink_store.cluster import tasks
from oscillink_store.cluster.ingest import Counts, gathered
from oscillink_store.cluster.shard import Shard

__all__ = ["copy_to_new_homes", "drop_from_old_homes"]


def copy_to_new_homes(shards: Sequence[Shard], rule: tasks.Rule, executor: Executor) -> int:
    """Write every row that belongs elsewhere to its new home; how many there are."""
    others = tuple(shards)
    copies = {shard: executor.submit(tasks.copy_out, shard, others, rule) for shard in shards}
    return sum(count for _, count in gathered(copies))


def drop_from_old_homes(
    shards: Sequence[Shard], rule: tasks.Rule, executor: Executor, counts: Counts
) -> None:
    """Delete the rows that have come to their new homes from the old ones."""
    others = tuple(shards)
    drops = {shard: executor.submit(tasks.drop_moved, shard, others, rule) for shard in shards}
    gathered(drops, counts.add_strays)
    # the new homes have other summaries now too
    fresh = {shard: executor.submit(tasks.summarize, shard) for shard in shards}
    for shard, summary in gathered(fresh):
        counts.summaries[shard.name] = summary
