"""Loading systems: `cm384`, `cm384:128`, `my-system.toml:16`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from supertwin.core.errors import InputError
from supertwin.core.memo import by_identity
from supertwin.machine.chip import Chip, Cited
from supertwin.machine.chips import catalogue_path, load_chip
from supertwin.machine.document import Document, read_document
from supertwin.machine.inherit import after_base
from supertwin.machine.schema import FOLLOWS, PART, PART_GROUPS, PATHS, PLANE, SYSTEM, TIER, TOPOLOGIES
from supertwin.machine.source import DATA
from supertwin.machine.system import Part, Plane, System, Tier

_FOLDER = DATA / "systems"


def system_names() -> list[str]:
    """Names of the shipped systems, sorted (aliases are not listed)."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_system(name: str | Path) -> System:
    """A system by name or path, optionally with `:N` devices of it. N above the full size needs a scale-out tier.

    Raises UnknownName, CatalogueError, InputError (N below 1, not whole, or beyond the reach of the fabric).
    """
    text = str(name)
    base, colon, count = text.rpartition(":")
    if not colon or count.endswith(".toml"):  # a path may itself contain a colon
        base, colon, count = text, "", ""
    path = catalogue_path("system", base, _FOLDER)
    system = _load(path) if path.parent == _FOLDER else _build(path)
    return system if not colon else with_devices(system, _device_count(text, count))


@by_identity(most=256)
def with_devices(system: System, devices: int) -> System:
    """The same system with `devices` in use, one object for all who ask: what is kept by its identity is found again.
    Raises InputError."""
    if devices < 1:
        raise InputError(f"{system.name}:{devices}: expected at least 1 device")
    if devices <= system.full_devices:
        return replace(system, devices=devices)
    outer = [tier for tier in system.tiers if tier.scale_out]
    if not outer:
        raise InputError(
            f"{system.name}:{devices}: one {system.name} has {system.full_devices} devices and no scale-out tier; "
            f"expected 1 to {system.full_devices}"
        )
    if devices > outer[-1].devices:
        raise InputError(
            f"{system.name}:{devices}: its scale-out tier {outer[-1].name!r} joins at most {outer[-1].devices} devices"
        )
    return replace(system, devices=devices)


def system_for_chip(chip_name: str, devices: int | None = None) -> System:
    """The system that a chip is normally found in, with that chip in it and `devices` of it in use.

    Raises UnknownName, CatalogueError, InputError.
    """
    chip = load_chip(chip_name)
    system = load_system(chip.system)
    if system.chip.name != chip.name:
        if system.chip.devices_per_package != chip.devices_per_package:
            raise InputError(
                f"{system.name} has {system.chip.devices_per_package} devices per package; {chip.name} differs"
            )
        system = replace(system, chip=chip, title=f"{system.title}, with {chip.title}")
    return system if devices is None else with_devices(system, devices)


