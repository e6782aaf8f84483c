"""Waterfalls and what-if tables of training and inference steps, as terminal text and as JSON fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.causes import Rung
from supertwin.core.change import Gain
from supertwin.report.bars import floating
from supertwin.report.tables import grid, heading
from supertwin.report.text import bar, gib, percent, seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_SHARE = 0.0005
_LEAST_GAIN = 0.002
_MOST_SHOWN = 8
_WIDTH = 20
_GAIN_WIDTH = 12

Titles = tuple[tuple[str, str], tuple[str, str]]
"""Title and remark of the options and of the machines."""


def rung_fields(rung: Rung, reached: str) -> dict[str, Any]:
    """JSON fields of one rung; reached: name of the share that a class of kernels reaches."""
    return {
        "part": rung.part,
        "time_s": rung.time_s,
        "start_s": rung.start_s,
        "share": rung.share,
        "bound": rung.bound,
        reached: rung.reached,
    }


def rungs_table(rungs: Sequence[Rung], label: Callable[[Rung], str]) -> RenderableType:
    """The rungs with floating bars: each begins where the one above ends."""
    most = max(max(rung.start_s, rung.start_s + rung.time_s) for rung in rungs)
    rows = [
        (
            label(r),
            seconds(r.time_s),
            percent(r.share),
            r.bound,
            floating(r.start_s / most, r.time_s / most, r.bound, _WIDTH),
        )
        for r in rungs
        if abs(r.share) >= LEAST_SHARE
    ]
    return grid(("cause", "time", "share", "bound", ""), rows, wrap=4)


def gain_fields(gains: Sequence[Gain[Any, Any]]) -> list[dict[str, Any]]:
    """JSON rows of the what-if table."""
    return [
        {
            "change": gain.change.name,
            "kind": gain.change.kind,
            "option": gain.change.option,
            "gain": gain.gain,
            "step_time_s": gain.step_time_s,
            "tokens_per_s_per_device": gain.tokens_per_s_per_device,
            "peak_memory_bytes": gain.peak_memory_bytes,
        }
        for gain in gains
    ]


def gains_view(gains: Sequence[Gain[Any, Any]], titles: Titles, token: str) -> list[RenderableType]:
    """What one change buys, options before machines; options that cost are counted, machines all shown. token: what the
    column of times is called."""
    view: list[RenderableType] = []
    for kind, (title, note) in zip(("option", "machine"), titles, strict=True):
        own = [gain for gain in gains if gain.change.kind == kind]
        shown = [g for g in own if g.gain >= _LEAST_GAIN or (kind == "machine" and g.gain <= -_LEAST_GAIN)]
        view += [Text(), heading(title, note)]
        largest = max((abs(gain.gain) for gain in shown), default=1.0)
        if shown:
            rows = [_gain_row(gain, largest) for gain in shown[:_MOST_SHOWN]]
            view.append(grid(("change", "tokens/s", token, "memory", ""), rows, wrap=4))
        else:
            view.append(Text("  nothing on the list helps", style="dim"))
        worse = [gain for gain in own if gain.gain <= -_LEAST_GAIN]
        if worse and kind == "option":
            last = worse[-1]
            others = f"{len(worse)} others slow it down, most of all" if len(worse) > 1 else "slower:"
            text = f"{others} {last.change.name} ({percent(last.gain)})"
            view.append(Text("  " + text, style="dim"))
    return view


def _gain_row(gain: Gain[Any, Any], largest: float) -> tuple[str, str, str, str, Text]:
    style = "red" if gain.gain < 0.0 else "green" if gain.change.kind == "option" else "blue"
    signed = f"{100.0 * gain.gain:+.1f} %"
    share = Text(bar(abs(gain.gain) / largest, _GAIN_WIDTH), style=style)
    return gain.change.name, signed, seconds(gain.token_s), gib(gain.peak_memory_bytes), share
