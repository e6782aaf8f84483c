"""Is a training case legal? Messages show the arithmetic and the choices that would be legal."""

from __future__ import annotations

from supertwin.core.errors import InputError, UnknownName
from supertwin.core.formats import format_names, number_format
from supertwin.core.words import (
    BALANCES,
    CP_METHODS,
    DISPATCHERS,
    LAUNCHES,
    RECOMPUTE,
    SCHEDULES,
    SHARDING,
    TASKS,
    UPDATES,
)
from supertwin.model.spec import ModelSpec
from supertwin.training.case import TrainingCase
from supertwin.training.options import check_options

FULL_SHARDING = ("zero3", "hsdp")
ATTENTION_DTYPES = ("fp8",)


def check(case: TrainingCase) -> None:
    """Raise InputError (UnknownName for vocabulary) when the case is not a legal job."""
    _check_words(case)
    _check_sizes(case)
    _check_devices(case)
    _check_model(case)
    _check_batch(case)
    _check_pipeline(case)
    _check_offload(case)
    check_options(case)


def _check_words(case: TrainingCase) -> None:
    open_words = (  # "" takes the framework's habit
        ("dispatcher", case.dispatcher, DISPATCHERS),
        ("launch", case.launch, LAUNCHES),
        ("attention dtype", case.attention_dtype, ATTENTION_DTYPES),
    )
    for kind, given, legal in (
        ("schedule", case.schedule, SCHEDULES),
        ("sharding", case.sharding, SHARDING),
        ("recompute", case.recompute, RECOMPUTE),
        ("task", case.task, TASKS),
        ("cp method", case.cp_method, CP_METHODS),
        ("balance", case.balance, BALANCES),
        *(word for word in open_words if word[1]),
    ):
        if given not in legal:
            raise UnknownName(kind, given, legal)
    rate, chip = number_format(case.precision).rate, case.system.chip
    if rate not in chip.peak_flop_per_s:
        able = [name for name in format_names() if number_format(name).rate in chip.peak_flop_per_s]
        raise InputError(f"{chip.name} does not multiply {case.precision}; legal precision: {', '.join(able)}")


def _check_sizes(case: TrainingCase) -> None:
    layout = case.layout
    sizes = {
        "tp": layout.tp,
        "pp": layout.pp,
        "cp": layout.cp,
        "dp": layout.dp,
        "ep": layout.ep,
        "etp": layout.etp,
        "vpp": layout.vpp,
        "micro-batch": case.micro_batch,
        "global-batch": case.global_batch,
        "seq-len": case.seq_len,
    }
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} = {size}; expected 1 or more")


def _check_devices(case: TrainingCase) -> None:
    layout, devices = case.layout, case.system.devices
    if layout.devices != devices:
        inner = layout.tp * layout.pp * layout.cp
        hint = f"; dp = {devices // inner} would fit" if devices % inner == 0 else ""
        raise InputError(
            f"tp({layout.tp}) * pp({layout.pp}) * cp({layout.cp}) * dp({layout.dp}) = {layout.devices} "
            f"!= {devices} devices of {case.system.name}{hint}"
        )
    ranks = layout.tp * layout.cp * layout.dp
    if ranks % (layout.ep * layout.etp):
        raise InputError(
            f"ep({layout.ep}) * etp({layout.etp}) does not divide "
            f"tp({layout.tp}) * cp({layout.cp}) * dp({layout.dp}) = {ranks}; "
            f"legal ep: {_shown(divisors(ranks // _common(ranks, layout.etp)))}"
        )
    if case.sharding == "hsdp" and case.hsdp_shard_size:
        replicas = layout.dp * layout.cp
        if replicas % case.hsdp_shard_size:
            raise InputError(
                f"hsdp_shard_size({case.hsdp_shard_size}) does not divide "
                f"dp({layout.dp}) * cp({layout.cp}) = {replicas}; legal: {_shown(divisors(replicas))}"
            )


