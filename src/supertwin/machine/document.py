"""Reading one TOML file of the catalogue strictly: every value has a unit and a source that resolves."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supertwin.core.errors import CatalogueError, InputError, nearest_sentence
from supertwin.core.units import parse_quantity
from supertwin.machine.chip import Cited
from supertwin.machine.schema import ALTERNATIVE_KINDS, VALUE_KINDS, Attribute
from supertwin.machine.source import read_source, source_ids

_CITED_FIELDS = ("value", "source", "kind", "note", "alternatives")
_ALTERNATIVE_FIELDS = ("value", "source", "kind", "note")
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its raw table, and the source ids that its values may name."""

    path: Path
    table: dict[str, Any]
    known_sources: frozenset[str]

    def fail(self, field: str, why: str) -> CatalogueError:
        """The error for a field of this file."""
        return CatalogueError(f"{self.path.name}: {field}: {why}")

    def check(self, schema: Sequence[Attribute], table: Mapping[str, Any], where: str = "", also: str = "") -> None:
        """Refuse fields that are not in the schema. `also` names further tables that are legal at this level."""
        prefix = f"{where}." if where else ""
        legal = [attribute.name for attribute in schema]
        for name, value in table.items():
            if name in also.split():
                continue
            nested = [full for full in legal if full.startswith(f"{name}.")]
            if name in legal:
                continue
            if not nested:
                raise self.fail(prefix + str(name), f"unknown field; {nearest_sentence(str(name), legal)}")
            if not isinstance(value, dict):
                raise self.fail(prefix + name, f"expected a table with {', '.join(nested)}")
            for leaf in value:
                if f"{name}.{leaf}" not in legal:
                    raise self.fail(
                        f"{prefix}{name}.{leaf}", f"unknown field; {nearest_sentence(f'{name}.{leaf}', legal)}"
                    )

    def values(
        self, schema: Sequence[Attribute], table: Mapping[str, Any], where: str = ""
    ) -> Iterator[tuple[str, Cited]]:
        """(dotted name, cited value) of every quantity of the schema that the table gives."""
        prefix = f"{where}." if where else ""
        for attribute in schema:
            if attribute.dimension in ("text", "list", "flag"):
                continue
            raw = lookup(table, attribute.name)
            if raw is not None:
                yield attribute.name, self.cited(prefix + attribute.name, raw, attribute.dimension)

    def cited(self, field: str, raw: object, dimension: str) -> Cited:
        """Build one cited value. Raises CatalogueError on a missing or wrong unit, source, kind or unknown key."""
        if not isinstance(raw, dict):
            raise self.fail(field, f'expected {{ value = "number unit", source = "id" }}, got {str(raw)[:40]!r}')
        self._keys(field, raw, _CITED_FIELDS)
        others = raw.get("alternatives", [])
        if not isinstance(others, list):
            raise self.fail(field, "alternatives must be a list of { value, source, note }")
        alternatives = []
        for other in others:
            if not isinstance(other, dict):
                raise self.fail(field, "alternatives must be a list of { value, source, note }")
            self._keys(f"{field}.alternatives", other, _ALTERNATIVE_FIELDS)
            alternatives.append(self._one(f"{field}.alternatives", other, dimension, ()))
        return self._one(field, raw, dimension, tuple(alternatives))

    def text(self, table: Mapping[str, Any], name: str, where: str = "", legal: Sequence[str] = ()) -> str:
        """A text field; missing gives "". Raises CatalogueError when it is not a text or not in the closed list."""
        field = f"{where}.{name}" if where else name
        value = table.get(name, "")
        if not isinstance(value, str):
            raise self.fail(field, f"expected a text, got {str(value)[:40]!r}")
        if legal and value not in legal:
            raise self.fail(field, f"unknown value {value!r}; {nearest_sentence(value, list(legal))}")
        return value

    def flag(self, table: Mapping[str, Any], name: str, where: str) -> bool:
        """A true/false field; missing is false."""
        value = table.get(name, False)
        if not isinstance(value, bool):
            raise self.fail(f"{where}.{name}", f"expected true or false, got {str(value)[:40]!r}")
        return value

    def require(self, schema: Sequence[Attribute], present: Mapping[str, object], where: str = "") -> None:
        """Refuse a table in which a required quantity or text is missing."""
        for attribute in schema:
            if attribute.required and not present.get(attribute.name):
                field = f"{where}.{attribute.name}" if where else attribute.name
                raise self.fail(field, f"missing; expected {attribute.description} ({attribute.dimension})")

    def _keys(self, field: str, raw: Mapping[str, Any], legal: Sequence[str]) -> None:
        for key in raw:
            if key not in legal:
                raise self.fail(f"{field}.{key}", f"unknown key; {nearest_sentence(str(key), legal)}")

    def _one(self, field: str, raw: Mapping[str, Any], dimension: str, alternatives: tuple[Cited, ...]) -> Cited:
        try:
            quantity = parse_quantity(raw.get("value"), dimension)
        except InputError as error:
            raise self.fail(field, str(error)) from None
        source, kind, note = (self.text(raw, key, field) for key in ("source", "kind", "note"))
        if source not in self.known_sources:
            given = f"source {source!r} is not in sources.toml" if source else "no source given"
            near = nearest_sentence(source, sorted(self.known_sources))
            raise self.fail(field, f'{given}; {near}; a value of your own has source = "user"')
        kind = kind or "spec"
        kinds = ALTERNATIVE_KINDS if field.endswith(".alternatives") else VALUE_KINDS
        if kind not in kinds:
            raise self.fail(field, f"unknown kind {kind!r}; expected {', '.join(kinds)}")
        if kind != "spec" and not note:
            raise self.fail(field, f"a value of kind {kind!r} needs a note with its reason")
        return Cited(quantity.value, quantity.unit, source, kind, note, alternatives)


def lookup(table: Mapping[str, Any], dotted: str) -> object:
    """The value under a dotted name, or None."""
    head, _, leaf = dotted.partition(".")
    value: object = table.get(head)
    if not leaf:
        return value
    return value.get(leaf) if isinstance(value, dict) else None


def read_document(path: Path) -> Document:
    """Read a TOML file, which may bring [sources.<id>] tables of its own. Raises CatalogueError, InputError."""
    try:
        if not path.is_file():
            raise InputError(f"no file {str(path)!r}; expected a chip or system TOML file")
        if path.stat().st_size > _MAX_BYTES:
            raise CatalogueError(f"{path.name}: larger than {_MAX_BYTES} bytes; expected a chip or system file")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise CatalogueError(f"{path.name}: not valid TOML: {error}") from None
    own = table.pop("sources", {})
    if not isinstance(own, dict):
        raise CatalogueError(f"{path.name}: sources: expected [sources.<id>] tables")
    for name, entry in own.items():
        read_source(name, entry, path.name)
    return Document(path, table, source_ids() | frozenset(own))
