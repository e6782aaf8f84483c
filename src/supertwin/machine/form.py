"""Writing a chip file: what a calibration measured, in the form that `load_chip` reads."""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.core.errors import InputError, nearest_sentence
from supertwin.core.units import parse_quantity
from supertwin.machine.schema import CHIP

MEASURED = "measured-here"


def chip_toml(title: str, like: str, values: Mapping[str, str], note: str, source: str = MEASURED) -> str:
    """Text of a chip file that is like `like` except for `values` (dotted attribute -> "number unit").

    note says how the values were obtained. Raises InputError for an attribute or a unit that a chip file does not have.
    """
    dimensions = {attribute.name: attribute.dimension for attribute in CHIP if "." in attribute.name}
    tables: dict[str, list[str]] = {}
    for name, text in values.items():
        if name not in dimensions:
            raise InputError(f"a chip has no attribute {name!r}; {nearest_sentence(name, list(dimensions))}")
        parse_quantity(text, dimensions[name])
        group, _, leaf = name.partition(".")
        entry = (
            f'{leaf} = {{ value = "{text}", source = {_quoted(source)}, kind = "inferred", note = {_quoted(note)} }}'
        )
        tables.setdefault(group, []).append(entry)
    lines = [f"title = {_quoted(title)}", f"like = {_quoted(like)}"]
    for group, entries in tables.items():
        lines += ["", f"[{group}]", *entries]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 or c in '"\\' else c for c in text)
    return f'"{escaped}"'
