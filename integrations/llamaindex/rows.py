"""Rows of a store out of nodes, and nodes out of hits and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode

import oscillink_store as osc
from oscillink_store.errors import InputError

from .nodes import node_of, payload_of
from .places import places

__all__ = ["node_of_hit", "node_of_row", "rows_of"]

_FIXED = (
    "id", "text", "vector", "sequence", "position", "links", "gate", "payload", "fulltext",
)  # fmt: skip


def rows_of(
    nodes: Sequence[BaseNode], store: osc.Store, title_key: str | None
) -> list[dict[str, Any]]:
    """Rows to write, in the columns that the store reads; of one id the last node counts.

    Raises:
        InputError: a node without an embedding, where others have one or nothing could make it.
    """
    last = list({node.node_id: node for node in nodes}.values())
    bare = [node.node_id for node in last if node.embedding is None]
    if bare and (len(bare) < len(last) or not store.has_embedder):
        raise InputError(
            f"node {bare[0]!r} has no embedding: set it, or add the nodes through a "
            "VectorStoreIndex, which embeds them",
            field="embedding",
        )
    fields = store.fields
    rows = []
    for node, place in zip(last, places(last), strict=True):
        title = node.metadata.get(title_key) if title_key is not None else None
        row = {
            fields.id: node.node_id,
            fields.text: node.get_content(metadata_mode=MetadataMode.NONE),
            fields.title: title if isinstance(title, str) else None,
            fields.sequence_columns[0]: place.sequence,
            fields.position: place.position,
            fields.links: place.links,
            fields.payload: payload_of(node),
        }
        rows.append(row if bare else row | {fields.vector: node.embedding})
    return rows


def node_of_hit(hit: osc.Hit, vector: Any = None) -> BaseNode:
    """The node of a hit."""
    columns = {"title": hit.title, **hit.metadata}
    node: BaseNode = node_of(hit.id, hit.text, hit.payload, columns, vector)
    return node


def node_of_row(row: Mapping[str, Any]) -> BaseNode:
    """The node of a row as the store gives it, with its embedding."""
    columns = {name: value for name, value in row.items() if name not in _FIXED}
    node: BaseNode = node_of(row["id"], row["text"], row["payload"], columns, row["vector"])
    return node
