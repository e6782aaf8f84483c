"""Price of a device hour and of a token.

Owned: (purchase / T + maintenance + electricity) / share of hours sold, with the purchase of the system spread over
its devices, T the write-off time and electricity = power x PUE x tariff. Rented: the published rental price of the
chip. Assumptions and their reasons stand in data/room.toml; purchase prices are mostly secondary (docs/power-and-cost).
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.units import UNITS
from supertwin.machine.chip import Cited, readings
from supertwin.machine.system import System
from supertwin.room.assumptions import assumed
from supertwin.room.power import it_power_w

_HOUR_S = UNITS["h"][0]
_YEAR_S = UNITS["years"][0]


@dataclass(frozen=True, slots=True)
class HourPrice:
    """Price of one device for one hour in USD. basis: owned (the three parts add up to it) or rented (one figure)."""

    basis: str
    capital_usd: float
    maintenance_usd: float
    electricity_usd: float

    @property
    def total_usd(self) -> float:
        """Sum of the parts."""
        return self.capital_usd + self.maintenance_usd + self.electricity_usd


def purchase_usd_per_device(system: System, purchase_usd: float | None = None) -> float | None:
    """Purchase price of one device's share in USD, scale-out network included when systems are joined; None: unknown.

    purchase_usd: another reading of the price of the full system (see the alternatives of price.system).
    """
    price = system.price_usd if purchase_usd is None else purchase_usd
    if price is None:
        return None
    joined = system.devices > system.full_devices
    extra = sum(
        part.count * part.price_usd
        for part in system.parts
        if part.price_usd is not None and (joined or not part.scale_out_only)
    )
    return (price + extra) / system.full_devices


def hour_price(
    system: System, it_power_w_per_device: float | None = None, purchase_usd: float | None = None
) -> HourPrice | None:
    """Price of one device for one hour; owned where the purchase price is known, else rented, else None.

    it_power_w_per_device: power without cooling; default: all components at the typical load of data/room.toml.
    """
    purchase = purchase_usd_per_device(system, purchase_usd)
    if purchase is None:
        rental = system.chip.cited.get("price.rental")
        return HourPrice("rented", rental.value * _HOUR_S, 0.0, 0.0) if rental else None
    power = it_power_w_per_device
    if power is None:
        power = it_power_w(system, assumed("power.typical_load")) / system.devices
    sold = assumed("price.sold_share")
    return HourPrice(
        basis="owned",
        capital_usd=purchase / assumed("price.amortisation") * _HOUR_S / sold,
        maintenance_usd=purchase * assumed("price.maintenance_per_year") / _YEAR_S * _HOUR_S / sold,
        electricity_usd=power * system.pue * assumed("price.electricity") * _HOUR_S / sold,
    )


def usd_per_device_hour(system: System, it_power_w_per_device: float | None = None) -> float | None:
    """Total of hour_price in USD, or None where neither a purchase nor a rental price is known."""
    price = hour_price(system, it_power_w_per_device)
    return None if price is None else price.total_usd


def usd_per_million_tokens(usd_per_device_hour: float, tokens_per_s_per_device: float) -> float:
    """Price of a million tokens in USD: price per second over tokens per second, times 1e6."""
    return usd_per_device_hour / _HOUR_S / tokens_per_s_per_device * 1e6


def rental_readings(system: System) -> tuple[Cited, ...]:
    """Published rental prices of the chip (value in USD per second and device), the chosen one first; () if none."""
    rental = system.chip.cited.get("price.rental")
    return () if rental is None else readings(rental)
