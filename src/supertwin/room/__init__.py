"""The machine room: power by component and load, energy per token, price per device hour and per token."""

from supertwin.room.assumptions import room_assumptions
from supertwin.room.bill import bill, bill_of_power, bill_warnings
from supertwin.room.cost import (
    HourPrice,
    hour_price,
    purchase_usd_per_device,
    rental_readings,
    usd_per_device_hour,
    usd_per_million_tokens,
)
from supertwin.room.numbers import machine_rows
from supertwin.room.power import (
    Activity,
    chip_power_w,
    component_power_w,
    energy_j_per_token,
    it_power_w,
    limited_at,
    power_w,
)

__all__ = [
    "Activity",
    "HourPrice",
    "bill",
    "bill_of_power",
    "bill_warnings",
    "chip_power_w",
    "component_power_w",
    "energy_j_per_token",
    "hour_price",
    "it_power_w",
    "limited_at",
    "machine_rows",
    "power_w",
    "purchase_usd_per_device",
    "rental_readings",
    "room_assumptions",
    "usd_per_device_hour",
    "usd_per_million_tokens",
]
