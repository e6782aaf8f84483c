"""`like` in a system file: everything that it does not give comes from another system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supertwin.machine.chips import catalogue_path
from supertwin.machine.document import Document, read_document


def after_base(document: Document, folder: Path, above: tuple[Path, ...] = ()) -> Document:
    """The file with what it takes from the system that it is like.

    Power and price of the base are those of another machine as soon as size, chip or parts differ: they are left out.
    folder: of the shipped systems; above: files on the way here, to refuse a cycle. Raises CatalogueError, UnknownName.
    """
    own = document.table
    like = document.text(own, "like")
    if not like:
        return document
    beside = document.path.parent / like
    path = beside if like.endswith(".toml") and beside.is_file() else catalogue_path("system", like, folder)
    above = (*above, document.path.resolve())
    if path.resolve() in above:
        chain = " -> ".join(p.stem for p in (*above, path))
        raise document.fail("like", f"cycle: {chain}; expected a system that does not lead back here")
    base = after_base(read_document(path), folder, above)
    table = {name: value for name, value in base.table.items() if name not in ("aliases", "like")}
    chip = table.get("chip")
    if isinstance(chip, str) and (base.path.parent / chip).is_file():
        table["chip"] = str((base.path.parent / chip).resolve())
    if own.keys() & {"size", "chip", "parts"}:
        for group in ("power", "price"):
            kept = table.get(group)
            table[group] = {k: v for k, v in kept.items() if k != "system"} if isinstance(kept, dict) else kept
    table = {name: value for name, value in table.items() if value is not None}
    return Document(document.path, merged(table, own), base.known_sources | document.known_sources)


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; a quantity ({ value, source ... }), a list or a text of `own` replaces the other."""
    result = dict(base)
    for name, value in own.items():
        old = result.get(name)
        tables = isinstance(old, dict) and isinstance(value, dict) and "value" not in value and "value" not in old
        result[name] = merged(old, value) if tables and isinstance(old, dict) else value
    return result
