"""Calibrated constants of links and communication libraries, by chip.

A file is `<folder>/<chip>/links.json` in the form of all calibration files (family, chip, date, data_sets, residual,
spread, parameters). A group of parameters is named by where it applies:

    collective/<library>/<path>/<operation>/<algorithm>/<protocol>   fixed_s hop_s efficiency own_share [up_to_bytes]
    floor/<library>/<path>/<operation>                               floor_s extra_s
    transfer/<engine>/<scope>/<local>-<remote>/<read|write>          fixed_s bytes_per_s sharpness [first_factor]
    exchange/<library>/<mode>/<dispatch|combine>                     see network.exchange
    production/<library>/<operation>                                 extra_8_s extra_16_s

Order of search for a chip: as supertwin.machine.fitted, then the file `generic`, which holds a documented prior per
link class. A group that the chip's own file lacks is taken from the next file in that order, so that a partly measured
chip inherits the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from supertwin.machine.chip import Chip
from supertwin.machine.fitted import (
    STEP_SPREAD,
    Parameters,
    calibration_folders,
    catalogued,
    first_file,
    read_fitted,
    relatives,
    shipped_folder,
)

GENERIC = "generic"
INHERITED_SPREAD = 0.35  # assumption: links of a chip without a measurement of its own are known to a factor of 1.4
PRIOR_SPREAD = 0.6  # assumption: no table at all, not even of the link class: a factor of 1.8 either way


@dataclass(frozen=True, slots=True)
class LinkTable:
    """Groups of parameters in order of preference: the chip's own file first, `generic` last.

    files: (chip, groups) per file; spread: 90 % half-width of ln(measured / predicted) of the first one.
    """

    chip: str
    files: tuple[tuple[str, Mapping[str, Parameters]], ...]
    spread: float
    data_sets: tuple[tuple[str, int], ...] = ()

    def find(self, prefix: str) -> dict[str, Parameters]:
        """Groups below a prefix, by the rest of their name, from the first file that has any."""
        start = prefix.rstrip("/") + "/"
        for _chip, groups in self.files:
            found = {name[len(start) :]: values for name, values in groups.items() if name.startswith(start)}
            if found:
                return found
        return {}

    def group(self, name: str) -> Parameters | None:
        """One group by its full name."""
        return next((groups[name] for _chip, groups in self.files if name in groups), None)

    def sources(self) -> tuple[tuple[str, str, str, str], ...]:
        """Rows for --explain: (name, value with unit, source, layer)."""
        if not self.files or self.files[0][0] == GENERIC:
            return (("link constants", "documented priors", "docs/network.md", "assumption"),)
        sets = ", ".join(f"{name} ({rows} rows)" for name, rows in self.data_sets)
        value = f"fitted on {self.files[0][0]}, 90 % within a factor {2.718281828**self.spread:.2f}"
        return (("link constants", value, sets, "calibration"),)

    def names(self, prefix: str, place: int) -> list[str]:
        """Distinct words at a place below a prefix (0: libraries or engines), sorted."""
        start = prefix.rstrip("/") + "/"
        every = (name for _chip, groups in self.files for name in groups if name.startswith(start))
        return sorted({name[len(start) :].split("/")[place] for name in every})


def load_links(chip: Chip) -> LinkTable:
    """The table of a chip, with its relatives and the generic priors behind it. Raises TableError."""
    return load_links_by_name(chip.name, chip.relative)


def load_links_by_name(chip: str, relative: str = "") -> LinkTable:
    """As load_links, for a chip name without its catalogue entry."""
    return _load(chip, relative, tuple(calibration_folders()))


@lru_cache(maxsize=128)
def _load(chip: str, relative: str, folders: tuple[Path, ...]) -> LinkTable:
    found = [(name, read_fitted(path, "links")) for name, path in _paths(chip, relative, folders)]
    if not found:
        return LinkTable(chip, (), PRIOR_SPREAD)
    first = found[0][1]
    spread = first["spread"]
    if found[0][0] != chip:
        spread = max(INHERITED_SPREAD, (spread**2 + STEP_SPREAD**2) ** 0.5)
    return LinkTable(chip, tuple((name, content["parameters"]) for name, content in found), spread, first["data_sets"])


def _paths(chip: str, relative: str, folders: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    known = catalogued(relative)
    chain = list(dict.fromkeys([chip, *([c.name for c in relatives(known)] if known else [relative] * bool(relative))]))
    like = _like(shipped_folder()).get(chip)
    if like and like not in chain:
        chain.append(like)
    for name in [*chain, GENERIC]:
        path = first_file(name, "links", folders)
        if path is not None:
            yield name, path


@lru_cache(maxsize=4)
def _like(shipped: Path) -> Mapping[str, str]:
    """Chips whose links are taken to behave as another chip's, beyond the catalogue's relatives (generic file)."""
    path = shipped / GENERIC / "links.json"
    return json.loads(path.read_text(encoding="utf-8")).get("like", {}) if path.is_file() else {}
