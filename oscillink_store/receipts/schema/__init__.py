"""The published JSON Schema of a receipt's line."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from oscillink_store.receipts.layout import RECEIPT_VERSION

__all__ = ["receipt_schema"]


def receipt_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every receipt of the present version satisfies."""
    file = files(__name__).joinpath(f"receipt-{RECEIPT_VERSION}.json")
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema
