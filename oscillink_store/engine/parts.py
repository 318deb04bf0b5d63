"""Parts: a batch becomes one, and small ones are merged so that there are never many.

Parts are merged with their neighbours when they are not much smaller than what follows them,
as levels of a log-structured merge tree are: N anchors lie in O(log N) parts, and an anchor is
written again O(log N) times, however small the batches were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine.snapshot import Arrays, StoredPart
from oscillink_store.kernels.scan import quantize
from oscillink_store.lattice.corpus import Near, Part
from oscillink_store.lattice.indexing import index_part, merge_parts, part_arrays, part_from_arrays
from oscillink_store.lattice.records import Records
from oscillink_store.model import Parameters
from oscillink_store.storage.schemas import conform

__all__ = [
    "PLAIN", "index_rows", "joined_near", "merged_arrays", "merged_rows", "stored", "tail",
    "tail_runs",
]  # fmt: skip

# A part stays apart when it has more than so many times the rows of all that follow it.
_FACTOR = 3
PLAIN = ("codes", "scales", "gates")


def index_rows(
    first: int, rows: pa.Table, vectors: npt.NDArray[np.float32], parameters: Parameters
) -> Part:
    """Index rows, as of the rows segment, with their unit embeddings (n, D)."""
    positions = rows["position"].to_numpy().astype(np.float64)
    return index_part(
        first,
        vectors=vectors,
        ids=rows["id"].to_pylist(),
        titles=rows["title"].to_pylist(),
        texts=rows["text"].to_pylist(),
        sequences=rows["sequence"].to_pylist(),
        positions=positions,
        links=rows["links"].to_pylist(),
        parameters=parameters,
    )


def stored(part: Part, rows: pa.Table) -> StoredPart:
    """A part as it is stored, but for the row ids, which the table gives."""
    codes, scales = quantize(part.vectors)
    arrays = {
        "vectors": part.vectors,
        "codes": codes,
        "scales": scales,
        "gates": rows["gate"].to_numpy().astype(np.float32),
        **part_arrays(part),
    }
    return StoredPart(part.first, arrays, rows)


def tail(sizes: Sequence[int], fresh: int) -> int:
    """How many of the last parts, or runs, to merge with a new one of ``fresh`` rows."""
    count, behind = 0, fresh
    for size in reversed(sizes):
        if size > _FACTOR * behind:
            break
        behind += size
        count += 1
    return count


def merged_arrays(parts: Sequence[StoredPart]) -> Arrays:
    """The arrays of consecutive parts as those of one; without the row ids."""
    if len(parts) == 1:
        return parts[0].arrays
    whole = merge_parts(
        [part_from_arrays(part.first, part.arrays["vectors"], part.arrays) for part in parts]
    )
    arrays = {"vectors": whole.vectors, **part_arrays(whole)}
    for name in PLAIN:
        arrays[name] = np.concatenate([part.arrays[name] for part in parts])
    return arrays


def merged_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of consecutive parts as those of one, in the columns of the last."""
    return pa.concat_tables([conform(rows, tables[-1].schema) for rows in tables])


def joined_near(parts: Sequence[tuple[int, Near]]) -> Near:
    """The nearest neighbours of consecutive parts as one."""
    return Near(
        *(np.concatenate(arrays) for arrays in zip(*(near for _, near in parts), strict=True))
    )


def tail_runs(runs: Sequence[tuple[str, Records]], fresh: int) -> Sequence[tuple[str, Records]]:
    """The last runs, which a new one of ``fresh`` records takes in."""
    return runs[len(runs) - tail([len(run.rows) for _, run in runs], fresh) :]
