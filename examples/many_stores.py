"""Several stores searched as one: the answer, its receipts in layers, and a store that is away.

python examples/many_stores.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import oscillink_store as osc

NOTES = {
    "pumps": {
        "Pump 4": "Replaced after it leaked into the cooling loop.",
        "Cooling loop": "Two pumps, one spare; drained in spring.",
    },
    "stock": {
        "Spare parts": "Seals for pumps are on the third shelf, filters on the fifth.",
        "Order 17": "Twelve seals and a pressure gauge, due in May.",
    },
    "staff": {
        "Shift plan": "Ann has the pumps in May, Bob has the valves.",
        "Training": "How to change the seals of a pump: every spring, one day.",
    },
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, notes in NOTES.items():
            with osc.connect(root / f"{name}.osc", embedder="hash") as store:
                store.ingest([{"id": t, "title": t, "text": text} for t, text in notes.items()])

        stores = {name: root / f"{name}.osc" for name in NOTES}
        with osc.connect_many(stores, ledger=root / "ledger", timeout=30.0) as many:
            print(f"{len(many)} anchors in {', '.join(many.names)}\n")
            result = many.search("Who changes the seals of the pumps?", k=4)
            for hit in result:
                print(f"{hit.rank}  {hit.score:6.3f}  {hit.store:6}  {hit.id:12}  {hit.text}")
            print(f"\n{result.receipt.summary()}\n")

            print(f"layers agree: {result.verify()}")
            print(many.replay(result.receipt))
            print(f"everything verifies: {many.verify().ok}\n")

            stores["stock"].rename(root / "away")
            rest = many.search("Who changes the seals of the pumps?", k=2)
            for left in rest.missing:
                print(f"without {left.store}, from the {left.round} on: {left.error}")
            print(f"{rest.ids}, verified all the same: {rest.verify()}")


if __name__ == "__main__":
    main()
