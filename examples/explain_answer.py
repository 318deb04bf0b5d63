"""Why each hit is there: as text, and as a page that opens in a browser without a network.

python examples/explain_answer.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import oscillink_store as osc

LETTERS = [
    {"id": "pump", "title": "Pump 4", "text": "Pump 4 feeds the Cooling loop and has leaked."},
    {
        "id": "loop",
        "title": "Cooling loop",
        "text": "A closed circle of glycol. Drained by the Night shift in spring.",
    },
    {"id": "shift", "title": "Night shift", "text": "Six people, led by Ines Okafor."},
    {"id": "stairs", "title": "Stairs", "text": "Repainted yellow after the inspection."},
    {"id": "pump-2", "title": "Pump 2", "text": "Feeds the sprinklers; never leaked."},
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with osc.connect(Path(folder) / "plant.osc", embedder="hash") as store:
            store.ingest(LETTERS)
            # one source, so that all else is reached from it
            one = osc.Parameters(sources=1)
            result = store.search("Who has to know that Pump 4 leaked?", k=3, parameters=one)

        explanation = result.explain()
        print(explanation)

        # needs matplotlib: pip install 'oscillink-store[explain]'
        page = explanation.save(Path(folder) / "why.html")
        print(f"\n{page.name}: {page.stat().st_size // 1024} KiB")

        last = explanation.reasons[-1]
        steps = [(step.relations[0], round(step.coupling, 2)) for step in last.path]
        print(f"{explanation.nodes[last.node].name} is reached by {steps}")


if __name__ == "__main__":
    main()
