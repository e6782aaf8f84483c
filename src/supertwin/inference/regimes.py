"""How wide the interval of a table row is: conformal quantiles of past errors by regime, in the row's own sigmas.

The prediction is never touched by them. A score is ln(measured / predicted) over the standard deviation that
`uncertainty` composes for the row; data/intervals.json keeps the 5 and 95 % quantiles (finite-sample corrected, Vovk et
al. 2005) of the scores of the shipped rows, from the narrowest regime with LEAST_ROWS rows to the widest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files

from supertwin.inference.assumptions import Engine
from supertwin.inference.reading import Reading

TAIL = 0.05  # of an interval of 90 %, on either side
LEAST_ROWS = 30
LEAST_FACTOR = 1.05  # an interval holds its prediction also where all past errors lie on one side
NORMAL_90 = 1.645
DEFAULT = (-NORMAL_90, NORMAL_90)
_COMPILED = ("tensorrt-llm", "mlperf-tensorrt", "vllm-rocm-mlperf")


def regimes(reading: Reading, about: Engine, metric: str) -> tuple[str, ...]:
    """Regimes of one metric of a row, from narrow to wide: phase and kind of server (or sweep), phase, metric, all."""
    server = "tuned" if about.name in _COMPILED else "server"
    wide = (f"{metric}/{reading.phase}", metric, "all")
    if "experimental-sweep" in reading.flags:
        return (f"{metric}/{reading.phase}/sweep", *wide)
    return (f"{metric}/{reading.phase}/{server}", *wide)


def interval(names: Iterable[str], sigma: float) -> tuple[float, float]:
    """(low, high) factors on a prediction whose composed standard deviation is sigma."""
    known = _quantiles()
    low, high = next((known[n] for n in names if n in known), DEFAULT)
    return min(math.exp(low * sigma), 1.0 / LEAST_FACTOR), max(math.exp(high * sigma), LEAST_FACTOR)


def measure(scores: Iterable[tuple[tuple[str, ...], float]]) -> dict[str, list[float]]:
    """Quantiles [low, high, rows] by regime from (regimes of a row, its score); regimes of few rows are left out."""
    found: dict[str, list[float]] = {}
    for names, score in scores:
        for name in names:
            found.setdefault(name, []).append(score)
    return {
        name: [round(_order(s, TAIL), 3), round(-_order([-x for x in s], TAIL), 3), len(s)]
        for name, s in sorted(found.items())
        if len(s) >= LEAST_ROWS
    }


def _order(scores: list[float], tail: float) -> float:
    """The order statistic below which a further exchangeable score falls with probability of at most `tail`."""
    rank = math.floor((len(scores) + 1) * tail)
    return sorted(scores)[max(rank, 1) - 1]


def render(scores: Iterable[tuple[tuple[str, ...], float]]) -> str:
    """Text of data/intervals.json for the scores of a table (supertwin.inference.rows.scores)."""
    lines = [f"  {json.dumps(name)}: {json.dumps(quantiles)}" for name, quantiles in measure(scores).items()]
    about = "[low, high, values] by regime; intervals only, no prediction uses them"
    return '{\n "about": ' + json.dumps(about) + ',\n "quantiles": {\n' + ",\n".join(lines) + "\n }\n}\n"


@lru_cache(maxsize=1)
def _quantiles() -> Mapping[str, tuple[float, float]]:
    path = files("supertwin") / "data" / "intervals.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    return {name: (float(q[0]), float(q[1])) for name, q in table["quantiles"].items()}
