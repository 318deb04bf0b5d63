"""Nodes as anchors and back: class, metadata, relationships and all other fields.

An anchor's payload is the node's metadata, so that every face of the store filters by it, and
under :data:`NODE_KEY` what else the node says of itself. Anchors that came by another way (a
file, another framework) are read as nodes too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode, Node, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from pydantic_core import to_jsonable_python

from oscillink_store.errors import InputError

__all__ = ["NODE_KEY", "node_of", "payload_of"]

NODE_KEY = "__node__"
"""The key of a payload that holds ``source`` (the ref_doc_id), ``fields``, ``norm`` (the length
of the embedding unless that is 1) and, where it has this very key, ``metadata``."""

_RESOURCES = ("text_resource", "image_resource", "audio_resource", "video_resource")
_UNIT = 1e-6


def payload_of(node: BaseNode) -> dict[str, Any]:
    """The payload of a node's anchor.

    Raises:
        InputError: something in the node has no JSON form.
    """
    try:
        fields, metadata = _fields(node), _plain(node.metadata)
    except (ValueError, TypeError) as error:  # pydantic's and IndexNode's own
        raise InputError(
            f"node {node.node_id!r} has no JSON form: {error}: use text, numbers, true, false, "
            "None, lists and dicts",
            field="metadata",
        ) from error
    own: dict[str, Any] = {"source": node.ref_doc_id, "fields": fields}
    norm = 1.0 if node.embedding is None else float(np.linalg.norm(node.embedding))
    if abs(norm - 1.0) > _UNIT:
        own["norm"] = norm
    if NODE_KEY in metadata:
        own["metadata"] = metadata
    return {**metadata, NODE_KEY: own}


def node_of(
    key: str,
    text: str,
    payload: Mapping[str, Any] | None,
    columns: Mapping[str, Any],
    vector: Sequence[float] | None = None,
) -> BaseNode:
    """The node of an anchor.

    Args:
        key: The anchor's id.
        text: The anchor's text.
        payload: The anchor's payload.
        columns: The anchor's metadata columns, and its title.
        vector: The anchor's embedding, where it is asked for.
    """
    payload = payload or {}
    own = payload.get(NODE_KEY)
    if not isinstance(own, dict) or not isinstance(own.get("fields"), dict):
        return _foreign(key, text, payload, columns, vector)
    fields = dict(own["fields"])
    kind = _class_named(fields.pop("class_name", ""))
    if issubclass(kind, Node):
        if "text_resource" in fields:
            fields["text_resource"] = {"text": text, **fields["text_resource"]}
    else:
        fields.setdefault("text", text)
    metadata = own.get("metadata") or {k: v for k, v in payload.items() if k != NODE_KEY}
    embedding = None if vector is None else (np.asarray(vector) * own.get("norm", 1.0)).tolist()
    return kind.from_dict({**fields, "id_": key, "metadata": metadata, "embedding": embedding})


def _fields(node: BaseNode) -> dict[str, Any]:
    """Every field that is not the default and that the anchor does not hold elsewhere."""
    fields = node.model_dump(
        mode="json", exclude={"id_", "embedding", "metadata", "text"}, exclude_defaults=True
    )
    if fields.get("obj", node) is None:
        del fields["obj"]
    if isinstance(node, Node):
        for name in _RESOURCES:
            resource = getattr(node, name)
            if resource is not None and resource.data is not None:  # never dumped
                fields[name]["data"] = resource.data.decode()
        if node.text_resource is not None and node.text_resource.text is not None:
            del fields["text_resource"]["text"]
        elif node.text_resource is not None:
            fields["text_resource"]["text"] = None  # which is not a blank one
    elif not isinstance(node, TextNode):
        fields |= node.model_dump(mode="json", include={"text"})
    return fields


def _plain(value: Any) -> Any:
    """A value as JSON has it: dates as text, numpy's numbers and arrays as Python's."""
    if value is None or isinstance(value, str | bool | int | float):
        return value  # NaN stays: the store says where it stands, and refuses it
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else to_jsonable_python(value)


def _foreign(
    key: str,
    text: str,
    payload: Mapping[str, Any],
    columns: Mapping[str, Any],
    vector: Sequence[float] | None,
) -> BaseNode:
    """The node of an anchor that came by another way."""
    metadata = {name: value for name, value in columns.items() if value is not None}
    metadata |= payload
    node: BaseNode
    if "_node_content" in metadata:  # out of another vector store of LlamaIndex
        node = metadata_dict_to_node(metadata, text)
        node.node_id = key
    else:
        node = TextNode(id_=key, text=text, metadata=metadata)
    node.embedding = None if vector is None else np.asarray(vector).tolist()
    return node


_CLASSES: dict[str, type[BaseNode]] = {}


def _class_named(name: str) -> type[BaseNode]:
    """The class of nodes with this name among those that are imported, TextNode if there is none.

    No module is ever imported because a store says so.
    """
    if name not in _CLASSES:
        waiting = deque(BaseNode.__subclasses__())
        while waiting:
            kind = waiting.popleft()
            _CLASSES.setdefault(kind.class_name(), kind)
            waiting += kind.__subclasses__()
    return _CLASSES.get(name, TextNode)
