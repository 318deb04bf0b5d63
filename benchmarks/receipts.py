"""What receipts cost: a search's time, a verification's, and their bytes.

    python benchmarks/receipts.py [--anchors 100000] [--receipts 1000000] [--fold] [--json FILE]

Searches with full, extended receipts under batch and under sync durability stand beside light
ones that are not recorded at all, in turn on one store. Then a ledger as long as asked for,
of lines as long as those of real searches, sealed with a key, is verified while it lies in
write-ahead files and, with ``--fold`` (which takes a while), again once it is folded. Medians in
milliseconds; the residual and the replays of a sample stand beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import interleaved, medians, memory_mib
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rows import Rows, question_sample

import oscillink_store as osc
from oscillink_store.engine.verify import verify
from oscillink_store.receipts.key import Key
from oscillink_store.storage.wal import Ledger

KEY = Key.generate("bench")
KINDS: dict[str, dict[str, Any]] = {
    "not recorded, light": {"durability": "off", "detail": "light", "payload": "minimal"},
    "full, batch": {"durability": "batch"},
    "full, batch, sealed": {"durability": "batch", "key": KEY},
    "full, sync": {"durability": "sync"},
    "light, minimal, batch": {"detail": "light", "payload": "minimal"},
}


def searches(folder: Path, anchors: int, count: int, console: Console) -> dict[str, Any]:
    rows = Rows()
    path = folder / "searched.osc"
    with console.status(f"{anchors:,} anchors: ingest"), osc.connect(path) as store:
        store.ingest(rows.table(0, anchors))
    texts, psi = question_sample(rows, anchors, count)
    stores = {kind: osc.connect(path, **options) for kind, options in KINDS.items()}
    try:
        taken = interleaved(
            {
                kind: lambda i, store=store: store.search(texts[i], vector=psi[i])
                for kind, store in stores.items()
            },
            count,
            console,
        )
        sample = [stores["full, batch"].search(texts[i], vector=psi[i]) for i in range(20)]
        replays = [stores["full, batch"].replay(result.receipt) for result in sample]
        sizes = {
            kind: len(store.search(texts[0], vector=psi[0]).receipt.to_bytes())
            for kind, store in stores.items()
        }
    finally:
        for store in stores.values():
            store.close()
    base = taken["not recorded, light"]
    return {
        "anchors": anchors,
        "queries": count,
        "milliseconds": medians(taken),
        "added": {
            kind: round(statistics.median(a - b for a, b in zip(values, base, strict=True)), 3)
            for kind, values in taken.items()
        },
        "bytes": sizes,
        "residual": max(float(result.receipt.content["residual"]) for result in sample),
        "replayed": sum(report.ok for report in replays),
        "content": dict(sample[0].receipt.content),
    }


def ledger(
    folder: Path, receipts: int, content: dict[str, Any], console: Console, *, fold: bool
) -> dict[str, Any]:
    path = folder / "ledger.osc"
    row = {"id": "a", "text": "one", "vector": [1.0, 2.0]}
    with osc.connect(path) as store:
        store.ingest([row])
    with Ledger(path / "receipts", key=KEY) as writing:
        for number in track(range(receipts), "recording", console=console, transient=True):
            writing.record({**content, "n": number}, payload="extended", seconds=0.003)
    figures: dict[str, Any] = {
        "receipts": receipts,
        "mib": round(sum(f.stat().st_size for f in (path / "receipts").iterdir()) / 2**20),
        "pending": verified(path, receipts),
    }
    if not fold:
        return figures
    with console.status("folding"), osc.connect(path) as store:
        started = time.perf_counter()
        store.maintain()
        figures["fold_seconds"] = round(time.perf_counter() - started, 1)
        figures["folded"] = store.stats()["folded_receipts"]
    figures["table"] = verified(path, receipts)
    return figures


def verified(path: Path, receipts: int) -> dict[str, Any]:
    started = time.perf_counter()
    report = verify(path, None, {KEY.id: KEY})
    seconds = time.perf_counter() - started
    assert report.ok, report.problems[:3]
    assert report.sealed == receipts
    return {"seconds": round(seconds, 1), "rss_mib": round(memory_mib("VmRSS"))}


def show(figures: dict[str, Any], console: Console) -> None:
    told = figures["searches"]
    table = Table(title=f"{told['anchors']:,} anchors, k = 10", title_justify="left")
    for name in ("receipt", "ms", "adds, ms", "ratio", "bytes"):
        table.add_column(name, justify="left" if name == "receipt" else "right")
    base = told["milliseconds"]["not recorded, light"]
    for kind in KINDS:
        taken = told["milliseconds"][kind]
        table.add_row(
            kind, f"{taken:.2f}", f"{told['added'][kind]:.2f}", f"{taken / base:.2f}",
            f"{told['bytes'][kind]:,}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"residual at most {told['residual']:.1e}, {told['replayed']} of 20 replayed to the bit"
    )
    if "ledger" in figures:
        book = figures["ledger"]
        console.print(
            f"{book['receipts']:,} receipts, {book['mib']:,} MiB: verified in "
            f"{book['pending']['seconds']} s from write-ahead files (process at "
            f"{book['pending']['rss_mib']} MiB)"
        )
        if "table" in book:
            console.print(
                f"once folded in {book['table']['seconds']} s ({book['table']['rss_mib']} MiB); "
                f"folding {book['folded']:,} took {book['fold_seconds']} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anchors", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--receipts", type=int, default=1_000_000, help="0 leaves it out")
    parser.add_argument("--fold", action="store_true", help="verify the ledger once folded too")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    console = Console()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = searches(folder, arguments.anchors, arguments.queries, console)
        content = told.pop("content")
        figures["searches"] = told
        if arguments.receipts:
            figures["ledger"] = ledger(
                folder, arguments.receipts, content, console, fold=arguments.fold
            )
    show(figures, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
