"""Reading data/scenarios.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from supertwin.core.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operating point. options: fields of the case; published: printed figures by name (SI; mfu in per cent).

    steps: changes on top of each other, {title, set: options or system, published}.
    """

    name: str
    title: str
    kind: str  # train | infer
    model: str
    system: str
    options: Mapping[str, object]
    published: Mapping[str, float]
    source: str
    where: str
    assumed: str = ""
    variant: str = ""
    steps: Sequence[Mapping[str, Any]] = ()

    @property
    def label(self) -> str:
        """System, and the variant where several scenarios share it."""
        return f"{self.system} {self.variant}".strip()


@cache
def _table() -> dict[str, Scenario]:
    text = resources.files("supertwin.data").joinpath("scenarios.toml").read_text(encoding="utf-8")
    return {name: Scenario(name=name, **fields) for name, fields in tomllib.loads(text).items()}


def scenario_names() -> list[str]:
    """Names in file order."""
    return list(_table())


def load_scenario(name: str) -> Scenario:
    """One scenario. Raises UnknownName."""
    try:
        return _table()[name]
    except KeyError:
        raise UnknownName("scenario", name, _table()) from None
