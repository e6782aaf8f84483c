"""The machine: chips, nodes, fabrics, power and price as data (data/chips, data/systems), with their sources."""

from supertwin.machine.chip import Chip, Cited
from supertwin.machine.chips import chip_names, load_chip
from supertwin.machine.source import Source, sources
from supertwin.machine.system import Part, Plane, System, Tier
from supertwin.machine.systems import load_system, system_for_chip, system_names, with_devices

__all__ = [
    "Chip",
    "Cited",
    "Part",
    "Plane",
    "Source",
    "System",
    "Tier",
    "chip_names",
    "load_chip",
    "load_system",
    "sources",
    "system_for_chip",
    "system_names",
    "with_devices",
]
