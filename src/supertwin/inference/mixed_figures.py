"""What a mixed step is for and costs: prompt tokens taken on the way, and how much longer users wait for a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from supertwin.cost.stack import largest
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.memory import Held, cache_bytes, held
from supertwin.inference.mixed import chunk_shape
from supertwin.inference.placement import Real, place
from supertwin.inference.shape import Shape
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.workload.shard import maximum, minimum


@dataclass(frozen=True, slots=True)
class MixedSizes:
    """What a mixed step is asked for, numbers or arrays: see InferenceCase. Rows of one call all have a decode part or
    none, and all a chunk or none."""

    batch: Real
    kv_len: Real
    input_len: Real
    prefix_len: Real
    chunk_tokens: Real


def sizes_of(case: InferenceCase) -> MixedSizes:
    """Those of a case."""
    return MixedSizes(case.batch, case.kv_len, case.input_len, case.prefix_len, case.chunk_tokens)


def mixed_shape(d: Deployment, sizes: MixedSizes) -> Shape:
    """Shape of the step: its decode part carries the chunk. One without decode part is a prefill step."""
    ranks, chunk = place(d).ranks, None
    if largest(sizes.chunk_tokens) > 0.0:
        chunk = chunk_shape(sizes.chunk_tokens * 1.0, sizes.input_len * 1.0, sizes.prefix_len * 1.0, ranks)
    if chunk is not None and largest(sizes.batch) == 0.0:
        return chunk
    own = sizes.batch * d.tp
    shared = maximum(own * ranks, 1.0)
    return Shape("decode", maximum(own, 1.0), shared, 1.0 * d.new_tokens, sizes.kv_len * 1.0, chunk)


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


def mixed_held(model: ModelSpec, system: System, d: Deployment, sizes: MixedSizes) -> Held:
    """Memory of one device: decode sequences with their context, and beside them the prompts of the chunk."""
    decoding = maximum(sizes.batch * d.tp * d.pp, 1.0) if largest(sizes.batch) > 0.0 else 0.0
    prompts: Real = 0.0
    if largest(sizes.chunk_tokens) > 0.0:
        prompts = sizes.chunk_tokens / maximum(minimum(sizes.chunk_tokens, sizes.input_len), 1.0) * d.pp
    used = held(model, system, d, (decoding, sizes.kv_len * 1.0, mixed_shape(d, sizes).all_tokens))
    beside = cache_bytes(model, system.chip, d, (prompts, sizes.input_len * 1.0 + sizes.prefix_len))
    return replace(used, kv_bytes=used.kv_bytes + beside)
