"""The machine: chips, nodes, fabrics, power and price as data (data/chips, data/systems), with their sources."""

from supertwin.machine.chip import Chip, Cited, readings, stated
from supertwin.machine.chips import chip_names, load_chip
from supertwin.machine.form import chip_toml
from supertwin.machine.inventory import Comparison, Figure, Ratio, compare, inventory, per_device
from supertwin.machine.numbers import catalogue_rows, cited_rows
from supertwin.machine.source import Source, sources
from supertwin.machine.system import Part, Plane, System, Tier
from supertwin.machine.systems import load_system, system_for_chip, system_names, with_devices

__all__ = [
    "Chip",
    "Cited",
    "Comparison",
    "Figure",
    "Part",
    "Plane",
    "Ratio",
    "Source",
    "System",
    "Tier",
    "catalogue_rows",
    "chip_names",
    "chip_toml",
    "cited_rows",
    "compare",
    "inventory",
    "load_chip",
    "load_system",
    "per_device",
    "readings",
    "sources",
    "stated",
    "system_for_chip",
    "system_names",
    "with_devices",
]
