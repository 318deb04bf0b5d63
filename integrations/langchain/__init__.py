"""LangChain: a vector store, retrievers, a compressor, and stores of records and bytes.

::

    from oscillink_store.integrations.langchain import OscillinkVectorStore

    store = OscillinkVectorStore.from_documents(chunks, embeddings, path="notes.osc")
    retriever = store.as_retriever(search_type="coherence", search_kwargs={"k": 5})
"""

from .byte_store import OscillinkByteStore
from .compressor import OscillinkCompressor
from .document_index import OscillinkDocumentIndex
from .documents import MetadataRoles
from .record_manager import OscillinkRecordManager
from .retrievers import (
    OscillinkRetriever,
    OscillinkVectorStoreRetriever,
)
from .vector_store import OscillinkVectorStore

__all__ = [
    "MetadataRoles",
    "OscillinkByteStore",
    "OscillinkCompressor",
    "OscillinkDocumentIndex",
    "OscillinkRecordManager",
    "OscillinkRetriever",
    "OscillinkVectorStore",
    "OscillinkVectorStoreRetriever",
]
