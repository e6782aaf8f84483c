"""Every number of a machine that a prediction with its bill stands on: catalogue and room assumptions."""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.machine.chip import Cited
from supertwin.machine.numbers import Row, catalogue_rows, cited_rows
from supertwin.machine.system import System
from supertwin.room.assumptions import room_assumptions

_MOST_KEPT = 64
_Cited = Mapping[str, Cited]
# Parts of one system share its cited numbers: rows are kept by those, which are held so that their ids stay their own.
_rows: dict[tuple[int, int, str, str], tuple[_Cited, _Cited, tuple[Row, ...]]] = {}


def machine_rows(system: System) -> tuple[Row, ...]:
    """(name, value with unit, source id, layer) of chip, tiers, parts, power, price and room assumptions."""
    of_chip, of_system = system.chip.cited, system.cited
    key = (id(of_chip), id(of_system), system.chip.name, system.name)
    found = _rows.get(key)
    if found is None or found[0] is not of_chip or found[1] is not of_system:
        if len(_rows) >= _MOST_KEPT:
            _rows.clear()
        rows = (*catalogue_rows(system), *cited_rows(room_assumptions(), "room"))
        found = _rows[key] = (of_chip, of_system, rows)
    return found[2]
