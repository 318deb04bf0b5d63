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
from oscillink_store.embed.hashing import HashEmbedder
from oscillink_store.engine.adopt import open_adopted
from oscillink_store.stdlib_docs import standard_library, stdlib_docs


def move(url: str, embedder: object) -> osc.Store:
    """The whole move: open the table, open the store, run the job (again, to catch up)."""
    adopted = open_adopted(url, {"sequence": "module", "position": "line"})
    store = osc.connect(adopted.beside, embedder=embedder)
    report = store.ingest_job(adopted.source, name=adopted.job, fields=osc.Fields())
    print(f"{report.added} rows of {url.rpartition('/')[2]}, edges: {store.stats()['edges']}")
    return store


def main() -> None:
    embedder = HashEmbedder()
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
        with move(f"lancedb://{folder}/docs", embedder) as store:
            print("lattice:", store.search(question, k=3).ids)


if __name__ == "__main__":
    main()
