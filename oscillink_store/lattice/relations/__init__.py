"""The relations: each module yields the edges of one kind, from one corpus.

To add a relation, write a module with a function ``edges(corpus, parameters, *, progress)``,
append its name to :data:`oscillink_store.model.RELATIONS` and the module to
:data:`MODULES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oscillink_store.lattice.relations import knn, link, mention, sequence, shared

if TYPE_CHECKING:
    from oscillink_store.lattice.graph import Edges
    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["MODULES", "build"]

MODULES = (sequence, mention, link, shared, knn)
"""One module per relation, in the order of :data:`oscillink_store.model.RELATIONS`."""


def build(
    corpus: Corpus, parameters: Parameters, progress: Progress | None = None
) -> tuple[Edges, ...]:
    """The canonical edges of every relation, in the order of the relations.

    They depend on the corpus and the parameters alone, not on hash seeds or threads.
    """
    return tuple(module.edges(corpus, parameters, progress=progress) for module in MODULES)
