"""The bill of a step: power, energy and money, and what the reader has to know about them."""

from __future__ import annotations

from dataclasses import fields

from supertwin.core.prediction import Bill
from supertwin.machine.system import System
from supertwin.room.cost import usd_per_device_hour, usd_per_million_tokens
from supertwin.room.power import Activity, energy_j_per_token, power_w


def bill(system: System, devices: int, tokens_per_s_per_device: float, activity: Activity[float]) -> Bill:
    """Bill of `devices` of the system, cooling included, at an activity (values above 1 are taken as 1)."""
    inside = Activity(*(min(1.0, max(0.0, getattr(activity, field.name))) for field in fields(Activity)))
    return bill_of_power(system, devices, tokens_per_s_per_device, float(power_w(system, inside, devices)))


def bill_of_power(system: System, devices: int, tokens_per_s_per_device: float, power: float) -> Bill:
    """Bill of `devices` of the system that draw `power` W in all, cooling included."""
    hour = usd_per_device_hour(system, power / system.pue / devices)
    return Bill(
        power_w=power,
        energy_j_per_token=float(energy_j_per_token(power, tokens_per_s_per_device * devices)),
        usd_per_million_tokens=None if hour is None else usd_per_million_tokens(hour, tokens_per_s_per_device),
        it_power_w=power / system.pue,
    )


def bill_warnings(system: System) -> tuple[str, ...]:
    """What the bill leaves out because the catalogue does not have it."""
    found = []
    if not any(part.max_w > 0 for part in system.parts):
        found.append(
            f"power counts the chips and their cooling alone: {system.name} has no parts with a power (hosts, switches,"
            " fans are missing)"
        )
    if usd_per_device_hour(system) is None:
        found.append(
            f"no price: {system.name} has no price.system and {system.chip.name} no price.rental in the catalogue"
        )
    return tuple(found)
