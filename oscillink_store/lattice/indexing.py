"""The indices of a part: built from its rows, laid out for storage, merged and thinned out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice import postings
from oscillink_store.lattice.corpus import Part, PhraseLists
from oscillink_store.lattice.keyindex import KeyIndex, key_index, merged, taken
from oscillink_store.lattice.names import name_index
from oscillink_store.lattice.postings import Postings
from oscillink_store.lattice.relations.shared import phrase_keys

if TYPE_CHECKING:
    from oscillink_store.model import Parameters

__all__ = ["index_part", "merge_parts", "part_arrays", "part_from_arrays", "take_part"]

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Value = TypeVar("Value")

_INDICES: tuple[tuple[str, Any], ...] = (
    ("ids", KeyIndex),
    ("titles", KeyIndex),
    ("sequences", KeyIndex),
    ("links", KeyIndex),
    ("phrases", KeyIndex),
    ("phrase_lists", PhraseLists),
    ("words", Postings),
)
_BLOCK = 4096
_KEYED = ("ids", "titles", "sequences", "links", "phrases")


def index_part(
    first: int,
    *,
    vectors: npt.NDArray[np.float32],
    ids: Sequence[str],
    titles: Sequence[str | None],
    texts: Sequence[str],
    sequences: Sequence[str | None],
    positions: npt.NDArray[np.float64],
    links: Sequence[Sequence[str] | None],
    parameters: Parameters,
) -> Part:
    """Index n anchors whose slots begin with ``first``.

    Every column has n entries; ``vectors`` (n, D) are unit rows, ``positions`` (n,) are NaN
    where missing.
    """
    full = [
        text if title is None else f"{title}\n\n{text}"
        for title, text in zip(titles, texts, strict=True)
    ]
    in_sequence = [row for row, name in enumerate(sequences) if name is not None]
    lists, in_phrases = _pairs(full, phrase_keys)
    return Part(
        first=first,
        vectors=vectors,
        positions=positions,
        ids=key_index(keys_of(ids), np.arange(len(ids))),
        titles=name_index(titles, parameters),
        sequences=key_index(
            keys_of([name for name in sequences if name is not None]), np.array(in_sequence)
        ),
        links=_pairs(links, _link_keys)[1],
        phrases=in_phrases,
        phrase_lists=lists,
        words=postings.build(full),
    )


def _link_keys(links: Sequence[Sequence[str] | None]) -> tuple[Keys, Counts]:
    counts = np.fromiter((len(each or ()) for each in links), np.int64, len(links))
    return keys_of([target for each in links for target in each or ()]), counts


def _pairs(
    values: Sequence[Value], keys_of_rows: Callable[[Sequence[Value]], tuple[Keys, Counts]]
) -> tuple[PhraseLists, KeyIndex]:
    """The keys of each row, each once, and the rows of each key.

    ``keys_of_rows`` gives the keys of some rows' values, and how many each row has.
    """
    row_keys, row_counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    count = len(values)
    for start in range(0, count, _BLOCK):  # what comes up on the way for all rows takes memory
        found, counts = keys_of_rows(values[start : start + _BLOCK])
        row_keys.append(found)
        row_counts.append(counts)
    keys = np.concatenate(row_keys)
    rows = np.repeat(np.arange(count), np.concatenate(row_counts))
    order = np.lexsort((keys, rows))
    keys, rows = keys[order], rows[order]
    once = np.ones(len(keys), np.bool_)
    once[1:] = (keys[1:] != keys[:-1]) | (rows[1:] != rows[:-1])
    keys, rows = keys[once], rows[once]
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=starts[1:])
    return PhraseLists(starts=starts, keys=keys), key_index(keys, rows)


def part_arrays(part: Part) -> dict[str, npt.NDArray[Any]]:
    """Every array of a part but its vectors, by a flat name such as ``titles.keys``."""
    arrays: dict[str, npt.NDArray[Any]] = {"positions": part.positions}
    for name, _ in _INDICES:
        for field, array in getattr(part, name)._asdict().items():
            arrays[f"{name}.{field}"] = array
    return arrays


def part_from_arrays(
    first: int, vectors: npt.NDArray[np.float32], arrays: Mapping[str, npt.NDArray[Any]]
) -> Part:
    """The part whose :func:`part_arrays` are ``arrays``, which may be memory maps."""
    # memory maps as plain arrays: slicing one of the former takes several times as long
    indices = {
        name: kind(*(np.asarray(arrays[f"{name}.{field}"]) for field in kind._fields))
        for name, kind in _INDICES
    }
    return Part(first=first, vectors=vectors, positions=np.asarray(arrays["positions"]), **indices)


def merge_parts(parts: Sequence[Part]) -> Part:
    """One part in place of several that follow one another.

    Equal to :func:`index_part` of all their rows together.
    """
    first = parts[0].first
    ends = np.cumsum([len(part.phrase_lists.keys) for part in parts])
    starts = [part.phrase_lists.starts[1:] for part in parts]
    shifts = [0, *ends[:-1].tolist()]
    keyed = {
        name: merged([(part.first - first, getattr(part, name)) for part in parts])
        for name in _KEYED
    }
    return Part(
        first=first,
        vectors=np.concatenate([part.vectors for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        phrase_lists=PhraseLists(
            starts=np.concatenate(
                [[0], *(ends + shift for ends, shift in zip(starts, shifts, strict=True))]
            ),
            keys=np.concatenate([part.phrase_lists.keys for part in parts]),
        ),
        words=postings.merge([part.words for part in parts]),
        **keyed,
    )


def take_part(part: Part, kept: npt.NDArray[np.bool_], first: int) -> Part:
    """The rows of a part where ``kept`` (n,) is True, numbered anew from slot ``first``.

    Equal to :func:`index_part` of those rows.
    """
    starts, keys = part.phrase_lists
    counts = np.diff(starts)
    numbered = np.zeros(int(kept.sum()) + 1, np.int64)
    np.cumsum(counts[kept], out=numbered[1:])
    return Part(
        first=first,
        vectors=part.vectors[kept],
        positions=part.positions[kept],
        phrase_lists=PhraseLists(starts=numbered, keys=keys[np.repeat(kept, counts)]),
        words=postings.take(part.words, kept),
        **{name: taken(getattr(part, name), kept) for name in _KEYED},
    )
