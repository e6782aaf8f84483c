"""`supertwin infer MODEL --on SYSTEM:N --phase prefill|decode|mixed|serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from supertwin.cli.inference_options import OPTIONS, given_batch, given_drafts, given_formats
from supertwin.cli.options import Argument, Command, Values
from supertwin.cli.serving_options import SERVING_OPTIONS
from supertwin.cli.sizes import parse_split
from supertwin.cli.steps import known_framework, present, stated, system_named

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction
    from supertwin.inference.case import Deployment, InferenceCase
    from supertwin.machine.chip import Chip
    from supertwin.machine.system import System
    from supertwin.model.spec import ModelSpec

_SIZES = ("tp", "pp", "dp", "ep", "cp")
_FIXED: dict[str, int | float | str | bool] = {
    "phase": "decode",
    "kv_dtype": "bf16",
    "mtp_tokens": 0,
    "microbatch_overlap": False,
    "expert_balance": "natural",
    "redundant_experts": 0,
}
_USED_LENGTHS = {
    "prefill": ("input_len", "prefix_len"),
    "decode": ("kv_len",),
    "mixed": ("input_len", "prefix_len", "kv_len", "chunk_tokens"),
}
_LENGTHS = {"input_len": 4096, "kv_len": 4096, "prefix_len": 0, "chunk_tokens": 2048}
_ALSO_CALLED = ("tensorrt", "trtllm", "trt-llm", "cloudmatrix")


def _run(values: Values) -> int:
    if values["phase"] == "serve":
        return _serve(values)
    from supertwin.cli.inference_explained import more

    case = _case(values)
    return present("infer", values, lambda: _predict(case, values), lambda prediction: more(case, values, prediction))


def _serve(values: Values) -> int:
    """A whole deployment instead of a step."""
    from supertwin.cli.serving import Job, serve
    from supertwin.model import load_model

    given, defaults = stated(values, _FIXED)
    model, system = load_model(str(values["model"])), system_named(values["on"])
    return serve(values, Job(model, system, _formats_and_switches(values, given, (model, system.chip))), defaults)


def _predict(case: InferenceCase, values: Values) -> Prediction:
    from dataclasses import replace

    from supertwin.inference import predict

    prediction = predict(case)
    found = replace(
        prediction, layout={**prediction.layout, "replicas": case.system.devices // case.deployment.devices}
    )
    return replace(found, warnings=(*found.warnings, *_without_effect(values, case)))


def _case(values: Values) -> InferenceCase:
    """The step as given, open sizes chosen, and every default that was used."""
    from dataclasses import replace

    from supertwin.inference.case import InferenceCase
    from supertwin.inference.fitting import largest_fitting_batch
    from supertwin.inference.layouts import Choice, afd_sizes, choose, with_replicas
    from supertwin.model import load_model

    given, defaults = stated(values, _FIXED)
    model, system = load_model(str(values["model"])), system_named(values["on"])
    lengths = _lengths(given)
    deployment = _split(values, _formats_and_switches(values, given, (model, system.chip)), system)
    draft = replace(InferenceCase(model, system, deployment, given["phase"], 1.0), **lengths)
    sizes = {name: int(given[name]) for name in _SIZES if name in given}
    if deployment.afd_instances:
        sizes = afd_sizes(draft, sizes)
    batch = given_batch(values["batch"])
    shared = None if values["dp_attention"] is None else bool(values["dp_attention"])
    case = choose(draft, Choice(sizes, batch, shared))
    if values["expert_balance"] == "eplb" and values["redundant_experts"] is None:
        case = with_replicas(case)
        defaults["redundant_experts"] = case.deployment.redundant_experts
    if values["batch"] is not None and batch is None:
        case = replace(case, batch=largest_fitting_batch(case) or case.batch)
    chosen: dict[str, object] = {name: getattr(case.deployment, name) for name in (*_SIZES, "dp_attention")}
    chosen |= {name: getattr(case.deployment, name) for name in ("weight_dtype", "activation_dtype")}
    chosen |= {"batch": case.batch, "on": system.name}
    chosen |= {name: getattr(case, name) for name in _USED_LENGTHS[case.phase]}
    if case.deployment.mtp_tokens:
        chosen["mtp_acceptance"] = case.deployment.mtp_acceptance
    return replace(case, defaults=defaults | {name: value for name, value in chosen.items() if values[name] is None})


def _lengths(given: Mapping[str, str]) -> dict[str, Any]:
    """The lengths that the phase has."""
    lengths: dict[str, Any] = {name: int(given.get(name, _LENGTHS[name])) for name in _USED_LENGTHS[given["phase"]]}
    if given["phase"] == "prefill":
        lengths["prompt_cv"] = float(given.get("prompt_cv", 0.0))
    return lengths


def _formats_and_switches(values: Values, given: Mapping[str, str], job: tuple[ModelSpec, Chip]) -> Deployment:
    """The deployment without its sizes."""
    from supertwin.inference.case import Deployment
    from supertwin.inference.checks import read_words
    from supertwin.inference.engines import ENGINES
    from supertwin.inference.layouts import usual_activation, usual_weight

    model, chip = job
    drafts = int(given["mtp_tokens"])
    return Deployment(
        **given_formats(given, usual_weight(model, chip), lambda weight: usual_activation(weight, chip)),
        kv_dtype=given["kv_dtype"],
        mtp_tokens=drafts,
        microbatch_overlap=bool(values["microbatch_overlap"]),
        expert_balance=given["expert_balance"].replace("eplb", "natural"),
        redundant_experts=int(given["redundant_experts"]),
        dense_tp=int(given.get("dense_tp", 1)),
        output_tp=int(given.get("output_tp", 1)),
        head_tp=int(given.get("head_tp", 1)),
        **given_drafts(given, drafts),
        cp_method=given.get("cp_method", "all-gather").replace("-", "_"),
        cp_balanced=values["cp_balanced"] is not False,
        shared_prefix=int(given.get("shared_prefix", 0)),
        cascade=values["cascade"] is not False,
        sampling=read_words(given["sampling"]) if "sampling" in given else "",
        exchange="separate" if given.get("exchange") == "separate" else "",
        kv_pool=int(given.get("kv_pool", 0)),
        host_cores=float(given.get("host_cores", 0.0)),
        weight_prefetch=bool(values["weight_prefetch"]),
        super_kernel=bool(values["super_kernel"]),
        framework=known_framework(values["framework"], [*(engine.name for engine in ENGINES), *_ALSO_CALLED]),
    )


def _split(values: Values, deployment: Deployment, system: System) -> Deployment:
    """With --afd: the split; an instance is a node, or what divides the devices of a smaller machine."""
    from dataclasses import replace

    if values["afd"] is None:
        return deployment
    x, y = parse_split("--afd", str(values["afd"]))
    node = system.devices_per_node
    dividing = (u for u in range(node, 0, -1) if system.devices % ((x + y) * u) == 0)
    unit = int(str(values["afd_unit"] or next(dividing, node)))
    return replace(deployment, afd=(x, y), afd_unit=unit, afd_microbatches=int(str(values["afd_microbatches"] or 3)))


def _without_effect(values: Values, case: InferenceCase) -> list[str]:
    """Options that were given and change nothing."""
    from supertwin.inference.layers import dispatches

    d = case.deployment
    lengths = {
        name: name not in _USED_LENGTHS[case.phase] and f"{case.phase}; it takes {_flags(_USED_LENGTHS[case.phase])}"
        for name in _LENGTHS
    }
    experts = (d.dp > 1 and d.dp_attention) or d.ep > d.tp * d.dp
    ascend = case.system.chip.vendor == "huawei"
    cold = f"{case.phase}; decode takes it" if case.phase != "decode" else "" if ascend else "a chip other than Ascend"
    cold = cold or ("--afd" if d.afd_instances else "")
    serving = {option.name: f"{case.phase}; --phase serve takes it" for option in SERVING_OPTIONS}
    idle = (
        lengths
        | serving
        | {
            "expert_balance": _idle_balance(values, case),
            "exchange": d.exchange == "separate" and not dispatches(case) and "tokens that reach all experts at once",
            "afd_unit": not d.afd_instances and "no --afd",
            "afd_microbatches": not d.afd_instances and "no --afd",
            "cp_method": not d.token_split > 1 and "no --cp in prefill",
            "cp_balanced": not d.token_split > 1 and "no --cp in prefill",
            "prompt_cv": case.phase != "prefill" and f"{case.phase}; prefill takes it",
            "mtp_tokens": case.phase == "prefill" and bool(d.mtp_tokens) and "prefill",
            "mtp_acceptance": not d.mtp_tokens and "--mtp-tokens 0",
            "shared_prefix": case.phase == "prefill" and "prefill; --prefix-len takes cached tokens",
            "cascade": not d.shared_prefix and "no --shared-prefix",
            "draft": not d.mtp_tokens and "--mtp-tokens 0",
            "draft_topk": not d.mtp_tokens and "--mtp-tokens 0",
            "verify_tokens": not d.mtp_tokens and "--mtp-tokens 0",
            "weight_prefetch": d.weight_prefetch and cold,
            "super_kernel": d.super_kernel and cold,
            "microbatch_overlap": d.microbatch_overlap and not (experts and d.ep > 1) and "a single expert group",
        }
    )
    return [
        f"{_flags((name,))} has no effect with {reason}"
        for name, reason in idle.items()
        if reason and values[name] is not None
    ]


def _idle_balance(values: Values, case: InferenceCase) -> str:
    """Why the balance of experts changes nothing; "" where it does."""
    from supertwin.inference.placement import moe

    if moe(case.model) is None:
        return "a model without routed experts"
    return "ep 1" if values["expert_balance"] == "eplb" and case.deployment.ep == 1 else ""


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


COMMAND = Command(
    name="infer",
    brief="One prefill or decode step, explained",
    help="One prefill, decode or mixed step of a model on a machine: latency, throughput, memory, power, cost, bounds.",
    examples=(
        "supertwin infer deepseek-r1 --on cm384:320 --batch 48 --weight-dtype int8 --mtp-tokens 1"
        " --expert-balance eplb",
        "supertwin infer deepseek-r1 --on cm384:32 --phase prefill --input-len 4096 --batch 2 --weight-dtype int8"
        " --microbatch-overlap",
        "supertwin infer llama-3.1-70b --on dgx-h100:8 --tp 8 --batch 8 --kv-len 2048 --explain",
        "supertwin infer llama-3.1-70b --on dgx-h100:4 --phase mixed --tp 4 --batch 8 --chunk-tokens 1024",
        "supertwin infer deepseek-r1 --on dgx-h800:32 --afd 2A2F --batch 64 --weight-dtype fp8 --kv-dtype fp8",
        "supertwin infer llama-3.1-70b --on dgx-h200:8 --tp 8 --batch max --kv-len 32768 --kv-dtype fp8",
        "supertwin infer qwen3-235b-a22b --on gb200-nvl72:8 --weight-dtype fp8 --json",
        "supertwin infer deepseek-r1 --on cm384:512 --phase serve --weight-dtype int8 --prefill-instance 32"
        " --decode-instance 320 --slo-tpot-ms 50",
    ),
    run=_run,
    arguments=(Argument("model", "A shipped name, a folder with config.json, or a config.json."),),
    options=OPTIONS,
)
