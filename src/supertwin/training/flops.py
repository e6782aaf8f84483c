"""Model FLOPs and utilisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from supertwin.core.formats import number_format
from supertwin.model.spec import ModelSpec
from supertwin.training.case import TrainingCase
from supertwin.workload.flops import model_flops_per_token


@dataclass(frozen=True, slots=True)
class Utilisation:
    """model_flop_per_s: per device, causal attention; mfu, mfu_full: over the dense peak of the precision, with
    causal or
    full attention counted; hfu: executed matrix work, recomputation included."""

    model_flop_per_s: float
    mfu: float
    mfu_full: float
    hfu: float


def utilisation(case: TrainingCase, tokens_per_s: float, executed_flop_per_s: float) -> Utilisation:
    """Utilisation at a throughput and an executed rate, both per device."""
    peak = case.system.chip.peak(number_format(case.precision).rate)
    causal, full = (tokens_per_s * flop for flop in flop_per_token(case.model, case.seq_len, case.task))
    return Utilisation(causal, causal / peak, full / peak, executed_flop_per_s / peak)


@lru_cache(maxsize=1024)
def flop_per_token(model: ModelSpec, seq_len: int, task: str) -> tuple[float, float]:
    """(causal, full) model FLOPs per token. LoRA does not compute the weight gradients of the frozen matrices: twice
    the
    forward instead of three times (4 per weight and token)."""
    kind, factor = ("forward", 2.0) if task == "lora" else ("train", 1.0)
    causal, full = (float(model_flops_per_token(model, seq_len, kind, causal=c)) for c in (True, False))
    return factor * causal, factor * full
