"""What a deployment makes of its chips: tokens per chip, user, TFLOPS, MW and dollar at an operating point.

Power is that of both sides at the activity of their steps, for the share of time in which they work; price is that of
the device hours (room). tokens/s per TFLOPS is over the dense peak of the format that the weights are multiplied in, as
table 3 and 4 of the CM384 paper count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from supertwin.core.prediction import Bill, Prediction
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.deploy.evaluate import Point
from supertwin.inference.deploy.service import Service
from supertwin.inference.notes import computed_rate
from supertwin.inference.predict import predict
from supertwin.machine.systems import with_devices
from supertwin.room import Activity, bill_of_power, power_w


@dataclass(frozen=True, slots=True)
class Economy:
    """Rates of output and input tokens over the whole deployment (device, chip, MW, USD of output) or over the chips of
    one side (decode, prefill). bill: of the deployment, per output token; steps: a step of either side at the point."""

    output_tokens_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s_per_device: float
    output_tokens_per_s_per_chip: float
    output_tokens_per_s_per_user: float
    decode_tokens_per_s_per_chip: float
    prefill_tokens_per_s_per_chip: float
    decode_tokens_per_s_per_tflops: float
    prefill_tokens_per_s_per_tflops: float
    output_tokens_per_s_per_mw: float | None
    output_tokens_per_usd: float | None
    bill: Bill
    interval: tuple[float, float]
    steps: Mapping[str, Prediction]


def economy(service: Service, point: Point) -> Economy:
    """Figures of a deployment at a point. Raises InputError where a step cannot be laid out."""
    chip = service.system.chip
    sides = _sides(service, point)
    case = next(iter(sides.values()))[0]
    peak = chip.peak(computed_rate(case)) / 1e12
    output, prompt = point.requests_per_s * service.output_len, point.requests_per_s * service.input_len
    prefills = service.prefill_devices or service.decode_devices
    decode, prefill = output / service.decode_devices, prompt / prefills
    watts = sum(_power(service, step, devices, busy) for _, step, devices, busy in sides.values())
    bill = bill_of_power(service.system, service.devices, output / service.devices or 1.0, watts)
    if not output:
        bill = replace(bill, energy_j_per_token=None, usd_per_million_tokens=None)
    money = bill.usd_per_million_tokens
    low, high = _interval(sides)
    return Economy(
        output_tokens_per_s=output,
        input_tokens_per_s=prompt,
        output_tokens_per_s_per_device=output / service.devices,
        output_tokens_per_s_per_chip=output / service.devices * chip.devices_per_package,
        output_tokens_per_s_per_user=1.0 / point.tpot_s if point.tpot_s > 0 else 0.0,
        decode_tokens_per_s_per_chip=decode * chip.devices_per_package,
        prefill_tokens_per_s_per_chip=prefill * chip.devices_per_package,
        decode_tokens_per_s_per_tflops=decode / peak,
        prefill_tokens_per_s_per_tflops=prefill / peak,
        output_tokens_per_s_per_mw=output / watts * 1e6 if watts > 0 else None,
        output_tokens_per_usd=1e6 / money if money else None,
        bill=bill,
        interval=(output / high, output / low),
        steps={name: side[1] for name, side in sides.items()},
    )


def _sides(service: Service, point: Point) -> dict[str, tuple[InferenceCase, Prediction, int, float]]:
    """Per side: a step at the point, its prediction, devices and share of time in which it works."""
    decode = _case(service, service.decode, "decode", max(point.resident / service.decode.devices, 0.0))
    found = {"decode": (decode, predict(decode), service.decode_devices, min(1.0, point.resident))}
    if service.disaggregated:
        d = service.prefill
        fill = max(1.0, service.engine.max_batched_tokens * d.staged_devices // max(service.new_tokens, 1.0))
        prefill = _case(service, d, "prefill", fill / (d.tp * d.token_split))
        found["prefill"] = (prefill, predict(prefill), service.prefill_devices, min(1.0, point.prefill_busy))
    return found


def _case(service: Service, deployment: Deployment, phase: str, batch: float) -> InferenceCase:
    new, cached = max(int(service.new_tokens), 1), int(service.cached_tokens)
    middle = max(int(service.input_len + 0.5 * service.output_len), 1)
    system = with_devices(service.system, deployment.devices)
    return InferenceCase(
        service.model, system, replace(deployment, cp_adds_devices=phase == "prefill"), phase,
        max(batch, 1.0 / deployment.devices), input_len=new, kv_len=middle, prefix_len=cached,
    )  # fmt: skip


def _power(service: Service, step: Prediction, devices: int, busy: float) -> float:
    """Power in W of one side, cooling included."""
    waiting = sum(part.share for part in step.breakdown if part.bound in ("latency", "bubble"))
    network = sum(part.share for part in step.breakdown if part.bound == "network")
    shares = (step.figures.get("mfu") or 0.0, step.figures.get("hbm_use") or 0.0, network, 1.0 - waiting)
    return float(power_w(service.system, Activity(*(min(1.0, max(0.0, s * busy)) for s in shares)), devices))


def _interval(sides: dict[str, tuple[InferenceCase, Prediction, int, float]]) -> tuple[float, float]:
    """90 % factors on time: those of the less certain side."""
    spans = [prediction.interval for _, prediction, _, _ in sides.values()]
    return min(low for low, _ in spans), max(high for _, high in spans)
