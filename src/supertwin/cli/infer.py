"""`supertwin infer MODEL --on SYSTEM:N --phase prefill|decode`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supertwin.cli.options import Argument, Command, Option, Values
from supertwin.cli.steps import FORMATS, known_framework, present, stated, system_named

if TYPE_CHECKING:
    from supertwin.core.prediction import Prediction
    from supertwin.inference.case import Deployment, InferenceCase
    from supertwin.machine.chip import Chip
    from supertwin.model.spec import ModelSpec

_SIZES = ("tp", "pp", "dp", "ep", "cp")
_FREE = "chosen to fit memory"
_FIXED: dict[str, int | float | str | bool] = {
    "phase": "decode",
    "kv_dtype": "bf16",
    "mtp_tokens": 0,
    "microbatch_overlap": False,
    "expert_balance": "natural",
    "redundant_experts": 0,
}
_LENGTH = 4096
_ALSO_CALLED = ("tensorrt", "trtllm", "trt-llm", "cloudmatrix")
_ACCEPTANCE = 0.7  # of one draft: CloudMatrix384 paper, section 5; Ascend recipes


def _run(values: Values) -> int:
    return present("infer", values, lambda: _predict(values))


def _predict(values: Values) -> Prediction:
    from dataclasses import replace

    from supertwin.inference import predict

    case = _case(values)
    prediction = predict(case)
    found = replace(
        prediction, layout={**prediction.layout, "replicas": case.system.devices // case.deployment.devices}
    )
    return replace(found, warnings=(*found.warnings, *_without_effect(values, case)))


def _case(values: Values) -> InferenceCase:
    """The step as given, open sizes chosen, and every default that was used."""
    from dataclasses import replace

    from supertwin.inference.case import InferenceCase
    from supertwin.inference.layouts import Choice, choose
    from supertwin.model import load_model

    given, defaults = stated(values, _FIXED)
    model, system = load_model(str(values["model"])), system_named(values["on"])
    length = "kv_len" if given["phase"] == "decode" else "input_len"
    lengths = {"kv_len": 0, "input_len": 0, length: int(given.get(length, _LENGTH))}
    draft = InferenceCase(
        model, system, _formats_and_switches(values, given, (model, system.chip)), given["phase"], 1.0,
        input_len=lengths["input_len"], kv_len=lengths["kv_len"],
    )  # fmt: skip
    sizes = {name: int(given[name]) for name in _SIZES if name in given}
    batch = None if values["batch"] is None else float(str(values["batch"]))
    shared = None if values["dp_attention"] is None else bool(values["dp_attention"])
    case = choose(draft, Choice(sizes, batch, shared))
    chosen: dict[str, object] = {name: getattr(case.deployment, name) for name in (*_SIZES, "dp_attention")}
    chosen |= {name: getattr(case.deployment, name) for name in ("weight_dtype", "activation_dtype")}
    chosen |= {"batch": case.batch, length: getattr(case, length), "on": system.name}
    if case.deployment.mtp_tokens:
        chosen["mtp_acceptance"] = case.deployment.mtp_acceptance
    return replace(case, defaults=defaults | {name: value for name, value in chosen.items() if values[name] is None})


def _formats_and_switches(values: Values, given: Mapping[str, str], job: tuple[ModelSpec, Chip]) -> Deployment:
    """The deployment without its sizes."""
    from supertwin.inference.assumptions import ENGINES
    from supertwin.inference.case import Deployment
    from supertwin.inference.layouts import usual_activation, usual_weight

    model, chip = job
    weight = given.get("weight_dtype") or usual_weight(model, chip)
    drafts = int(given["mtp_tokens"])
    return Deployment(
        weight_dtype=weight,
        activation_dtype=given.get("activation_dtype") or usual_activation(weight, chip),
        kv_dtype=given["kv_dtype"],
        mtp_tokens=drafts,
        mtp_acceptance=float(given.get("mtp_acceptance", _ACCEPTANCE if drafts else 0.0)),
        microbatch_overlap=bool(values["microbatch_overlap"]),
        expert_balance=given["expert_balance"],
        redundant_experts=int(given["redundant_experts"]),
        framework=known_framework(values["framework"], [*(engine.name for engine in ENGINES), *_ALSO_CALLED]),
    )


def _without_effect(values: Values, case: InferenceCase) -> list[str]:
    """Options that were given and change nothing."""
    d, decode = case.deployment, case.phase == "decode"
    experts = d.dp > 1 and d.dp_attention
    idle = {
        "input_len": decode and "decode; --kv-len is the context",
        "kv_len": not decode and "prefill; --input-len is the prompt",
        "mtp_tokens": not decode and bool(d.mtp_tokens) and "prefill",
        "mtp_acceptance": not d.mtp_tokens and "--mtp-tokens 0",
        "microbatch_overlap": d.microbatch_overlap and not (experts and d.ep > 1) and "a single expert group",
    }
    return [
        f"--{name.replace('_', '-')} has no effect with {reason}"
        for name, reason in idle.items()
        if reason and values[name] is not None
    ]


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
        Option("--cp", "int", "Context parallel size: own devices in prefill, of tp in decode.", "1", minimum=1),
        Option("--dp-attention", "yesno", "The dp ranks share one set of experts.", "yes for experts with dp > 1"),
        Option("--batch", "float", "Requests per device.", "up to 32; prefill: one per rank", minimum=0, above=True),
        Option("--input-len", "int", "Prompt tokens (prefill).", "4096", minimum=1),
        Option("--kv-len", "int", "Context tokens per request (decode).", "4096", minimum=1),
        Option("--weight-dtype", "str", "Stored weights.", "the checkpoint's, else bf16", FORMATS),
        Option("--activation-dtype", "str", "Activations in products.", "as the weights, where the chip can", FORMATS),
        Option("--kv-dtype", "str", "Stored keys and values.", "bf16", FORMATS),
        Option("--mtp-tokens", "int", "Draft tokens per step.", "0", minimum=0, maximum=64),
        Option("--mtp-acceptance", "float", "Accepted drafts over drafts.", "0.7", minimum=0, maximum=1),
        Option("--microbatch-overlap", "yesno", "Overlap two micro-batches.", "no"),
        Option("--expert-balance", "str", "Load of the experts.", "natural", ("natural", "perfect", "unknown")),
        Option("--redundant-experts", "int", "Replicated experts in all.", "0", minimum=0),
        Option("--framework", "str", "Serving engine.", "generic"),
    ),
)  # fmt: skip
