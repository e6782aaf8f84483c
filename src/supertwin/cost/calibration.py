"""Calibration files: what was fitted for a chip, where it came from and how far it can be trusted.

A file is `<folder>/<chip>/<family>.json` (families: gemm, experts, attention, vector ...):

    {"family": "gemm", "chip": "h100-sxm", "date": "2026-11", "data_sets": [{"name": "...", "rows": 1}],
     "parameters": {"<group>": {"<name>": 1.0}}, "surface": {"<name>": {axes, knots, unit, values}},
     "residual": {"fit_median_ape": 0.05, "held_out_median_ape": 0.06, "p90": 0.2, "n": 1, "n_held_out": 1},
     "spread": 0.2}

Parameters are dimensionless shares of the chip's own peaks, or seconds where they are a fixed cost, so that a
relative can inherit them. spread is the 90 % half-width of ln(measured / predicted).
Order of search: the folder in SUPERTWIN_CALIBRATION, the user's folder, the shipped folder; first for the chip itself,
then for its relative, its relative's relative and so on; at the end documented priors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from supertwin.core.errors import SupertwinError, TableError
from supertwin.cost.surface import Surface, surface_from_json
from supertwin.machine.chip import Chip

ENVIRONMENT = "SUPERTWIN_CALIBRATION"
INHERITED_SPREAD = 0.15  # assumption: ln half-width added (in quadrature) per step from a chip to its relative
PRIOR_SPREAD = 0.6  # assumption: no measurement of this chip or a relative: a factor 1.8 either way
_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers of one operator family on one chip.

    source_chip: chip whose measurements they come from ("" = priors only); inherited: source_chip is not the chip;
    origin: shipped | user | prior; parameters: group (a number format, a context, "common") -> name -> value.
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
        return ((f"{self.family} constants", value, sets, "calibration"),)


def load_calibration(chip: Chip, family: str) -> Calibration:
    """Calibration of a family for a chip, inherited along `chip.relative` when the chip has none.

    Raises TableError for a file that is not in the documented form.
    """
    folders = tuple(str(p) for p in calibration_folders())
    return _load(chip.name, chip.relative, family, folders)


def calibration_folders() -> list[Path]:
    """Folders searched, first wins: SUPERTWIN_CALIBRATION, the user's data folder, the shipped files."""
    named = os.environ.get(ENVIRONMENT)
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    user = Path(home) / "supertwin" / "calibration"
    return [*([Path(named)] if named else []), user, shipped_folder()]


def shipped_folder() -> Path:
    """The folder of the calibration files that come with the package."""
    return Path(str(resources.files("supertwin"))) / "data" / "calibration"


@lru_cache(maxsize=256)
def _load(name: str, relative: str, family: str, folders: tuple[str, ...]) -> Calibration:
    found: Calibration | None = None
    for steps, candidate in enumerate(_chain(name, relative)):
        path = _first_file(candidate, family, folders)
        if path is None:
            continue
        one = read_calibration(path)
        found = _as_seen_by(name, one, steps, path) if found is None else complete(found, one)
    return found or Calibration(family=family, chip=name)


def _first_file(chip: str, family: str, folders: tuple[str, ...]) -> Path | None:
    paths = (Path(folder) / chip / f"{family}.json" for folder in folders)
    return next((p for p in paths if p.is_file()), None)


def complete(own: Calibration, relative: Calibration) -> Calibration:
    """Groups and surfaces that the chip's own file lacks come from its relative; groups are taken whole."""
    parameters = {**relative.parameters, **own.parameters}
    surfaces = {n: s for n, s in relative.surfaces.items() if n not in own.parameters}
    return replace(own, parameters=parameters, surfaces={**surfaces, **own.surfaces})


def _chain(name: str, relative: str) -> Iterator[str]:
    """The chip, its relative, the relative's relative ... each once."""
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        yield name
        name, relative = relative, _relative_of(relative)


def _relative_of(name: str) -> str:
    if not name:
        return ""
    from supertwin.machine.chips import load_chip  # late: most chips have their own file

    try:
        return load_chip(name).relative
    except SupertwinError:
        return ""


def _as_seen_by(chip: str, found: Calibration, steps: int, path: Path) -> Calibration:
    origin = "shipped" if shipped_folder() in path.parents else "user"
    spread = float((found.spread**2 + steps * INHERITED_SPREAD**2) ** 0.5)
    return replace(found, chip=chip, inherited=steps > 0, origin=origin, spread=spread)


def read_calibration(path: Path) -> Calibration:
    """Read one file. Raises TableError when it is not in the documented form."""
    where = f"calibration file {path}"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{where}: cannot be read as JSON: {error}") from None
    missing = [k for k in ("family", "chip", "parameters", "spread") if not isinstance(given, dict) or k not in given]
    if missing:
        raise TableError(f"{where}: expected an object with family, chip, parameters, spread; lacks {missing}")
    if given["family"] != path.stem:
        raise TableError(f"{where}: family is {given['family']!r}, expected {path.stem!r} as the file is named")
    return _parse(given, where)


def _parse(given: Mapping[str, Any], where: str) -> Calibration:
    try:
        parameters = {g: {n: float(v) for n, v in values.items()} for g, values in given["parameters"].items()}
        residual = {n: float(v) for n, v in given.get("residual", {}).items()}
        data_sets = tuple((str(d["name"]), int(d["rows"])) for d in given.get("data_sets", ()))
        spread = float(given["spread"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{where}: parameters, residual, data_sets and spread hold numbers by name: {error}") from None
    if not 0.0 < spread < 10.0:
        raise TableError(f"{where}: spread is {spread}, expected a 90 % half-width of ln(ratio) between 0 and 10")
    surfaces = {n: surface_from_json(s, f"{where}, surface {n!r}") for n, s in given.get("surface", {}).items()}
    return Calibration(
        family=given["family"],
        chip=given["chip"],
        source_chip=given["chip"],
        date=str(given.get("date", "")),
        data_sets=data_sets,
        parameters=parameters,
        surfaces=surfaces,
        residual=residual,
        spread=spread,
    )
