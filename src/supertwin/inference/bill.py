"""Power, energy and money of a step."""

from __future__ import annotations

from supertwin.core.prediction import Bill
from supertwin.machine.system import System
from supertwin.room import energy_j_per_token, power_w, usd_per_device_hour, usd_per_million_tokens


def bill_of(system: System, devices: int, tokens_per_s_per_device: float, used: tuple[float, float, float]) -> Bill:
    """Bill of `devices` of the system; used: shares of time (0..1) that matrix units, memory and network are busy."""
    compute, memory, network = (min(1.0, max(0.0, u)) for u in used)
    power = float(power_w(system, compute, memory, network, devices))
    hour = usd_per_device_hour(system, power / system.pue / devices)
    return Bill(
        power_w=power,
        energy_j_per_token=float(energy_j_per_token(power, tokens_per_s_per_device * devices)),
        usd_per_million_tokens=None if hour is None else usd_per_million_tokens(hour, tokens_per_s_per_device),
    )
