"""Which slots of a generation a predicate allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.coded import PartValues
from oscillink_store.engine.predicate import predicate
from oscillink_store.errors import QueryError
from oscillink_store.filters import And, Compare, Filter, Ids, Not, Or

__all__ = ["Mask", "Masks"]

_KEPT = 64

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Predicates evaluated on one generation, whose recent answers are kept.

    Args:
        alive: Which slots hold an anchor, (S,) of 0 and 1.
        values: What filters look at, part by part.
        slots_of: The slot of each id, −1 where there is none.
        matching: The slots that satisfy a SQL condition.
    """

    alive: Mask
    values: Sequence[PartValues]
    slots_of: Callable[[Sequence[str]], Slots]
    matching: Callable[[str], Slots]
    _kept: OrderedDict[str | Filter, Mask] = field(init=False, default_factory=OrderedDict)
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock)

    def allowed(self, where: str | Filter) -> Mask:
        """Which slots hold an anchor that satisfies a filter or SQL predicate, (S,) of 0 and 1.

        Raises:
            QueryError: the predicate cannot be used.
        """
        condition = where if isinstance(where, Filter) else predicate(where)
        with self._guard:
            mask = self._kept.get(where)
            if mask is not None:
                self._kept.move_to_end(where)
                return mask
        if isinstance(condition, Filter):
            mask = self._satisfying(condition).astype(np.uint8) & self.alive
        else:
            mask = np.zeros(len(self.alive), np.uint8)
            mask[self.matching(condition)] = 1
        with self._guard:
            self._kept[where] = mask
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return mask

    def _satisfying(self, where: Filter) -> npt.NDArray[np.bool_]:
        """Which slots satisfy a filter, (S,), whether they hold an anchor or not."""
        if isinstance(where, And | Or):
            joined = np.full(len(self.alive), isinstance(where, And))
            for part in where.parts:
                mask = self._satisfying(part)
                joined = joined & mask if isinstance(where, And) else joined | mask
            return joined
        if isinstance(where, Not):
            return ~self._satisfying(where.part)
        if isinstance(where, Compare):
            found = [values.of(where).satisfying(where) for values in self.values]
            return np.concatenate(found) if found else np.zeros(0, np.bool_)
        if isinstance(where, Ids):
            named = np.zeros(len(self.alive), np.bool_)
            slots = self.slots_of(where.ids)
            named[slots[slots >= 0]] = True
            return named
        raise QueryError(f"where is a {type(where).__name__}: use the filters of this package")
