"""What a user should know about a case: formats that the chip lacks, options without effect, what is left out."""

from __future__ import annotations

from supertwin.core.errors import InputError
from supertwin.core.formats import number_format
from supertwin.inference.case import InferenceCase
from supertwin.inference.layers import computed_in
from supertwin.inference.placement import moe

WEIGHT_ONLY = ("int4", "mxfp4")
"""Formats whose checkpoints keep BF16 activations (AWQ, GPTQ; gpt-oss)."""


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


def notes(case: InferenceCase) -> tuple[str, ...]:
    """Sentences for the warnings of a prediction."""
    return (*_format_notes(case), *_expert_notes(case), *_model_notes(case))


def _format_notes(case: InferenceCase) -> list[str]:
    d, chip = case.deployment, case.system.chip
    computed, stored = computed_in(d.weight_dtype, d.activation_dtype, chip)
    foreign = d.activation_dtype
    if number_format(computed).rate == number_format(foreign).rate:
        foreign = stored
        if stored in WEIGHT_ONLY or number_format(stored).rate in chip.peak_flop_per_s:
            return []
    return [f"{chip.name} does not multiply {foreign}: weights stay {stored}, products run in {computed}"]


def _expert_notes(case: InferenceCase) -> list[str]:
    d, mixture = case.deployment, moe(case.model)
    if mixture is None:
        return ["redundant experts have no effect: the model has no routed experts"] if d.redundant_experts else []
    if d.redundant_experts and d.ep == 1:
        return ["redundant experts have no effect with ep 1: every expert is cut over all devices"]
    held = mixture.experts + d.redundant_experts
    if d.ep > held:
        return [
            f"ep({d.ep}) exceeds the {mixture.experts} experts"
            + (f" and {d.redundant_experts} redundant ones" if d.redundant_experts else "")
            + f": {d.ep - held} ranks hold further replicas"
        ]
    return []


def _model_notes(case: InferenceCase) -> list[str]:
    model, found = case.model, []
    keys = case.kv_len if case.phase == "decode" else case.input_len + case.prefix_len
    if 0 < model.max_positions < keys:
        found.append(f"{keys} tokens of context exceed the {model.max_positions} positions of {model.name}")
    if case.phase == "prefill" and case.input_len % case.deployment.cp:
        found.append(f"{case.input_len} tokens over cp({case.deployment.cp}) are not whole: the mean is priced")
    if model.multimodal:
        found.append(f"{model.name} is multimodal: the vision or audio part is left out")
    return found
