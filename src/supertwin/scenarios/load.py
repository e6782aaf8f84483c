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

    scale_up: "node" cuts the bus to the node, so that RDMA joins the nodes ("" leaves the machine as it is).
    steps: changes on top of each other, {title, set: options, system or scale_up, published, gain_pct: (low, high) that
    the source prints for the step's tokens/s}.
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
    scale_up: str = ""
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
