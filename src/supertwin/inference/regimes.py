"""How wide the interval of a step or of a deployment's figure is: regimes of past errors (core.regimes).

Figures of single steps share a regime as times (a rate errs as its step does, the other way round); those of
deployments have one per metric, because queues and batches err in their own ways. data/intervals.json keeps the
quantiles of the shipped rows (validation.intervals.write).
"""

from __future__ import annotations

from collections.abc import Collection

from supertwin.core.regimes import Factors, Quantiles, Regimes, shipped
from supertwin.core.regimes import interval as interval_of
from supertwin.inference.engines import Engine
from supertwin.machine.chip import Chip

FILE = "intervals.json"
STEP = "step"
_STEPS = ("prefill", "decode", "kernel-step", "mixed")
_COMPILED = ("tensorrt-llm", "tensorrt-llm-pytorch", "mlperf-tensorrt", "vllm-rocm-mlperf")


def regimes(metric: str, phase: str, about: Engine, chip: Chip, flags: Collection[str] = ()) -> Regimes:
    """Regimes of one metric in a phase, from narrow to wide: chip family and engine, engine, then kind of server, phase
    and metric. Sweeps under unknown conditions are a regime of their own."""
    family = chip.architecture.rpartition("-")[0] or chip.architecture
    if is_step(metric, phase):
        return Regimes((f"{STEP}/{phase}/{family}/{about.name}", f"{STEP}/{phase}/{family}"), (f"{STEP}/{phase}", STEP))
    place = f"{metric}/{phase}"
    wide = (f"{place}/*/{'tuned' if about.name in _COMPILED else 'server'}", place, metric)
    if "experimental-sweep" in flags:
        return Regimes((f"{place}/sweep",), wide)
    return Regimes((f"{place}/{family}/{about.name}", f"{place}/{about.name}"), wide)


def is_step(metric: str, phase: str) -> bool:
    """Whether a figure is a single step's time or a rate made of it."""
    return phase in _STEPS and metric != "ttft_s"


def as_error(metric: str, phase: str) -> float:
    """Sign of a figure's ln(measured / predicted) in its regime: rates of steps count as times."""
    return -1.0 if is_step(metric, phase) and "per_s" in metric else 1.0


def interval(names: Regimes, sigma: float, known: Quantiles | None = None, sign: float = 1.0) -> Factors:
    """(low, high) factors on a prediction whose composed standard deviation is sigma. sign: see as_error."""
    low, high = interval_of(names, sigma, shipped(FILE) if known is None else known)
    return (low, high) if sign > 0.0 else (1.0 / high, 1.0 / low)
