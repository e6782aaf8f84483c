"""What a user should know about a case: formats that the chip lacks, options without effect, what is left out."""

from __future__ import annotations

import numpy as np

from supertwin.core.errors import InputError
from supertwin.core.formats import number_format
from supertwin.core.prediction import Memory
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.host import host_note
from supertwin.inference.layers import computed_in, expert_skew, shared_fits
from supertwin.inference.placement import moe, place
from supertwin.inference.shape import Shape
from supertwin.model.spec import FeedForwardSpec

WEIGHT_ONLY = ("int4", "mxfp4")
"""Formats whose checkpoints keep BF16 activations (AWQ, GPTQ; gpt-oss)."""
_MUCH = 2.0


def computed_rate(case: InferenceCase) -> str:
    """Rate of the matrix engine that the activations really use: that of the wider format where the chip lacks theirs.

    Raises UnknownName for a format, InputError where the chip multiplies nothing as wide.
    """
    d, chip = case.deployment, case.system.chip
    number_format(d.kv_dtype)
    rate = number_format(computed_in(d.weight_dtype, d.activation_dtype, chip)[0]).rate
    try:
        chip.peak(rate)
    except KeyError:
        legal = ", ".join(sorted(chip.peak_flop_per_s))
        raise InputError(f"{chip.name} does not multiply {rate}; expected activations in {legal}") from None
    return rate


def notes(case: InferenceCase, used: Memory, shape: Shape) -> tuple[str, ...]:
    """Sentences for the warnings of a prediction. used: memory of one device; shape: of the step."""
    host = host_note(case.deployment, case.system)
    return (*_memory_notes(used), *_format_notes(case), *_expert_notes(case, shape), *_model_notes(case), *host)


def _memory_notes(used: Memory) -> list[str]:
    if used.fits:
        return []
    need, there, weights, cache = (
        f"{size / 2**30:,.1f} GiB"
        for size in (used.peak_bytes, used.capacity_bytes, used.parameters_bytes, used.kv_cache_bytes)
    )
    return [f"does not fit: {need} needed of {there} per device (weights {weights}, KV {cache})"]


def _format_notes(case: InferenceCase) -> list[str]:
    d, chip = case.deployment, case.system.chip
    computed, stored = computed_in(d.weight_dtype, d.activation_dtype, chip)
    foreign = d.activation_dtype
    if number_format(computed).rate == number_format(foreign).rate:
        foreign = stored
        if stored in WEIGHT_ONLY or number_format(stored).rate in chip.peak_flop_per_s:
            return []
    used = chip.multiplied(number_format(computed).rate)
    run = computed if used == number_format(computed).rate else used
    return [f"{chip.name} does not multiply {foreign}: weights stay {stored}, products run in {run}"]


def _expert_notes(case: InferenceCase, shape: Shape) -> list[str]:
    d, mixture = case.deployment, moe(case.model)
    if mixture is None:
        return ["redundant experts have no effect: the model has no routed experts"] if d.redundant_experts else []
    if d.redundant_experts and d.ep == 1:
        return ["redundant experts have no effect with ep 1: every expert is cut over all devices"]
    return [*_further_ranks(d, mixture), *_uneven(case, shape)]


def _further_ranks(d: Deployment, mixture: FeedForwardSpec) -> list[str]:
    """What ranks hold for which there is no routed expert left."""
    held = mixture.experts + d.redundant_experts
    if d.ep <= held:
        return []
    replicas = f" and {d.redundant_experts} redundant ones" if d.redundant_experts else ""
    what = "further replicas" + (", of the shared expert too" if shared_fits(mixture) else "")
    return [f"ep({d.ep}) exceeds the {mixture.experts} experts{replicas}: {d.ep - held} ranks hold {what}"]


def _uneven(case: InferenceCase, shape: Shape) -> list[str]:
    """Without replicas the busiest rank may get several times the mean."""
    d = case.deployment
    if d.redundant_experts or d.expert_balance == "perfect":
        return []
    skew = float(np.max(expert_skew(case.model, d, place(d), shape)))
    if skew < _MUCH:
        return []
    return [f"natural routing gives the busiest of {d.ep} ranks {skew:.1f} times the mean; replicas even it out"]


def _model_notes(case: InferenceCase) -> list[str]:
    model, found = case.model, []
    keys = case.kv_len if case.phase == "decode" else case.input_len + case.prefix_len
    if 0 < model.max_positions < keys:
        found.append(f"{keys} tokens of context exceed the {model.max_positions} positions of {model.name}")
    if case.phase == "prefill" and case.input_len % case.deployment.cp:
        found.append(f"{case.input_len} tokens over cp({case.deployment.cp}) are not whole: the mean is priced")
    if case.deployment.drafts_itself and model.mtp is None:
        found.append(f"{model.name} has no MTP module: drafts are priced as one layer of the model")
    if model.multimodal:
        found.append(f"{model.name} is multimodal: the vision or audio part is left out")
    return found
