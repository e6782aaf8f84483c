"""A deployment in closed form: as terminal text and as JSON fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.errors import InputError
from supertwin.inference.deploy import (
    Best,
    Economy,
    Limits,
    Loading,
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
from supertwin.inference.deploy.prefix import reaches_hosts
from supertwin.report.steps import step_fields
from supertwin.report.tables import grid, heading, pairs, sources_table
from supertwin.report.text import UNKNOWN, bar, gib, number, percent, seconds, si, usd

if TYPE_CHECKING:
    from rich.console import RenderableType

Names = tuple[str, str]
"""Model and system as given."""
Notes = tuple[Mapping[str, object], Sequence[str], bool]
"""Defaults that were used, warnings, and whether sources are listed."""
_WIDTH = 20
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
        "layout": _layout(service),
        "planes": _planes(prepared, point),
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
        "pareto": [_curve_fields(service, p) for p in pareto(prepared)],
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


def _curve_fields(service: Service, point: Point) -> dict[str, Any]:
    rate = point.requests_per_s * service.output_len
    chips = service.devices / service.system.chip.devices_per_package
    return {
        "requests_per_s": point.requests_per_s, "ttft_s": point.ttft_s, "tpot_s": point.tpot_s,
        "tpot_p99_s": point.tpot_p99_s, "output_tokens_per_s_per_device": rate / service.devices,
        "output_tokens_per_s_per_chip": rate / chips,
        "output_tokens_per_s_per_user": 1.0 / point.tpot_s if point.tpot_s > 0 else None,
    }  # fmt: skip


def _layout(service: Service) -> dict[str, Any]:
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


def _planes(prepared: Prepared, point: Point) -> dict[str, Any]:
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


def serving_view(prepared: Prepared, best: Best, limits: Limits, names: Names, notes: Notes) -> list[RenderableType]:
    """Headline, where a request's time goes, throughput against TPOT, transfers, loading, bill and defaults."""
    service, point = prepared.service, best.point
    money = economy(service, point)
    view: list[RenderableType] = [
        heading(f"{names[0]} on {names[1]}: one deployment", _split(service)),
        pairs(_headline(prepared, best, limits, money)),
        Text(),
        heading("A request's time", "means; from arrival to the last token"),
        grid(
            ("part", "time", "share", "bound", ""),
            [
                (p["part"], seconds(p["time_s"]), percent(p["share"]), p["bound"], bar(p["share"] or 0.0, _WIDTH))
                for p in breakdown_fields(point)
                if p["time_s"] > 0
            ],
            wrap=4,
        ),
        Text(),
        heading("Throughput against time per token", "the same deployment at growing rates"),
        _curve(prepared),
        Text(),
    ]
    if service.disaggregated:
        view += [
            heading("Keys and values from prefill to decode"),
            _plane_table(prepared, point),
            Text(),
        ]
    view += [heading("Weights", "load and switch"), pairs(_loading(loading(service))), Text()]
    view.append(pairs([*_instances(service), *_bill(money)]))
    defaults, warnings, explain = notes
    view.append(pairs([("defaults used", "  ".join(f"{k} {v}" for k, v in defaults.items()))]))
    view += [Text.assemble("  ", ("note: " + text, "yellow")) for text in warnings]
    if explain:
        sources = (*money.steps["decode"].sources, *added_sources(prepared))
        view += [Text(), heading("Numbers it stands on", f"{len(sources)} in all"), sources_table(sources)]
    return view


def _split(service: Service) -> str:
    if not service.disaggregated:
        return f"{service.decode_instances} x {service.decode.devices} devices that prefill and decode"
    return (
        f"{service.prefill_instances} x {service.prefill.devices} prefill, {service.decode_instances} x"
        f" {service.decode.devices} decode devices"
    )


def _instances(service: Service) -> list[tuple[str, str]]:
    """Sizes of one instance of each kind."""
    sides = {name: side for name, side in _layout(service).items() if isinstance(side, dict)}
    sizes = ("tp", "pp", "dp", "ep")
    words = {name: "  ".join(f"{size} {side[size]}" for size in sizes) for name, side in sides.items()}
    title = "instance" if "both" in words else "{} instance"
    return [(title.format(name), text) for name, text in words.items()]


