"""A postprocessor of LlamaIndex that reranks with the lattice in memory."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.settings import Settings

import oscillink_store as osc
from oscillink_store.errors import QueryError

__all__ = ["OscillinkPostprocessor"]


class OscillinkPostprocessor(BaseNodePostprocessor):
    """Reranks the nodes of any retriever by the lattice between them.

    The nodes' own embeddings are used where they have them; what is missing, the question's
    included, comes from ``embed_model``, by default ``Settings.embed_model``. Scores become
    those of the lattice; :attr:`last_receipt` says what the settled state amounts to.
    """

    embed_model: BaseEmbedding | None = None
    top_n: int | None = Field(default=None, ge=1, description="How many to keep; None keeps all.")
    kneighbors: int = Field(default=6, ge=1, description="Neighbours per node in the lattice.")

    _last_receipt: dict[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows the class."""
        return "OscillinkPostprocessor"

    @property
    def last_receipt(self) -> dict[str, Any] | None:
        """ΔH with its terms, coherence and null points of the newest set; as the Lattice's."""
        return self._last_receipt

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise QueryError("reranking needs the question: pass query_bundle or query_str")
        if not nodes:
            return []
        vectors: list[Any] = [scored.node.embedding for scored in nodes]
        missing = [place for place, vector in enumerate(vectors) if vector is None]
        if missing:
            texts = [nodes[place].node.get_content(MetadataMode.EMBED) for place in missing]
            made = self._model().get_text_embedding_batch(texts)
            for place, vector in zip(missing, made, strict=True):
                vectors[place] = vector
        question = query_bundle.embedding
        if question is None:
            question = self._model().get_agg_embedding_from_queries(query_bundle.embedding_strs)
        lattice = osc.Lattice(vectors, kneighbors=self.kneighbors)
        lattice.set_query(question)
        chosen = lattice.bundle(k=self.top_n or len(nodes))
        self._last_receipt = lattice.receipt()
        return [NodeWithScore(node=nodes[one.anchor].node, score=one.score) for one in chosen]

    def _model(self) -> BaseEmbedding:
        return self.embed_model or Settings.embed_model
