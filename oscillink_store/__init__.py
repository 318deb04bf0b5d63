"""oscillink_store: an embedded retrieval store whose answers are connected and receipted.

``connect`` opens or creates a store, ``connect_many`` searches several as one; ``Lattice`` is
the same mathematics in memory; ``attach`` makes a store queryable from DuckDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oscillink_store.cluster.cluster import Cluster
    from oscillink_store.cluster.opening import connect_cluster, create_cluster
    from oscillink_store.embed.resolve import resolve as embedder
    from oscillink_store.engine.adoption import adopt
    from oscillink_store.engine.chain import ChainResult
    from oscillink_store.engine.migrate import migrate
    from oscillink_store.engine.store import Store, connect
    from oscillink_store.errors import OscillinkError
    from oscillink_store.explanation.values import Explanation
    from oscillink_store.lattice.memory import Lattice
    from oscillink_store.many.result import ManyResult
    from oscillink_store.many.stores import ManyStores, connect_many
    from oscillink_store.model import Fields, Hit, Parameters, SearchResult
    from oscillink_store.receipts.key import Key
    from oscillink_store.receipts.receipt import Receipt
    from oscillink_store.records import Record
    from oscillink_store.reports import (
        ClusterReport,
        ClusterVerifyReport,
        GateReport,
        IngestReport,
        JobReport,
        MaintenanceReport,
        MigrationReport,
        ReplayReport,
    )
    from oscillink_store.sql_binding import attach, detach

__all__ = [
    "ChainResult",
    "Cluster",
    "ClusterReport",
    "ClusterVerifyReport",
    "Explanation",
    "Fields",
    "GateReport",
    "Hit",
    "IngestReport",
    "JobReport",
    "Key",
    "Lattice",
    "MaintenanceReport",
    "ManyResult",
    "ManyStores",
    "MigrationReport",
    "OscillinkError",
    "Parameters",
    "Receipt",
    "Record",
    "ReplayReport",
    "SearchResult",
    "Store",
    "adopt",
    "attach",
    "connect",
    "connect_cluster",
    "connect_many",
    "create_cluster",
    "detach",
    "embedder",
    "migrate",
]

__version__ = "0.1.0"

# Imported on first use, so that importing the package costs next to nothing.
_HOMES = {
    "ChainResult": "engine.chain",
    "Cluster": "cluster.cluster",
    "ClusterReport": "reports",
    "ClusterVerifyReport": "reports",
    "Explanation": "explanation.values",
    "Fields": "model",
    "GateReport": "reports",
    "Hit": "model",
    "IngestReport": "reports",
    "JobReport": "reports",
    "Key": "receipts.key",
    "MaintenanceReport": "reports",
    "MigrationReport": "reports",
    "Lattice": "lattice.memory",
    "ManyResult": "many.result",
    "ManyStores": "many.stores",
    "OscillinkError": "errors",
    "Parameters": "model",
    "Receipt": "receipts.receipt",
    "Record": "records",
    "ReplayReport": "reports",
    "SearchResult": "model",
    "Store": "engine.store",
    "adopt": "engine.adoption",
    "attach": "sql_binding",
    "connect": "engine.store",
    "connect_cluster": "cluster.opening",
    "connect_many": "many.stores",
    "create_cluster": "cluster.opening",
    "detach": "sql_binding",
    "embedder": "embed.resolve:resolve",
    "migrate": "engine.migrate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    value = getattr(import_module(f"{__name__}.{home}"), other or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
