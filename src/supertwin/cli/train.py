"""`supertwin train MODEL --on SYSTEM:N`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Argument, Command, Option, Values
from supertwin.cli.steps import FORMATS, known_framework, present, stated, system_named
from supertwin.cli.training_options import OPTIONS, given_fields
from supertwin.core.words import RECOMPUTE, SCHEDULES, SHARDING, TASKS

if TYPE_CHECKING:
    from supertwin.training.case import TrainingCase

_SIZES = ("tp", "pp", "cp", "dp", "ep", "etp", "vpp")
_FREE = "chosen to fit memory"
_FIXED: dict[str, int | float | str | bool] = {
    "micro_batch": 1,
    "seq_len": 4096,
    "precision": "bf16",
    "sharding": "zero1",
    "task": "pretrain",
}


def _run(values: Values) -> int:
    from supertwin.cli.training_bill import check_options, more
    from supertwin.cli.training_timeline import played, wanted
    from supertwin.training import predict

    check_options(values)
    stragglers = wanted(values)
    case = _case(values)
    if stragglers is None:
        return present("train", values, lambda: predict(case), lambda prediction: more(case, values, prediction))
    prediction, added = played(case, stragglers, values)
    return present("train", values, lambda: prediction, lambda _: more(case, values, prediction) + added)


def _case(values: Values) -> TrainingCase:
    """The job as given, open sizes chosen, and every default that was used."""
    from dataclasses import replace

    from supertwin.training.layouts import Choice, choose
    from supertwin.training.placement import fastest_order

    given, defaults = stated(values, _FIXED)
    sizes = {name: int(given[name]) for name in _SIZES if name in given}
    if {"tp", "pp"} <= sizes.keys():
        sizes.setdefault("cp", 1)
    batch = None if values["global_batch"] is None else int(str(values["global_batch"]))
    draft = _draft(values, given)
    case = choose(draft, Choice(sizes, batch, str(values["recompute"] or "")))
    chosen: dict[str, object] = {name: getattr(case.layout, name) for name in _SIZES}
    chosen |= {name: getattr(case, name) for name in ("recompute", "global_batch", "sequence_parallel", "schedule")}
    chosen["on"] = case.system.name
    if case.recompute == "partial":
        chosen["recompute_layers"] = case.recompute_layers
    defaults |= {name: value for name, value in chosen.items() if values[name] is None}
    if values["order"] == "best":
        case = replace(case, order=fastest_order(case))
    return replace(case, defaults=defaults)


def _draft(values: Values, given: dict[str, str]) -> TrainingCase:
    """The job without its layout and batch."""
    from supertwin.model import load_model
    from supertwin.training.case import Layout, TrainingCase
    from supertwin.training.frameworks import framework_names

    return TrainingCase(
        model=load_model(str(values["model"])),
        system=system_named(values["on"]),
        layout=Layout(),
        micro_batch=int(given["micro_batch"]),
        global_batch=int(given["micro_batch"]),
        seq_len=int(given["seq_len"]),
        precision=given["precision"],
        sharding=given["sharding"],
        schedule=given.get("schedule", "interleaved" if int(given.get("vpp", 1)) > 1 else "1f1b"),
        task=given["task"],
        recompute_layers=int(given.get("recompute_layers", 0)),
        sequence_parallel=values["sequence_parallel"] is not False,
        framework=known_framework(values["framework"], framework_names()),
        **given_fields(values),
    )


COMMAND = Command(
    name="train",
    brief="One training step, explained",
    help="One training step of a model on a machine: time, memory, power, cost, and what bounds it.",
    examples=(
        "supertwin train llama3.1-70b --on dgx-h100:512",
        "supertwin train pangu-ultra-moe-718b --on atlas-a2:6144 --global-batch 6144",
        "supertwin train deepseek-v3 --on dgx-h800:2048 --precision fp8-blockwise --recompute full --explain",
        "supertwin train pangu-ultra-135b --on atlas-a2:8192 --tokens 13.2T --scaling 1024,2048,4096,8192",
        "supertwin train my-model/config.json --on gb200-nvl72:72 --json",
        "supertwin train llama3.1-70b --on dgx-h100:512 --pp 8 --tp 8 --trace step.json.gz --straggler 3:1.2",
    ),
    run=_run,
    arguments=(Argument("model", "A shipped name, a folder with config.json, or a config.json."),),
    options=(
        Option("--on", "str", "System, with :N for N devices of it.", "cm384", form="SYSTEM[:N]"),
        Option("--tp", "int", "Tensor parallel size.", _FREE, minimum=1),
        Option("--pp", "int", "Pipeline parallel size.", _FREE, minimum=1),
        Option("--ep", "int", "Expert parallel size, inside dp x cp x tp.", _FREE, minimum=1),
        Option("--etp", "int", "Tensor parallel size of the experts.", "1", minimum=1),
        Option("--cp", "int", "Context parallel size.", _FREE, minimum=1),
        Option("--dp", "int", "Data parallel size.", "the remaining devices", minimum=1),
        Option("--vpp", "int", "Model chunks per pipeline device.", "1", minimum=1),
        Option("--micro-batch", "int", "Sequences per forward pass.", "1", minimum=1),
        Option("--global-batch", "int", "Sequences per optimizer step.", "about 4 M tokens", minimum=1),
        Option("--seq-len", "int", "Tokens per sequence.", "4096", minimum=1),
        Option("--precision", "str", "Format of the matrix products.", "bf16", FORMATS),
        Option("--recompute", "str", "Activation recomputation.", "none or full, the faster that fits", RECOMPUTE),
        Option("--recompute-layers", "int", "With partial: layers per pipeline stage.", minimum=0),
        Option("--sharding", "str", "Optimizer and parameter sharding.", "zero1", SHARDING),
        Option("--schedule", "str", "Pipeline schedule.", "1f1b; interleaved with vpp > 1", SCHEDULES),
        Option("--sequence-parallel", "yesno", "Shard norms and residuals over tp.", "yes when tp > 1"),
        Option("--task", "str", "Kind of training.", "pretrain", TASKS),
        Option("--tokens", "str", "Bill a whole run of T tokens, such as 13.2T."),
        Option("--co2-per-kwh", "float", "With --tokens: kg of CO2 per kWh of electricity.", minimum=0.0, maximum=10.0),
        Option("--scaling", "str", "Strong and weak scaling over numbers of devices, such as 128,256,512."),
        Option("--timeline", "switch", "Play the step event by event and take its time."),
        Option("--trace", "path", "Write the timeline as a Perfetto trace (.json or .json.gz)."),
        Option("--straggler", "list", "STAGE:FACTOR, a slow device in that stage; repeatable."),
        Option("--framework", "str", "Training stack: its habits fill what is not given.", "a current Megatron stack"),
        *OPTIONS,
    ),
)  # fmt: skip
