"""What the host needs to issue one pass of a block: kernels, collective calls, nested recomputation."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.training import assumptions as assume


@dataclass(frozen=True, slots=True)
class HostCost:
    """Seconds of the host per listed kernel, per collective call, and per block of layers that is called again."""

    per_kernel_s: float
    per_call_s: float
    per_block_s: float = 0.0

    def issue_s(self, kernels: float, calls: float) -> float:
        """Time to issue one pass of a block (0 for an empty one)."""
        return kernels * self.per_kernel_s + calls * self.per_call_s + (self.per_block_s if kernels else 0.0)


def host_cost(launch: str, architecture: str, stage: str) -> HostCost:
    """Host of a launch mode (eager | graph | compiled) on the usual nodes of a chip architecture.

    stage: forward, backward, again (recomputation in the middle of backward, operators only) or checkpoint (the same,
    called layer by layer through the framework's checkpoint function).
    """
    if launch != "eager":
        return HostCost(assume.HOST_GRAPH_S.value, assume.HOST_GRAPH_S.value)
    slow = assume.host_slowness(architecture)
    each, kernels = assume.HOST_FORWARD_S, assume.KERNELS_FORWARD
    if stage == "backward":
        each, kernels = assume.HOST_BACKWARD_S, assume.KERNELS_BACKWARD
    nested = assume.HOST_CHECKPOINT_S.value if stage == "checkpoint" else 0.0
    return HostCost(slow * each.value * kernels.value, slow * assume.HOST_COLLECTIVE_S.value, slow * nested)
