"""Further flags of `train`: the flag, the field of the case that it sets, and how its text becomes the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from supertwin.cli.options import Option, Values
from supertwin.cli.steps import FORMATS
from supertwin.core.errors import InputError
from supertwin.core.words import BALANCES, CP_METHODS, DISPATCHERS, LAUNCHES, UPDATES

MODULES = ("norm", "activation", "mla_up", "attention", "mlp", "experts")
_HABIT = "the framework's"


class Row(NamedTuple):
    """One flag. field: of TrainingCase; value: from what the parser gives."""

    option: Option
    field: str
    value: Callable[[Any], object] = lambda given: given


def _words(given: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in given.replace("-", ",").split(",") if word.strip())


def _modules(given: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in given.split(",") if word.strip())


def _numbers(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in given.split(","))
    except ValueError:
        raise InputError(f"--stages: expected layers per stage such as 15,16,16,14, got {given[:40]!r}") from None


def _megabytes(given: float) -> float:
    return 1e6 * given


def _switch(flag: str, field: str, text: str, default: str) -> Row:
    return Row(Option(flag, "yesno", text, default), field)


ROWS = (
    # placement
    Row(Option("--order", "str", "Axes from the innermost out; best: the fastest.", "tp,cp,ep,dp,pp"), "order", _words),
    Row(Option("--stages", "str", "Layers per stage, such as 15,16,16,14.", "even, ends lighter"), "stages", _numbers),
    Row(Option("--balance", "str", "How stages weigh LM head and MTP.", "weights", BALANCES), "balance"),
    # replicas
    Row(Option("--shard-size", "int", "With hsdp: ranks that share a copy.", "all", minimum=1), "hsdp_shard_size"),
    _switch("--reshard", "reshard", "With zero3, hsdp: drop weights after forward.", "yes"),
    _switch("--flat-parameters", "flat_parameters", "One flat tensor per layer (FSDP1).", _HABIT),
    Row(Option("--prefetch", "int", "With zero3, hsdp: layers gathered ahead.", "1", minimum=0), "prefetch"),
    Row(
        Option("--bucket-mb", "float", "Gradients per collective, MB.", "40 M weights or more", minimum=0, above=True),
        "bucket_bytes",
        _megabytes,
    ),
    Row(Option("--gather-dtype", "str", "Gathered parameters.", "bf16", FORMATS), "gather_dtype"),
    Row(Option("--reduce-dtype", "str", "Gradients on the wire.", _HABIT, FORMATS), "reduce_dtype"),
    Row(Option("--gradient-dtype", "str", "Gradients as accumulated.", _HABIT, FORMATS), "gradient_dtype"),
    Row(Option("--moment-dtype", "str", "Adam's moments.", "fp32", FORMATS), "moment_dtype"),
    Row(Option("--master-dtype", "str", "Master copy of the weights.", "fp32", (*FORMATS, "none")), "master_dtype"),
    _switch("--overlap-dp", "overlap_dp", "Gradient reduction and gather beside compute.", _HABIT),
    _switch("--overlap-tp", "overlap_tp", "Tensor parallel collectives beside compute.", _HABIT),
    _switch("--overlap-ep", "overlap_ep", "Expert exchange beside the other microbatch.", _HABIT),
    # context and packs
    Row(Option("--cp-method", "str", "Context parallelism.", "ring", CP_METHODS), "cp_method"),
    Row(Option("--ulysses-size", "int", "With hybrid: ranks that share heads.", minimum=1), "ulysses_size"),
    _switch("--cp-balanced", "cp_balanced", "Zigzag chunks: equal causal work.", "yes"),
    _switch("--packed", "packed", "Samples of a sequence do not see each other.", "no"),
    Row(Option("--sample-len", "float", "With packed: mean sample, tokens.", "a quarter", minimum=1), "sample_len"),
    Row(Option("--sample-cv", "float", "With packed: spread over mean.", "0", minimum=0), "sample_cv"),
    # experts
    _switch("--force-balanced", "force_balanced", "Router made to spread tokens evenly.", "yes"),
    Row(Option("--skew", "float", "Busiest expert rank over the mean.", "by routing", minimum=1), "skew"),
    Row(Option("--routing-cv", "float", "Spread of popularity over mean.", "0.3 if unforced", minimum=0), "routing_cv"),
    Row(Option("--capacity-factor", "float", "Tokens per expert over mean.", "dropless", minimum=0), "capacity_factor"),
    _switch("--pad-experts", "pad_experts", "Experts compute their full capacity.", "no"),
    Row(Option("--redundant-experts", "int", "Copies of hot experts.", "0", minimum=0), "redundant_experts"),
    Row(Option("--routing-nodes", "int", "Most nodes of a token.", "the model's", minimum=1), "routing_nodes"),
    Row(Option("--dispatch-dtype", "str", "Tokens to their experts.", "bf16", FORMATS), "dispatch_dtype"),
    Row(Option("--dispatcher", "str", "Kernels of the expert exchange.", _HABIT, DISPATCHERS), "dispatcher"),
    _switch("--fused-experts", "fused_experts", "One grouped kernel with activation and cast.", "no"),
    # kernels
    Row(Option("--launch", "str", "How kernels are started.", _HABIT, LAUNCHES), "launch"),
    Row(Option("--attention-dtype", "str", "Products inside attention.", "bf16 or fp16", ("fp8",)), "attention_dtype"),
    # recomputation, offload, update
    Row(Option("--recompute-modules", "list", f"Computed again: {', '.join(MODULES)}."), "recompute_modules", _modules),
    Row(Option("--offload", "float", "Share of activations on the host.", "0", minimum=0, maximum=1), "offload"),
    Row(
        Option("--offload-optimizer", "float", "Share of optimizer states there.", "0", minimum=0, maximum=1),
        "offload_optimizer",
    ),
    Row(Option("--offload-update", "str", "How those are updated.", "pipelined", UPDATES), "offload_update"),
    Row(Option("--lora-rank", "int", "With lora: width of the adapters.", "16", minimum=1), "lora_rank"),
    Row(
        Option("--lora-modules", "str", "With lora: matrices with adapters.", "all", ("all", "attention")),
        "lora_modules",
    ),
    Row(Option("--offload-modules", "list", "Activations on the host: attention ..."), "offload_modules", _modules),
    _switch("--narrow-activation", "narrow_activation", "Activation inputs kept in 8 bits.", "no"),
    _switch("--states-reused", "states_reused", "Weights are part of the master copy.", _HABIT),
    Row(Option("--logprob-passes", "int", "Forward passes first.", "2 for rl, else 0", minimum=0), "logprob_passes"),
)

OPTIONS = tuple(row.option for row in ROWS)


def given_fields(values: Values) -> dict[str, Any]:
    """Fields of the case that the command line states."""
    return {
        row.field: row.value(values[row.option.name])
        for row in ROWS
        if values[row.option.name] is not None and not _free(row, values)
    }


def _free(row: Row, values: Values) -> bool:
    return row.field == "order" and values["order"] == "best"
