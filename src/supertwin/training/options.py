"""Are the options of a training case legal: placement, replicas, formats? Messages show arithmetic and choices."""

from __future__ import annotations

import math

from supertwin.core.errors import InputError
from supertwin.core.formats import number_format
from supertwin.training.case import ORDER, TrainingCase
from supertwin.training.fabric import replicas_adjoin


def check_options(case: TrainingCase) -> None:
    """Raise InputError (UnknownName for vocabulary) when an option of the case is not legal."""
    if case.order != ORDER:
        _check_order(case)
    _check_replicas(case)
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
