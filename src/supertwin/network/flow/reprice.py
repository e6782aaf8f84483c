"""What a broken fabric does to the communication of a step.

Every collective of a training or decode step is priced in closed form; the flow level says by what factor it slows down
when parts are missing. The factor is applied to the closed form, so that a healthy fabric changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from supertwin.machine.system import System
from supertwin.network.collective import collective_time
from supertwin.network.faults import Fault
from supertwin.network.flow.collectives import FlowCollective, collective
from supertwin.network.group import Group
from supertwin.network.topology.build import build
from supertwin.network.topology.graph import Graph


@dataclass(frozen=True, slots=True)
class StepCollective:
    """A collective that an axis of a step makes `count` times, in all groups of its shape at once."""

    name: str
    op: str
    message_bytes: float
    group: Group
    count: float = 1.0


@dataclass(frozen=True, slots=True)
class Repriced:
    """healthy_s: closed form of all calls; factor: flow level, broken over healthy; time_s: their product.

    reason: why the collective cannot run any more (factor inf); bottleneck: the slowest link class when broken.
    """

    name: str
    healthy_s: float
    factor: float
    bottleneck: str
    reason: str = ""

    @property
    def time_s(self) -> float:
        """All calls on the broken fabric."""
        return self.healthy_s * self.factor if self.healthy_s else 0.0


def slowdown(
    system: System | Graph,
    faults: Sequence[Fault | str],
    collectives: Sequence[StepCollective],
    context: str = "production",
) -> tuple[Repriced, ...]:
    """Communication of a step on `system` without the parts named in faults. Raises UnknownName, InputError.

    A group in which a device is lost or cut off never ends: its factor is inf and reason says why. The step itself goes
    on only with spare devices.
    """
    graph = system if isinstance(system, Graph) else build(system)
    return tuple(_one(graph, faults, each, context) for each in collectives)


def _one(graph: Graph, faults: Sequence[Fault | str], each: StepCollective, context: str) -> Repriced:
    closed = collective_time(graph.system, each.op, each.message_bytes, each.group, context=context)
    total = float(np.asarray(closed.time_s)) * each.count
    if each.group.size < 2:
        return Repriced(each.name, total, 1.0, "none")
    whole = _flow(graph, each, (), context)
    broken = _flow(graph, each, faults, context)
    factor = max(1.0, broken.time_s / whole.time_s) if whole.time_s else 1.0
    link = broken.bottlenecks[0][0] if broken.bottlenecks else "none"
    return Repriced(each.name, total, factor, link, broken.reasons[0] if broken.reasons else "")


def _flow(graph: Graph, each: StepCollective, faults: Sequence[Fault | str], context: str) -> FlowCollective:
    return collective(graph, each.op, each.message_bytes, each.group, faults=faults, every=True, context=context)
