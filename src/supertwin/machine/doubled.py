"""The same machine with one thing about its chip doubled: what nobody can buy, but what shows what a step waits for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from supertwin.machine.chip import Chip
from supertwin.machine.system import System


def doubled(system: System) -> Iterator[tuple[str, System]]:
    """(name, system) with twice the matrix peak, and with twice the memory bandwidth."""
    chip = system.chip
    peaks = {rate: 2.0 * value for rate, value in chip.peak_flop_per_s.items()}
    for name, other in (
        ("2x matrix peak", _twin(chip, "peak", peak_flop_per_s=peaks)),
        ("2x memory bandwidth", _twin(chip, "memory", memory_bytes_per_s=2.0 * chip.memory_bytes_per_s)),
    ):
        yield name, replace(system, chip=other)


_twins: dict[tuple[int, str], tuple[Chip, Chip]] = {}


def _twin(chip: Chip, kind: str, **fields: object) -> Chip:
    """A changed chip, made once per chip and kind: the cost engines are kept by chip object."""
    key = (id(chip), kind)
    if key not in _twins:
        _twins[key] = (chip, replace(chip, **fields))  # type: ignore[arg-type]
    return _twins[key][1]
