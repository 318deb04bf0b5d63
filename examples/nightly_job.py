"""An import that runs every night: only what changed costs anything, what left is deleted.

python examples/nightly_job.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import oscillink_store as osc


def export(path: Path, notes: dict[str, str]) -> None:
    lines = [json.dumps({"id": name, "title": name, "text": text}) for name, text in notes.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    notes = {
        "Pump 4": "Replaced after it leaked into the Cooling loop.",
        "Cooling loop": "Two pumps, one spare; drained in spring.",
        "Spare parts": "Seals for Pump 4 are on the third shelf.",
    }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "notes.jsonl"
        with osc.connect(Path(folder) / "notes.osc", embedder="hash") as store:
            export(source, notes)
            print("first night  ", counts(store.ingest_job(source, name="nightly", sync=True)))
            store.tag("first-night")

            print("nothing new  ", counts(store.ingest_job(source, name="nightly", sync=True)))

            del notes["Spare parts"]
            notes["Cooling loop"] = "Three pumps since Pump 4 was doubled."
            notes["Valve 2"] = "Closes the Cooling loop by hand."
            export(source, notes)
            print("second night ", counts(store.ingest_job(source, name="nightly", sync=True)))

            print("now          ", store.search("What is next to Pump 4?", k=3).ids)
            with store.snapshot(tag="first-night") as then:
                print("at that time ", then.search("What is next to Pump 4?", k=3).ids)


def counts(report: osc.JobReport) -> str:
    return (
        f"{report.added} added, {report.updated} updated, {report.deleted} deleted, "
        f"{report.unchanged} unchanged"
    )


if __name__ == "__main__":
    main()
