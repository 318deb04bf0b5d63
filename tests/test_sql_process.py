"""A process that ends in any state of affairs ends well: status 0 and nothing on stderr."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

START = """
import gc, sys, threading
import duckdb, numpy as np
import oscillink_store as osc

def embed(texts):
    return np.array([[len(text), text.count("a"), 1.0] for text in texts], np.float32)

con = duckdb.connect()
store = osc.connect(sys.argv[1], embedder=embed)
store.ingest([{"id": str(i), "title": f"Name {i}", "text": "a text " * i} for i in range(1, 9)])
osc.attach(con, store)

def hits(con=None):
    return len((con or globals()["con"]).execute("FROM coherent_search('text', k := 3)").fetchall())
"""

# The embedder above is a function of the main module, whose variables hold the connection.
# Each script prints 3 when it did what it says.
SCRIPTS = {
    "still attached": "print(hits())",
    "never queried": "print(3)",
    "detached": "hits(); osc.detach(con); print(3)",
    "attached twice": "osc.attach(con, store); print(hits())",
    "closed in order": "print(hits()); con.close(); store.close()",
    "store closed first": "print(hits()); store.close(); con.close()",
    "store closed, connection left": "print(hits()); store.close()",
    "connection closed, store left": "print(hits()); con.close()",
    "connection forgotten": "print(hits()); del con; gc.collect(); store.search('text')",
    "store forgotten": "del store; gc.collect(); print(hits())",
    "error kept": """
        try:
            con.execute("SELECT coherent_topk(NULL)").fetchall()
        except duckdb.Error as error:
            kept = error
        print(hits())
    """,
    "results not fetched": """
        print(hits())
        con.execute("FROM coherent_anchors, range(9000)")
        other = con.cursor()
        osc.attach(other, store)
        other.execute("SELECT a.i, m.* FROM range(20) a(i), coherent_search('text ' || a.i) m")
    """,
    "prepared statement left": """
        con.execute("PREPARE p AS FROM coherent_search($1, k := 3)")
        print(len(con.execute("EXECUTE p('text')").fetchall()))
    """,
    "relation left": """
        relation = con.sql("FROM coherent_search('text', k := 3)")
        view = con.sql("FROM coherent_anchors")
        print(len(relation.fetchall()))
    """,
    "arrow reader left": """
        print(hits())
        reader = con.sql("FROM coherent_anchors").to_arrow_reader(2)
        batch = reader.read_next_batch()
    """,
    "cursor left": "cursor = con.cursor(); osc.attach(cursor, store); print(hits(cursor))",
    "registering cursor closed": """
        con.close()
        base = duckdb.connect()
        cursor = base.cursor()
        osc.attach(cursor, store)
        cursor.close()
        osc.attach(base, store)
        print(hits(base))
    """,
    "threads done": """
        def run():
            with con.cursor() as cursor:
                osc.attach(cursor, store)
                hits(cursor)
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(hits())
    """,
    "default connection": """
        osc.attach(duckdb.default_connection(), store)
        print(len(duckdb.sql("FROM coherent_search('text', k := 3)").fetchall()))
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_process_ends_well(tmp_path: Path, name: str) -> None:
    script = START + textwrap.dedent(SCRIPTS[name])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script, str(tmp_path / "s.osc")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
