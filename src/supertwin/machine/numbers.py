"""The numbers of the catalogue that a prediction on a system stands on, as rows for `--explain` and JSON `sources`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supertwin.machine.chip import Cited, stated
from supertwin.machine.system import System

Row = tuple[str, str, str, str]
_LAYERS = {"assumption": "assumption"}  # spec and inferred values both come from what a source prints


def cited_rows(values: Mapping[str, Cited], prefix: str) -> Iterator[Row]:
    """(name, value with unit, source id, layer) of cited values; layer is spec or assumption."""
    for name, cited in values.items():
        yield f"{prefix}.{name}", stated(cited), cited.source, _LAYERS.get(cited.kind, "spec")


def catalogue_rows(system: System) -> tuple[Row, ...]:
    """Every number of the chip, then those of the system: size, tiers, parts, power, price."""
    used = {name: cited for name, cited in system.cited.items() if not name.startswith("planes.")}  # only displayed
    return (*cited_rows(system.chip.cited, system.chip.name), *cited_rows(used, system.name))
