"""The 90 % interval of a training step and of its peak memory.

A standard deviation is composed for the step from what each part is worth (assumptions). The interval is that many of
them as past errors of the same regime took: quantiles of ln(measured / predicted) over the composed deviation, kept in
data/training-intervals.json. They widen and shift intervals only; no prediction reads them.

Regimes run from narrow (chip family, framework, kind of model, one node or several), where every row counts alike, to
wide (framework, family, vendor, all), which answer for sources that are not in the table: there a source counts as ten
rows at most. A regime needs LEAST_ROWS rows, a wide one LEAST_SOURCES sources too; the widest takes what there is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from supertwin.core.conformal import quantiles, quantiles_by_source
from supertwin.core.prediction import Z90, Part
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.check import expert_count
from supertwin.training.frameworks import framework_named

TIME, MEMORY = "time", "memory"
LEAST_ROWS, LEAST_SOURCES = 30, 5
LEAST_FACTOR = 1.05  # an interval holds its prediction also where all past errors lie on one side
FILE = "training-intervals.json"
Factors = tuple[float, float]
Quantiles = Mapping[str, Factors]
_CAUSES = {"compute": "compute", "memory": "compute", "bubble": "compute", "network": "network", "latency": "latency"}


@dataclass(frozen=True, slots=True)
class Regimes:
    """Names from narrow to wide: `own` for the same kind of job, `wide` for sources that are not known."""

    own: tuple[str, ...]
    wide: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """Past error of one row: ln(measured / predicted), of times, rates or memory alike as time or bytes, in composed
    deviations."""

    regimes: Regimes
    score: float
    sigma: float
    source: str
    metric: str


def step_sigma(parts: Sequence[Part]) -> float:
    """Standard deviation of ln(step time): spreads of compute, network and host by their share, and what a table of
    settings leaves out."""
    shares = {"compute": 0.0, "network": 0.0, "latency": 0.0}
    for part in parts:
        shares[_CAUSES[part.bound]] += part.share
    return math.sqrt(
        assume.STEP_SIGMA.value**2
        + (assume.COMPUTE_SIGMA.value * shares["compute"]) ** 2
        + (assume.NETWORK_SIGMA.value * shares["network"]) ** 2
        + (assume.HOST_SIGMA.value * shares["latency"]) ** 2
    )


def regimes_of(case: TrainingCase, metric: str) -> Regimes:
    """Regimes of a job. metric: time | memory."""
    chip, framework = case.system.chip, framework_named(case.framework).name
    family = chip.architecture if chip.vendor == "google" else chip.architecture.rpartition("-")[0] or chip.architecture
    kind = "experts" if expert_count(case.model) else "dense"
    reach = "node" if case.layout.devices <= case.system.devices_per_node else "nodes"
    job = f"{metric}/{family}/{framework}"
    own = (f"{job}/{kind}/{reach}", f"{job}/{kind}", job)
    return Regimes(own, (f"{metric}/*/{framework}", f"{metric}/{family}", f"{metric}/{chip.vendor}", metric))


def interval(regimes: Regimes, sigma: float, known: Quantiles | None = None) -> Factors:
    """(low, high) factors on a predicted time or memory whose composed deviation is sigma."""
    table = _shipped() if known is None else known
    low, high = next((table[n] for n in (*regimes.own, *regimes.wide) if n in table), (-Z90, Z90))
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
        if enough or name in (TIME, MEMORY):
            found[name] = quantiles_by_source(marked)
    return dict(sorted(found.items()))


def render(scores: Sequence[Scored]) -> str:
    """Text of data/training-intervals.json."""
    rows = [f"  {json.dumps(name)}: {json.dumps([round(x, 3) for x in q])}" for name, q in measure(scores).items()]
    about = f"[low, high] by regime from {len(scores)} figures; intervals only, no prediction uses them"
    return '{\n "about": ' + json.dumps(about) + ',\n "quantiles": {\n' + ",\n".join(rows) + "\n }\n}\n"


@lru_cache(maxsize=1)
def _shipped() -> Quantiles:
    text = (files("supertwin") / "data" / FILE).read_text(encoding="utf-8")
    return {name: (float(q[0]), float(q[1])) for name, q in json.loads(text)["quantiles"].items()}
