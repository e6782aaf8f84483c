"""`supertwin infer MODEL --on SYSTEM:N --phase prefill|decode`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Argument, Command, Option, Values
from supertwin.cli.steps import FORMATS, present, stated

if TYPE_CHECKING:
    from supertwin.inference.case import Deployment, InferenceCase
    from supertwin.machine.system import System
    from supertwin.model.spec import ModelSpec

_SIZES = ("tp", "pp", "dp", "ep", "cp")
_FREE = "chosen to fit memory"
_FIXED: dict[str, int | float | str | bool] = {
    "phase": "decode",
    "input_len": 4096,
    "kv_len": 4096,
    "weight_dtype": "bf16",
    "mtp_tokens": 0,
    "microbatch_overlap": False,
    "expert_balance": "natural",
    "redundant_experts": 0,
    "framework": "",
}
_ACCEPTANCE = 0.7  # of one draft: CloudMatrix384 paper, section 5; Ascend recipes


def _run(values: Values) -> int:
    from supertwin.inference import predict

    return present("infer", values, lambda: predict(_case(values)))


def _case(values: Values) -> InferenceCase:
    from supertwin.inference.case import InferenceCase
    from supertwin.machine import load_system
    from supertwin.model import load_model

    given, defaults = stated(values, _FIXED)
    model, system = load_model(str(values["model"])), load_system(str(values["on"] or "cm384"))
    if values["on"] is None:
        defaults["on"] = system.name
    decode = given["phase"] == "decode"
    batch = values["batch"]
    defaults.pop("input_len" if decode else "kv_len", None)

    def case(deployment: Deployment) -> InferenceCase:
        lengths = {"kv_len": int(given["kv_len"])} if decode else {"input_len": int(given["input_len"])}
        size = _usual_batch(decode, deployment) if batch is None else float(str(batch))
        return InferenceCase(model, system, deployment, given["phase"], size, defaults=defaults, **lengths)

    chosen = _deployment(values, given, defaults, (model, system, case))
    defaults |= {name: getattr(chosen, name) for name in (*_SIZES, "dp_attention") if values[name] is None}
    if system.devices > chosen.devices:
        defaults["replicas"] = system.devices / chosen.devices
    if batch is None:
        defaults["batch"] = _usual_batch(decode, chosen)
    return case(chosen)


def _usual_batch(decode: bool, deployment: Deployment) -> float:
    """Requests per device: 32 in decode, one sequence per tensor-parallel group in prefill."""
    return 32.0 if decode else 1.0 / deployment.tp


def _deployment(values: Values, given: dict[str, str], defaults: dict[str, object], job: tuple) -> Deployment:  # type: ignore[type-arg]
    """The deployment as given; sizes that are not given come from the first candidate that fits."""
    from supertwin.core.errors import SupertwinError
    from supertwin.inference import predict
    from supertwin.inference.case import Deployment

    model, system, case = job
    weight = given["weight_dtype"]
    for name, value in (("activation_dtype", _matching(weight)), ("kv_dtype", "bf16")):
        if values[name] is None:
            given[name] = value
            defaults[name] = value
    drafts = int(given["mtp_tokens"])
    if values["mtp_acceptance"] is None and drafts:
        given["mtp_acceptance"] = str(_ACCEPTANCE)
        defaults["mtp_acceptance"] = _ACCEPTANCE
    fixed = {name: int(given[name]) for name in _SIZES if values[name] is not None}
    found: list[Deployment] = []
    for sizes in _candidates(model, system, fixed):
        shared = values["dp_attention"]
        found.append(
            Deployment(
                **sizes,
                dp_attention=_experts(model) > 0 and sizes["dp"] > 1 if shared is None else bool(shared),
                weight_dtype=weight,
                activation_dtype=given["activation_dtype"],
                kv_dtype=given["kv_dtype"],
                mtp_tokens=drafts,
                mtp_acceptance=float(given.get("mtp_acceptance", 0.0)),
                microbatch_overlap=bool(values["microbatch_overlap"]),
                expert_balance=given["expert_balance"],
                redundant_experts=int(given["redundant_experts"]),
                framework=given["framework"],
            )
        )
    for deployment in found[:-1]:
        try:
            if predict(case(deployment)).memory.fits:
                return deployment
        except SupertwinError:
            continue
    return found[-1]


def _candidates(model: ModelSpec, system: System, fixed: dict[str, int]) -> list[dict[str, int]]:
    """Sizes to try: attention data parallel over all devices for latent attention with experts, else growing tp."""
    n, experts = system.devices, _experts(model)
    latent = any(layer.attention is not None and layer.attention.kind == "mla" for layer in model.layers)
    pp = fixed.get("pp", 1)
    if "dp" in fixed and "tp" not in fixed:
        tensor = [max(1, n // (fixed["dp"] * pp))]
    else:
        tensor = [fixed["tp"]] if "tp" in fixed else [2**i for i in range(max(1, n // pp).bit_length())]
    sizes = []
    for tp in tensor:
        wide = max(1, n // (tp * pp)) if experts and (latent or "ep" in fixed) else 1
        dp = fixed.get("dp", wide)
        ep = fixed.get("ep", _dividing(experts, tp * dp) if experts and dp > 1 else 1)
        sizes.append({"tp": tp, "pp": pp, "dp": dp, "ep": ep, "cp": fixed.get("cp", 1)})
    return sizes


def _dividing(experts: int, ranks: int) -> int:
    """Ranks that share the experts; wide groups hold replicas, so they need not divide them."""
    return ranks if ranks >= experts else max(d for d in range(1, ranks + 1) if ranks % d == 0 and experts % d == 0)


def _experts(model: ModelSpec) -> int:
    return max((layer.feed_forward.experts for layer in model.layers if layer.feed_forward is not None), default=0)


def _matching(weight: str) -> str:
    """Activations run in the weights' format, except for weight-only formats."""
    return "bf16" if weight in ("int4", "mxfp4") else weight


