"""The README's Python runs, top to bottom, and so do the examples."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

RECALLED = {
    "langgraph_memory.py": [
        "You told me: The spare key is under the blue flower pot.",
        "You told me: The spare key is in the letter box.",
        "You told me: My sister Clara lives in Lisbon.",
        "You never told me.",
    ],
}


def test_the_readme_runs_top_to_bottom(tmp_path: Path) -> None:
    blocks = BLOCKS.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ranking = [line.split()[2] for line in done.stdout.splitlines() if re.match(r"[12] \d", line)]
    assert ranking == ["collegian", "hbu"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example_runs(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # in this process, which has loaded the frameworks; one example starts processes of its own
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    out, err = capfd.readouterr()
    assert out.strip()
    assert not err
    recalled = [line.strip() for line in out.splitlines() if "old me" in line]
    assert recalled == RECALLED.get(path.name, [])
