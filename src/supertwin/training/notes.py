"""What a user should know about a training case: uneven cuts, options without effect, what is left out."""

from __future__ import annotations

from dataclasses import fields

from supertwin.training.case import TrainingCase
from supertwin.training.check import FULL_SHARDING, expert_count

_ROUTED = ("skew", "routing_cv", "capacity_factor", "dispatch_dtype", "overlap_ep", "force_balanced", "pad_experts")
_DEFAULTS = {item.name: item.default for item in fields(TrainingCase)}


def notes(case: TrainingCase) -> tuple[str, ...]:
    """Sentences for the warnings of a prediction."""
    return (*_cut_notes(case), *_switch_notes(case), *_idle_notes(case), *_model_notes(case))


def _cut_notes(case: TrainingCase) -> list[str]:
    layout, layers, found = case.layout, case.model.n_layers, []
    if case.seq_len % layout.cp:
        found.append(f"seq_len({case.seq_len}) is not a multiple of cp({layout.cp}): the mean share is priced")
    stages = layout.pp * layout.vpp
    if layout.pp > 1 and layers % stages:
        found.append(f"{layers} layers over pp({layout.pp}) * vpp({layout.vpp}) = {stages} stages are cut unevenly")
    return found


def _switch_notes(case: TrainingCase) -> list[str]:
    found = []
    if case.recompute_layers and case.recompute != "partial":
        found.append(f"recompute_layers has no effect with recompute {case.recompute}; it needs partial")
    if case.schedule == "interleaved" and case.layout.vpp == 1:
        found.append("schedule interleaved with vpp 1 is 1f1b")
    if case.schedule == "1f1b" and case.layout.vpp > 1:
        found.append(f"vpp({case.layout.vpp}) makes the 1f1b schedule interleaved")
    return found


def _idle_notes(case: TrainingCase) -> list[str]:
    """One sentence per unmet condition, with the stated options that have no effect for it."""
    layout, full = case.layout, case.sharding in FULL_SHARDING
    conditions = (
        (case.sharding == "hsdp", ("hsdp_shard_size",), "sharding hsdp"),
        (full, ("reshard", "prefetch", "flat_parameters"), "sharding zero3 or hsdp"),
        (layout.cp > 1, ("cp_method", "ulysses_size", "cp_balanced"), "cp above 1"),
        (case.packed, ("sample_len", "sample_cv"), "packed"),
        (expert_count(case.model) > 0, _ROUTED, "a model with experts"),
        (case.offload_optimizer > 0.0, ("offload_update",), "offload_optimizer above 0"),
        (case.task == "lora", ("lora_rank", "lora_modules"), "task lora"),
        (layout.pp > 1, ("balance",), "pp above 1"),
    )
    found = []
    for met, names, needed in conditions:
        idle = [] if met else [name for name in names if getattr(case, name) != _DEFAULTS[name]]
        if idle:
            found.append(f"{', '.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect; needs {needed}")
    return found


def _model_notes(case: TrainingCase) -> list[str]:
    model, found = case.model, []
    if 0 < model.max_positions < case.seq_len:
        found.append(f"seq_len({case.seq_len}) exceeds the {model.max_positions} positions of {model.name}")
    if model.multimodal:
        found.append(f"{model.name} is multimodal: the vision or audio part is left out")
    return found
