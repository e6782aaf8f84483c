"""Single changes to a job or deployment, or to its machine, and what each would buy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Case = TypeVar("Case")
Scale = TypeVar("Scale")


@dataclass(frozen=True)  # slots forbid what Generic sets on an instance
class Change(Generic[Case, Scale]):
    """One change. kind: option | machine; scale: factors on what a machine change touches; option: how the command line
    says it ("" where no flag does)."""

    name: str
    kind: str
    case: Case
    scale: Scale
    option: str = ""


@dataclass(frozen=True)
class Gain(Generic[Case, Scale]):
    """A change that is legal and fits. gain: tokens/s per device over those before, minus 1; token_s: step time over
    the tokens that a sequence gains by it (TPOT in decode, the step elsewhere)."""

    change: Change[Case, Scale]
    gain: float
    step_time_s: float
    token_s: float
    tokens_per_s_per_device: float
    peak_memory_bytes: float


def best_first(found: Iterable[Gain[Case, Scale] | None]) -> tuple[Gain[Case, Scale], ...]:
    """Gains in order; None stands for a change that is not legal or does not fit."""
    return tuple(sorted((gain for gain in found if gain is not None), key=lambda gain: -gain.gain))
