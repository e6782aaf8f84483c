"""Which axis lies innermost: legal orders of the axes, where each puts its groups, and the fastest of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from supertwin.core.errors import SupertwinError
from supertwin.network.span import group_levels
from supertwin.training.case import ORDER, TrainingCase
from supertwin.training.fabric import axis_group, strides
from supertwin.training.predict import predict

AXES = ("tp", "cp", "ep", "etp", "dp", "edp", "pp")


@dataclass(frozen=True, slots=True)
class Place:
    """Group of an axis: ranks, distance between neighbours in devices, and the outermost tier it crosses ("" for a
    group of one)."""

    axis: str
    size: int
    stride: int
    tier: str


def places(case: TrainingCase) -> tuple[Place, ...]:
    """Where the groups of a case lie on its machine."""
    found = []
    for axis in AXES:
        group = axis_group(case, axis)
        levels = group_levels(case.system.tiers, group)
        found.append(Place(axis, int(group.size), int(group.stride), levels[-1].tier if levels else ""))
    return tuple(found)


def orders(case: TrainingCase) -> Iterator[tuple[str, ...]]:
    """Orders that place the groups of the case differently, the default first."""
    seen = set()
    sizes = {"etp": case.layout.etp, "ep": case.layout.ep, "tp": case.layout.tp, "cp": case.layout.cp}
    sizes |= {"dp": case.layout.dp, "pp": case.layout.pp}
    ranked = sorted(itertools.permutations(ORDER), key=lambda order: order != ORDER)
    for order in ranked:
        at = strides(case.layout, order)
        key = tuple(at[axis] for axis in (*sizes, "edp") if sizes.get(axis, 2) > 1)
        if key not in seen:
            seen.add(key)
            yield order


def fastest_order(case: TrainingCase) -> tuple[str, ...]:
    """The legal order with the shortest step; the default one of equals."""
    best, shortest = case.order, predict(case).step_time_s
    for order in orders(case):
        try:
            step_s = predict(replace(case, order=order)).step_time_s
        except SupertwinError:
            continue
        if step_s < shortest * (1.0 - 1e-9):
            best, shortest = order, step_s
    return best
