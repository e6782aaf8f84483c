"""A whole training run from its step: days, device hours, energy, money and carbon for T tokens.

Steady steps only: no failures, restarts or evaluation (goodput), so days are the least that the run takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.prediction import Prediction

_DAY_S = 86400.0
_J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class RunBill:
    """A run. Ranges are (low, high) of the 90 % interval on the step time, which time, energy and money follow.

    device_hours count devices, card_hours packages (two dies of a 910C). co2_kg is None without a stated factor.
    """

    tokens: float
    steps: float
    days: float
    days_range: tuple[float, float]
    device_hours: float
    card_hours: float
    card_hours_per_day: float
    tokens_per_day: float
    energy_mwh: float | None
    usd: float | None
    usd_range: tuple[float, float] | None
    co2_kg: float | None


def run_bill(prediction: Prediction, tokens: float, co2_kg_per_kwh: float | None = None) -> RunBill:
    """Bill of `tokens` at the predicted step. The number of devices per package follows from the rates."""
    devices = float(prediction.layout["devices"])
    per_package = prediction.tokens_per_s_per_chip / prediction.tokens_per_s_per_device
    rate = prediction.tokens_per_s_per_device * devices
    days = tokens / rate / _DAY_S
    low, high = prediction.interval
    bill = prediction.bill
    usd = None if bill.usd_per_million_tokens is None else bill.usd_per_million_tokens * tokens / 1e6
    energy_j = None if bill.energy_j_per_token is None else bill.energy_j_per_token * tokens
    return RunBill(
        tokens=tokens,
        steps=tokens / (rate * prediction.step_time_s),
        days=days,
        days_range=(low * days, high * days),
        device_hours=days * 24.0 * devices,
        card_hours=days * 24.0 * devices / per_package,
        card_hours_per_day=24.0 * devices / per_package,
        tokens_per_day=rate * _DAY_S,
        energy_mwh=None if energy_j is None else energy_j / _J_PER_KWH / 1e3,
        usd=usd,
        usd_range=None if usd is None else (low * usd, high * usd),
        co2_kg=None if energy_j is None or co2_kg_per_kwh is None else energy_j / _J_PER_KWH * co2_kg_per_kwh,
    )
