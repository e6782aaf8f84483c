"""Why a training step takes as long as it does, as terminal text and as JSON fields: waterfall, power, what-if."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.causes import Rung
from supertwin.report.causes import LEAST_SHARE, gain_fields, gains_view, rung_fields, rungs_table
from supertwin.report.tables import grid, heading
from supertwin.report.text import bar, percent, si
from supertwin.training.phases import PhasePower
from supertwin.training.waterfall import EXPERTS, IDEAL, RECOMPUTE, UNEVEN
from supertwin.training.what_if import Gain

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH = 24
_TITLES = (
    ("What the next change would buy", "one at a time; legal and within memory"),
    ("What another machine would give", "the same job and layout"),
)
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
        "waterfall": [rung_fields(rung, "share_of_peak") for rung in rungs],
        "what_if": gain_fields(gains),
        "power_phases": [
            {"phase": p.phase, "time_s": p.time_s, "share": p.share, "power_w": p.power_w} for p in phases
        ],
    }


def waterfall_view(rungs: Sequence[Rung]) -> list[RenderableType]:
    """The rungs of a step."""
    note = "from arithmetic at the peak down to the step"
    return [heading("Where the time goes", note), rungs_table(rungs, _label)]


def what_if_view(gains: Sequence[Gain]) -> list[RenderableType]:
    """What one change buys."""
    return gains_view(gains, _TITLES, "step")


def power_view(phases: Sequence[PhasePower]) -> list[RenderableType]:
    """Power of the job in each phase of the step."""
    most = max((phase.power_w for phase in phases), default=1.0)
    rows = [
        (p.phase, percent(p.share), si(p.power_w, "W"), Text(bar(p.power_w / most, _WIDTH), style="yellow"))
        for p in phases
        if p.share >= LEAST_SHARE
    ]
    return [
        Text(),
        heading("Power over the step", "the whole job, cooling included"),
        grid(("phase", "of the time", "power", ""), rows, wrap=3),
    ]


def _label(rung: Rung) -> str:
    name = _LABELS.get(rung.part, rung.part)
    return name if rung.reached is None else f"{name} {100 * rung.reached:.0f} % of peak"
