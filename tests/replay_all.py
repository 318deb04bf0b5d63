"""A program that replays every search of a store, as another process of the tests.

``replay_all.py STORE`` prints how many came out identical, and those that did not.
"""

from __future__ import annotations

import json
import sys

import oscillink_store as osc

if __name__ == "__main__":
    with osc.connect(sys.argv[1], read_only=True) as store:
        told = store.receipts(["kind", "body"]).to_pylist()
        searches = [osc.Receipt.from_json(row["body"]) for row in told if row["kind"] == "search"]
        reports = [store.replay(receipt) for receipt in searches]
    wrong = [str(report) for report in reports if not report.ok]
    print(json.dumps({"identical": sum(report.ok for report in reports), "wrong": wrong}))
