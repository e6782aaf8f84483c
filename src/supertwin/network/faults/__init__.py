"""Parts and links taken away or degraded, and what that does.

    node3   node3/npu5   node3/npu5/die1   node3/cpu2   node3/ub-l1-4   ub-l2-4-11   node3/npu5/die1/nic     a part
    ub-4                     a sub-plane                    ub   rdma   vpc       a whole plane
    node3/ub-l1-4--ub-l2-4-11    a link, both directions (`->`: one)              ub-l2-4-11/optics-7   a transceiver
    ub-l2-4-*   node[0-3]    patterns with * ? [ ]

A part goes with everything below its address. `ADDRESS=0.5` leaves half of the capacity.
"""

from supertwin.network.faults.address import find, modules
from supertwin.network.faults.effect import Effect, PairEffect, effect
from supertwin.network.faults.fault import DEGRADE, REMOVE, Fault, apply, fault

__all__ = [
    "DEGRADE",
    "REMOVE",
    "Effect",
    "Fault",
    "PairEffect",
    "apply",
    "effect",
    "fault",
    "find",
    "modules",
]
