"""Why a training step takes as long as it does, as terminal text and as JSON fields: waterfall, power, what-if."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.report.bars import floating
from supertwin.report.tables import grid, heading
from supertwin.report.text import bar, gib, percent, seconds, si
from supertwin.training.phases import PhasePower
from supertwin.training.waterfall import EXPERTS, IDEAL, RECOMPUTE, UNEVEN, Rung
from supertwin.training.what_if import Gain

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH = 24
_LEAST_SHARE = 0.0005
_LEAST_GAIN = 0.002
_MOST_SHOWN = 8
_LABELS = {
    IDEAL: "ideal: peak, no waiting",
    UNEVEN: "uneven stages",
    EXPERTS: "uneven experts",
    RECOMPUTE: "recomputation",
    "kernels/attention": "attention",
    "kernels/mlp": "feed-forward",
    "kernels/moe": "experts",
    "kernels/norm": "norms",
    "kernels/head": "embedding and head",
    "kernels/accumulate": "gradient accumulation",
    "kernels/logprob": "forward passes before",
    "offload/optimizer": "optimizer on the host",
    "communication/tp": "tensor parallel",
    "communication/cp": "context parallel",
    "communication/ep": "expert exchange",
    "communication/dp": "data parallel",
    "communication/pp": "pipeline hand-over",
}


def explain_fields(rungs: Sequence[Rung], gains: Sequence[Gain], phases: Sequence[PhasePower]) -> dict[str, Any]:
    """JSON fields that `--explain` adds to `train`."""
    return {
        "waterfall": [
            {
                "part": rung.part,
                "time_s": rung.time_s,
                "start_s": rung.start_s,
                "share": rung.share,
                "bound": rung.bound,
                "share_of_peak": rung.of_peak,
            }
            for rung in rungs
        ],
        "what_if": [
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
        ],
        "power_phases": [
            {"phase": p.phase, "time_s": p.time_s, "share": p.share, "power_w": p.power_w} for p in phases
        ],
    }


def waterfall_view(rungs: Sequence[Rung]) -> list[RenderableType]:
    """The rungs with floating bars: each begins where the one above ends."""
    total = sum(rung.time_s for rung in rungs)
    rows = [
        (
            _label(rung),
            seconds(rung.time_s),
            percent(rung.share),
            rung.bound,
            floating(rung.start_s / total, rung.share, rung.bound, _WIDTH),
        )
        for rung in rungs
        if abs(rung.share) >= _LEAST_SHARE
    ]
    return [
        heading("Where the time goes", "from arithmetic at the peak down to the step"),
        grid(("cause", "time", "share", "bound", ""), rows, wrap=4),
    ]


def what_if_view(gains: Sequence[Gain]) -> list[RenderableType]:
    """What one change buys, the job's own options before those of a better machine; changes that cost are counted."""
    view: list[RenderableType] = []
    for kind, title, note in (
        ("option", "What the next change would buy", "one at a time; legal and within memory"),
        ("machine", "What a better machine would buy", "the same job and layout"),
    ):
        own = [gain for gain in gains if gain.change.kind == kind]
        better = [gain for gain in own if gain.gain >= _LEAST_GAIN][:_MOST_SHOWN]
        view += [Text(), heading(title, note)]
        largest = max((gain.gain for gain in better), default=1.0)
        if better:
            view.append(grid(("change", "tokens/s", "step", "memory", ""), [_row(g, largest) for g in better], wrap=4))
        worse = [gain for gain in own if gain.gain <= -_LEAST_GAIN]
        if worse and kind == "option":
            last = worse[-1]
            text = f"{len(worse)} others slow it down, most of all {last.change.name} ({percent(last.gain)})"
            view.append(Text("  " + text, style="dim"))
        if not better:
            view.append(Text("  nothing on the list helps", style="dim"))
    return view


def power_view(phases: Sequence[PhasePower]) -> list[RenderableType]:
    """Power of the job in each phase of the step."""
    most = max((phase.power_w for phase in phases), default=1.0)
    rows = [
        (p.phase, percent(p.share), si(p.power_w, "W"), Text(bar(p.power_w / most, _WIDTH), style="yellow"))
        for p in phases
        if p.share >= _LEAST_SHARE
    ]
    return [
        Text(),
        heading("Power over the step", "the whole job, cooling included"),
        grid(("phase", "of the time", "power", ""), rows, wrap=3),
    ]


def _label(rung: Rung) -> str:
    name = _LABELS.get(rung.part, rung.part)
    return name if rung.of_peak is None else f"{name} {100 * rung.of_peak:.0f} % of peak"


def _row(gain: Gain, largest: float) -> tuple[str, str, str, str, Text]:
    style = "green" if gain.change.kind == "option" else "blue"
    share = bar(gain.gain / largest, 12)
    signed = f"+{percent(gain.gain)}"
    return gain.change.name, signed, seconds(gain.step_time_s), gib(gain.peak_memory_bytes), Text(share, style=style)
