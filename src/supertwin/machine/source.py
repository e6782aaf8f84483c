"""Where the numbers come from: data/sources.toml, one table per source id."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from supertwin.core.errors import CatalogueError, UnknownName

DATA = Path(__file__).resolve().parent.parent / "data"
_FILE = DATA / "sources.toml"
_HEADER = re.compile(r"^\[([a-z0-9.-]+)\]\s*$", re.MULTILINE)
SOURCE_KINDS = (
    "vendor spec",
    "white paper",
    "paper",
    "measurement",
    "vendor model",
    "secondary",
    "press",
    "assumption",
)
CONFIDENCES = ("high", "medium", "low")
_FIELDS = ("title", "where", "kind", "date", "confidence")


@dataclass(frozen=True, slots=True)
class Source:
    """One source. kind is one of SOURCE_KINDS, confidence of CONFIDENCES; date is YYYY, YYYY-MM or YYYY-MM-DD."""

    id: str
    title: str
    where: str
    kind: str
    date: str
    confidence: str


@cache
def source_ids() -> frozenset[str]:
    """All source ids; reads only the headers of the file, so that loading one system stays fast."""
    return frozenset(_HEADER.findall(_FILE.read_text(encoding="utf-8")))


@cache
def all_sources() -> dict[str, Source]:
    """Every source by id. Raises CatalogueError when an entry lacks a field or has an unknown kind."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: read_source(name, entry, str(_FILE)) for name, entry in table.items()}


def sources(source_id: str) -> Source:
    """The source behind an id. Raises UnknownName."""
    known = all_sources()
    if source_id not in known:
        raise UnknownName("source", source_id, known)
    return known[source_id]


def read_source(name: str, entry: object, file: str) -> Source:
    """Check and build one source entry. Raises CatalogueError."""
    if not isinstance(entry, dict) or sorted(entry) != sorted(_FIELDS):
        raise CatalogueError(f"{file}: source {name!r} must have exactly the fields {', '.join(_FIELDS)}")
    texts = {field: entry[field] for field in _FIELDS}
    if not all(isinstance(value, str) and value for value in texts.values()):
        raise CatalogueError(f"{file}: source {name!r}: every field must be a text that is not empty")
    if texts["kind"] not in SOURCE_KINDS:
        raise CatalogueError(f"{file}: source {name!r}: kind {texts['kind']!r} is not one of {', '.join(SOURCE_KINDS)}")
    if texts["confidence"] not in CONFIDENCES:
        raise CatalogueError(f"{file}: source {name!r}: confidence must be one of {', '.join(CONFIDENCES)}")
    return Source(id=name, **texts)
