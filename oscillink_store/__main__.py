"""``python -m oscillink_store`` is the command line."""

from __future__ import annotations

from oscillink_store.cli import main

if __name__ == "__main__":
    main()
