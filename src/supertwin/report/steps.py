"""A prediction of one step: as terminal text and as JSON fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.prediction import Part, Prediction
from supertwin.report.bars import COLOURS
from supertwin.report.headline import headline
from supertwin.report.memory import memory_fields, memory_view
from supertwin.report.tables import grid, heading, pairs, remarks, sources_table
from supertwin.report.text import UNKNOWN, bar, number, percent, seconds, si, usd

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR_WIDTH = 20  # fits beside the longest names on 80 columns
_SMALLEST_SHARE = 0.002


def step_fields(prediction: Prediction, model: str, system: str) -> dict[str, Any]:
    """JSON fields of `train` and `infer`, SI units."""
    low, high = prediction.interval
    return {
        "model": model,
        "system": system,
        "kind": prediction.kind,
        "step_time_s": prediction.step_time_s,
        "tokens_per_s_per_device": prediction.tokens_per_s_per_device,
        "tokens_per_s_per_chip": prediction.tokens_per_s_per_chip,
        "mfu": None,
        **prediction.figures,
        "memory": {**memory_fields(prediction.memory), **_memory_interval(prediction), **_memory_side(prediction)},
        "breakdown": [part_fields(part) for part in prediction.breakdown],
        "power_w": prediction.bill.power_w,
        "it_power_w": prediction.bill.it_power_w,
        "energy_j_per_token": prediction.bill.energy_j_per_token,
        "usd_per_million_tokens": prediction.bill.usd_per_million_tokens,
        "layout": dict(prediction.layout),
        "defaults": dict(prediction.defaults),
        "interval": {"low": low * prediction.step_time_s, "high": high * prediction.step_time_s},
        "warnings": list(prediction.warnings),
        "sources": [
            {"name": name, "value": value, "source": source, "layer": layer}
            for name, value, source, layer in prediction.sources
        ],
    }


def _memory_interval(prediction: Prediction) -> dict[str, dict[str, float]]:
    """90 % interval of the peak in bytes, where it is known."""
    low, high = prediction.memory_interval
    peak = prediction.memory.peak_bytes
    return {} if low == high else {"interval": {"low": low * peak, "high": high * peak}}


def _memory_side(prediction: Prediction) -> dict[str, str]:
    side = _side(prediction)
    return {"side": side} if side else {}


def part_fields(part: Part) -> dict[str, float | str]:
    """JSON fields of one row of the breakdown."""
    return {"part": part.part, "time_s": part.time_s, "share": part.share, "bound": part.bound}


def step_view(
    prediction: Prediction, title: str, explain: bool, reasons: Sequence[RenderableType] = ()
) -> list[RenderableType]:
    """Headline figures, breakdown, memory, layout, bill and defaults; with explain also the numbers it stands on.

    reasons: what is shown instead of the breakdown by part.
    """
    view: list[RenderableType] = [heading(title), pairs(headline(prediction)), Text()]
    view += reasons or [
        heading("Where the time goes", "exposed time; hidden work is not counted"),
        breakdown(prediction.breakdown, explain),
    ]
    side = _side(prediction)
    note = f"of the {side} side, the fuller one" if side else ""
    view += [Text(), heading("Memory per device", note), *memory_view(prediction.memory, explain), Text()]
    view.append(pairs([("layout", _words(prediction.layout)), *_bill(prediction)]))
    if prediction.defaults:
        view.append(pairs([("defaults used", _words(prediction.defaults))]))
    view += remarks(prediction.warnings)
    if explain:
        view += [Text(), heading("What bounds it"), bounds(prediction.breakdown)]
        view += [
            Text(),
            heading("Numbers it stands on", f"{len(prediction.sources)} in all"),
            sources_table(prediction.sources),
        ]
    else:
        view.append(Text("  --explain lists bounds, numbers and sources", style="dim"))
    return view


def _side(prediction: Prediction) -> str:
    """Whose memory it is, the fuller one's, where attention and feed-forward have devices of their own."""
    if "afd" not in prediction.layout:
        return ""
    return "attention" if prediction.memory.kv_cache_bytes else "feed-forward"


def breakdown(parts: Sequence[Part], every: bool = False) -> RenderableType:
    """Waterfall of the exposed parts, largest first; small ones are added up unless `every`."""
    ordered = sorted(parts, key=lambda part: -part.share)
    shown = [part for part in ordered if every or part.share >= _SMALLEST_SHARE]
    rows = [
        (part.part, seconds(part.time_s), percent(part.share), part.bound, _bar(part.share, part.bound))
        for part in shown
    ]
    rest = [part for part in ordered if part not in shown]
    if rest:
        share = sum(part.share for part in rest)
        name = f"{len(rest)} smaller part{'s' * (len(rest) > 1)}"
        rows.append((name, seconds(sum(p.time_s for p in rest)), percent(share), "", _bar(share, "")))
    return grid(("part", "time", "share", "bound", ""), rows, wrap=4)


def bounds(parts: Sequence[Part]) -> RenderableType:
    """Exposed time by what bounds it."""
    total: dict[str, float] = {}
    for part in parts:
        total[part.bound] = total.get(part.bound, 0.0) + part.share
    rows = [
        (bound, percent(share), _bar(share, bound)) for bound, share in sorted(total.items(), key=lambda item: -item[1])
    ]
    return grid(("", "", ""), rows, wrap=2)


def _bill(prediction: Prediction) -> list[tuple[str, str]]:
    bill = prediction.bill
    energy = UNKNOWN if bill.energy_j_per_token is None else f"{number(bill.energy_j_per_token)} J"
    money = f"{usd(bill.usd_per_million_tokens)} per million tokens"
    replicas = int(prediction.layout.get("replicas", 1))
    basis = f"one replica of {prediction.layout['devices']} devices" if replicas > 1 else "the job"
    power = f"{si(bill.power_w, 'W')} for {basis}, cooling included ({si(bill.it_power_w, 'W')} without)"
    return [("power", power), ("energy per token", energy), ("cost", money)]


def _bar(share: float, bound: str) -> Text:
    return Text(bar(share, _BAR_WIDTH), style=COLOURS.get(bound, "dim"))


def _words(values: Any) -> str:
    return "  ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value) or UNKNOWN
