"""A migration that is killed before one of its file operations."""

from __future__ import annotations

import sys
from pathlib import Path

from kill_writer import Countdown

import oscillink_store as osc


def main() -> None:
    root, count = sys.argv[1:]
    # a migration of nothing first, which loads all that there is to load
    assert osc.migrate(root, dry_run=True).steps
    countdown = Countdown(Path(root).resolve(), int(count))
    osc.migrate(root)
    print(int(count) - countdown.left)


if __name__ == "__main__":
    main()
