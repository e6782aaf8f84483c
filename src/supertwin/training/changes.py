"""Single changes to a training job or to its machine, as candidates of the what-if table.

Options are what the job's owner may turn (batch cuts, layout, schedule, recomputation, sharding, overlap, format);
machines are what nobody can buy today but what shows which part of the machine the step waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from supertwin.core import change
from supertwin.core.formats import number_format
from supertwin.core.moves import twice_and_half
from supertwin.machine.doubled import doubled
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.check import expert_count
from supertwin.training.frameworks import framework_named
from supertwin.training.routing import routing_of

Scale = tuple[float, float]
PLAIN: Scale = (1.0, 1.0)
_FOLDED = ("zb-v", "dualpipev")
_CHEAP = ("norm", "activation", "mla_up")  # modules that are cheap to compute again
_NARROWER = {"fp8": ("fp8-blockwise", "fp8-tensorwise", "mxfp8"), "fp4": ("nvfp4",)}
_BITS = {"fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4}


Change = change.Change[TrainingCase, Scale]


def changes(case: TrainingCase) -> Iterator[Change]:
    """Every candidate, legal or not; the caller checks."""
    yield from _batch_changes(case)
    yield from _layout_changes(case)
    yield from _memory_changes(case)
    yield from _switch_changes(case)
    yield from _format_changes(case)
    yield from _machine_changes(case)


def _option(case: TrainingCase, name: str, option: str, **fields: object) -> Change:
    return Change(name, "option", replace(case, **fields), PLAIN, option)  # type: ignore[arg-type]


def _batch_changes(case: TrainingCase) -> Iterator[Change]:
    for size in twice_and_half(case.micro_batch):
        yield _option(case, f"micro batch {size}", f"--micro-batch {size}", micro_batch=size)
    size = 2 * case.global_batch
    yield _option(case, f"global batch {size}", f"--global-batch {size}", global_batch=size)


def _layout_changes(case: TrainingCase) -> Iterator[Change]:
    """One size doubled or halved; the data parallel size takes up the difference."""
    layout = case.layout
    for axis in ("tp", "pp", "cp"):
        for size in twice_and_half(getattr(layout, axis)):
            dp = layout.dp * getattr(layout, axis)
            if dp % size == 0:
                yield _moved(case, f"{axis} {size}, dp {dp // size}", {axis: size, "dp": dp // size})
    if expert_count(case.model):
        for size in twice_and_half(layout.ep):
            yield _moved(case, f"ep {size}", {"ep": size})
    if layout.pp > 1:
        for size in twice_and_half(layout.vpp):
            yield _moved(case, f"{size} chunks per stage", {"vpp": size}, _interleaving(size))


def _moved(case: TrainingCase, name: str, sizes: dict[str, int], schedule: str = "") -> Change:
    layout: Layout = replace(case.layout, **sizes)
    option = " ".join(f"--{axis} {size}" for axis, size in sizes.items())
    moved = replace(case, layout=layout, sequence_parallel=case.sequence_parallel and layout.tp > 1)
    if layout.tp > 1 and case.layout.tp == 1:
        moved = replace(moved, sequence_parallel=True)
    return Change(name, "option", replace(moved, schedule=schedule or case.schedule), PLAIN, option)


def _interleaving(vpp: int) -> str:
    return "interleaved" if vpp > 1 else "1f1b"


def _memory_changes(case: TrainingCase) -> Iterator[Change]:
    for policy in ("none", "selective", "full"):
        if policy != case.recompute:
            name = "no recomputation" if policy == "none" else f"{policy} recomputation"
            yield _option(case, name, f"--recompute {policy}", recompute=policy)
    if case.recompute == "full":
        modules = ",".join(_CHEAP)
        option = f"--recompute selective --recompute-modules {modules}"
        fields = {"recompute": "selective", "recompute_modules": _CHEAP}
        yield _option(case, "recompute cheap modules only", option, **fields)
    names = {"none": "replicated optimizer", "zero1": "distributed optimizer", "zero3": "parameters sharded too"}
    for sharding, name in names.items():
        if sharding != case.sharding and case.layout.dp * case.layout.cp > 1:
            yield _option(case, name, f"--sharding {sharding}", sharding=sharding)


def _switch_changes(case: TrainingCase) -> Iterator[Change]:
    layout, framework = case.layout, framework_named(case.framework)
    if layout.pp > 1:
        flat = replace(layout, vpp=1)
        for schedule in ("zb-h1", *_FOLDED):
            if schedule != case.schedule:
                yield _option(
                    case, f"schedule {schedule}", f"--vpp 1 --schedule {schedule}", schedule=schedule, layout=flat
                )
    ep = framework.ep_overlap if case.overlap_ep is None else case.overlap_ep
    if layout.ep > 1 and not ep:
        yield _option(case, "expert exchange beside compute", "--overlap-ep", overlap_ep=True)
    if layout.ep > 1 and routing_of(case).skew > 1.0:
        yield _option(case, "32 copies of hot experts", "--redundant-experts 32", redundant_experts=32)
        yield _option(case, "experts evenly loaded", "--skew 1", skew=1.0)
    if layout.ep > 1 and not case.dispatcher and framework.transport == "all_to_all":
        yield _option(case, "tokens cross nodes once", "--dispatcher deepep", dispatcher="deepep")
    tp = framework.tp_overlap if case.overlap_tp is None else case.overlap_tp
    if layout.tp > 1 and not tp:
        yield _option(case, "tensor parallel beside products", "--overlap-tp", overlap_tp=True)
    dp = framework.dp_overlap if case.overlap_dp is None else case.overlap_dp
    if layout.dp > 1 and not dp:
        yield _option(case, "gradient reduction beside backward", "--overlap-dp", overlap_dp=True)
    if (case.launch or framework.launch) == "eager":
        yield _option(case, "graph launch", "--launch graph", launch="graph")
    if case.attention_kernel == "unfused" or (not case.attention_kernel and not framework.flash):
        yield _option(case, "fused attention", "", attention_kernel="flash")


def _format_changes(case: TrainingCase) -> Iterator[Change]:
    rates, own = case.system.chip.peak_flop_per_s, number_format(case.precision).rate
    for rate, names in _NARROWER.items():
        if rate in rates and _BITS[rate] < _BITS[own]:
            precision = names[-1] if case.system.chip.architecture.startswith("blackwell") else names[0]
            yield _option(case, f"products in {precision}", f"--precision {precision}", precision=precision)


def _machine_changes(case: TrainingCase) -> Iterator[Change]:
    for name, system in doubled(case.system):
        yield Change(name, "machine", replace(case, system=system), PLAIN)
    yield Change("2x link bandwidth", "machine", case, (1.0, 0.5))
    yield Change("no link latency", "machine", case, (0.0, 1.0))
