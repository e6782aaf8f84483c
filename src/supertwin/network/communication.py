"""Communication operators of a layer list, priced on a system."""

from __future__ import annotations

from supertwin.machine.system import System
from supertwin.network.collective import CollectiveTime, collective_time
from supertwin.network.exchange import exchange_time
from supertwin.network.group import Group
from supertwin.workload.operators import Communication

EXCHANGES = ("dispatch", "combine")


def communication_time(
    system: System, operator: Communication, group: Group, *, context: str = "production"
) -> CollectiveTime:
    """Time of one execution of a communication operator on the ranks of its axis.

    dispatch and combine go by tokens, hidden, top-k and payload format, everything else by message bytes; context is
    production by default, since operators belong to an engine or a training step. operator.count is not applied.
    Raises UnknownName, InputError.
    """
    if operator.op in EXCHANGES:
        return exchange_time(
            system, operator.op, operator.tokens, operator.hidden, operator.topk, group,
            dtype=operator.dtype, context=context,
        )  # fmt: skip
    return collective_time(system, operator.op, operator.message_bytes, group, context=context)