def _check_model(case: TrainingCase) -> None:
    layout, model = case.layout, case.model
    heads = attention_heads(model)
    if heads and heads % layout.tp:
        raise InputError(
            f"tp({layout.tp}) does not divide the {heads} heads of {model.name}; legal tp: {_shown(divisors(heads))}"
        )
    experts = expert_count(model)
    if layout.ep > 1 and not experts:
        raise InputError(f"ep({layout.ep}) needs experts and {model.name} has none; legal ep: 1")
    if layout.etp > 1 and not experts:
        raise InputError(f"etp({layout.etp}) needs experts and {model.name} has none; legal etp: 1")
    if experts and experts % layout.ep:
        raise InputError(
            f"ep({layout.ep}) does not divide the {experts} experts of {model.name}; "
            f"legal ep: {_shown(divisors(experts))}"
        )
    if case.cp_method == "ulysses" and heads and heads % (layout.tp * layout.cp):
        raise InputError(
            f"ulysses needs heads({heads}) % (tp({layout.tp}) * cp({layout.cp})) == 0; "
            f"legal cp: {_shown(divisors(heads // layout.tp))}"
        )
    if case.cp_method == "hybrid":
        _check_hybrid(case, heads)


def _check_hybrid(case: TrainingCase, heads: int) -> None:
    layout, inner = case.layout, case.ulysses_size
    legal = [d for d in divisors(layout.cp) if not heads or heads % (layout.tp * d) == 0]
    if inner not in legal:
        raise InputError(
            f"hybrid context parallelism needs ulysses_size({inner}) to divide cp({layout.cp}) and heads({heads}) / "
            f"tp({layout.tp}); legal ulysses_size: {_shown(legal)}"
        )


def _check_batch(case: TrainingCase) -> None:
    per_round = case.micro_batch * case.layout.dp
    if case.global_batch % per_round:
        below = case.global_batch // per_round * per_round
        nearest = " or ".join(str(size) for size in (below, below + per_round) if size)
        raise InputError(
            f"global_batch({case.global_batch}) % "
            f"(micro_batch({case.micro_batch}) * dp({case.layout.dp}) = {per_round}) = "
            f"{case.global_batch % per_round}; a global batch of {nearest} would fit"
        )


def _check_pipeline(case: TrainingCase) -> None:
    layout, layers = case.layout, case.model.n_layers
    folded = 2 if case.schedule in ("zb-v", "dualpipe", "dualpipev") else 1
    chunks = layout.pp * max(layout.vpp, folded)
    if layout.pp > 1 and chunks > layers + 2 + case.model.mtp_count:
        raise InputError(
            f"pp({layout.pp}) * chunks({chunks // layout.pp}) = {chunks} stages "
            f"for {layers} layers of {case.model.name}; expected at most {layers + 2 + case.model.mtp_count}"
        )
    if layout.vpp > 1 and layout.pp == 1:
        raise InputError(f"vpp({layout.vpp}) needs a pipeline, and pp is 1; legal vpp: 1")
    if folded == 2 and layout.pp == 1:
        raise InputError(f"schedule {case.schedule} needs a pipeline, and pp is 1; use 1f1b")
    if case.schedule == "dualpipe" and layout.pp % 2:
        raise InputError(f"schedule dualpipe pairs stages from both ends; pp({layout.pp}) must be even")
    if folded == 2 and layout.vpp > 1:
        raise InputError(f"schedule {case.schedule} has its own two chunks per device; vpp({layout.vpp}) must be 1")
    if case.recompute == "partial" and case.recompute_layers < 1:
        raise InputError("recompute partial needs recompute_layers > 0 (fully recomputed layers per pipeline stage)")
    if case.recompute == "partial" and case.recompute_layers > layers:
        raise InputError(f"recompute_layers({case.recompute_layers}) exceeds the {layers} layers of {case.model.name}")


def _check_offload(case: TrainingCase) -> None:
    if case.offload_update not in UPDATES:
        raise UnknownName("offload update", case.offload_update, UPDATES)
    for name, share in (("offload", case.offload), ("offload_optimizer", case.offload_optimizer)):
        if not 0.0 <= share <= 1.0:
            raise InputError(f"{name} = {share:g}; expected a share of 0 to 1")


def attention_heads(model: ModelSpec) -> int:
    """Query heads of the model's attention (0 when no layer has any); the smallest where layers differ."""
    heads = [kind.attention.heads for kind in model.layers if kind.attention and kind.attention.kind in ("gqa", "mla")]
    return min(heads, default=0)


def expert_count(model: ModelSpec) -> int:
    """Routed experts of a MoE layer; 0 for dense models."""
    return max((kind.feed_forward.experts for kind in model.layers if kind.feed_forward), default=0)


def divisors(number: int) -> list[int]:
    """All divisors of a positive number, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def _common(number: int, divisor: int) -> int:
    return divisor if number % divisor == 0 else 1


def _shown(numbers: list[int], most: int = 10) -> str:
    """A short list for a message."""
    text = ", ".join(str(n) for n in numbers[:most])
    return text + (" ..." if len(numbers) > most else "")
