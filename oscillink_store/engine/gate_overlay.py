"""Gates that were set since their parts were written, laid over those parts.

Parts are large and never change, so what is set for some anchors stands in one small segment
beside them until their part is written anew, be it merged with others or compacted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["GATES", "NO_GATES", "GateOverlay", "overlaid"]

GATES = "gates"
"""The segment; and in a manifest's features, as a release that does not know it would go by
the parts' own gates."""

Arrays = dict[str, npt.NDArray[Any]]


class GateOverlay(NamedTuple):
    """The gates ``values`` (m,) of some ``slots`` (m,), which ascend."""

    slots: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    def only(self, chosen: npt.NDArray[np.bool_]) -> GateOverlay:
        """Some of them, (m,)."""
        return GateOverlay(self.slots[chosen], self.values[chosen])

    def under(self, slots: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> GateOverlay:
        """These with further ones, slots ascending, which count where both have some."""
        kept = self.only(~np.isin(self.slots, slots))
        all_slots = np.concatenate([kept.slots, slots.astype(np.int32)])
        ascending = np.argsort(all_slots)
        all_values = np.concatenate([kept.values, values])
        return GateOverlay(all_slots[ascending], all_values[ascending])


NO_GATES = GateOverlay(np.empty(0, np.int32), np.empty(0, np.float32))


def overlaid(
    overlay: GateOverlay, first: int, arrays: Arrays, rows: pa.Table
) -> tuple[Arrays, pa.Table]:
    """The arrays and the rows of the part from slot ``first`` with the gates that were set.

    What the part was opened with stays as it is: other generations share it.
    """
    start, stop = np.searchsorted(overlay.slots, [first, first + rows.num_rows])
    if start == stop:
        return arrays, rows
    gates = arrays["gates"].copy()
    gates[overlay.slots[start:stop] - first] = overlay.values[start:stop]
    place = rows.schema.get_field_index("gate")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(gates))
    return {**arrays, "gates": gates}, rows
