"""Move from LanceDB or Chroma: a store beside the table, which stays as it is.

python examples/move_from_lancedb.py

For a collection of Chroma (with ``pip install chromadb``) write ``chroma://PATH/COLLECTION``
instead of ``lancedb://PATH/TABLE``; on a command line either is
``oscillink-store adopt lancedb://PATH/TABLE``.
"""

from __future__ import annotations

import tempfile

import lancedb

import oscillink_store as osc
from oscillink_store.stdlib_docs import standard_library, stdlib_docs


def main() -> None:
    embedder = osc.embedder("hash")  # put the model here that made your vectors
    with tempfile.TemporaryDirectory() as folder:
        rows = stdlib_docs(standard_library() / "asyncio")
        vectors = embedder.embed([row["text"] for row in rows])
        data = [
            {"id": row["id"], "text": row["text"], "vector": vector,
             "module": row["module"], "line": row["line"]}
            for row, vector in zip(rows, vectors, strict=True)
        ]  # fmt: skip
        table = lancedb.connect(folder).create_table("docs", data)
        question = "wait until enough tasks have come to a barrier"
        nearest = table.search(embedder.embed_query(question)).limit(3).to_list()
        print("LanceDB:", [row["id"] for row in nearest])
        # the whole move; run it again to catch up with the table
        adopted = osc.adopt(
            f"lancedb://{folder}/docs",
            embedder=embedder,
            columns={"sequence": "module", "position": "line"},
        )
        with osc.connect(adopted.store, embedder=embedder) as store:
            print(f"{adopted.job.added} rows, edges: {store.stats()['edges']}")
            print("lattice:", store.search(question, k=3).ids)


if __name__ == "__main__":
    main()
