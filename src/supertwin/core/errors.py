"""Errors for users.

SupertwinError
├── InputError          exit 2   what was given, what was expected, the nearest legal names
│   ├── UnknownName              a chip, system, model, option value that does not exist
│   ├── CatalogueError           a TOML file that breaks the rules of the catalogue
│   ├── ModelError               a config.json that cannot be read as a known architecture
│   └── TableError               a CSV file or a row of it that is not in the documented form
├── Infeasible          exit 3   a result: the case is well-formed but cannot run; carries reasons
└── MissingExtra        exit 4   an optional dependency is needed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SupertwinError(Exception):
    """Root of all errors meant for users."""

    exit_code = 1


class InputError(SupertwinError):
    """The input is not legal."""

    exit_code = 2


class CatalogueError(InputError):
    """A catalogue file breaks a rule (missing unit, missing source, unknown field)."""


class ModelError(InputError):
    """A model configuration is incomplete or of an unknown architecture."""


class TableError(InputError):
    """A measurement table is not in the documented form."""


class UnknownName(InputError):
    """A name that is not in a closed list; the message gives the nearest legal ones."""

    def __init__(self, kind: str, given: str, legal: Iterable[str]) -> None:
        self.kind, self.given, self.legal = kind, given, sorted(legal)
        super().__init__(f"unknown {kind} {given!r}; {nearest_sentence(given, self.legal)}")


class Infeasible(SupertwinError):
    """The case is legal but cannot run on this machine; `reasons` says why."""

    exit_code = 3

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = list(reasons)
        super().__init__("; ".join(self.reasons))


class MissingExtra(SupertwinError):
    """An optional dependency is missing."""

    exit_code = 4

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs {package}: pip install 'supertwin[{extra}]'")


def nearest_sentence(given: str, legal: Sequence[str], most: int = 5) -> str:
    """'did you mean a, b?' or, when nothing is near, the legal names themselves."""
    near = difflib.get_close_matches(given.lower(), legal, n=most, cutoff=0.5)
    if near:
        return "did you mean " + ", ".join(near) + "?"
    shown = ", ".join(legal[:most])
    return f"expected one of {shown}" + (f" ... ({len(legal)} in all)" if len(legal) > most else "")
