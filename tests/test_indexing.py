"""A part's indices: from rows, through storage, merged and thinned out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from upkeep_model import Row, index_rows

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice import indexing
from oscillink_store.lattice.corpus import Part
from oscillink_store.lattice.indexing import (
    merge_parts,
    part_arrays,
    part_from_arrays,
    take_part,
)
from oscillink_store.lattice.relations.shared import phrases
from oscillink_store.model import Parameters

PARAMETERS = Parameters()

rows = st.builds(
    Row,
    id=st.uuids().map(str),
    text=st.lists(st.sampled_from(["Red Fox", "Grand Hotel", "york", "Élan Vital", "."])).map(
        " ".join
    ),
    title=st.sampled_from([None, "", "Red fox", "Grand Hotel (Rome)", "New York City"]),
    vector=st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)),
    sequence=st.sampled_from([None, "", "s", "t"]),
    position=st.none() | st.floats(-5, 5),
    links=st.none() | st.lists(st.sampled_from(["a", "b", "c"]), max_size=4),
)
tables = st.lists(rows, min_size=1, max_size=8)


def same(ours: Part, theirs: Part) -> None:
    assert ours.first == theirs.first
    np.testing.assert_array_equal(ours.vectors, theirs.vectors)
    one, other = part_arrays(ours), part_arrays(theirs)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def lookup(keys: npt.NDArray[np.uint64], found: npt.NDArray[Any], name: str) -> list[int]:
    return found[keys == keys_of([name])[0]].tolist()


def test_everything_is_found_by_its_key() -> None:
    part = index_rows(
        7,
        [
            Row(id="a", text="The Red Fox ran.", title="Grand Hotel", sequence="s", position=2.0),
            Row(id="b", text="red fox", sequence="", links=["a", "gone", "a"]),
            Row(id="c", text="A Grand Hotel and the Red Fox", sequence="s", links=[]),
        ],
        PARAMETERS,
    )
    assert (part.first, len(part)) == (7, 3)
    assert lookup(*part.ids, "b") == [1]
    assert lookup(*part.sequences, "s") == [0, 2]
    assert lookup(*part.sequences, "") == [1]
    assert lookup(*part.links, "a") == lookup(*part.links, "gone") == [1]
    assert lookup(*part.phrases, "red fox") == [0, 2]
    assert lookup(*part.phrases, "grand hotel") == [0, 2]  # in a title as well
    assert part.titles.rows.tolist() == [0]
    starts, keys = part.phrase_lists
    for row, text in enumerate(["Grand Hotel\n\nThe Red Fox ran.", "red fox",
                                "A Grand Hotel and the Red Fox"]):  # fmt: skip
        expected = np.sort(keys_of(list(phrases(text))))
        assert keys[starts[row] : starts[row + 1]].tolist() == expected.tolist()
    assert part.positions[0] == 2.0
    assert np.isnan(part.positions[1:]).all()


@settings(max_examples=40)
@given(st.lists(tables, min_size=1, max_size=4), st.integers(0, 1000))
def test_merged_parts_are_one_part_of_all_rows(parts: list[list[Row]], first: int) -> None:
    firsts = np.cumsum([first, *map(len, parts)]).tolist()
    each = [index_rows(at, part, PARAMETERS) for at, part in zip(firsts, parts, strict=False)]
    together = index_rows(first, [row for part in parts for row in part], PARAMETERS)
    same(merge_parts(each), together)


@settings(max_examples=40)
@given(tables, st.lists(st.booleans(), min_size=8, max_size=8), st.integers(0, 9))
def test_a_thinned_part_is_one_of_the_rows_kept(
    table: list[Row], keep: list[bool], first: int
) -> None:
    kept = np.array(keep[: len(table)], np.bool_)
    kept[0] = True
    stay = [row for row, stays in zip(table, kept, strict=True) if stays]
    same(take_part(index_rows(50, table, PARAMETERS), kept, first),
         index_rows(first, stay, PARAMETERS))  # fmt: skip


def test_a_part_may_lose_all_rows_and_still_be_merged() -> None:
    part = index_rows(0, [Row(id="a", text="Red Fox", title="Red Fox", links=["b"])], PARAMETERS)
    nothing = take_part(part, np.zeros(1, np.bool_), 0)
    assert len(nothing) == 0
    same(merge_parts([nothing, part]), part)


def test_many_blocks_of_rows_are_as_one(monkeypatch: Any) -> None:
    table = [Row(id=f"a{n}", text=f"Red Fox and Blue N{n % 3}", links=["a1"]) for n in range(20)]
    whole = index_rows(0, table, PARAMETERS)
    monkeypatch.setattr(indexing, "_BLOCK", 3)
    same(index_rows(0, table, PARAMETERS), whole)


@settings(max_examples=10)
@given(tables)
def test_a_part_comes_back_from_read_only_memory_maps(
    tmp_path_factory: Any, table: list[Row]
) -> None:
    folder: Path = tmp_path_factory.mktemp("part")
    part = index_rows(3, table, PARAMETERS)
    arrays = {"vectors": part.vectors, **part_arrays(part)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}
    back = part_from_arrays(3, mapped["vectors"], mapped)
    same(back, part)
    same(merge_parts([back]), part)
    same(take_part(back, np.ones(len(table), np.bool_), 3), part)
