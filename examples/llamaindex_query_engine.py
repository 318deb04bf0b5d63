"""A LlamaIndex query engine over a store: connected sources, and a receipt for the answer.

python examples/llamaindex_query_engine.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine

import oscillink_store as osc
from oscillink_store.integrations.llamaindex import OscillinkRetriever, OscillinkVectorStore
from oscillink_store.stdlib_docs import standard_library, stdlib_docs

HASH = osc.embedder("hash")  # lexical, deterministic, nothing to download; put your own model here


class HashEmbedding(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return HASH.embed([text])[0].tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def main() -> None:
    documents = [
        Document(text=row["text"], metadata={"title": row["title"], "file": row["file"]})
        for row in stdlib_docs(standard_library() / "asyncio")
    ]
    with tempfile.TemporaryDirectory() as folder:
        vector_store = OscillinkVectorStore(Path(folder) / "docs.osc")
        index = VectorStoreIndex.from_documents(
            documents,
            storage_context=StorageContext.from_defaults(vector_store=vector_store),
            embed_model=HashEmbedding(),
            transformations=[SentenceSplitter(chunk_size=200, chunk_overlap=20)],
        )
        edges = vector_store.client.stats()["edges"]
        print(f"{len(vector_store.client)} nodes of {len(documents)} documents, edges: {edges}\n")

        retriever = OscillinkRetriever(index, similarity_top_k=4)
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(max_tokens=12))
        question = "How does a barrier wait until enough tasks have come?"
        answer = engine.query(question)
        print(f"{question}\n  the language model would be asked: {answer}\n")
        for source in answer.source_nodes:
            first = source.text.splitlines()[0]
            print(f"  {source.score:6.3f}  {source.node.metadata['title']:32}  {first:.50}")
        print(f"\n{retriever.last_receipt.summary()}")
        vector_store.client.close()


if __name__ == "__main__":
    main()
