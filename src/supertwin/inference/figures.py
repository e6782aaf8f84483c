"""Figures of a step by name: what users wait for, what a device gives, and how well it is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference import engines
from supertwin.inference.case import InferenceCase
from supertwin.inference.context import busiest_rank
from supertwin.inference.layers import computed_in
from supertwin.inference.mixed_figures import mixed_figures
from supertwin.inference.notes import computed_rate
from supertwin.inference.placement import place
from supertwin.inference.times import StepTimes, scalar

Figures = dict[str, float | None]


def figures_of(case: InferenceCase, times: StepTimes, each: Sequence[float]) -> tuple[Figures, float]:
    """(figures, tokens/s per device) of a step. each: seconds of the step, and of the parts of a mixed one."""
    figures = _use(case, times, each[0])
    if case.phase == "mixed":
        return mixed_figures(case, each, figures)
    own, tokens = _decode(case, times, each[0]) if case.phase == "decode" else _prefill(case, each[0])
    return {**figures, **own, "requests_in_flight": case.batch * case.deployment.devices}, tokens


def _use(case: InferenceCase, times: StepTimes, seconds: float) -> Figures:
    """Shares of the matrix peak and of the memory bandwidth, the time of a layer, and figures of the step itself."""
    chip = case.system.chip
    filled = min(1.0, case.batch * case.deployment.rank_devices)  # a rank is priced with one sequence at least
    filled = filled / _busiest(case)
    return {
        "mfu": filled * scalar(times.flop) / seconds / _peak_flop_per_s(case),
        "hbm_use": filled * scalar(times.bytes) / seconds / chip.memory_bytes_per_s,
        "layer_time_s": scalar(times.last_layer_s),
        **{name: scalar(value) for name, value in times.figures.items()},
    }


def _peak_flop_per_s(case: InferenceCase) -> float:
    """The fastest dense peak among the formats that a step multiplies: those of its weights, and 16 bits in attention
    (Blackwell Ultra multiplies INT8, every GPU FP32, slower than that)."""
    chip = case.system.chip
    rates = [number_format(computed_in(w, a, chip)[0]).rate for _, w, a in case.deployment.part_dtypes]
    wide = [name for name in ("bf16", "fp16") if name in chip.peak_flop_per_s]
    return max(chip.peak(rate) for rate in (computed_rate(case), *rates, *wide))


def _busiest(case: InferenceCase) -> float:
    """Tokens of the busiest attention rank over the mean, where prompts are of different lengths."""
    if not case.prompt_cv:
        return 1.0
    sequences = max(case.batch * case.deployment.rank_devices, 1.0)
    return scalar(busiest_rank(case.prompt_cv, sequences, place(case.deployment).ranks))


def _decode(case: InferenceCase, times: StepTimes, seconds: float) -> tuple[Figures, float]:
    d, chip = case.deployment, case.system.chip
    accepted = 1.0 + d.mtp_tokens * d.mtp_acceptance
    tokens = case.batch * accepted / seconds
    found: Figures = {
        "tpot_s": seconds / accepted,
        "output_tokens_per_s_per_device": tokens,
        "output_tokens_per_s_per_user": accepted / seconds,
        "output_tokens_per_s_per_chip": tokens * chip.devices_per_package,
    }
    if d.draft or d.draft_topk > 1:
        found["tokens_per_step"] = accepted
    streams = times.streams_s
    if np.any(streams[0]):
        found |= {"first_stream_s": scalar(streams[0]), "second_stream_s": scalar(streams[1])}
    return found, tokens


def _prefill(case: InferenceCase, seconds: float) -> tuple[Figures, float]:
    chip = case.system.chip
    tokens = case.batch * case.input_len / seconds
    found: Figures = {
        "ttft_s": seconds + engines.engine(case.deployment.framework, chip).request_gap_s,
        "input_tokens_per_s_per_device": tokens,
        "input_tokens_per_s_per_chip": tokens * chip.devices_per_package,
        "output_tokens_per_s_per_device": None,
        "output_tokens_per_s_per_user": None,
    }
    if case.prompt_cv:
        found["busiest_rank_over_mean"] = _busiest(case)
    return found, tokens
