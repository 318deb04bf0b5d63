"""LangChain: a vector store, retrievers, a compressor, and stores of records and bytes.

::

    from oscillink_store.integrations.langchain import OscillinkVectorStore

    store = OscillinkVectorStore.from_documents(chunks, embeddings, path="notes.osc")
    retriever = store.as_retriever(search_type="coherence", search_kwargs={"k": 5})
"""

from oscillink_store.integrations.langchain.byte_store import OscillinkByteStore
from oscillink_store.integrations.langchain.compressor import OscillinkCompressor
from oscillink_store.integrations.langchain.document_index import OscillinkDocumentIndex
from oscillink_store.integrations.langchain.documents import MetadataRoles
from oscillink_store.integrations.langchain.record_manager import OscillinkRecordManager
from oscillink_store.integrations.langchain.retrievers import (
    OscillinkRetriever,
    OscillinkVectorStoreRetriever,
)
from oscillink_store.integrations.langchain.vector_store import OscillinkVectorStore

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