def _headline(prepared: Prepared, best: Best, limits: Limits, money: Economy) -> list[tuple[str, str]]:
    point = best.point
    low, high = money.interval
    rows = [
        ("requests/s", f"{number(point.requests_per_s)}  ({number(point.in_flight)} in flight; {_limit(best)})"),
        ("time to first token", f"{seconds(point.ttft_s)}  (p99 {seconds(point.ttft_p99_s)})"),
        ("time per output token", f"{seconds(point.tpot_s)}  (p99 {seconds(point.tpot_p99_s)})"),
        ("output tokens/s", f"{number(money.output_tokens_per_s)}  (90 %: {number(low)} to {number(high)})"),
        ("  per chip", number(money.output_tokens_per_s_per_chip)),
        ("  per decode chip", number(money.decode_tokens_per_s_per_chip)),
        ("  per user", number(money.output_tokens_per_s_per_user)),
        ("  per TFLOPS of decode", number(money.decode_tokens_per_s_per_tflops)),
        ("input tokens/s per prefill chip", f"{number(money.prefill_tokens_per_s_per_chip)}"
            f"  ({number(money.prefill_tokens_per_s_per_tflops)} per TFLOPS)"),
        ("busy", f"prefill {percent(point.prefill_busy)}, decode {percent(point.decode_busy)}"),
    ]  # fmt: skip
    if math.isfinite(limits.ttft_s) or math.isfinite(limits.tpot_s):
        share = attainment(prepared, point, limits)
        bound = "; the limits are on the mean" if limits.statistic == "mean" else ""
        text = f"{percent(share)} of requests, {number(share * point.requests_per_s)}/s{bound}"
        rows.append(("inside the limits", text))
    return rows


def _limit(best: Best) -> str:
    """What keeps the rate from growing."""
    if best.limited_by in ("ttft", "tpot"):
        return f"limited by {best.limited_by.upper()}"
    return "as offered" if best.limited_by == "arrivals" else f"limited by {best.limited_by}"


def _curve(prepared: Prepared) -> RenderableType:
    points = pareto(prepared)
    most = max((p.requests_per_s for p in points), default=1.0)
    rows = []
    for point in points:
        found = _curve_fields(prepared.service, point)
        rows.append(
            (
                seconds(point.tpot_s), number(found["output_tokens_per_s_per_chip"]),
                number(found["output_tokens_per_s_per_user"]), seconds(point.ttft_s),
                bar(point.requests_per_s / most, _WIDTH),
            )
        )  # fmt: skip
    return grid(("time per token", "tokens/s per chip", "per user", "TTFT", ""), rows, wrap=4)


def _plane_table(prepared: Prepared, point: Point) -> RenderableType:
    rows = [
        (
            _plane_name(prepared.service, plane), gib(found["wire_bytes"]),
            si(found["link_bytes_per_s"], "B/s"), seconds(found["transfer_s"]), seconds(found["exposed_s"]),
            percent(found["share_of_ttft"]), percent(found["prefill_link_share"]),
        )
        for plane, found in _planes(prepared, point).items()
    ]  # fmt: skip
    return grid(("plane", "per request", "link", "transfer", "exposed", "of TTFT", "of prefill links"), rows)


def _plane_name(service: Service, plane: str) -> str:
    """Its name, also on machines whose scale-up plane is not UB, and whether the service takes it."""
    name = plane if plane != "ub" or reaches_hosts(service.system) else "scale-up"
    return name + (" (used)" if plane == service.plane else "")


def _loading(found: Loading) -> list[tuple[str, str]]:
    cold = f"{found.instances} instances: {seconds(found.cold_alone_s)}, with a pool {seconds(found.cold_pool_s)}"
    warm = _times((found.local_s, "from the node's memory"), (found.pool_s, "from the pool"))
    switch = _times((found.switch_cold_s, "cold"), (found.switch_local_s, "local"), (found.switch_pool_s, "pool"))
    return [("checkpoint", gib(found.checkpoint_bytes)), ("cold start", cold), ("warm start", warm), ("switch", switch)]


def _times(*ways: tuple[float | None, str]) -> str:
    """Those of some ways that the machine has."""
    return ", ".join(f"{seconds(time)} {way}" for time, way in ways if time is not None) or UNKNOWN


def _bill(money: Economy) -> list[tuple[str, str]]:
    bill = money.bill
    energy = UNKNOWN if bill.energy_j_per_token is None else f"{number(bill.energy_j_per_token)} J"
    return [
        ("power", f"{si(bill.power_w, 'W')}, cooling included"),
        ("energy per output token", energy),
        ("output tokens/s per MW", number(money.output_tokens_per_s_per_mw)),
        ("cost", f"{usd(bill.usd_per_million_tokens)} per million output tokens"),
    ]
