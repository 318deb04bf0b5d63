"""The scan over codes against plain numpy: codes, order, ties, masks, moments, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.kernels.scan import best_rows, encode_query, quantize, similarities

Floats = npt.NDArray[np.float32]


def unit(rng: np.random.Generator, *shape: int) -> Floats:
    vectors = rng.normal(size=shape)
    return np.ascontiguousarray(
        vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32
    )


def decoded(codes: npt.NDArray[np.uint8], dimension: int) -> npt.NDArray[np.int64]:
    """The codes c (N, D) as whole numbers."""
    halves = np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.int64) - 8
    assert (halves[:, dimension:] == 0).all()
    return halves[:, :dimension]


def code_scores(
    codes: npt.NDArray[np.uint8], scales: Floats, psi: Floats
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """What the scan sorts by, in float32 as it does, and the similarities by codes."""
    query, step = encode_query(psi)
    products = decoded(codes, len(psi)) @ query.ravel()[: len(psi)].astype(np.int64)
    assert np.abs(products).max(initial=0) < 2**31
    scores = products.astype(np.float32) * scales
    return scores, scores.astype(np.float64) * step


class TestCodes:
    @pytest.mark.parametrize("dimension", [1, 2, 3, 8, 31, 384])
    def test_they_are_within_half_a_step(self, dimension: int) -> None:
        vectors = unit(np.random.default_rng(dimension), 200, dimension)
        codes, scales = quantize(vectors)
        assert codes.shape == (200, (dimension + 1) // 2)
        assert (codes.dtype, scales.dtype) == (np.uint8, np.float32)
        whole = decoded(codes, dimension)
        assert np.abs(whole).max() == 7
        error = np.abs(whole * scales[:, None].astype(np.float64) - vectors)
        assert (error <= scales[:, None] * 0.500001).all()

    def test_rows_do_not_depend_on_their_block(self) -> None:
        vectors = unit(np.random.default_rng(0), 70_000, 3)
        codes, scales = quantize(vectors)
        for part in (slice(0, 5), slice(65_530, 65_545), slice(69_990, 70_000)):
            few, some = quantize(vectors[part])
            assert (few == codes[part]).all()
            assert (some == scales[part]).all()

    def test_a_row_of_zeros_has_codes_of_zero(self) -> None:
        codes, scales = quantize(np.zeros((2, 5), np.float32))
        assert (decoded(codes, 5) == 0).all()
        assert (scales == 1).all()

    @pytest.mark.parametrize("dimension", [1, 5, 384, 5_000, 70_000])
    def test_the_query_never_overflows(self, dimension: int) -> None:
        rng = np.random.default_rng(dimension)
        for psi in (unit(rng, dimension), np.full(dimension, dimension**-0.5, np.float32)):
            query, step = encode_query(psi)
            flat = query.ravel().astype(np.int64)
            assert (flat[dimension:] == 0).all()
            assert np.abs(flat[:dimension] * step - psi).max() <= 0.502 * step
            # the largest sum of products, unsigned halves of a byte included
            assert 15 * np.abs(flat).sum() < 2**31
            assert step <= np.abs(psi).max() / 1_900

    def test_a_query_of_zeros(self) -> None:
        query, step = encode_query(np.zeros(4, np.float32))
        assert step == 0.0
        assert not query.any()


def check(
    vectors: Floats, psi: Floats, count: int, allowed: npt.NDArray[np.uint8] | None = None
) -> None:
    codes, scales = quantize(vectors)
    scores, similar = code_scores(codes, scales, psi)
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    order = rows[np.lexsort((rows, -scores[rows]))][:count]
    found = best_rows(codes, scales, psi, count, allowed)
    assert sorted(found.rows.tolist()) == sorted(order.tolist())
    if len(order) < min(count, len(vectors)) or count >= len(vectors):
        assert found.cutoff == -np.inf  # nothing was cut off
    elif count:
        assert found.cutoff == pytest.approx(similar[order].min(), abs=1e-12)
    if allowed is not None and len(rows) and count:
        assert found.mean == pytest.approx(similar[rows].mean(), abs=1e-9)
        assert found.deviation == pytest.approx(similar[rows].std(), abs=1e-6)


class TestOrder:
    @pytest.mark.parametrize("dimension", [1, 2, 7, 64, 385])
    @pytest.mark.parametrize("count", [1, 10, 256, 2_999, 3_000, 9_999])
    def test_against_sorting(self, dimension: int, count: int) -> None:
        rng = np.random.default_rng(dimension + count)
        vectors, psi = unit(rng, 3_000, dimension), unit(rng, dimension)
        check(vectors, psi, count)
        for share in (0.01, 0.3, 1.0):
            check(vectors, psi, count, (rng.random(3_000) < share).astype(np.uint8))

    @given(
        st.integers(1, 40), st.integers(1, 6), st.integers(0, 45), st.integers(0, 2**32),
        st.booleans(),
    )  # fmt: skip
    def test_ties_go_to_the_lower_row(
        self, rows: int, dimension: int, count: int, seed: int, masked: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        vectors = rng.integers(-1, 2, (rows, dimension)).astype(np.float32)
        psi = rng.integers(-1, 2, dimension).astype(np.float32)
        mask = rng.integers(0, 2, rows).astype(np.uint8) if masked else None
        check(vectors, psi, count, mask)

    def test_nothing_to_find(self) -> None:
        rng = np.random.default_rng(0)
        vectors, psi = unit(rng, 10, 4), unit(rng, 4)
        codes, scales = quantize(vectors)
        assert len(best_rows(codes, scales, psi, 0).rows) == 0
        assert len(best_rows(codes[:0], scales[:0], psi, 5).rows) == 0
        none = best_rows(codes, scales, psi, 5, np.zeros(10, np.uint8))
        assert len(none.rows) == 0
        assert none.cutoff == -np.inf

    def test_arrays_may_be_mapped_read_only(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        vectors, psi = unit(rng, 500, 16), unit(rng, 16)
        codes, scales = quantize(vectors)
        for name, array in (("codes", codes), ("scales", scales), ("vectors", vectors)):
            np.save(tmp_path / name, array)
        mapped = [
            np.asarray(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
            for name in ("codes", "scales", "vectors")
        ]
        found = best_rows(mapped[0], mapped[1], psi, 20)
        assert found.rows.tolist() == best_rows(codes, scales, psi, 20).rows.tolist()
        exact = similarities(mapped[2], found.rows, psi)
        assert (exact == similarities(vectors, found.rows, psi)).all()

    def test_the_error_of_the_codes_is_as_told(self) -> None:
        rng = np.random.default_rng(0)
        vectors = unit(rng, 4_000, 256)
        codes, scales = quantize(vectors)
        errors = []
        for _ in range(5):
            psi = unit(rng, 256)
            _, similar = code_scores(codes, scales, psi)
            errors.append(similar - vectors.astype(np.float64) @ psi)
            told = best_rows(codes, scales, psi, 300).error
            assert told == pytest.approx(float(np.std(errors[-1])), rel=0.1)
        assert abs(np.mean(errors)) < 5e-4


class TestSimilarities:
    @pytest.mark.parametrize("dimension", [1, 7, 8, 9, 16, 100, 384])
    def test_against_float64(self, dimension: int) -> None:
        rng = np.random.default_rng(dimension)
        vectors, psi = unit(rng, 300, dimension), unit(rng, dimension)
        rows = rng.integers(0, 300, 50)
        wanted = vectors[rows].astype(np.float64) @ psi.astype(np.float64)
        np.testing.assert_allclose(similarities(vectors, rows, psi), wanted, rtol=0, atol=1e-15)

    def test_a_row_gives_the_same_bits_in_any_company(self) -> None:
        rng = np.random.default_rng(1)
        vectors, psi = unit(rng, 400, 96), unit(rng, 96)
        everything = similarities(vectors, np.arange(400), psi)
        shuffled = rng.permutation(400)
        assert (similarities(vectors, shuffled, psi) == everything[shuffled]).all()
        for row in (0, 17, 399):
            assert similarities(vectors, np.array([row]), psi)[0] == everything[row]
        assert len(similarities(vectors, np.empty(0, np.int64), psi)) == 0
