"""What comes out of comparing one row with its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from supertwin.core.prediction import Part


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that was not predicted, and why. internal: the predictor broke (a defect of ours, not of the row)."""

    id: str
    reason: str
    table: str = ""
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one row, in SI units: measured, predicted and the 90 % interval of the prediction."""

    metric: str
    measured: float
    predicted: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compared:
    """All metrics of one row. assumed: what the row does not state and the predictor took; parts: its breakdown."""

    figures: tuple[Figure, ...]
    assumed: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one row with what it is grouped by. kind `ci-floor`: measured is a lower bound."""

    id: str
    table: str
    metric: str
    measured: float
    predicted: float
    low: float
    high: float
    chip: str = ""
    model: str = ""
    n_devices: int | None = None
    phase: str = ""
    source_group: str = ""
    kind: str = "measured"
    flags: frozenset[str] = frozenset()
    assumed: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured

    @property
    def ape(self) -> float:
        """Absolute percentage error as a fraction: |predicted / measured - 1|."""
        return abs(self.ratio - 1.0)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one validation run found. counts: rows read by table; elapsed_s: wall time."""

    scores: tuple[Score, ...]
    skipped: tuple[Skip, ...]
    counts: dict[str, int] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def of_kind(self, floor: bool) -> Sequence[Score]:
        """Scores of lower-bound rows (floor) or of all others."""
        return [score for score in self.scores if (score.kind == "ci-floor") == floor]
