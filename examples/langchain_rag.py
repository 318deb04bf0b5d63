"""Answer questions about Python's standard library with a LangChain chain and its sources.

pip install 'oscillink-store[langchain]'
python examples/langchain_rag.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

import oscillink_store as osc
from oscillink_store.integrations.langchain import OscillinkVectorStore
from oscillink_store.stdlib_docs import stdlib_docs

MODULES = ("asyncio", "concurrent", "multiprocessing", "queue", "shutil", "tempfile", "threading")
QUESTION = "How do I wait for several tasks in asyncio?"

PROMPT = ChatPromptTemplate.from_template(
    "Answer from these passages alone.\n\n{context}\n\nQuestion: {question}"
)


class QuotingModel(SimpleChatModel):
    """Stands for a chat model: it quotes the first passage that it was given."""

    @property
    def _llm_type(self) -> str:
        return "quoting"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        passages = str(messages[-1].content).split("\n\n[")[1:]
        number, _, passage = passages[0].partition("] ")
        return f"{' '.join(passage.split())[:160]} ... [{number}]"


def documents() -> list[Document]:
    return [
        Document(
            id=row["id"],
            page_content=row["text"],
            # `title` lets texts mention each other, `source` and `start_index` order them
            metadata={
                "title": row["title"],
                "source": row["file"],
                "start_index": row["line"],
                "kind": row["kind"],
            },
        )
        for row in stdlib_docs()
        if row["module"].split(".")[0] in MODULES
    ]


def numbered(found: list[Document]) -> str:
    return "\n\n".join(
        f"[{number}] {document.page_content}" for number, document in enumerate(found, 1)
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # "hash" is built in; with embeddings of LangChain: OscillinkVectorStore(embeddings, path)
        with osc.connect(Path(folder) / "library.osc", embedder="hash") as opened:
            store = OscillinkVectorStore(store=opened)
            store.add_documents(documents())

            retriever = store.as_retriever(
                search_type="coherence",
                search_kwargs={"k": 4, "filter": {"kind": {"$in": ["function", "class"]}}},
            )
            chain = RunnablePassthrough.assign(
                found=RunnableLambda(lambda asked: asked["question"]) | retriever
            ).assign(
                answer=RunnablePassthrough.assign(context=lambda asked: numbered(asked["found"]))
                | PROMPT
                | QuotingModel()
                | StrOutputParser()
            )
            result = chain.invoke({"question": QUESTION})

            print(f"{QUESTION}\n\n{result['answer']}\n\nSources:")
            for number, document in enumerate(result["found"], 1):
                print(f"  [{number}] {document.id} ({document.metadata['source']})")
            assert store.last_receipt is not None
            print(f"\n{store.last_receipt.summary()}")


if __name__ == "__main__":
    main()
