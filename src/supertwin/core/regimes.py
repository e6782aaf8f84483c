"""How wide an interval is: quantiles of past errors of the same kind of case, in standard deviations composed for each.

A score is ln(measured / predicted) over the deviation that the model composes for a case. Quantiles of scores are kept
in a data file by regime; they widen and shift intervals only, no prediction reads them.

Regimes run from narrow, where every figure counts alike, to wide, which answer for sources that are not in the table:
there a source counts as ten figures at most. A regime needs LEAST_ROWS figures, a wide one LEAST_SOURCES sources too;
the widest ones (names without a slash) take what there is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from supertwin.core.conformal import quantiles, quantiles_by_source
from supertwin.core.prediction import Z90

LEAST_ROWS, LEAST_SOURCES = 30, 5
LEAST_FACTOR = 1.05  # an interval holds its prediction also where all past errors lie on one side
Factors = tuple[float, float]
Quantiles = Mapping[str, Factors]


@dataclass(frozen=True, slots=True)
class Regimes:
    """Names from narrow to wide: `own` for the same kind of case, `wide` for sources that are not known."""

    own: tuple[str, ...]
    wide: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """Past error of one figure: ln(measured / predicted) in composed deviations, a rate's as that of its time where its
    regimes hold times."""

    regimes: Regimes
    score: float
    sigma: float
    source: str
    metric: str


def interval(regimes: Regimes, sigma: float, known: Quantiles) -> Factors:
    """(low, high) factors on a prediction whose composed deviation is sigma: those of the narrowest known regime."""
    low, high = next((known[n] for n in (*regimes.own, *regimes.wide) if n in known), (-Z90, Z90))
    return min(math.exp(low * sigma), 1.0 / LEAST_FACTOR), max(math.exp(high * sigma), LEAST_FACTOR)


def measure(scores: Iterable[Scored]) -> dict[str, Factors]:
    """Quantiles (low, high) by regime, in composed deviations; regimes of too few rows or sources are left out."""
    own: dict[str, list[float]] = {}
    wide: dict[str, list[tuple[float, str]]] = {}
    for scored in scores:
        for name in scored.regimes.own:
            own.setdefault(name, []).append(scored.score)
        for name in scored.regimes.wide:
            wide.setdefault(name, []).append((scored.score, scored.source))
    found = {name: quantiles(rows) for name, rows in own.items() if len(rows) >= LEAST_ROWS}
    for name, marked in wide.items():
        enough = len(marked) >= LEAST_ROWS and len({source for _, source in marked}) >= LEAST_SOURCES
        if enough or "/" not in name:
            found[name] = quantiles_by_source(marked)
    return dict(sorted(found.items()))


def render(scores: Sequence[Scored]) -> str:
    """Text of a data file."""
    rows = [f"  {json.dumps(name)}: {json.dumps([round(x, 3) for x in q])}" for name, q in measure(scores).items()]
    about = f"[low, high] by regime from {len(scores)} figures; intervals only, no prediction uses them"
    return '{\n "about": ' + json.dumps(about) + ',\n "quantiles": {\n' + ",\n".join(rows) + "\n }\n}\n"


@lru_cache(maxsize=4)
def shipped(file: str) -> Quantiles:
    """Quantiles of a file in data/."""
    text = (files("supertwin") / "data" / file).read_text(encoding="utf-8")
    return {name: (float(q[0]), float(q[1])) for name, q in json.loads(text)["quantiles"].items()}