COMMAND = Command(
    name="infer",
    brief="One prefill or decode step, explained",
    help="One prefill or decode step of a model on a machine: latency, throughput, memory, power, cost, bounds.",
    examples=(
        "supertwin infer deepseek-r1 --on cm384:320 --phase decode --batch 48 --weight-dtype int8 --mtp-tokens 1",
        "supertwin infer deepseek-r1 --on cm384:32 --phase prefill --input-len 4096 --batch 2 --weight-dtype int8",
        "supertwin infer llama-3.1-70b --on dgx-h100:8 --tp 8 --batch 8 --kv-len 2048 --explain",
        "supertwin infer qwen3-235b-a22b --on gb200-nvl72:8 --weight-dtype fp8 --json",
    ),
    run=_run,
    arguments=(Argument("model", "A shipped name, a folder with config.json, or a config.json."),),
    options=(
        Option("--on", "str", "System, with :N for N devices of it.", "cm384"),
        Option("--phase", "str", "Which step.", "decode", ("prefill", "decode")),
        Option("--tp", "int", "Tensor parallel size of attention.", _FREE, minimum=1),
        Option("--pp", "int", "Pipeline stages.", "1", minimum=1),
        Option("--ep", "int", "Expert parallel size; 1 shards the experts over tp x dp.", _FREE, minimum=1),
        Option("--dp", "int", "Data parallel attention ranks of one instance.", _FREE, minimum=1),
        Option("--cp", "int", "Context parallel size.", "1", minimum=1),
        Option("--dp-attention", "yesno", "The dp ranks share one set of experts.", "yes for experts with dp > 1"),
        Option("--batch", "float", "Requests per device.", "32; prefill: one per rank", minimum=0, above=True),
        Option("--input-len", "int", "Prompt tokens (prefill).", "4096", minimum=1),
        Option("--kv-len", "int", "Context tokens per request (decode).", "4096", minimum=1),
        Option("--weight-dtype", "str", "Stored weights.", "bf16", FORMATS),
        Option("--activation-dtype", "str", "Activations in the matrix products.", "as the weights", FORMATS),
        Option("--kv-dtype", "str", "Stored keys and values.", "bf16", FORMATS),
        Option("--mtp-tokens", "int", "Draft tokens per step.", "0", minimum=0, maximum=64),
        Option("--mtp-acceptance", "float", "Accepted drafts over drafts.", "0.7", minimum=0, maximum=1),
        Option("--microbatch-overlap", "yesno", "Overlap two micro-batches.", "no"),
        Option("--expert-balance", "str", "Load of the experts.", "natural", ("natural", "perfect", "unknown")),
        Option("--redundant-experts", "int", "Replicated experts in all.", "0", minimum=0),
        Option("--framework", "str", "Serving engine.", "generic"),
    ),
)  # fmt: skip
