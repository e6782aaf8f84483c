"""Loading chips: a shipped name, an alias, or the path of a user's TOML file; `like` chips inherit and scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.chip import Chip, Cited
from supertwin.machine.document import Document, read_document
from supertwin.machine.schema import CHIP, RATES, VENDORS
from supertwin.machine.source import DATA

_FOLDER = DATA / "chips"
_ALIASES = re.compile(r"^aliases\s*=\s*\[([^\]]*)\]", re.MULTILINE)
_TEXTS = ("title", "vendor", "architecture", "relative", "sibling", "system")


def chip_names() -> list[str]:
    """Names of the shipped chips, sorted (aliases are not listed)."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_chip(name: str | Path) -> Chip:
    """A chip by name, alias or path of a TOML file. Raises UnknownName, CatalogueError, InputError."""
    path = catalogue_path("chip", name, _FOLDER)
    return _load(path) if path.parent == _FOLDER else _build(path, ())


@cache
def _load(path: Path) -> Chip:
    return _build(path, ())


def catalogue_path(kind: str, name: str | Path, folder: Path) -> Path:
    """File of a shipped name or alias, or the path given. Raises UnknownName with the nearest names."""
    text = str(name)
    if not isinstance(name, str | Path) or not text or "\0" in text or len(text) > 4000:
        raise InputError(
            f"{text[:40]!r} is not a {kind} name or a path; expected a name such as those of `supertwin show`"
        )
    if isinstance(name, Path) or text.endswith(".toml") or "/" in text:
        return Path(text)
    direct = folder / f"{text}.toml"
    if re.fullmatch(r"[A-Za-z0-9._-]{1,80}", text) and direct.is_file():
        return direct
    aliases = catalogue_aliases(folder)
    if text.lower() in aliases:
        return folder / f"{aliases[text.lower()]}.toml"
    raise UnknownName(kind, text[:80], {path.stem for path in folder.glob("*.toml")} | set(aliases))


@cache
def catalogue_aliases(folder: Path) -> Mapping[str, str]:
    """Alias (and lower-case name) -> name, from the alias lines alone: no file is parsed for it."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.toml")):
        found[path.stem] = path.stem
        match = _ALIASES.search(path.read_text(encoding="utf-8"))
        if match:
            found.update({alias.lower(): path.stem for alias in re.findall(r'"([^"]+)"', match.group(1))})
    return found


def _build(path: Path, above: tuple[Path, ...]) -> Chip:
    """Read one file, after the chip that it is like. `above` are the files on the way here, to refuse a cycle."""
    document = read_document(path)
    table = document.table
    document.check(CHIP, table, also="scale")
    texts = {name: document.text(table, name) for name in _TEXTS}
    cited: dict[str, Cited] = {}
    base = _base(document, (*above, path.resolve()))
    if base is not None:
        cited.update(base.cited)
        _scale(document, cited, base.name)
        inherited = {"vendor": base.vendor, "architecture": base.architecture, "system": base.system}
        texts = {**texts, **{name: texts[name] or value for name, value in inherited.items()}}
        texts["relative"] = texts["relative"] or base.name
    elif "scale" in table:
        raise document.fail("scale", "only a chip with `like` can scale values")
    cited.update(document.values(CHIP, table))
    if texts["vendor"] and texts["vendor"] not in VENDORS:
        document.text(table, "vendor", legal=VENDORS)
    document.require(CHIP, {**texts, **cited})
    for name in ("relative", "sibling"):
        if texts[name]:
            catalogue_path("chip", texts[name], _FOLDER)
    return _assemble(path.stem, texts, cited, document)


def _base(document: Document, above: tuple[Path, ...]) -> Chip | None:
    """The chip that this one is like."""
    like = document.text(document.table, "like")
    if not like:
        return None
    beside = document.path.parent / like
    path = beside if like.endswith(".toml") and beside.is_file() else catalogue_path("chip", like, _FOLDER)
    if path.resolve() in above:
        chain = " -> ".join(p.stem for p in (*above, path))
        raise document.fail("like", f"cycle: {chain}; expected a chip that does not lead back here")
    return _build(path, above)


def _scale(document: Document, cited: dict[str, Cited], base: str) -> None:
    """Apply [scale]: factors on single values ("memory.bandwidth") or whole groups ("peak") of the base chip."""
    table = document.table.get("scale", {})
    if not isinstance(table, dict):
        raise document.fail("scale", 'expected a table such as peak = { value = "2 x", source = "user" }')
    for target, raw in table.items():
        names = [name for name in cited if name == target or name.startswith(f"{target}.")]
        if not names:
            legal = sorted({name.partition(".")[0] for name in cited} | set(cited))
            raise document.fail(
                f"scale.{target}", f"names no value of {base}; expected one of {', '.join(legal[:12])} ..."
            )
        factor = document.cited(f"scale.{target}", raw, "ratio")
        for name in names:
            old = cited[name]
            note = f"{factor.value:g} x {base} ({old.value:g} SI, {old.source}). {factor.note}".strip()
            kind = "assumption" if factor.kind == "assumption" else "inferred"
            cited[name] = replace(
                old, value=old.value * factor.value, source=factor.source, kind=kind, note=note, alternatives=()
            )


def _assemble(name: str, texts: Mapping[str, str], cited: Mapping[str, Cited], document: Document) -> Chip:
    value = {key: entry.value for key, entry in cited.items()}
    counts = {
        key: _whole(document, key, value.get(key, 0.0)) for key in ("cores.matrix", "cores.vector", "package.devices")
    }
    peaks = {rate: value[f"peak.{rate}"] for rate in RATES if value.get(f"peak.{rate}")}
    if not peaks.keys() & {"bf16", "fp16", "fp32"}:
        raise document.fail("peak", "expected at least one of peak.bf16, peak.fp16, peak.fp32")
    for key in ("cores.matrix", "cores.clock", "memory.capacity", "memory.usable", "memory.bandwidth", "l2.bandwidth"):
        if value[key] <= 0:
            raise document.fail(key, "expected more than zero")
    return Chip(
        name=name,
        title=texts["title"],
        vendor=texts["vendor"],
        architecture=texts["architecture"],
        peak_flop_per_s=peaks,
        vector_flop_per_s=value["vector.fp32"],
        matrix_cores=counts["cores.matrix"],
        clock_hz=value["cores.clock"],
        memory_bytes=value["memory.capacity"],
        memory_bytes_per_s=value["memory.bandwidth"],
        usable_memory_bytes=value["memory.usable"],
        l2_bytes=value["l2.capacity"],
        l2_bytes_per_s=value["l2.bandwidth"],
        devices_per_package=max(1, counts["package.devices"]),
        tdp_w=value["power.tdp"],
        idle_w=value["power.idle"],
        relative=texts["relative"],
        cited=dict(cited),
        printed_memory_bytes=value["memory.printed"],
        vector_cores=counts["cores.vector"],
        system=texts["system"],
        sibling=texts["sibling"],
    )


def _whole(document: Document, field: str, value: float) -> int:
    """A count as an integer. Raises CatalogueError when it is not whole."""
    if not value.is_integer():
        raise document.fail(field, f"expected a whole number, got {value:g}")
    return int(value)
