"""LangGraph: a store for the long-term memory of agents, with semantic search.

Import :class:`OscillinkStore` where ``SqliteStore`` or ``PostgresStore`` stood::

    from oscillink_store.integrations.langgraph import OscillinkStore

    with OscillinkStore.from_conn_string("memory.osc", index={"embed": embed}) as store:
        graph = builder.compile(store=store)

Items are records of the store's folder, and each text of an item that is indexed is an anchor;
both are written in one commit. Namespaces stay arrays, so none can be mistaken for another.
"""

from .store import AsyncOscillinkStore, OscillinkStore

__all__ = ["AsyncOscillinkStore", "OscillinkStore"]
