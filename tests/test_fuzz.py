"""Coverage-guided fuzzing of what reads a ledger; takes minutes, and a package of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
import atheris

with atheris.instrument_imports(include=["oscillink_store.receipts", "oscillink_store.storage"]):
    from oscillink_store.errors import StoreError
    from oscillink_store.receipts.entry import entry_of
    from oscillink_store.receipts.layout import raw_line
    from oscillink_store.storage import head_file
    from oscillink_store.storage.head_file import read_head
from pathlib import Path

head_file._PAUSE = 0.0  # nobody is writing the file meanwhile

head = Path(sys.argv.pop()) / "w.head"


def judge(data):
    try:
        entry_of(data)
    except StoreError:
        pass
    raw_line(data)
    head.write_bytes(data)
    read_head(head)


atheris.Setup(sys.argv, judge)
atheris.Fuzz()
"""


@pytest.mark.timeout(600)
def test_fuzzing_finds_no_crash(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install atheris, which CPython 3.11 to 3.13 have")
    from oscillink_store.receipts.chain import Head, extend
    from oscillink_store.storage.head_file import HeadFile, head_path

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    _, line = extend(Head(), {"kind": "search", "results": ["a"]}, writer="0123456789abcdef")
    (corpus / "line").write_bytes(line)
    HeadFile(tmp_path, "w", None, Head()).close()
    (corpus / "head").write_bytes(head_path(tmp_path, "w").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(corpus), "-max_total_time=120", "-max_len=4096",
         str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
