"""The command line: one module per group of commands, one boundary for all errors."""

from __future__ import annotations

from oscillink_store.cli.app import main

__all__ = ["main"]
