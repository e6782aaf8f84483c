"""`supertwin train MODEL --on SYSTEM:N`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertwin.cli.options import Argument, Command, Option, Values
from supertwin.cli.steps import FORMATS, present, stated

if TYPE_CHECKING:
    from supertwin.training.case import TrainingCase

_SIZES = ("tp", "pp", "cp", "dp", "ep", "etp", "vpp")
_FREE = "chosen to fit memory"
RECOMPUTE = ("none", "selective", "full", "partial")
SHARDING = ("none", "zero1", "zero2", "zero3", "hsdp")
SCHEDULES = ("1f1b", "interleaved", "gpipe", "zb-h1", "zb-v", "dualpipe", "dualpipev")
_FIXED: dict[str, int | float | str | bool] = {
    "micro_batch": 1,
    "seq_len": 4096,
    "precision": "bf16",
    "recompute_layers": 0,
    "sharding": "zero1",
    "schedule": "1f1b",
    "task": "pretrain",
}


def _run(values: Values) -> int:
    from supertwin.training import predict

    return present("train", values, lambda: predict(_case(values)))


def _case(values: Values) -> TrainingCase:
    from dataclasses import replace

    from supertwin.machine import load_system
    from supertwin.model import load_model
    from supertwin.training.case import Layout, TrainingCase
    from supertwin.training.layouts import Choice, choose

    given, defaults = stated(values, _FIXED)
    system = load_system(str(values["on"] or "cm384"))
    sizes = {name: int(given[name]) for name in _SIZES if name in given}
    if {"tp", "pp"} <= sizes.keys():
        sizes.setdefault("cp", 1)
    micro_batch, batch = int(given["micro_batch"]), values["global_batch"]
    draft = TrainingCase(
        model=load_model(str(values["model"])),
        system=system,
        layout=Layout(),
        micro_batch=micro_batch,
        global_batch=micro_batch,
        seq_len=int(given["seq_len"]),
        precision=str(given["precision"]),
        sharding=str(given["sharding"]),
        schedule=str(given["schedule"]),
        task=str(given["task"]),
        recompute_layers=int(given["recompute_layers"]),
    )
    fixed_batch = None if batch is None else int(str(batch))
    case = choose(draft, Choice(sizes, fixed_batch, str(values["recompute"] or "")))
    chosen = {name: getattr(case.layout, name) for name in _SIZES}
    chosen |= {"recompute": case.recompute, "global_batch": case.global_batch}
    defaults |= {name: value for name, value in chosen.items() if values[name] is None}
    parallel = values["sequence_parallel"]
    if parallel is None:
        defaults["sequence_parallel"] = case.layout.tp > 1
    if values["on"] is None:
        defaults["on"] = system.name
    return replace(
        case, sequence_parallel=case.layout.tp > 1 if parallel is None else bool(parallel), defaults=defaults
    )


COMMAND = Command(
    name="train",
    brief="One training step, explained",
    help="One training step of a model on a machine: time, memory, power, cost, and what bounds it.",
    examples=(
        "supertwin train llama3.1-70b --on dgx-h100:512",
        "supertwin train pangu-ultra-moe-718b --on atlas-a2:6144 --global-batch 6144",
        "supertwin train deepseek-v3 --on cm384 --precision fp8-blockwise --recompute full --explain",
        "supertwin train my-model/config.json --on gb200-nvl72:72 --json",
    ),
    run=_run,
    arguments=(Argument("model", "A shipped name, a folder with config.json, or a config.json."),),
    options=(
        Option("--on", "str", "System, with :N for N devices of it.", "cm384"),
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
        Option("--recompute", "str", "Activation recomputation.", "none if it fits, else full", RECOMPUTE),
        Option("--recompute-layers", "int", "With partial: layers per pipeline stage.", "0", minimum=0),
        Option("--sharding", "str", "Optimizer and parameter sharding.", "zero1", SHARDING),
        Option("--schedule", "str", "Pipeline schedule.", "1f1b", SCHEDULES),
        Option("--sequence-parallel", "yesno", "Shard norms and residuals over tp.", "yes when tp > 1"),
        Option("--task", "str", "Kind of training.", "pretrain", ("pretrain", "sft", "lora")),
    ),
)  # fmt: skip