def _device_count(text: str, count: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", count):
        raise InputError(f"{text[:80]!r}: expected a whole number of devices after the colon, such as cm384:128")
    return int(count)


@cache
def _load(path: Path) -> System:
    return _build(path)


def _build(path: Path) -> System:
    document = after_base(read_document(path), _FOLDER)
    table = document.table
    document.check(SYSTEM, table, also="tiers parts planes")
    cited = dict(document.values(SYSTEM, table))
    texts = {name: document.text(table, name) for name in ("title", "chip")}
    document.require(SYSTEM, {**texts, **cited})
    value = {key: entry.value for key, entry in cited.items()}
    beside = path.parent / texts["chip"]
    chip = load_chip(beside if texts["chip"].endswith(".toml") and beside.is_file() else texts["chip"])
    devices, per_node = (_whole(document, key, value[key]) for key in ("size.devices", "size.devices_per_node"))
    units = _units(document, chip, devices, per_node)
    tiers = _tiers(document, cited, devices)
    parts = _parts(document, cited, units)
    return System(
        name=path.stem,
        title=texts["title"],
        chip=chip,
        devices=devices,
        full_devices=devices,
        devices_per_node=per_node,
        tiers=tiers,
        counts={**units, **{part.name: part.count for part in parts}, **_totals(parts, units)},
        power_w=value.get("power.system"),
        price_usd=value.get("price.system"),
        host_memory_bytes_per_node=value["host.memory_per_node"],
        host_link_bytes_per_s=value["host.link"],
        host_memory_bytes_per_s_per_node=value.get("host.memory_bandwidth", 0.0),
        pue=value["power.pue"],
        cited=cited,
        planes=_planes(document, cited),
        parts=parts,
    )


def _units(document: Document, chip: Chip, devices: int, per_node: int) -> dict[str, float]:
    """Structural counts that follow from the size: packages and nodes."""
    if devices % per_node:
        raise document.fail("size.devices_per_node", f"{per_node} does not divide size.devices ({devices})")
    if per_node % chip.devices_per_package:
        raise document.fail("size.devices_per_node", f"{chip.name} has {chip.devices_per_package} devices per package")
    return {
        "devices": float(devices),
        "packages": devices / chip.devices_per_package,
        "nodes": devices / per_node,
    }


def _totals(parts: tuple[Part, ...], units: Mapping[str, float]) -> dict[str, float]:
    """Counts by kind of part, whatever the file calls its parts; parts of a scale-out network are not in them."""
    inside = [part for part in parts if not part.scale_out_only]

    def total(group: str, name: str = "") -> float:
        return sum(part.count for part in inside if part.group == group and part.name.startswith(name))

    return {
        "npu_packages": units["packages"],
        "cpus": total("cpu"),
        "racks": sum(part.count for part in inside if part.name == "rack" or part.name.endswith("_rack")),
        "switches": total("switch"),
        "transceivers": total("optics"),
        "scale_up_transceivers": total("optics", "transceiver_scale_up"),
    }


def _tiers(document: Document, cited: dict[str, Cited], full_devices: int) -> tuple[Tier, ...]:
    rows = document.table.get("tiers", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise document.fail("tiers", "expected one [[tiers]] table per level of the fabric, innermost first")
    tiers: list[Tier] = []
    for row in rows:
        name = document.text(row, "name", "tiers")
        where = f"tiers.{name}"
        document.check(TIER, row, where)
        found = dict(document.values(TIER, row, where))
        path = document.text(row, "path", where, PATHS)
        topology = document.text(row, "topology", where, TOPOLOGIES)
        document.require(TIER, {**found, "name": name, "path": path, "topology": topology}, where)
        cited.update({f"{where}.{key}": entry for key, entry in found.items()})
        tiers.append(
            Tier(
                name=name,
                path=path,
                devices=_whole(document, f"{where}.devices", found["devices"].value),
                bandwidth_bytes_per_s=found["bandwidth"].value,
                latency_s=found["latency"].value,
                topology=topology,
                reduction=document.flag(row, "reduction", where),
                oversubscription=found["oversubscription"].value if "oversubscription" in found else 1.0,
                links_per_device=_whole(document, f"{where}.links", found["links"].value) if "links" in found else 1,
                scale_out=document.flag(row, "scale_out", where),
            )
        )
    _check_nesting(document, tiers, full_devices)
    return tuple(tiers)


def _check_nesting(document: Document, tiers: list[Tier], full_devices: int) -> None:
    """Each level is larger than the one inside it, and the last one inside the system joins all of it."""
    for inner, outer in itertools.pairwise(tiers):
        if outer.devices <= inner.devices:
            raise document.fail(
                "tiers", f"{outer.name!r} joins {outer.devices} devices, not more than {inner.name!r} inside it"
            )
        if inner.scale_out:
            raise document.fail("tiers", f"{inner.name!r} is scale-out but not the last tier")
    if tiers[-1].devices < full_devices:
        raise document.fail("tiers", f"the last tier joins {tiers[-1].devices} of {full_devices} devices")


def _parts(document: Document, cited: dict[str, Cited], units: Mapping[str, float]) -> tuple[Part, ...]:
    table = _tables(document, "parts")
    found: dict[str, dict[str, Cited]] = {}
    for name, row in table.items():
        where = f"parts.{name}"
        document.check(PART, row, where)
        found[name] = dict(document.values(PART, row, where))
        texts = {key: document.text(row, key, where) for key in ("title", "per")}
        document.text(row, "group", where, PART_GROUPS)
        document.require(PART, {**found[name], **texts, "group": "x"}, where)
        cited.update({f"{where}.{key}": entry for key, entry in found[name].items()})
    return tuple(_part(document, name, row, found, units) for name, row in table.items())


def _part(
    document: Document,
    name: str,
    row: Mapping[str, Any],
    found: Mapping[str, Mapping[str, Cited]],
    units: Mapping[str, float],
) -> Part:
    value = {key: entry.value for key, entry in found[name].items()}
    where = f"parts.{name}"
    return Part(
        name=name,
        title=row["title"],
        group=row["group"],
        count=_count(document, name, found, units, ()),
        idle_w=value.get("idle", value.get("max", 0.0)),
        max_w=value.get("max", value.get("idle", 0.0)),
        follows=document.text(row, "follows", where, FOLLOWS) if "follows" in row else "none",
        price_usd=value.get("price"),
        scale_out_only=document.flag(row, "scale_out_only", where),
    )


def _count(
    document: Document,
    name: str,
    found: Mapping[str, Mapping[str, Cited]],
    units: Mapping[str, float],
    above: tuple[str, ...],
) -> float:
    """How many of a part one full system has: its count times the number of the unit that it comes with."""
    if name in above:
        raise document.fail(f"parts.{name}.per", f"cycle: {' -> '.join((*above, name))}")
    per = document.table["parts"][name]["per"]
    number = found[name]["count"].value
    scale = {"system": 1.0, "node": units["nodes"], "package": units["packages"], "device": units["devices"]}
    if per in scale:
        return number * scale[per]
    if per not in found:
        legal = ", ".join([*scale, *found])
        raise document.fail(f"parts.{name}.per", f"unknown unit {per!r}; expected one of {legal}")
    return number * _count(document, per, found, units, (*above, name))


def _planes(document: Document, cited: dict[str, Cited]) -> tuple[Plane, ...]:
    planes = []
    for name, row in _tables(document, "planes").items():
        where = f"planes.{name}"
        document.check(PLANE, row, where)
        found = dict(document.values(PLANE, row, where))
        description = document.text(row, "description", where)
        document.require(PLANE, {**found, "description": description}, where)
        cited.update({f"{where}.{key}": entry for key, entry in found.items()})
        latency = found["latency"].value if "latency" in found else 0.0
        planes.append(Plane(name, description, found["bandwidth"].value, latency))
    return tuple(planes)


def _tables(document: Document, name: str) -> dict[str, dict[str, Any]]:
    table = document.table.get(name, {})
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise document.fail(name, f"expected [{name}.<name>] tables")
    return table


def _whole(document: Document, field: str, value: float) -> int:
    if not value.is_integer() or value < 1:
        raise document.fail(field, f"expected a whole number above zero, got {value:g}")
    return int(value)
