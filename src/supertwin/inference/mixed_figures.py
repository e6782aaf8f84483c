"""What a mixed step is for and costs: prompt tokens taken on the way, and how much longer users wait for a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supertwin.core.prediction import Memory
from supertwin.inference.case import InferenceCase
from supertwin.inference.memory import held, memory_of
from supertwin.inference.mixed import chunk_shape
from supertwin.inference.placement import Placement, place
from supertwin.inference.shape import Shape


def mixed_shape(case: InferenceCase, placement: Placement) -> Shape:
    """Shape of the step: its decode part carries the chunk. One without decode part is a prefill step."""
    chunk = None
    if case.chunk_tokens:
        chunk = chunk_shape(float(case.chunk_tokens), float(case.input_len), float(case.prefix_len), placement.ranks)
    if chunk is not None and case.batch == 0:
        return chunk
    own = case.batch * placement.tp
    new = 1.0 + case.deployment.mtp_tokens
    return Shape("decode", max(own, 1.0), max(own * placement.ranks, 1.0), new, float(case.kv_len), chunk)


def with_parts(shape: Shape) -> list[Shape]:
    """The step, then its decode part and its chunk as steps of their own, where it has both."""
    return [shape] if shape.chunk is None else [shape, replace(shape, chunk=None), shape.chunk]


def mixed_figures(
    case: InferenceCase, times: Sequence[float], figures: dict[str, float | None]
) -> tuple[dict[str, float | None], float]:
    """(figures, tokens/s per device, prompt and accepted output tokens together) of a step.

    times: seconds of the step and, where it has both parts, of the decode part and the chunk as steps of their own.
    tpot_inflation: over the step without its chunk; mixing_gain: what decode and chunk would take one after the other
    over the mixed step.
    """
    d, chip, seconds = case.deployment, case.system.chip, times[0]
    accepted = 1.0 + d.mtp_tokens * d.mtp_acceptance
    prompt, output = case.chunk_tokens / d.tp / seconds, case.batch * accepted / seconds
    decode, chunk = times[1:] if len(times) > 1 else (seconds, 0.0) if case.batch else (0.0, seconds)
    found = {
        "tpot_s": seconds / accepted if case.batch else None,
        "input_tokens_per_s_per_device": prompt,
        "input_tokens_per_s_per_chip": prompt * chip.devices_per_package,
        "output_tokens_per_s_per_device": output,
        "output_tokens_per_s_per_chip": output * chip.devices_per_package,
        "output_tokens_per_s_per_user": accepted / seconds if case.batch else None,
        "requests_in_flight": case.batch * d.devices,
        "decode_step_time_s": decode or None,
        "prefill_step_time_s": chunk or None,
        "tpot_inflation": seconds / decode if decode else None,
        "mixing_gain": (decode + chunk) / seconds,
    }
    return {**figures, **found}, prompt + output


def mixed_memory(case: InferenceCase) -> Memory:
    """Memory of one device: decode sequences with their context, and beside them the prompts of the chunk."""
    model, system, d = case.model, case.system, case.deployment
    tokens = float(np.max(mixed_shape(case, place(d)).all_tokens))
    decoding = max(case.batch * d.tp * d.pp, 1.0) if case.batch else 0.0
    prompts = case.chunk_tokens / max(min(case.chunk_tokens, case.input_len), 1) * d.pp if case.chunk_tokens else 0.0
    used = memory_of(model, system, d, decoding, float(case.kv_len), tokens)
    beside = held(model, system, d, (prompts, float(case.input_len + case.prefix_len), 0.0))
    return replace(used, kv_cache_bytes=used.kv_cache_bytes + float(beside.kv_bytes))
