"""Power by component and load.

A component draws P = idle + load x (max - idle). The load of a chip follows from what its engines do, as shares of what
they can do at most:

    load = min(1, s busy + (1 - s) u_matrix / limited_at + b u_memory + c u_network)

busy is the share of time in which kernels run, u_matrix executed matrix work over the dense peak of its format
(recomputation counts), u_memory traffic over the peak memory bandwidth, u_network the share of time in which links are
busy. limited_at is the share of the peak at which a long matrix product draws the power limit (chip file, else
data/room.toml); s, b and c come from data/room.toml.

Hosts, fans and losses follow the chips, but a job on the chips takes them to host_share of their range only: printed
server maxima load every part at once in the hottest room. Switches follow the network, optics always draw their
maximum. Cooling adds (PUE - 1) times the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from supertwin.core.errors import InputError
from supertwin.machine.chip import Chip
from supertwin.machine.system import Part, System
from supertwin.room.assumptions import assumed

Load = TypeVar("Load", float, NDArray[np.float64])
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Activity(Generic[Load]):
    """What the engines of a chip do, 0 to 1; numbers or arrays alike.

    matrix: executed matrix FLOP/s over the dense peak of the format. memory: bytes/s over the peak bandwidth.
    network: share of time in which the links are busy; where only exposed time is known, that is a lower bound.
    busy: share of time in which kernels run, collectives among them; bubbles and waiting for the host are not.
    """

    matrix: Load
    memory: Load
    network: Load
    busy: Load


def limited_at(chip: Chip) -> float:
    """Share of the dense peak at which a long matrix product draws the power limit."""
    own = chip.cited.get("power.limited_at")
    return assumed("power.limited_at") if own is None else own.value


def chip_load(chip: Chip, activity: Activity[Load]) -> Load:
    """Share of its dynamic power that a chip draws, 0 to 1. Raises InputError for an activity outside of 0 to 1."""
    for name in ("matrix", "memory", "network", "busy"):
        _require_share(f"{name} activity", getattr(activity, name))
    awake = assumed("power.awake_share")
    load = (
        awake * activity.busy
        + (1.0 - awake) * activity.matrix / limited_at(chip)
        + assumed("power.memory_share") * activity.memory
        + assumed("power.network_share") * activity.network
    )
    clipped: Load = min(1.0, load) if isinstance(load, float) else np.minimum(1.0, load)
    return clipped


def chip_power_w(chip: Chip, activity: Activity[Load]) -> Load:
    """Power of one device in W, at most its limit."""
    return chip.idle_w + chip_load(chip, activity) * (chip.tdp_w - chip.idle_w)


def component_power_w(system: System, activity: Activity[Load], devices: int | None = None) -> dict[str, Load]:
    """Power in W of each component for `devices` (default: those in use), the chips as "chip" and cooling as "cooling".

    Parts that several devices share are charged by the share of the system in use: half a supernode carries half of
    its L2 switches. Raises InputError for an activity outside of 0 to 1.
    """
    load = chip_load(system.chip, activity)
    return loaded_power_w(system, load, assumed("power.host_share") * load, activity.network, devices)


def loaded_power_w(
    system: System, load: Load, host_load: Load, network_load: Load, devices: int | None = None
) -> dict[str, Load]:
    """As component_power_w, for chips, hosts (with fans and losses) and switches at loads of 0 to 1.

    Raises InputError.
    """
    for name, value in (("load", load), ("host load", host_load), ("network load", network_load)):
        _require_share(name, value)
    count = system.devices if devices is None else devices
    chip = system.chip
    power: dict[str, Load] = {"chip": count * (chip.idle_w + load * (chip.tdp_w - chip.idle_w))}
    share = count / system.full_devices
    for part in present_parts(system, count):
        own = {"compute": host_load, "network": network_load, "none": 1.0 + 0.0 * load}[part.follows]
        power[part.name] = share * part.count * (part.idle_w + own * (part.max_w - part.idle_w))
    power["cooling"] = (system.pue - 1.0) * _total(power)
    return power


def power_w(system: System, activity: Activity[Load], devices: int | None = None) -> Load:
    """Power in W of the components and their cooling; see component_power_w."""
    return _total(component_power_w(system, activity, devices))


def it_power_w(system: System, load: float = 1.0, devices: int | None = None) -> float:
    """Power in W without cooling when every component is at the same load (1: the sum of the maxima)."""
    return sum(value for name, value in loaded_power_w(system, load, load, load, devices).items() if name != "cooling")


def energy_j_per_token(total_power_w: Load, tokens_per_s: Load) -> Load:
    """Energy in J per token of a machine that draws total_power_w and makes tokens_per_s in all."""
    return total_power_w / tokens_per_s


def present_parts(system: System, devices: int) -> list[Part]:
    """Parts that draw power; the scale-out network only when several systems are joined."""
    joined = devices > system.full_devices
    return [part for part in system.parts if part.max_w > 0 and (joined or not part.scale_out_only)]


def _require_share(name: str, value: Load) -> None:
    inside = (value >= 0) & (value <= 1.0 + _ROUNDING)
    if not (inside if isinstance(inside, bool) else np.all(inside)):
        raise InputError(f"{name} must lie between 0 and 1, got {value}")


def _total(power: dict[str, Load]) -> Load:
    total: Load = sum(power.values())  # type: ignore[assignment]
    return total
