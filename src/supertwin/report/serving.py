"""A deployment in closed form as JSON fields."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

from supertwin.core.errors import InputError
from supertwin.inference.deploy import (
    Best,
    Limits,
    Point,
    Prepared,
    Service,
    attainment,
    economy,
    loading,
    pareto,
)
from supertwin.inference.deploy.handover import handover
from supertwin.inference.deploy.numbers import sources as added_sources
from supertwin.inference.deploy.planes import PLANES, plane_of
from supertwin.report.steps import step_fields

Names = tuple[str, str]
"""Model and system as given."""
_SOURCE = ("name", "value", "source", "layer")
_BOUND = {"front end": "latency", "queue": "latency", "cache load": "network", "prefill": "compute"}
_BOUND |= {"transfer": "network", "first decode step": "memory", "further decode steps": "memory"}


def serving_fields(prepared: Prepared, best: Best, limits: Limits, names: Names) -> dict[str, Any]:
    """JSON fields, SI units; times that no load reaches are null."""
    service, point = prepared.service, best.point
    money = economy(service, point)
    left = ("bill", "interval", "steps")
    figures = {f.name: getattr(money, f.name) for f in fields(money) if f.name not in left}
    step = step_fields(money.steps["decode"], *names)
    low, high = money.interval
    return {
        **{name: step[name] for name in ("step_time_s", "mfu", "memory", "interval")},
        "sources": step["sources"] + [dict(zip(_SOURCE, row, strict=True)) for row in added_sources(prepared)],
        "model": names[0], "system": names[1], "kind": "serve",
        **point_fields(point), **figures,
        "tokens_per_s_per_device": money.output_tokens_per_s_per_device,
        "tokens_per_s_per_chip": money.output_tokens_per_s_per_chip,
        "ttft_parts": [{"part": name, "time_s": value} for name, value in point.ttft_parts],
        "breakdown": breakdown_fields(point),
        **asdict(money.bill),
        "output_interval": {"low": low, "high": high},
        "layout": layout_fields(service),
        "planes": plane_fields(prepared, point),
        "plane": service.plane if service.disaggregated else None,
        "context_cache": {
            "hit_rate": service.hit_rate, "place": service.cache, "cached_tokens": service.cached_tokens,
            "load_s": prepared.load_s,
        },
        "loading": asdict(loading(service)),
        "slo": {
            "ttft_s": limits.ttft_s, "tpot_s": limits.tpot_s, "statistic": limits.statistic,
            "limited_by": best.limited_by, "attainment": (share := attainment(prepared, point, limits)),
            "goodput_requests_per_s": share * point.requests_per_s,
        },
        "pareto": [curve_fields(service, p) for p in pareto(prepared)],
        "feasible": best.feasible, "reasons": list(best.reasons),
    }  # fmt: skip


def point_fields(point: Point) -> dict[str, Any]:
    """JSON fields of one operating point."""
    left = ("ttft_parts",)
    return {**{k: v for k, v in asdict(point).items() if k not in left}, "requests_in_flight": point.in_flight}


def breakdown_fields(point: Point) -> list[dict[str, Any]]:
    """A request's time from arrival to its last token."""
    parts = [*point.ttft_parts, ("further decode steps", point.residence_s)]
    total = sum(value for _, value in parts)
    return [
        {"part": name, "time_s": value, "share": value / total if math.isfinite(total) else None, "bound": _BOUND[name]}
        for name, value in parts
    ]


def curve_fields(service: Service, point: Point) -> dict[str, Any]:
    rate = point.requests_per_s * service.output_len
    chips = service.devices / service.system.chip.devices_per_package
    return {
        "requests_per_s": point.requests_per_s, "ttft_s": point.ttft_s, "tpot_s": point.tpot_s,
        "tpot_p99_s": point.tpot_p99_s, "output_tokens_per_s_per_device": rate / service.devices,
        "output_tokens_per_s_per_chip": rate / chips,
        "output_tokens_per_s_per_user": 1.0 / point.tpot_s if point.tpot_s > 0 else None,
    }  # fmt: skip


def layout_fields(service: Service) -> dict[str, Any]:
    def one(count: int, side: Any) -> dict[str, Any]:
        sizes = {name: int(getattr(side, name)) for name in ("tp", "pp", "dp", "ep")}
        return {"instances": count, "devices_per_instance": side.devices, **sizes}

    decode = one(service.decode_instances, service.decode)
    if not service.disaggregated:
        return {"devices": service.devices, "both": decode}
    return {
        "devices": service.devices,
        "prefill": one(service.prefill_instances, service.prefill),
        "decode": decode,
    }


def plane_fields(prepared: Prepared, point: Point) -> dict[str, Any]:
    """The hand-over on every plane that the machine has."""
    from dataclasses import replace

    service, found = prepared.service, {}
    if not service.disaggregated:
        return {}
    for plane in PLANES:
        try:
            plane_of(service.system, plane)
        except InputError:
            continue
        other = replace(service, plane=plane)
        sent = handover(other, prepared.curves.prefill_one_s)
        first, second = sent.link_shares(other, point.requests_per_s)
        found[plane] = {
            **asdict(sent), "share_of_ttft": sent.exposed_s / point.ttft_s if math.isfinite(point.ttft_s) else None,
            "prefill_link_share": first, "decode_link_share": second,
        }  # fmt: skip
    return found
