"""Offload to host memory: activations beside the passes, optimizer states with an update on the host.

Activations: a share s of what a microbatch keeps leaves during its forward pass and comes back during its backward
pass. Each direction of the host link is its own stream, so what stays visible is

    max(0, s A / out - f) + max(0, s A / in - b)

Optimizer (ZeRO-Offload, arXiv 2101.06840; Twin-Flow of ZeRO-Offload++; Megatron --optimizer-cpu-offload): gradients of
the offloaded share go out (g bytes per weight), the host updates (Adam streams g + 24 + 2 bytes per weight through host
memory), parameters come back (2 bytes). The device updates its own share at the same time:

    sequential: out + adam + in        pipelined: max of the three + the rest of them / pieces
    delayed: pipelined, beside the next step (arXiv 2101.06840, section 5.2: one-step delayed update)
    swapped: the device updates all weights; states come in and go out in 16 pieces, 12 bytes per weight and direction,
    and a piece comes in when the one before has gone out: in + out (MindSpeed --swap-optimizer and its documentation)

All devices of a node share its host memory, whose bandwidth also bounds the transfers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.machine.system import System
from supertwin.network.transfer import UNMEASURED_SHARE, Path, transfer_time
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.frameworks import Framework
from supertwin.training.weights import PARAMETER_BYTES, DeviceWeights, adam_bytes, updated_weights

Array = npt.NDArray[np.float64]

BLOCK_BYTES = 64e6  # a copy of this size has reached the rate of its link
LAYERS_IN_WORK = 2.0  # the layer whose tensors leave and the one that is fetched ahead


@dataclass(frozen=True, slots=True)
class HostLink:
    """What one device gets of host link and host memory when all devices of its node use them, bytes/s.

    out, back: device to host and host to device; stream: its share of the host memory under an Adam update.
    """

    out: float
    back: float
    stream: float


def host_link(system: System) -> HostLink:
    """Rates of one device towards its host.

    Links: the calibrated copy where it is plausible for this host link (between half and all of its line rate: a chip
    inherits its relative's copy, whose link may be another one), else the usual share of the line rate.
    """
    sharers = min(system.devices_per_node, system.devices)
    memory = (system.host_memory_bytes_per_s_per_node or assume.HOST_MEMORY_RATE.value) / sharers
    moving = memory * assume.HOST_STREAM_SHARE.value
    out, back = (min(_link_rate(system, write), moving) for write in (True, False))
    return HostLink(out, back, memory * assume.HOST_ADAM_SHARE.value)


def _link_rate(system: System, write: bool) -> float:
    line = system.host_link_bytes_per_s
    path = Path(local="device", remote="host", write=write)
    calibrated = BLOCK_BYTES / float(transfer_time(system, BLOCK_BYTES, path).time_s)
    return calibrated if 0.5 * line <= calibrated <= line else UNMEASURED_SHARE * line


def host_adam_bytes(gradient_bytes: float, states_bytes: float = 12.0) -> float:
    """Host memory traffic of Adam per weight: gradient, master copy and moments read; those states and the parameter
    written."""
    return gradient_bytes + 2.0 * states_bytes + PARAMETER_BYTES


@dataclass(frozen=True, slots=True)
class HostUpdate:
    """Seconds of the offloaded part of an update on the slowest device."""

    out_s: float = 0.0
    adam_s: float = 0.0
    back_s: float = 0.0
    bytes_out: float = 0.0

    @property
    def sequential_s(self) -> float:
        """One after the other."""
        return self.out_s + self.adam_s + self.back_s

    def pipelined_s(self) -> float:
        """In pieces: the slowest stage, and one piece of each of the others."""
        pieces = max(self.bytes_out / assume.OFFLOAD_PIECE.value, 1.0)
        longest = max(self.out_s, self.adam_s, self.back_s)
        return longest + (self.sequential_s - longest) / pieces


def host_update(case: TrainingCase, framework: Framework, weights: DeviceWeights) -> HostUpdate:
    """Transfers and host work of the offloaded share of the optimizer."""
    if not case.offload_optimizer:
        return HostUpdate()
    link = host_link(case.system)
    own = float(updated_weights(case, weights).max()) * case.offload_optimizer
    if case.offload_update == "swapped":
        states = own * adam_bytes(case)
        return HostUpdate(states / link.out, 0.0, states / link.back, states)
    gradients = own * framework.gradient_bytes
    return HostUpdate(
        gradients / link.out,
        own * host_adam_bytes(framework.gradient_bytes, adam_bytes(case)) / link.stream,
        own * PARAMETER_BYTES / link.back,
        gradients,
    )


def update_exposed_s(case: TrainingCase, update: HostUpdate, device_s: float, step_s: float) -> float:
    """What the host's part of the update adds to a step whose device part takes device_s and whose passes take
    step_s."""
    if case.offload_update == "swapped":
        return update.sequential_s
    if case.offload_update == "sequential":
        return max(update.sequential_s - device_s, 0.0)
    beside = device_s + (step_s if case.offload_update == "delayed" else 0.0)
    return max(update.pipelined_s() - beside, 0.0)


def activation_exposed_s(case: TrainingCase, moved_bytes: Array, window: tuple[Array, Array]) -> tuple[Array, Array]:
    """(forward, backward) seconds per microbatch that moving activations adds on each pipeline device.

    moved_bytes: per microbatch, shape [pp]; window: forward and backward seconds of one microbatch, shape [pp].
    """
    link = host_link(case.system)
    return np.maximum(moved_bytes / link.out - window[0], 0.0), np.maximum(moved_bytes / link.back - window[1], 0.0)


def resident_bytes(case: TrainingCase, kept_bytes: Array, in_flight: Array, layers: Array) -> Array:
    """Kept activations that stay on the device: the share that is not offloaded, and the layers in work.

    kept_bytes: per microbatch; in_flight: microbatches; layers: layers per device; all of shape [pp].
    """
    whole = in_flight * kept_bytes
    working = np.minimum(LAYERS_IN_WORK * kept_bytes / np.maximum(layers, 1.0), whole)
    result: Array = (1.0 - case.offload) * whole + case.offload * working
    return result
