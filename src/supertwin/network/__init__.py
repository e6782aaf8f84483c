"""How long bytes take between devices: groups, collectives, expert exchanges, point-to-point transfers.

algorithms  rounds and wire bytes of each algorithm       collective  the library's fastest line for a group
span        tiers that a group spans                      exchange    MoE dispatch and combine
links       calibrated constants by chip and library      transfer    one block between two memories
rows        rows of collectives.csv                       communication  operators of a layer list
"""

from supertwin.network.collective import CollectiveTime, collective_seconds, collective_time
from supertwin.network.communication import communication_time
from supertwin.network.exchange import exchange_time
from supertwin.network.group import Group
from supertwin.network.transfer import Path, transfer_time

__all__ = [
    "CollectiveTime",
    "Group",
    "Path",
    "collective_seconds",
    "collective_time",
    "communication_time",
    "exchange_time",
    "transfer_time",
]
