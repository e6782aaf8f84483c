"""Every number of a machine that a prediction with its bill stands on: catalogue and room assumptions."""

from __future__ import annotations

from supertwin.core.memo import by_identity
from supertwin.machine.numbers import Row, catalogue_rows, cited_rows
from supertwin.machine.system import System
from supertwin.room.assumptions import room_assumptions


@by_identity(most=64)
def machine_rows(system: System) -> tuple[Row, ...]:
    """(name, value with unit, source id, layer) of chip, tiers, parts, power, price and room assumptions."""
    return (*catalogue_rows(system), *cited_rows(room_assumptions(), "room"))
