"""Bytes as flows that share links: max-min fair rates, event by event.

classes  flows grouped by symmetry      rates  weighted max-min fairness with priorities and limits
run      from start to finish, event by event
"""

from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.rates import Rates, rates
from supertwin.network.flow.run import FlowRun, run

__all__ = ["FlowClasses", "FlowRun", "Rates", "rates", "run"]
