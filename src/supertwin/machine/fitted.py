"""Files of fitted constants: where they lie, whose count for a chip, and the form that all of them share.

A file is `<folder>/<chip>/<family>.json` with family, chip, spread and parameters (group -> name -> number), and mostly
date, data_sets and residual. Folders, first wins: the one in SUPERTWIN_CALIBRATION, the user's, the shipped one. A chip
without a file takes its relative's, or that relative's relative's; a sibling (same die) completes what a chip has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from supertwin.core.errors import SupertwinError, TableError
from supertwin.machine.chip import Chip
from supertwin.machine.source import DATA

ENVIRONMENT = "SUPERTWIN_CALIBRATION"
STEP_SPREAD = 0.15  # assumption: ln half-width added (in quadrature) per step from a chip to its relative
Parameters = Mapping[str, float]


def named_folder() -> str:
    """The calibration folder that the environment names; part of the key of everything planned from the tables."""
    return os.environ.get(ENVIRONMENT, "")


def shipped_folder() -> Path:
    """The folder of the calibration files that come with the package."""
    return DATA / "calibration"


def calibration_folders() -> list[Path]:
    """Folders searched, first wins: SUPERTWIN_CALIBRATION, the user's data folder, the shipped files."""
    named = named_folder()
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return list(_folders(named, home))


@lru_cache(maxsize=16)
def _folders(named: str, home: str) -> tuple[Path, ...]:
    user = Path(home) / "supertwin" / "calibration"
    return (*([Path(named)] if named else []), user, shipped_folder())


def first_file(chip: str, family: str, folders: Sequence[str | Path]) -> Path | None:
    """The file of a chip in the first folder that has one."""
    paths = (Path(folder) / chip / f"{family}.json" for folder in folders)
    return next((p for p in paths if p.is_file()), None)


def relatives(chip: Chip) -> Iterator[Chip]:
    """The chip, its relative, the relative's relative ..., each once and followed by its sibling."""
    line: list[Chip] = []
    following: Chip | None = chip
    while following is not None and following not in line:
        line.append(following)
        following = catalogued(following.relative)
    pairs = (one for member in line for one in (member, catalogued(member.sibling)))
    yield from {one.name: one for one in pairs if one is not None}.values()


def catalogued(name: str) -> Chip | None:
    """The catalogue's chip of that name; None where there is none."""
    from supertwin.machine.chips import load_chip  # late: most chips have their own file

    try:
        return load_chip(name) if name else None
    except SupertwinError:
        return None


def read_fitted(path: Path, family: str) -> dict[str, Any]:
    """A file as an object whose parameters are numbers and whose data_sets are (name, rows) pairs.

    Raises TableError when it is not in the form above or of another family.
    """
    where = f"calibration file {path}"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{where}: cannot be read as JSON: {error}") from None
    missing = [k for k in ("family", "chip", "parameters", "spread") if not isinstance(given, dict) or k not in given]
    if missing:
        raise TableError(f"{where}: expected an object with family, chip, parameters, spread; lacks {missing}")
    if given["family"] != family:
        raise TableError(f"{where}: family is {given['family']!r}, expected {family!r} as the file is named")
    try:
        parsed = {g: {n: float(v) for n, v in values.items()} for g, values in given["parameters"].items()}
        data_sets = tuple((str(d["name"]), int(d["rows"])) for d in given.get("data_sets", ()))
        spread = float(given["spread"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(f"{where}: spread, parameters, data_sets hold numbers by name: {error}") from None
    return {**given, "parameters": parsed, "data_sets": data_sets, "spread": spread}
