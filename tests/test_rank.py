"""Evidence, sources and final order against sums written out by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oscillink_store.lattice.rank import (
    evidence,
    final_scores,
    order,
    pooled,
    scaled,
    source_rows,
    source_weights,
    standardize,
    text_moments,
)
from oscillink_store.model import Parameters

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
columns = st.integers(1, 80).flatmap(lambda n: arrays(np.float64, n, elements=finite))


class TestMoments:
    @given(st.lists(st.floats(0, 50), max_size=60), st.integers(0, 200))
    def test_all_other_anchors_count_as_zero(self, scores: list[float], more: int) -> None:
        anchors = len(scores) + more
        mean, deviation = text_moments(np.array(scores), anchors)
        if not scores:
            assert (mean, deviation) == (0.0, 0.0)
            return
        whole = [*scores, *[0.0] * more]
        assert mean == pytest.approx(statistics.fmean(whole), abs=1e-9)
        assert deviation == pytest.approx(statistics.pstdev(whole), abs=1e-5)

    @given(st.lists(st.floats(0, 50), min_size=1, max_size=60), st.randoms())
    def test_the_order_of_the_matches_has_no_say(self, scores: list[float], random: object) -> None:
        wanted = text_moments(np.array(scores), 100)
        random.shuffle(scores)
        assert text_moments(np.array(scores), 100) == wanted

    @given(st.lists(st.lists(st.floats(-9, 9), max_size=20), max_size=6))
    def test_moments_of_groups_are_those_of_all(self, groups: list[list[float]]) -> None:
        told = [
            (len(group), statistics.fmean(group), statistics.pstdev(group)) if group
            else (0, 7.0, 7.0) for group in groups
        ]  # fmt: skip
        whole = [value for group in groups for value in group]
        mean, deviation = pooled(told)
        if not whole:
            assert (mean, deviation) == (0.0, 0.0)
            return
        assert mean == pytest.approx(statistics.fmean(whole), abs=1e-9)
        assert deviation == pytest.approx(statistics.pstdev(whole), abs=1e-6)
        assert pooled(told[::-1]) == (mean, deviation)
        if sum(map(bool, groups)) == 1:
            assert (mean, deviation) == next(each[1:] for each in told if each[0])

    def test_no_anchors(self) -> None:
        assert text_moments(np.empty(0), 0) == (0.0, 0.0)

    def test_standard_scores(self) -> None:
        assert standardize(np.array([1.0, 3.0]), 2.0, 0.5).tolist() == [-2.0, 2.0]
        # nothing stands out where all are alike
        assert standardize(np.array([1.0, 3.0]), 2.0, 0.0).tolist() == [0.0, 0.0]


class TestEvidence:
    def test_the_sum(self) -> None:
        parameters = Parameters(text_weight=0.25, name_bonus=3.0)
        dense, text = np.array([1.0, -2.0, 0.5]), np.array([4.0, 0.0, 8.0])
        named = np.array([False, True, False])
        both = evidence(dense, text, named, parameters)
        assert both.tolist() == [2.0, 1.0, 2.5]
        assert evidence(dense, None, named, parameters).tolist() == [1.0, 1.0, 0.5]
        assert evidence(None, text, named, parameters).tolist() == [1.0, 3.0, 2.0]
        assert evidence(None, None, named, parameters).tolist() == [0.0, 3.0, 0.0]

    def test_it_leaves_its_parts_alone(self) -> None:
        dense = np.ones(3)
        evidence(dense, np.ones(3), np.ones(3, np.bool_), Parameters())
        assert dense.tolist() == [1.0, 1.0, 1.0]


class TestScaled:
    @given(columns, st.integers(1, 60))
    def test_best_is_one_and_the_floor_zero(self, scores: np.ndarray, floor: int) -> None:
        parameters = Parameters(evidence_floor_rank=floor)
        result = scaled(scores, parameters)
        down = sorted(scores.tolist(), reverse=True)
        low = down[min(floor, len(down)) - 1]
        if low == down[0]:
            assert result.tolist() == [1.0] * len(scores)
            return
        assert result.max() == 1.0
        for value, given_ in zip(result.tolist(), scores.tolist(), strict=True):
            assert value == pytest.approx((given_ - low) / (down[0] - low), rel=1e-9, abs=1e-12)

    def test_nothing(self) -> None:
        assert len(scaled(np.empty(0), Parameters())) == 0


class TestOrder:
    @given(st.lists(st.integers(0, 4), max_size=40), st.randoms(use_true_random=False))
    def test_ties_go_to_the_lower_row(self, scores: list[int], random: object) -> None:
        rows = list(range(100, 100 + 3 * len(scores), 3))
        random.shuffle(rows)
        found = order(np.array(scores, np.float64), np.array(rows, np.int64))
        wanted = sorted(range(len(scores)), key=lambda place: (-scores[place], rows[place]))
        assert found.tolist() == wanted

    def test_sources_are_the_best_few(self) -> None:
        scores, rows = np.array([1.0, 5.0, 5.0, 3.0]), np.array([7, 9, 8, 1])
        assert source_rows(scores, rows, Parameters(sources=3)).tolist() == [2, 1, 3]
        assert source_rows(scores, rows, Parameters(sources=9)).tolist() == [2, 1, 3, 0]
        assert source_rows(scores[:1], rows[:1], Parameters()).tolist() == [0]

    @given(columns)
    def test_every_source_counts(self, scores: np.ndarray) -> None:
        rows = np.arange(len(scores))
        parameters = Parameters()
        strength = scaled(scores, parameters)
        sources = source_rows(scores, rows, parameters)
        weights = source_weights(strength, sources)
        assert len(sources) == min(parameters.sources, len(scores))
        assert (weights[sources] > 0).all()
        assert np.count_nonzero(weights) == len(sources)
        assert weights.max() == 1.0


class TestFinalScores:
    def test_the_sum(self) -> None:
        parameters = Parameters(gate_weight=3.0, facet_bonus=0.5)
        strength, gates = np.array([1.0, 0.0, 0.25]), np.array([0.5, 2.0, 0.0])
        faceted = np.array([True, False, True])
        assert final_scores(strength, gates, faceted, parameters).tolist() == [2.25, 3.0, 0.75]

    def test_without_gates_the_evidence_decides(self) -> None:
        strength = np.array([0.5, 1.0])
        none = np.zeros(2, np.bool_)
        assert final_scores(strength, np.zeros(2), none, Parameters()).tolist() == [0.5, 1.0]
        assert len(final_scores(np.empty(0), np.empty(0), none[:0], Parameters())) == 0

    @given(columns, st.floats(1e-6, 1e6))
    def test_the_scale_of_the_gates_has_no_say(self, gates: np.ndarray, factor: float) -> None:
        gates = np.abs(gates)
        none = np.zeros(len(gates), np.bool_)
        strength = np.linspace(0, 1, len(gates))
        one = final_scores(strength, gates, none, Parameters())
        two = final_scores(strength, gates * factor, none, Parameters())
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
        assert all(math.isfinite(score) for score in one.tolist())
