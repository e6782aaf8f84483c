"""How a row of each table is predicted. A predictor takes rows and gives, for each, Compared or Skip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors import collectives, inference, kernels, training
from supertwin.validation.tables import Row

Predictor = Callable[[Sequence[Row]], list[Compared | Skip]]

PREDICTORS: dict[str, Predictor] = {
    "training": training.compare,
    "inference": inference.compare,
    "kernels": kernels.compare,
    "collectives": collectives.compare,
}

__all__ = ["PREDICTORS", "Predictor"]
