"""What one source of a published row says and the table does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supertwin.validation.schema import Value


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source says. where: columns that must begin with these words; lines: of the cited file.

    corrects: columns that the table has wrong; model: dimensions that the model file has wrong; fills: columns left
    empty; settings: fields of the case without a column; counter: how memory was read (supertwin.training.counters).
    """

    source: str
    reason: str
    where: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[int, int] = (0, 1 << 30)
    corrects: Mapping[str, Value] = field(default_factory=dict)
    fills: Mapping[str, Value] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    model: Mapping[str, object] = field(default_factory=dict)
    counter: str = ""
