"""The relations: each module keeps up the arcs of one kind while anchors come and go.

To add a relation, write a module with a function ``update(change, parameters, progress)``
that returns :class:`oscillink_store.lattice.upkeep.Arcs`, append its name to
:data:`oscillink_store.model.RELATIONS` and the call to :func:`update`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from oscillink_store.lattice.relations import knn, link, mention, sequence, shared

if TYPE_CHECKING:
    from oscillink_store.lattice.corpus import Change, Near, Progress
    from oscillink_store.lattice.records import Records
    from oscillink_store.lattice.upkeep import Arcs
    from oscillink_store.model import Parameters

__all__ = ["Updated", "update"]


class Updated(NamedTuple):
    """What a change makes of the relations.

    ``arcs`` come in the order of the relations. ``near`` are the nearest others of the slots
    that had none yet, ``near_log`` is to be merged into the corpus's log, and ``audit`` tells of
    nearest others that were searched approximately.
    """

    arcs: tuple[Arcs, ...]
    near: Near
    near_log: Records
    audit: knn.Audit | None


def update(change: Change, parameters: Parameters, progress: Progress | None = None) -> Updated:
    """Give anew the arcs that a change may have changed, relation by relation.

    They depend on the change and the parameters alone, not on hash seeds or threads.
    """
    first = tuple(
        module.update(change, parameters, progress) for module in (sequence, mention, link, shared)
    )
    nearest = knn.update(change, parameters, progress)
    return Updated(
        arcs=(*first, nearest.arcs),
        near=nearest.near,
        near_log=nearest.log,
        audit=nearest.audit,
    )
