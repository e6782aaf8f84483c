"""Power by component and load.

A component draws P = idle + load x (max - idle). The load of a chip is min(1, a u_c + b u_m) with u_c the share of time
that its matrix engines are busy, u_m that of its memory, and a, b from data/room.toml. Hosts, fans and losses follow
the chips, switches follow the network, optics always draw their maximum. Cooling adds (PUE - 1) times the sum.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from supertwin.core.errors import InputError
from supertwin.machine.system import Part, System
from supertwin.room.assumptions import assumed

Load = TypeVar("Load", float, NDArray[np.float64])


def chip_load(compute_utilisation: Load, memory_utilisation: Load) -> Load:
    """Share of its dynamic power that a chip draws, 0 to 1; numbers or arrays alike."""
    load = assumed("power.compute_share") * compute_utilisation + assumed("power.memory_share") * memory_utilisation
    clipped: Load = np.minimum(1.0, load)
    return clipped


def component_power_w(
    system: System,
    compute_utilisation: Load,
    memory_utilisation: Load,
    network_utilisation: Load,
    devices: int | None = None,
) -> dict[str, Load]:
    """Power in W of each component for `devices` (default: those in use), the chips as "chip" and cooling as "cooling".

    Parts that several devices share are charged by the share of the system in use: half a supernode carries half of
    its L2 switches. Utilisations are shares of time between 0 and 1. Raises InputError outside of that.
    """
    for name, value in (
        ("compute", compute_utilisation),
        ("memory", memory_utilisation),
        ("network", network_utilisation),
    ):
        if not (np.all(np.asarray(value) >= 0) and np.all(np.asarray(value) <= 1)):
            raise InputError(f"{name}_utilisation must lie between 0 and 1, got {value}")
    count = system.devices if devices is None else devices
    busy = chip_load(compute_utilisation, memory_utilisation)
    chip = system.chip
    power: dict[str, Load] = {"chip": count * (chip.idle_w + busy * (chip.tdp_w - chip.idle_w))}
    share = count / system.full_devices
    for part in present_parts(system, count):
        load = {"compute": busy, "network": network_utilisation, "none": 1.0 + 0.0 * busy}[part.follows]
        power[part.name] = share * part.count * (part.idle_w + load * (part.max_w - part.idle_w))
    power["cooling"] = (system.pue - 1.0) * _total(power)
    return power


def power_w(
    system: System,
    compute_utilisation: Load,
    memory_utilisation: Load,
    network_utilisation: Load,
    devices: int | None = None,
) -> Load:
    """Power in W of the components and their cooling; see component_power_w."""
    return _total(component_power_w(system, compute_utilisation, memory_utilisation, network_utilisation, devices))


def it_power_w(system: System, load: float = 1.0, devices: int | None = None) -> float:
    """Power in W without cooling when every component is at the same load (1: the sum of the maxima)."""
    by_part = component_power_w(system, load, 0.0, load, devices)
    return sum(value for name, value in by_part.items() if name != "cooling")


def energy_j_per_token(total_power_w: Load, tokens_per_s: Load) -> Load:
    """Energy in J per token of a machine that draws total_power_w and makes tokens_per_s in all."""
    return total_power_w / tokens_per_s


def present_parts(system: System, devices: int) -> list[Part]:
    """Parts that draw power; the scale-out network only when several systems are joined."""
    joined = devices > system.full_devices
    return [part for part in system.parts if part.max_w > 0 and (joined or not part.scale_out_only)]


def _total(power: dict[str, Load]) -> Load:
    total: Load = sum(power.values())  # type: ignore[assignment]
    return total
