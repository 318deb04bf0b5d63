"""Ask a store from DuckDB: one question, a table of questions, and a join with your own data.

python examples/duckdb_join.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb

import oscillink_store as osc

TICKETS = [
    {"id": f"t{number}", "text": text, "product": product, "opened": opened}
    for number, (text, product, opened) in enumerate(
        [
            ("The export to CSV drops the last row of every sheet.", "sheets", "2026-01-04"),
            ("Exporting a sheet with formulas writes empty cells.", "sheets", "2026-02-11"),
            ("Login loops forever after the password was changed.", "accounts", "2026-02-12"),
            ("Password reset mails arrive an hour late.", "accounts", "2026-03-01"),
            ("Charts lose their colours in the PDF export.", "sheets", "2026-03-09"),
        ]
    )
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with osc.connect(Path(folder) / "tickets.osc", embedder="hash") as store:
            store.ingest(TICKETS)
            con = duckdb.connect()
            osc.attach(con, store)

            print("one question")
            print(con.sql("SELECT rank, id, text FROM coherent_search('export csv', k := 2)"))

            con.execute(
                "CREATE TABLE questions AS FROM (VALUES (1, 'password problems'), "
                "(2, 'colours in pdf')) AS q(number, question)"
            )
            print("a question per row")
            print(
                con.sql(
                    "SELECT q.number, m.rank, m.id FROM questions q, "
                    "coherent_search(q.question, k := 2) m ORDER BY 1, 2"
                )
            )

            print("open tickets per product, from the same store")
            print(con.sql("SELECT product, count(*) AS tickets FROM coherent_anchors GROUP BY 1"))
            osc.detach(con)
            con.close()


if __name__ == "__main__":
    main()
