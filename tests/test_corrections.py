"""From replaced arcs to changed entries and rank-1 terms, against dicts of arcs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.graph import TypedGraph, empty_graph
from oscillink_store.lattice.records import empty_records, merge_runs
from oscillink_store.lattice.upkeep import Arcs, corrections
from oscillink_store.model import IN, OUT, RELATION_MASK

ANCHORS = 7
SAME_WAY, BY_TARGET = 4, 1
"""A relation whose arcs weigh the same either way, and one where it depends on the target."""

Links = dict[int, set[int]]
links = st.dictionaries(
    st.integers(0, ANCHORS - 1), st.sets(st.integers(0, ANCHORS - 1), max_size=4), max_size=ANCHORS
)
weights = st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=ANCHORS, max_size=ANCHORS)


def weight(relation: int, source: int, target: int, of_target: list[float]) -> float:
    return of_target[target] if relation == BY_TARGET else 1.0 / (2 + source + target)


def replaced(
    relation: int, given_: Links, of_target: list[float], so_far: Links, partly: set[int]
) -> Arcs:
    """Arcs of the rows in ``given_``, in no particular order of targets.

    Of the rows ``partly`` only those that are not among the arcs ``so_far``, and the other way
    round.
    """
    rows = sorted(given_)
    told = {
        row: given_[row] ^ so_far.get(row, set()) if row in partly else given_[row] for row in rows
    }
    pairs = [
        (source, target)
        for source in rows
        for target in sorted(told[source], key=lambda target: target * 5 % ANCHORS)
    ]
    values = [
        weight(relation, *pair, of_target) if pair[1] in given_[pair[0]] else 0.0 for pair in pairs
    ]
    return Arcs(
        relation=relation,
        rows=np.array(rows, np.int64),
        source=np.array([source for source, _ in pairs], np.int64),
        target=np.array([target for _, target in pairs], np.int64),
        weight=np.array(values, np.float32),
        incoming=np.array([of_target[row] for row in rows], np.float32)
        if relation == BY_TARGET
        else None,
        partly=np.array([row in partly for row in rows], np.bool_) if partly else None,
    )


def expected_entries(
    arcs: dict[int, Links], of_target: list[float]
) -> dict[tuple[int, int, int], tuple[int, float]]:
    cells: dict[tuple[int, int, int], tuple[int, float]] = {}
    for relation, out in arcs.items():
        for source, targets in out.items():
            for target in targets:
                value = float(np.float32(weight(relation, source, target, of_target)))
                for cell, flag in (((source, target), OUT), ((target, source), IN)):
                    flags, most = cells.get((*cell, relation), (0, 0.0))
                    cells[*cell, relation] = (flags | flag, max(most, value))
    return cells


def entries_of(graph: TypedGraph) -> dict[tuple[int, int, int], tuple[int, float]]:
    found = graph.entries(np.arange(ANCHORS))
    codes = found.relation & RELATION_MASK
    keys = zip(found.sources().tolist(), found.indices.tolist(), codes.tolist(), strict=True)
    flags = (found.relation & ~np.uint8(RELATION_MASK)).tolist()
    return dict(zip(keys, zip(flags, found.weights.tolist(), strict=True), strict=True))


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from([SAME_WAY, BY_TARGET]), links, max_size=2),
            st.sets(st.integers(0, ANCHORS - 1), max_size=2),
            weights,
            st.sets(st.integers(0, ANCHORS - 1)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_lattice_is_that_of_all_arcs(
    changes: list[tuple[dict[int, Links], set[int], list[float], set[int]]],
) -> None:
    graph = empty_graph()
    arcs: dict[int, Links] = {SAME_WAY: {}, BY_TARGET: {}}
    of_target = [1.0] * ANCHORS
    gone: set[int] = set()
    for given_, leaving, wanted, some in changes:
        removed = leaving - gone
        gone |= leaving
        news: list[Arcs] = []
        before = expected_entries(arcs, of_target)
        for out in arcs.values():
            for source in list(out):
                out[source] = set() if source in gone else out[source] - gone
        for relation, rows in given_.items():
            new = {
                source: targets - gone - {source}
                for source, targets in rows.items()
                if source not in gone
            }
            if relation == BY_TARGET:
                for row in new:
                    of_target[row] = wanted[row]
                # who points at the others anew finds the weight that they have
            partly = some if relation == SAME_WAY else set()
            news.append(replaced(relation, new, of_target, arcs[relation], partly))
            arcs[relation] |= new
        records, terms = corrections(graph, np.array(sorted(removed), np.int64), news)
        graph = TypedGraph(empty_graph().base, merge_runs([graph.corrections, records]))
        after = expected_entries(arcs, of_target)
        assert entries_of(graph) == after
        # only what changes is told, and every edge of another weight has a term
        changed = {cell for cell in before | after if before.get(cell) != after.get(cell)}
        assert len(records.rows) == len(changed)
        edges = {cell for cell in changed if cell[0] < cell[1]}
        nothing = (0, 0.0)
        deltas = {
            cell: after.get(cell, nothing)[1] - before.get(cell, nothing)[1] for cell in edges
        }
        told = zip(*(column.tolist() for column in terms[:3]), strict=True)
        assert dict(zip(told, terms.delta.tolist(), strict=True)) == {
            cell: delta for cell, delta in deltas.items() if delta
        }
        assert terms.weight.tolist() == [
            after.get(cell, nothing)[1]
            for cell in zip(*(c.tolist() for c in terms[:3]), strict=True)
        ]


def test_nothing_comes_of_nothing() -> None:
    records, terms = corrections(empty_graph(), np.empty(0, np.int64), [])
    assert [len(column) for column in (*records, *terms)] == [0] * 9
    assert [column.dtype for column in records] == [c.dtype for c in empty_records()]
    assert terms.relation.dtype == np.uint8
