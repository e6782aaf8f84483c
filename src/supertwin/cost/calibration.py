"""Calibration files: what was fitted for a chip, where it came from and how far it can be trusted.

A file is `<folder>/<chip>/<family>.json` (families: gemm, experts, attention, vector ...):

    {"family": "gemm", "chip": "h100-sxm", "date": "2026-11", "data_sets": [{"name": "...", "rows": 1}],
     "parameters": {"<group>": {"<name>": 1.0}}, "surface": {"<name>": {axes, knots, unit, values}},
     "residual": {"fit_median_ape": 0.05, "held_out_median_ape": 0.06, "p90": 0.2, "n": 1, "n_held_out": 1},
     "spread": 0.2, "spreads": {"<group>": 0.2}}

Parameters are dimensionless shares of the chip's own peaks, or seconds where they are a fixed cost, so that a
relative can inherit them (supertwin.cost.inherit). spread is the 90 % half-width of ln(measured / predicted), spreads
the same by group where it is known (optional).
Where files lie and whose count: supertwin.machine.fitted; at the end come documented priors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from supertwin.core.errors import TableError
from supertwin.cost.inherit import (
    clock_gain,
    clocked_groups,
    feed_ratio,
    narrowed_groups,
    narrower,
    relative_share,
    scaled_groups,
)
from supertwin.cost.surface import Surface, surface_from_json
from supertwin.machine.chip import Chip
from supertwin.machine.fitted import (
    STEP_SPREAD,
    calibration_folders,
    first_file,
    read_fitted,
    relatives,
    shipped_folder,
)

INHERITED_SPREAD = STEP_SPREAD
# assumption: the same to a relative of another architecture, whose formats differ more in what share they reach (FP8
# over BF16 of the best shapes of kernels.csv: 0.95 to 1.04 on B300, Gaudi 2 and 3; 0.6 to 0.9 in tables of H100).
FOREIGN_SPREAD = 0.3
PRIOR_SPREAD = 0.6  # assumption: no measurement of this chip or a relative: a factor 1.8 either way
_BY_SHARE = ("gemm", "experts")  # families whose constants are shares of the matrix peak
_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Device:
    """A chip as the key of a cache: what inheritance depends on, and the chip itself."""

    key: tuple[object, ...]
    chip: Chip = field(compare=False)

    @property
    def name(self) -> str:
        """Name of the chip."""
        return self.chip.name


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers of one operator family on one chip.

    source_chip: chip whose measurements they come from ("" = priors only); inherited: source_chip is not the chip;
    origin: shipped | user | prior; parameters: group (a number format, a context, "common") -> name -> value;
    foreign: group -> chip that measured it, where that is not source_chip.
    """

    family: str
    chip: str
    source_chip: str = ""
    inherited: bool = False
    origin: str = "prior"
    date: str = ""
    data_sets: tuple[tuple[str, int], ...] = ()
    parameters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    surfaces: Mapping[str, Surface] = field(default_factory=dict)
    residual: Mapping[str, float] = field(default_factory=dict)
    spread: float = PRIOR_SPREAD
    spreads: Mapping[str, float] = field(default_factory=dict)
    taken_over: tuple[tuple[str, str, str, str], ...] = ()  # rows for --explain on what came from relatives
    foreign: Mapping[str, str] = field(default_factory=dict)

    def measured_on(self, *names: str) -> str:
        """Chip that measured the group that `group` returns; "" where none did."""
        name = next((n for n in names if n in self.parameters), "")
        return self.foreign.get(name, self.source_chip)

    def spread_of(self, *names: str) -> float:
        """Spread of the group that `group` returns; that of the file where the group has none of its own."""
        name = next((n for n in names if n in self.parameters), "")
        return self.spreads.get(name, self.spread)

    def group(self, *names: str) -> Mapping[str, float]:
        """Parameters of the first group that exists among names; empty when none does."""
        return next((self.parameters[n] for n in names if n in self.parameters), _NOTHING)

    def surface(self, *names: str) -> Surface | None:
        """The first surface that exists among names."""
        return next((self.surfaces[n] for n in names if n in self.surfaces), None)

    def sources(self) -> tuple[tuple[str, str, str, str], ...]:
        """Rows for --explain: (name, value with unit, source, layer)."""
        if not self.source_chip:
            return ((f"{self.family} constants", "documented priors", "docs", "assumption"),)
        sets = ", ".join(f"{name} ({rows} rows)" for name, rows in self.data_sets)
        value = f"fitted on {self.source_chip}, 90 % within a factor {2.718281828**self.spread:.2f}"
        return ((f"{self.family} constants", value, sets, "calibration"), *self.taken_over)


def load_calibration(chip: Chip, family: str) -> Calibration:
    """Calibration of a family for a chip, inherited along `chip.relative` when the chip has none.

    Raises TableError for a file that is not in the documented form.
    """
    folders = tuple(str(p) for p in calibration_folders())
    return _load(_device(chip), family, folders)


@lru_cache(maxsize=256)
def _load(device: Device, family: str, folders: tuple[str, ...]) -> Calibration:
    found: Calibration | None = None
    for steps, candidate in enumerate(_chain(device)):
        path = first_file(candidate.name, family, folders)
        if path is None:
            continue
        one = read_calibration(path)
        if candidate is not device and narrower(device.chip, candidate.chip) > 1.0:
            one = _on_narrower_cores(device, candidate, one)
        elif candidate is not device and family in _BY_SHARE:
            one = _on(device, candidate, found or Calibration(family, device.name), one, folders)
        found = _as_seen_by(device, one, steps, path) if found is None else complete(found, one)
    return found or Calibration(family=family, chip=device.name)


