"""oscillink_store: an embedded retrieval store whose answers are connected and receipted.

``connect`` opens or creates a store; ``Lattice`` is the same mathematics in memory;
``attach`` makes a store queryable from DuckDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oscillink_store.engine.store import Store, connect
    from oscillink_store.errors import OscillinkError
    from oscillink_store.lattice.memory import Lattice
    from oscillink_store.model import (
        Fields,
        Hit,
        IngestReport,
        JobReport,
        MaintenanceReport,
        Parameters,
        SearchResult,
    )
    from oscillink_store.receipts.receipt import Receipt
    from oscillink_store.records import Record
    from oscillink_store.sql_binding import attach, detach

__all__ = [
    "Fields",
    "Hit",
    "IngestReport",
    "JobReport",
    "Lattice",
    "MaintenanceReport",
    "OscillinkError",
    "Parameters",
    "Receipt",
    "Record",
    "SearchResult",
    "Store",
    "attach",
    "connect",
    "detach",
]

__version__ = "0.1.0"

# Imported on first use, so that importing the package costs next to nothing.
_HOMES = {
    "Fields": "model",
    "Hit": "model",
    "IngestReport": "model",
    "JobReport": "model",
    "MaintenanceReport": "model",
    "Lattice": "lattice.memory",
    "OscillinkError": "errors",
    "Parameters": "model",
    "Receipt": "receipts.receipt",
    "Record": "records",
    "SearchResult": "model",
    "Store": "engine.store",
    "attach": "sql_binding",
    "connect": "engine.store",
    "detach": "sql_binding",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
