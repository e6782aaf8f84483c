"""Bytes as flows that share links: max-min fair rates, event by event.

classes   flows grouped by symmetry                 costs        calibrated costs of a collective beside its bytes
rates     weighted max-min, priorities, limits      schedule     collectives as phases of flows
run       from start to finish, event by event      fabric       phases on the links of a graph
trace     timelines for Perfetto                    collectives  one collective in one or several groups
experts   MoE dispatch and combine                  contention   several jobs at once
reprice   a step's communication after faults       uneven       all-to-all with a size per pair

The topology builds FlowClasses and the modules from `fabric` on need the topology, so that their names are looked up
here when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.rates import Rates, rates
from supertwin.network.flow.run import FlowRun, run
from supertwin.network.flow.trace import trace

if TYPE_CHECKING:
    from supertwin.network.flow.collectives import FlowCollective, PhaseTime, collective, ranks_of
    from supertwin.network.flow.contention import FlowJobs, Job, JobTime, jobs
    from supertwin.network.flow.experts import exchange
    from supertwin.network.flow.reprice import Repriced, StepCollective, slowdown
    from supertwin.network.flow.uneven import all_to_all_v

_LATER = {
    "FlowCollective": "collectives",
    "FlowJobs": "contention",
    "Job": "contention",
    "JobTime": "contention",
    "PhaseTime": "collectives",
    "Repriced": "reprice",
    "StepCollective": "reprice",
    "all_to_all_v": "uneven",
    "collective": "collectives",
    "exchange": "experts",
    "jobs": "contention",
    "ranks_of": "collectives",
    "slowdown": "reprice",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "FlowClasses",
    "FlowCollective",
    "FlowJobs",
    "FlowRun",
    "Job",
    "JobTime",
    "PhaseTime",
    "Rates",
    "Repriced",
    "StepCollective",
    "all_to_all_v",
    "collective",
    "exchange",
    "jobs",
    "ranks_of",
    "rates",
    "run",
    "slowdown",
    "trace",
]
