"""A deployment in closed form as terminal text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

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
from supertwin.inference.deploy.numbers import sources as added_sources
from supertwin.inference.deploy.prefix import reaches_hosts
from supertwin.report.serving import Names, breakdown_fields, curve_fields, layout_fields, plane_fields
from supertwin.report.tables import grid, heading, pairs, remarks, sources_table
from supertwin.report.text import UNKNOWN, bar, gib, number, percent, seconds, si, usd

if TYPE_CHECKING:
    from rich.console import RenderableType

Notes = tuple[Mapping[str, object], Sequence[str], bool]
"""Defaults that were used, warnings, and whether sources are listed."""
_WIDTH = 20


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
    view += remarks(warnings)
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
    sides = {name: side for name, side in layout_fields(service).items() if isinstance(side, dict)}
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
        found = curve_fields(prepared.service, point)
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
        for plane, found in plane_fields(prepared, point).items()
    ]  # fmt: skip
    return grid(("plane", "per request", "link", "transfer", "exposed", "of TTFT", "of prefill links"), rows)


def _plane_name(service: Service, plane: str) -> str:
    """Its name, also on machines whose scale-up plane is not UB, and whether the service takes it."""
    name = plane if plane != "ub" or reaches_hosts(service.system) else "scale-up"
    return name + (" (used)" if plane == service.plane else "")


def _loading(found: Loading) -> list[tuple[str, str]]:
    count = f"{found.instances} instance{'s' * (found.instances > 1)}"
    cold = f"{count}: {seconds(found.cold_alone_s)}, with a pool {seconds(found.cold_pool_s)}"
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
