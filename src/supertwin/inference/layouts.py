"""A deployment where sizes are open: the first candidate that fits the memory with some room.

Attention data parallel over all devices where latent attention meets experts (its cache cannot be cut over tp), else
growing tensor parallelism on as few devices as hold the model; the rest runs replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from supertwin.core.errors import InputError, SupertwinError
from supertwin.core.formats import number_format
from supertwin.core.prediction import Memory
from supertwin.inference.case import InferenceCase
from supertwin.inference.notes import WEIGHT_ONLY
from supertwin.inference.placement import moe
from supertwin.inference.predict import memory
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

FULLEST = 0.92
"""Share of the memory that a chosen deployment fills when another one fills less (graphs, fragments, long replies)."""
SIZES = ("tp", "pp", "dp", "ep", "cp")
DECODE_BATCH = 32.0
"""Requests per device in decode when nobody states any."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is fixed: sizes by name (tp, pp, dp, ep, cp), requests per device, attention DP; None = open."""

    sizes: Mapping[str, int]
    batch: float | None = None
    dp_attention: bool | None = None


def choose(case: InferenceCase, choice: Choice) -> InferenceCase:
    """The case with its open sizes and batch filled in; the candidate that needs the least memory when none fits.

    Its deployment gives formats and switches. An open batch is halved until it fits. Raises the first error when no
    candidate is legal.
    """
    tight: list[tuple[float, InferenceCase]] = []
    problem: SupertwinError | None = None
    for batch in _batches(case, choice):
        for sizes in candidates(case, choice.sizes):
            try:
                candidate = _sized(case, choice, sizes, batch)
                filled = _filled(memory(candidate))
            except SupertwinError as error:
                problem = problem or error
                continue
            if filled <= FULLEST:
                return candidate
            tight.append((filled, candidate))
    if not tight:
        raise problem or InputError(_impossible(case, choice.sizes))
    fitting = [candidate for filled, candidate in tight if filled <= 1.0]
    return fitting[0] if fitting else min(tight, key=lambda entry: entry[0])[1]


def afd_sizes(case: InferenceCase, fixed: Mapping[str, int]) -> dict[str, int]:
    """Sizes of an attention-FFN split: one rank per attention device unless tp is given, and the most expert ranks that
    divide the feed-forward devices and hold an expert each."""
    d = case.deployment
    tp, there = fixed.get("tp", 1), d.afd[1] * d.afd_unit
    held = _experts(case.model) + d.redundant_experts if _experts(case.model) else 1
    ep = next(i for i in range(there, 0, -1) if there % i == 0 and i <= max(held, 1))
    dp = max(1, d.afd[0] * d.afd_unit // tp)
    return {"tp": tp, "pp": 1, "dp": dp, "ep": ep, "cp": 1} | dict(fixed)


def with_replicas(case: InferenceCase) -> InferenceCase:
    """The case with the replicas that a load balancer is given when nobody says how many: as many as fill the last slot
    of every rank, one more slot on each where the experts fill them (DeepSeek's deployment: 32 on 32 ranks)."""
    experts, ep = _experts(case.model), case.deployment.ep
    if ep == 1 or not experts:
        return case
    return replace(case, deployment=replace(case.deployment, redundant_experts=-experts % ep or ep))


def _batches(case: InferenceCase, choice: Choice) -> list[float | None]:
    """Requests per device to try; None: one sequence per group of tp x cp devices."""
    if choice.batch is not None or case.phase == "prefill":
        return [choice.batch]
    return [DECODE_BATCH / 2.0**i for i in range(6)]


def usual_weight(model: ModelSpec, chip: Chip) -> str:
    """Stored format when nobody states it: the checkpoint's where the chip multiplies it or it is weight-only, else
    BF16 (checkpoints are converted)."""
    stored = model.weight_format
    if not stored:
        return "bf16"
    return stored if stored in WEIGHT_ONLY or number_format(stored).rate in chip.peak_flop_per_s else "bf16"


def usual_activation(weight: str, chip: Chip) -> str:
    """Activations run in the weights' format where the chip multiplies it, except for weight-only formats."""
    return weight if weight not in WEIGHT_ONLY and number_format(weight).rate in chip.peak_flop_per_s else "bf16"


def candidates(case: InferenceCase, fixed: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Sizes to try, in order of growing tensor parallelism. What is fixed stays even where it is not legal, so that the
    check can say why. All ranks share the experts, also where they do not divide them: load balancers fill the slots
    that are left with replicas."""
    n, model = case.system.devices, case.model
    pp, cp = fixed.get("pp", 1), fixed.get("cp", 1)
    beside = pp * (cp if case.phase == "prefill" else 1)
    experts = _experts(model)
    for tp in _tensor_sizes(case, fixed, max(1, n // beside)):
        wide = max(1, n // (tp * beside)) if experts and (_latent(model) or "ep" in fixed) else 1
        dp = fixed.get("dp", wide)
        sharers = dp * (cp if case.phase == "prefill" else 1)  # vLLM: one expert group over dp, pcp and tp ranks
        ep = fixed.get("ep", tp * sharers if experts and sharers > 1 else 1)
        yield {"tp": tp, "pp": pp, "dp": dp, "ep": ep, "cp": cp}


def _tensor_sizes(case: InferenceCase, fixed: Mapping[str, int], ranks: int) -> list[int]:
    """Divisors of the devices that cut the heads evenly."""
    if "tp" in fixed:
        return [fixed["tp"]]
    heads = max((a.heads for layer in case.model.layers if (a := layer.attention) is not None), default=0)
    most = ranks // fixed.get("dp", 1)
    sizes = [tp for tp in range(1, most + 1) if most % tp == 0 and not (heads % tp and tp % max(heads, 1))]
    return sizes or [1]


def _sized(case: InferenceCase, choice: Choice, sizes: Mapping[str, int], batch: float | None) -> InferenceCase:
    shared = choice.dp_attention
    if shared is None:
        shared = _experts(case.model) > 0 and sizes["dp"] > 1
    deployment = replace(
        case.deployment,
        tp=sizes["tp"], pp=sizes["pp"], dp=sizes["dp"], ep=sizes["ep"], cp=sizes["cp"],
        dp_attention=shared,
    )  # fmt: skip
    if batch is None:
        batch = 1.0 / (deployment.tp * deployment.cp)
    return replace(case, deployment=deployment, batch=batch)


def _filled(used: Memory) -> float:
    return used.peak_bytes / max(used.capacity_bytes, 1.0)


def _experts(model: ModelSpec) -> int:
    mixture = moe(model)
    return 0 if mixture is None else mixture.experts


def _latent(model: ModelSpec) -> bool:
    return any(layer.attention is not None and layer.attention.kind == "mla" for layer in model.layers)


def _impossible(case: InferenceCase, fixed: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name}({size})" for name, size in fixed.items()) or "open sizes"
    return f"no deployment on the {case.system.devices} devices of {case.system.name} agrees with {shown}"
