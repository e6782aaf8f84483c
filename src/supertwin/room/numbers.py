"""Every number of a machine that a prediction with its bill stands on: catalogue and room assumptions."""

from __future__ import annotations

from supertwin.machine.numbers import Row, catalogue_rows, cited_rows
from supertwin.machine.system import System
from supertwin.room.assumptions import room_assumptions

_MOST_KEPT = 64
_rows: dict[int, tuple[System, tuple[Row, ...]]] = {}  # the system is kept so that its id stays its own


def machine_rows(system: System) -> tuple[Row, ...]:
    """(name, value with unit, source id, layer) of chip, tiers, parts, power, price and room assumptions."""
    found = _rows.get(id(system))
    if found is None or found[0] is not system:
        if len(_rows) >= _MOST_KEPT:
            _rows.clear()
        rows = (*catalogue_rows(system), *cited_rows(room_assumptions(), "room"))
        found = _rows[id(system)] = (system, rows)
    return found[1]
