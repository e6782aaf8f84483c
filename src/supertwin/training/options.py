"""Are the options of a training case legal: placement, replicas, formats? Messages show arithmetic and choices."""

from __future__ import annotations

import math

from supertwin.core.errors import InputError
from supertwin.core.formats import number_format
from supertwin.training.case import ORDER, TrainingCase
from supertwin.training.fabric import replicas_adjoin
from supertwin.training.routing import routed_block
from supertwin.training.stages import chunks_per_device


def check_options(case: TrainingCase) -> None:
    """Raise InputError (UnknownName for vocabulary) when an option of the case is not legal."""
    if case.order != ORDER:
        _check_order(case)
    _check_replicas(case)
    if case.stages:
        _check_stages(case)
    _check_routing(case)
    _check_pack(case)
    for dtype in (case.gather_dtype, case.reduce_dtype, case.gradient_dtype, case.dispatch_dtype):
        if dtype:
            number_format(dtype)


def _check_order(case: TrainingCase) -> None:
    """A permutation of the axes whose pipeline stages hold the same ranks on the dense and on the expert grid."""
    order, layout = case.order, case.layout
    if sorted(order) != sorted(ORDER):
        raise InputError(f"order {','.join(order)}; expected {','.join(ORDER)} in any order, innermost first")
    before = order[: order.index("pp")]
    edp = max(layout.tp * layout.cp * layout.dp // (layout.ep * layout.etp), 1)
    dense = {"tp": layout.tp, "cp": layout.cp, "dp": layout.dp}
    experts = {"tp": layout.etp, "ep": layout.ep, "dp": edp}
    stages = [math.prod(sizes.get(axis, 1) for axis in before) for sizes in (dense, experts)]
    if layout.pp > 1 and layout.ep * layout.etp > 1 and stages[0] != stages[1]:
        raise InputError(
            f"order {','.join(order)} puts pipeline stages {stages[0]} devices apart for dense weights "
            f"({_product(dense, before)}) and {stages[1]} for experts "
            f"({_product({'etp': layout.etp, 'ep': layout.ep, 'edp': edp}, _expert_names(before))}); "
            f"put pp last, such as {','.join([axis for axis in order if axis != 'pp'] + ['pp'])}"
        )
    if case.sharding == "hsdp" and case.hsdp_shard_size and not replicas_adjoin(layout, order):
        raise InputError(f"hsdp needs cp and dp beside each other in the order, got {','.join(order)}")


def _expert_names(axes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({"tp": "etp", "dp": "edp"}.get(axis, axis) for axis in axes)


def _product(sizes: dict[str, int], axes: tuple[str, ...]) -> str:
    return " * ".join(f"{axis}({sizes[axis]})" for axis in axes if axis in sizes) or "1"


def _check_replicas(case: TrainingCase) -> None:
    if case.prefetch < 0:
        raise InputError(f"prefetch = {case.prefetch}; expected 0 (each gather waits) or more layers")
    if case.bucket_bytes < 0.0:
        raise InputError(f"bucket of {case.bucket_bytes:g} bytes; expected more than 0, or 0 for the framework's")


def _check_stages(case: TrainingCase) -> None:
    layout, layers, stages = case.layout, case.model.n_layers, case.stages
    chunks = chunks_per_device(case.schedule, layout.vpp)
    lengths = sorted({layout.pp, layout.pp * chunks})
    shown = ",".join(map(str, stages))
    if len(stages) not in lengths:
        raise InputError(
            f"stages {shown} are {len(stages)} numbers; expected {' or '.join(map(str, lengths))} "
            f"(pp({layout.pp}){f' or pp * chunks({chunks})' if chunks > 1 else ''})"
        )
    if min(stages) < 0 or sum(stages) != layers:
        even, more = divmod(layers, len(stages))
        nearest = ",".join(str(even + (1 if i < more else 0)) for i in range(len(stages)))
        raise InputError(
            f"stages {' + '.join(map(str, stages))} = {sum(stages)} != {layers} layers of {case.model.name}; "
            f"an even split is {nearest}"
        )


def _check_routing(case: TrainingCase) -> None:
    numbers = {"routing_cv": case.routing_cv, "capacity_factor": case.capacity_factor, "skew": case.skew}
    for name, value in numbers.items():
        if value < 0.0:
            raise InputError(f"{name} = {value:g}; expected 0 or more")
    if case.skew and case.skew < 1.0:
        raise InputError(f"skew = {case.skew:g}; the busiest rank has at least the mean load, expected 1 or more")
    if case.skew > max(case.layout.ep, 1) and routed_block(case.model) is not None:
        raise InputError(
            f"skew = {case.skew:g}; ep({case.layout.ep}) ranks share all tokens, so the busiest has at most "
            f"{case.layout.ep} times the mean"
        )
    if case.pad_experts and not case.capacity_factor:
        raise InputError("pad_experts needs capacity_factor > 0: the capacity that experts are padded to")
    if case.redundant_experts or case.routing_nodes:
        _check_experts(case)


def _check_experts(case: TrainingCase) -> None:
    block, ep = routed_block(case.model), case.layout.ep
    if block is None:
        raise InputError(f"redundant_experts and routing_nodes need experts and {case.model.name} has none")
    if case.redundant_experts < 0 or case.routing_nodes < 0:
        raise InputError("redundant_experts and routing_nodes; expected 0 or more")
    places = block.experts + case.redundant_experts
    if places % ep:
        below = case.redundant_experts - places % ep
        nearest = " or ".join(str(number) for number in (below, below + ep) if number >= 0)
        raise InputError(
            f"experts({block.experts}) + redundant_experts({case.redundant_experts}) = {places} places do not divide "
            f"over ep({ep}); redundant_experts of {nearest} would"
        )


def _check_pack(case: TrainingCase) -> None:
    if not 0.0 <= case.sample_len <= case.seq_len:
        raise InputError(f"sample_len = {case.sample_len:g}; expected 0 to seq_len({case.seq_len})")
    if case.sample_cv < 0.0:
        raise InputError(f"sample_cv = {case.sample_cv:g}; expected 0 or more")
