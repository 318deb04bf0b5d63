"""Time the in-memory ``Lattice`` beside blocked numpy Y·Yᵀ of the same size, in one process.

    python benchmarks/solver.py [--anchors 1200] [--runs 40] [--json FILE]

Build (mutual 6-nearest-neighbour graph), settle, bundle of 5 and full receipt, warm. The
product is what any exact neighbour search must at least compute; it is taken in blocks of
256 rows. Figures are medians in milliseconds, with the residual that the solve reached.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from oscillink_store import Lattice

STAGES = ("build", "settle", "bundle", "receipt")
BLOCK = 256


def run(
    Y: npt.NDArray[np.float32], psi: npt.NDArray[np.float32]
) -> tuple[list[float], dict[str, Any]]:
    marks = [time.perf_counter()]
    lattice = Lattice(Y, kneighbors=6)
    marks.append(time.perf_counter())
    lattice.set_query(psi)
    lattice.settle()
    marks.append(time.perf_counter())
    lattice.bundle(5)
    marks.append(time.perf_counter())
    receipt = lattice.receipt()
    marks.append(time.perf_counter())
    return (1000 * np.diff(marks)).tolist(), receipt


def product(Y: npt.NDArray[np.float32]) -> float:
    started = time.perf_counter()
    for start in range(0, len(Y), BLOCK):
        Y[start : start + BLOCK] @ Y.T
    return 1000 * (time.perf_counter() - started)


def measure(anchors: int, dimension: int, runs: int) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((anchors, dimension)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    psi = Y[7] + 0.05 * rng.standard_normal(dimension).astype(np.float32)
    run(Y, psi)
    product(Y)
    stages, products = [], []
    for _ in range(runs):
        products.append(product(Y))
        taken, receipt = run(Y, psi)
        stages.append(taken)
    medians = np.median(stages, axis=0)
    total = float(np.median(np.sum(stages, axis=1)))
    return {
        "anchors": anchors,
        "dimension": dimension,
        **{name: round(value, 3) for name, value in zip(STAGES, medians.tolist(), strict=True)},
        "total": round(total, 3),
        "least total": round(float(np.sum(stages, axis=1).min()), 3),
        "Y·Yᵀ": round(float(np.median(products)), 3),
        "total / Y·Yᵀ": round(total / float(np.median(products)), 2),
        "iterations": receipt["iterations"],
        "residual": receipt["residual"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--anchors", type=int, default=1200)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    results = [measure(arguments.anchors, dimension, arguments.runs) for dimension in (64, 384)]
    table = Table(title="Lattice in memory: median milliseconds, warm")
    for name in results[0]:
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(*(f"{v:.2g}" if isinstance(v, float) and v < 0.001 else str(v)
                        for v in result.values()))  # fmt: skip
    Console(width=130).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
