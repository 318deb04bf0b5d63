"""A memory block of LlamaIndex: long-term memory over chat messages, in a store."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory.memory import BaseMemoryBlock
from llama_index.core.settings import Settings

import oscillink_store as osc
from oscillink_store.filters import Compare

__all__ = ["OscillinkMemoryBlock"]

_SPACING = 1e-6  # seconds between the messages of one batch


class OscillinkMemoryBlock(BaseMemoryBlock[str]):
    """Remembers what was said: every message is an anchor, a session is a sequence.

    The turns of a session are joined by ``next`` edges, so that a question finds the answer
    beside the message that it resembles. The store is on disk, for other processes and days.

    A block with an ``owner`` recalls all sessions of that owner, and nobody else's. One without
    recalls the session that it is asked in, or, asked in none, whatever has no owner.
    """

    name: str = Field(default="RetrievedMessages", description="The name of the memory block.")
    store: osc.Store = Field(exclude=True, description="Where the messages are kept.")
    embed_model: BaseEmbedding | None = Field(
        default=None,
        description="By default the store's own embedder, or else Settings.embed_model.",
    )
    owner: str | None = Field(default=None, description="Whose memory this is.")
    similarity_top_k: int = Field(default=6, ge=1, description="How many messages to recall.")
    retrieval_context_window: int = Field(
        default=3, ge=1, description="How many of the last messages make up the question."
    )

    _clock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _latest: float = PrivateAttr(default=0.0)
    _last_receipt: osc.Receipt | None = PrivateAttr(default=None)

    @property
    def last_receipt(self) -> osc.Receipt | None:
        """The receipt of the newest recall."""
        return self._last_receipt

    async def _aput(self, messages: list[ChatMessage]) -> None:
        said = [message for message in messages if _text(message).strip()]
        if not said:
            return
        rows = [
            self._row(message, position)
            for message, position in zip(said, self._positions(len(said)), strict=True)
        ]
        model = self._model()
        if model is not None:
            vectors = await model.aget_text_embedding_batch([_text(message) for message in said])
            for row, vector in zip(rows, vectors, strict=True):
                row[self.store.fields.vector] = vector
        await asyncio.to_thread(self.store.ingest, rows)

    async def _aget(
        self,
        messages: list[ChatMessage] | None = None,
        session_id: str | None = None,
        **_: Any,
    ) -> str:
        window = (messages or [])[-self.retrieval_context_window :]
        question = "\n".join(text for text in map(_text, window) if text.strip())
        if not question:
            return ""
        model = self._model()
        vector = None if model is None else await model.aget_query_embedding(question)
        hits = await asyncio.to_thread(self._recall, question, vector, session_id)
        told = sorted(
            ((hit.payload or {}, hit.text) for hit in hits), key=lambda one: one[0]["time"]
        )
        return "\n".join(f"<message role='{of['role']}'>{text}</message>" for of, text in told)

    def _row(self, message: ChatMessage, position: float) -> dict[str, Any]:
        extra = dict(message.additional_kwargs)
        session = extra.pop("session_id", None)
        payload = {
            "role": message.role.value,
            "session_id": session,
            "owner": self.owner,
            "time": position,
        }
        if extra:
            told = json.dumps(extra, default=str, skipkeys=True)
            payload["additional_kwargs"] = json.loads(told, parse_constant=lambda _: None)
        fields = self.store.fields
        # a session of one owner is not that of another, whatever they are called
        return {
            fields.id: str(uuid.uuid4()),
            fields.text: _text(message),
            fields.sequence_columns[0]: session and json.dumps([self.owner, session]),
            fields.position: position,
            fields.payload: payload,
        }

    def _positions(self, count: int) -> list[float]:
        """Times for messages that are later than those of all messages before."""
        with self._clock:
            first = max(time.time(), self._latest + _SPACING)
            positions = [first + _SPACING * place for place in range(count)]
            self._latest = positions[-1]
        return positions

    def _recall(
        self, question: str, vector: list[float] | None, session: str | None
    ) -> Sequence[osc.Hit]:
        where = Compare("role", "exists") & Compare("owner", "eq", self.owner)
        if self.owner is None and session is not None:
            where &= Compare("session_id", "eq", session)
        result = self.store.search(question, vector=vector, k=self.similarity_top_k, where=where)
        self._last_receipt = result.receipt
        return result.hits

    def _model(self) -> BaseEmbedding | None:
        if self.embed_model is None and not self.store.has_embedder:
            self.embed_model = Settings.embed_model
        return self.embed_model


def _text(message: ChatMessage) -> str:
    return "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))
