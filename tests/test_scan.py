"""The scan over codes against plain numpy: codes, order, ties, parts, masks, moments, errors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.kernels import scan
from oscillink_store.kernels.dense import gather, products
from oscillink_store.kernels.scan import (
    Part,
    Scanned,
    best_listed,
    best_rows,
    encode_query,
    quantize,
)

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


def best_in(codes, scales, psi, count, allowed=None):
    """The best rows of one part that begins at slot 0."""
    return best_rows([(0, codes, scales)], psi, count, allowed)


def similarities(vectors, rows, psi):
    return products(gather([(0, vectors)], rows), psi)


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
    found = best_in(codes, scales, psi, count, allowed)
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
        assert len(best_in(codes, scales, psi, 0).rows) == 0
        assert len(best_in(codes[:0], scales[:0], psi, 5).rows) == 0
        none = best_in(codes, scales, psi, 5, np.zeros(10, np.uint8))
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
        found = best_in(mapped[0], mapped[1], psi, 20)
        assert found.rows.tolist() == best_in(codes, scales, psi, 20).rows.tolist()
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
            told = best_in(codes, scales, psi, 300).error
            assert told == pytest.approx(float(np.std(errors[-1])), rel=0.1)
        assert abs(np.mean(errors)) < 5e-4


class TestProducts:
    """The integers themselves, which the scan leaves in its scratch array."""

    def whole(
        self, codes: npt.NDArray[np.uint8], query: npt.NDArray[np.int16], dimension: int
    ) -> None:
        scales = np.ones(len(codes), np.float32)
        table, padded = scan._table([(0, codes, scales)], query.shape[1])
        planes = scan._planes(query)
        picked, totals = np.empty(2_000, np.int64), np.empty(len(codes) + 4, np.int32)
        scores, slots = np.empty(len(codes), np.float32), np.empty(len(codes), np.int64)
        wanted = decoded(codes, dimension) @ query.ravel()[:dimension].astype(np.int64)
        held, offset = 0, 8 * int(query.astype(np.int64).sum())
        for line in table:  # one after the other: each overwrites the scratch array
            held = scan._scan(
                line[None], 0, len(codes), planes, np.empty(0, np.uint8), picked, totals,
                scores, slots, np.empty((0, 3)),
            )  # fmt: skip
            rows = slice(int(line[0]), int(line[1]))
            assert held == line[1] - line[0]
            assert (totals[:held].astype(np.int64) - offset == wanted[rows]).all()
            assert set(slots[:held].tolist()) == set(range(len(codes))[rows])
            order = np.argsort(slots[:held])
            assert (scores[:held][order] == wanted[rows].astype(np.float32)).all()
        assert bool(padded) == ((dimension + 1) // 2 % 64 > 0)

    @pytest.mark.parametrize(
        "dimension", [1, 2, 3, 31, 63, 64, 126, 127, 128, 129, 130, 255, 257, 384, 385, 5_000]
    )
    def test_against_int64(self, dimension: int) -> None:
        rng = np.random.default_rng(dimension)
        for rows in (1, 2, 3, 4, 5, 63, 64, 65, 127, 130, 500):
            codes, _ = quantize(unit(rng, rows, dimension))
            self.whole(codes, encode_query(unit(rng, dimension))[0], dimension)

    @pytest.mark.parametrize("dimension", [1, 128, 383, 4_096])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_the_largest_sums(self, dimension: int, sign: int) -> None:
        psi = np.full(dimension, sign * dimension**-0.5, np.float32)
        codes, _ = quantize(np.sign([psi, -psi, psi, -psi, psi]).astype(np.float32))
        self.whole(codes, encode_query(psi)[0], dimension)


def split(
    rng: np.random.Generator, vectors: Floats, pieces: int, gap: int
) -> tuple[list[Part], npt.NDArray[np.int64]]:
    """Parts of some rows each, none perhaps, with empty slots between; the slot of each row."""
    cuts = np.sort(rng.integers(0, len(vectors) + 1, pieces - 1)).tolist()
    parts: list[Part] = []
    slots, first = [np.empty(0, np.int64)], 0
    for low, high in zip([0, *cuts], [*cuts, len(vectors)], strict=True):
        first += int(rng.integers(0, gap + 1))
        parts.append((first, *quantize(vectors[low:high])))
        slots.append(np.arange(first, first + high - low))
        first += high - low
    rng.shuffle(parts)
    return parts, np.concatenate(slots)


def same(a: Scanned, b: Scanned) -> bool:
    """Equal to the bit."""
    return a.rows.tolist() == b.rows.tolist() and a[1:] == b[1:]


class TestParts:
    def agree(
        self,
        rng: np.random.Generator,
        vectors: Floats,
        psi: Floats,
        count: int,
        *,
        pieces: int,
        gap: int = 0,
        allowed: float | None = None,
        alive: float | None = None,
    ) -> None:
        parts, slots = split(rng, vectors, pieces, gap)
        size = int(slots.max(initial=-1)) + 1 + int(rng.integers(0, 3))
        masks: dict[str, Mask | None] = {
            name: None if share is None else (rng.random(size) < share).astype(np.uint8)
            for name, share in (("allowed", allowed), ("alive", alive))
        }
        left = np.ones(len(vectors), bool)
        for mask in masks.values():
            if mask is not None:
                left &= mask[slots] != 0
        scores, similar = code_scores(*quantize(vectors), psi)
        rows = np.flatnonzero(left)
        best = rows[np.lexsort((rows, -scores[rows]))][:count]
        found = best_rows(parts, psi, count, masks["allowed"], masks["alive"])
        assert found.rows.tolist() == np.sort(slots[best]).tolist()
        if 0 < count < len(vectors) and len(best) == count:
            assert found.cutoff == pytest.approx(similar[best].min(), abs=1e-12)
        else:
            assert found.cutoff == -np.inf
        if allowed is None or count == 0 or len(rows) == 0:
            assert (found.mean, found.deviation) == (0.0, 0.0)
        else:
            assert found.mean == pytest.approx(similar[rows].mean(), abs=1e-9)
            assert found.deviation == pytest.approx(similar[rows].std(), abs=1e-6)

    @given(
        st.integers(0, 60), st.integers(1, 9), st.integers(0, 70), st.integers(1, 5),
        st.integers(0, 4), st.sampled_from([None, 0.0, 0.4, 1.0]), st.sampled_from([None, 0.6]),
        st.integers(0, 2**32),
    )  # fmt: skip
    def test_few_rows_many_ties(
        self, rows: int, dimension: int, count: int, pieces: int, gap: int,
        allowed: float | None, alive: float | None, seed: int,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        vectors = rng.integers(-1, 2, (rows, dimension)).astype(np.float32)
        psi = rng.integers(-1, 2, dimension).astype(np.float32)
        self.agree(rng, vectors, psi, count, pieces=pieces, gap=gap, allowed=allowed, alive=alive)

    @pytest.mark.parametrize("dimension", [1, 33, 100, 128, 385])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_against_sorting(
        self, dimension: int, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scan, "_SHARED", 0 if threads == 2 else 1 << 62)
        rng = np.random.default_rng(dimension)
        vectors, psi = unit(rng, 5_000, dimension), unit(rng, dimension)
        for allowed, alive in ((None, None), (None, 0.7), (0.02, None), (0.3, 0.9), (0.0, 1.0)):
            for pieces, gap, count in ((1, 0, 100), (4, 700, 10), (9, 3, 6_000)):
                self.agree(
                    rng, vectors, psi, count,
                    pieces=pieces, gap=gap, allowed=allowed, alive=alive,
                )  # fmt: skip

    @pytest.mark.parametrize("dimension", [7, 128])
    @pytest.mark.parametrize("masked", [False, True])
    def test_neither_threads_nor_parts_change_a_bit(
        self, dimension: int, masked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(dimension)
        vectors, psi = unit(rng, 9_000, dimension), unit(rng, dimension)
        vectors[4_000:6_000] = vectors[:2_000]  # ties across the split
        allowed = (rng.random(9_000) < 0.8).astype(np.uint8) if masked else None
        wanted = best_rows([(0, *quantize(vectors))], psi, 500, allowed)
        for shared in (1 << 62, 0):
            monkeypatch.setattr(scan, "_SHARED", shared)
            for pieces in (1, 2, 7):
                parts, _ = split(rng, vectors, pieces, 0)
                assert same(best_rows(parts, psi, 500, allowed), wanted)

    def test_a_busy_second_thread_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        vectors, psi = unit(rng, 5_000, 12), unit(rng, 12)
        parts = [(0, *quantize(vectors))]
        wanted = best_rows(parts, psi, 20)
        monkeypatch.setattr(scan, "_SHARED", 0)
        done = threading.Event()
        busy = scan._helper().submit(done.wait, 60.0)
        try:
            assert same(best_rows(parts, psi, 20), wanted)
            assert not busy.done()
        finally:
            done.set()
        assert busy.result()

    def test_many_searches_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scan, "_SHARED", 0)
        rng = np.random.default_rng(0)
        parts, _ = split(rng, unit(rng, 6_000, 20), 3, 5)
        queries = unit(rng, 8, 20)
        wanted = [best_rows(parts, psi, 50) for psi in queries]
        found: dict[int, list[Scanned]] = {}

        def search(place: int) -> None:
            found[place] = [best_rows(parts, queries[place], 50) for _ in range(20)]

        threads = [threading.Thread(target=search, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(same(one, wanted[place]) for place in range(8) for one in found[place])
        assert len(found) == 8

    def test_no_rows(self) -> None:
        psi = np.ones(3, np.float32)
        nothing = (4, *quantize(np.empty((0, 3), np.float32)))
        for parts in ([], [nothing], [nothing, nothing]):
            assert same(
                best_rows(parts, psi, 5, np.ones(9, np.uint8)),
                Scanned(np.empty(0, np.int64), -np.inf, 0.0, 0.0, 0.0),
            )

    def test_what_does_not_fit_is_refused(self) -> None:
        psi, (codes, scales) = np.ones(6, np.float32), quantize(np.ones((4, 6), np.float32))
        for part in (
            (0, codes[:, :2], scales),
            (0, codes, scales[:3]),
            (0, codes.astype(np.int8), scales),
            (0, codes, scales.astype(np.float64)),
            (0, np.asfortranarray(codes), scales),
        ):
            with pytest.raises(ValueError, match="a part of codes"):
                best_rows([part], psi, 2)
        for first in (-1, 3):
            with pytest.raises(ValueError, match=f"slot {first}"):
                best_rows([(0, codes, scales), (first, codes, scales)], psi, 2)
        for mask in (np.ones(3, np.uint8), np.ones(4, np.int64), np.ones((4, 1), np.uint8)):
            with pytest.raises(ValueError, match="a mask"):
                best_rows([(0, codes, scales)], psi, 2, None, mask)


class TestGather:
    @given(
        st.integers(0, 50), st.integers(1, 20), st.integers(1, 6), st.integers(0, 4),
        st.integers(0, 2**32),
    )  # fmt: skip
    def test_rows_come_from_their_parts(
        self, rows: int, dimension: int, pieces: int, gap: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(rows, dimension)).astype(np.float32)
        parts, slots = split(rng, vectors, pieces, gap)
        picked = rng.integers(0, rows, 30 if rows else 0)
        where = {int(slot): row for row, slot in enumerate(slots)}
        matrices = [
            (first, vectors[[where[first + i] for i in range(len(s))]]) for first, _, s in parts
        ]
        assert (gather(matrices, slots[picked]) == vectors[picked]).all()
        for slot in {-1, int(slots.max(initial=-1)) + 1, *range(60)} - set(where):
            with pytest.raises(IndexError, match=f"slot {slot}"):
                gather(matrices, np.array([*slots[picked], slot], np.int64))

    def test_what_does_not_fit_is_refused(self) -> None:
        a, rows = np.ones((4, 6), np.float32), np.arange(4)
        with pytest.raises(ValueError, match="at least one part"):
            gather([], rows)
        with pytest.raises(ValueError, match="share a slot"):
            gather([(3, a), (0, a)], rows)
        for other in (a[:, :5], a[:, ::2], a.astype(np.float64), a.ravel()):
            with pytest.raises(ValueError, match="a part is"):
                gather([(0, a), (4, other)], rows)
        with pytest.raises(ValueError, match="a query of shape"):
            products(a, np.ones(5, np.float32))


class TestSimilarities:
    @pytest.mark.parametrize("dimension", [1, 5, 15, 16, 17, 48, 100, 384])
    def test_the_bits_follow_from_the_order_of_the_sum(self, dimension: int) -> None:
        rng = np.random.default_rng(dimension)
        Y, psi = unit(rng, 40, dimension), unit(rng, dimension)
        terms = np.zeros((40, dimension + -dimension % 16))
        terms[:, :dimension] = Y.astype(np.float64) * psi.astype(np.float64)
        lanes = np.add.accumulate(terms.reshape(40, -1, 16), axis=1)[:, -1]
        for width in (8, 4, 2, 1):
            lanes = lanes[:, :width] + lanes[:, width:]
        assert (products(Y, psi) == lanes[:, 0]).all()
        assert (similarities(Y, np.arange(40), psi) == lanes[:, 0]).all()

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


# Slots of two parts and the best of them, from kernels that lie compiled beside the sources.
PROGRAM = """
import json, sys
import numpy as np
from oscillink_store.kernels.scan import best_listed, quantize
vectors = np.cos(np.arange(300 * 9, dtype=np.float32)).reshape(300, 9)
parts = [(0, *quantize(vectors[:120])), (120, *quantize(vectors[120:]))]
found = best_listed(parts, vectors[7], 20, np.arange(1, 300, 3))
print(json.dumps([found.rows.tolist(), found.cutoff, found.error, "numba" in sys.modules]))
"""


class TestListed:
    """Some slots alone: what a scan of all rows finds under a mask of these."""

    def agree(
        self, rng: np.random.Generator, vectors: Floats, psi: Floats, count: int, share: float,
        *, pieces: int, gap: int = 0,
    ) -> None:  # fmt: skip
        parts, slots = split(rng, vectors, pieces, gap)
        listed = slots[rng.random(len(slots)) < share]
        mask = np.zeros(int(slots.max(initial=-1)) + 1, np.uint8)
        mask[listed] = 1
        found, wanted = best_listed(parts, psi, count, listed), best_rows(parts, psi, count, mask)
        assert found.rows.tolist() == wanted.rows.tolist()
        assert found.error == wanted.error
        assert (found.mean, found.deviation) == (0.0, 0.0)
        assert found.cutoff == (wanted.cutoff if count < len(listed) else -np.inf)

    @given(
        st.integers(0, 60), st.integers(1, 9), st.integers(0, 70), st.integers(1, 5),
        st.integers(0, 4), st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.integers(0, 2**32),
    )  # fmt: skip
    def test_few_rows_many_ties(
        self, rows: int, dimension: int, count: int, pieces: int, gap: int, share: float, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        vectors = rng.integers(-1, 2, (rows, dimension)).astype(np.float32)
        psi = rng.integers(-1, 2, dimension).astype(np.float32)
        self.agree(rng, vectors, psi, count, share, pieces=pieces, gap=gap)

    @pytest.mark.parametrize("dimension", [1, 33, 128, 385])
    @pytest.mark.parametrize("share", [0.001, 0.3, 1.0])
    def test_many_rows(self, dimension: int, share: float) -> None:
        """More than are multiplied at a time."""
        rng = np.random.default_rng(dimension)
        vectors, psi = unit(rng, 5_000, dimension), unit(rng, dimension)
        for pieces, gap, count in ((1, 0, 100), (4, 700, 10), (9, 3, 6_000)):
            self.agree(rng, vectors, psi, count, share, pieces=pieces, gap=gap)

    def test_slots_that_are_in_no_part_are_refused(self) -> None:
        rng = np.random.default_rng(0)
        parts = [(first, *quantize(unit(rng, 10, 6))) for first in (5, 20)]
        for slots in ([4, 5], [15], [14, 15], [16, 20], [5, 18, 25], [29, 30], [30]):
            with pytest.raises(ValueError, match="not all in a part"):
                best_listed(parts, unit(rng, 6), 3, np.array(slots))
        for empty in ([], [(0, *quantize(np.empty((0, 6), np.float32)))]):
            with pytest.raises(ValueError, match="not all in a part"):
                best_listed(empty, unit(rng, 6), 3, np.array([0]))
            assert best_listed(empty, unit(rng, 6), 3, np.empty(0, np.int64)).rows.size == 0
        wrong = (0, np.zeros((3, 5), np.uint8), np.ones(3, np.float32))
        with pytest.raises(ValueError, match="for a query of 3 bytes"):
            best_listed([wrong], unit(rng, 6), 3, np.array([0]))

    def test_kernels_that_were_compiled_before_find_the_same(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        exec(PROGRAM, {})
        *found, _ = json.loads(capsys.readouterr().out)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(done.stdout) == [*found, False]
