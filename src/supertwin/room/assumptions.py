"""Assumptions of the machine room (data/room.toml), cited like every other value of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from supertwin.machine.chip import Cited
from supertwin.machine.document import read_document
from supertwin.machine.schema import Attribute
from supertwin.machine.source import DATA

ROOM = (
    Attribute("power.limited_at", "ratio", True, "share of the dense peak at which long products draw the limit"),
    Attribute("power.awake_share", "ratio", True, "share of a chip's dynamic power while any kernel runs"),
    Attribute("power.memory_share", "ratio", True, "share of a chip's dynamic power at the full memory rate"),
    Attribute("power.network_share", "ratio", True, "share of it when its links are busy all the time"),
    Attribute("power.host_share", "ratio", True, "load of hosts, fans and losses when the chips are at their limit"),
    Attribute("power.typical_load", "ratio", True, "average load in the price of electricity"),
    Attribute("price.amortisation", "s", True, "time over which the purchase is written off"),
    Attribute("price.electricity", "usd_per_j", True, "price of electricity"),
    Attribute("price.maintenance_per_year", "ratio", True, "share of the purchase price per year"),
    Attribute("price.sold_share", "ratio", True, "share of hours that do paid work"),
)


@cache
def room_assumptions() -> Mapping[str, Cited]:
    """Every assumption by dotted name. Raises CatalogueError."""
    document = read_document(DATA / "room.toml")
    document.check(ROOM, document.table)
    found = dict(document.values(ROOM, document.table))
    document.require(ROOM, found)
    return found


def assumed(name: str) -> float:
    """SI value of one assumption."""
    return room_assumptions()[name].value
