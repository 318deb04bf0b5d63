"""LlamaIndex: a vector store, a retriever, a postprocessor and a memory block.

Change one import and nothing is lost: nodes come back as they went in, every query mode and
filter operator works, and relationships between nodes become edges of the lattice::

    from oscillink_store.integrations.llamaindex import OscillinkRetriever, OscillinkVectorStore

    vector_store = OscillinkVectorStore("notes.osc")
    context = StorageContext.from_defaults(vector_store=vector_store)
    index = VectorStoreIndex.from_documents(documents, storage_context=context)
    engine = RetrieverQueryEngine.from_args(OscillinkRetriever(index))
"""

from __future__ import annotations

from .memory import OscillinkMemoryBlock
from .postprocessor import OscillinkPostprocessor
from .retriever import OscillinkRetriever
from .vector_store import OscillinkVectorStore

__all__ = [
    "OscillinkMemoryBlock",
    "OscillinkPostprocessor",
    "OscillinkRetriever",
    "OscillinkVectorStore",
]