def _on(
    device: Device, relative: Device, own: Calibration, theirs: Calibration, folders: tuple[str, ...]
) -> Calibration:
    """A relative's constants as the chip would reach them, with a wider spread of each group.

    own: what is known of the chip so far. Experts follow the BF16 products of the two chips.
    """
    gemm = (own, theirs) if own.family == "gemm" else tuple(_load(d, "gemm", folders) for d in (device, relative))
    mine, other = gemm
    chips = device.chip, relative.chip
    share = relative_share((mine.parameters, mine.surfaces), (other.parameters, other.surfaces), chips)
    gain = 1.0 if share > 0.0 else clock_gain(*chips)
    if share > 0.0:
        parameters = scaled_groups(theirs.parameters, share, feed_ratio(*chips))
        said = f"core rates x {share:.3g}", "own BF16 share over the one by the relative's constants"
    else:
        parameters = clocked_groups(theirs.parameters, gain)
        said = f"sustained clock x {gain:.3g}", "power limit, f ~ (W / FLOP per cycle)^(1/3); 1 = other architecture"
    row = f"{own.family} from {relative.name}", *said, "assumption"
    if chips[0].architecture != chips[1].architecture:
        parameters = {name: {n: v for n, v in g.items() if n != "long"} for name, g in parameters.items()}
    wider = INHERITED_SPREAD if chips[0].architecture == chips[1].architecture else FOREIGN_SPREAD
    spreads = {name: math.hypot(theirs.spread_of(name), wider) for name in parameters}
    return replace(theirs, parameters=parameters, spreads=spreads, taken_over=(row,))


def _on_narrower_cores(device: Device, relative: Device, theirs: Calibration) -> Calibration:
    """A relative's constants on cores that multiply fewer values per cycle, with a wider spread of each group."""
    chips = device.chip, relative.chip
    ratio = narrower(*chips)
    parameters = narrowed_groups(clocked_groups(theirs.parameters, clock_gain(*chips)), ratio)
    spreads = {name: math.hypot(theirs.spread_of(name), INHERITED_SPREAD) for name in parameters}
    what = f"core shares s as {ratio:.2g} / ({ratio:.2g} + 1 / s - 1)", "fewer FLOP per core and cycle, same rest"
    row = f"{theirs.family} from {relative.name}", *what, "assumption"
    return replace(theirs, parameters=parameters, spreads=spreads, taken_over=(row,))


def complete(own: Calibration, relative: Calibration) -> Calibration:
    """Groups and surfaces that the chip's own file lacks come from its relative; groups are taken whole."""
    parameters = {**relative.parameters, **own.parameters}
    own_chip = {n: own.source_chip for n in own.parameters if n not in own.foreign}
    surfaces = {n: s for n, s in relative.surfaces.items() if n not in own.parameters}
    spreads = {n: s for n, s in relative.spreads.items() if n not in own.parameters}
    return replace(
        own,
        parameters=parameters,
        surfaces={**surfaces, **own.surfaces},
        spreads={**spreads, **own.spreads},
        foreign={
            **dict.fromkeys(relative.parameters, relative.source_chip),
            **relative.foreign,
            **own_chip,
            **own.foreign,
        },
        taken_over=(*own.taken_over, *relative.taken_over),
    )


def _chain(device: Device) -> Iterator[Device]:
    """The chip, its relative, the relative's relative ... each once."""
    yield device
    for chip in list(relatives(device.chip))[1:]:
        yield _device(chip)


def _device(chip: Chip) -> Device:
    peaks = tuple(sorted(chip.peak_flop_per_s.items()))
    return Device((chip.name, chip.relative, chip.sibling, chip.architecture, peaks, chip.clock_hz, chip.tdp_w), chip)


def _as_seen_by(device: Device, found: Calibration, steps: int, path: Path) -> Calibration:
    origin = "shipped" if shipped_folder() in path.parents else "user"
    spread = float((found.spread**2 + steps * INHERITED_SPREAD**2) ** 0.5)
    return replace(found, chip=device.name, inherited=steps > 0, origin=origin, spread=spread)


def read_calibration(path: Path) -> Calibration:
    """Read one file. Raises TableError when it is not in the documented form."""
    where = f"calibration file {path}"
    given = read_fitted(path, path.stem)
    try:
        residual = {n: float(v) for n, v in given.get("residual", {}).items()}
        spreads = {n: float(v) for n, v in given.get("spreads", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TableError(f"{where}: residual, spreads hold numbers by name: {error}") from None
    wrong = [s for s in (given["spread"], *spreads.values()) if not 0.0 < s < 10.0]
    if wrong:
        raise TableError(f"{where}: spread is {wrong[0]}, expected a 90 % half-width of ln(ratio) between 0 and 10")
    surfaces = {n: surface_from_json(s, f"{where}, surface {n!r}") for n, s in given.get("surface", {}).items()}
    return Calibration(
        family=given["family"],
        chip=given["chip"],
        source_chip=given["chip"],
        date=str(given.get("date", "")),
        data_sets=given["data_sets"],
        parameters=given["parameters"],
        surfaces=surfaces,
        residual=residual,
        spread=given["spread"],
        spreads=spreads,
    )
