"""Why a step takes as long as it does, as terminal text and as JSON fields: waterfall, streams, what-if."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from supertwin.core.causes import Rung
from supertwin.inference.lanes import COMPUTE, EXCHANGE, Lanes, Slice
from supertwin.inference.waterfall import DRAFTS, EXPERTS, IDEAL, OVERLAP, LayerFall, Waterfall
from supertwin.inference.what_if import Gain
from supertwin.report.causes import LEAST_SHARE, gain_fields, gains_view, rung_fields, rungs_table
from supertwin.report.tables import grid, heading
from supertwin.report.text import seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

_TITLES = (
    ("What the next change would buy", "one at a time; legal and within memory"),
    ("What another machine would give", "the same deployment"),
)
_PICTURE = 54
_LABELS = {
    IDEAL: "ideal: data sheet's roofline",
    EXPERTS: "uneven experts",
    OVERLAP: "two micro-batches",
    DRAFTS: "draft passes",
    "exchange/dispatch and combine": "dispatch and combine",
    "kernels/rank wait": "wait for the last rank",
    "pipeline/hand-over": "pipeline hand-over",
    "pipeline/wait": "pipeline wait",
}


def explain_fields(fall: Waterfall, lanes: dict[str, Lanes], gains: Sequence[Gain]) -> dict[str, Any]:
    """JSON fields that `--explain` adds to `infer`."""
    return {
        "waterfall": [rung_fields(rung, "share_of_roofline") for rung in fall.rungs],
        "layers": [
            {
                "block": layer.name,
                "executions": layer.count,
                "time_s": layer.time_s,
                "waterfall": [rung_fields(rung, "share_of_roofline") for rung in layer.rungs],
            }
            for layer in fall.layers
        ],
        "streams": [
            {"block": name, "length_s": one.length_s, "busy_s": one.busy_s(), "slices": _slices(one)}
            for name, one in lanes.items()
        ],
        "what_if": gain_fields(gains),
    }


def _slices(lanes: Lanes) -> list[dict[str, Any]]:
    return [
        {
            "stream": s.stream,
            "operator": s.name,
            "batch": s.batch,
            "start_s": s.start_s,
            "end_s": s.end_s,
            "alone_s": s.alone_s,
        }
        for s in lanes.slices
    ]


def waterfall_view(fall: Waterfall) -> list[RenderableType]:
    """The rungs with floating bars, then every kind of block with its causes in per cent of its time."""
    note = "from the roofline of its operators to the step; %: of roofline"
    return [
        heading("Where the time goes", note),
        rungs_table(fall.rungs, _label),
        Text(),
        heading("Layer by layer", "one execution; causes in per cent of it"),
        grid(
            ("block", "runs", "each", "ideal", "kernels", "exchange", "experts", "overlap"),
            [_layer_row(layer) for layer in fall.layers],
            wrap=0,
        ),
    ]


def _label(rung: Rung) -> str:
    name = _LABELS.get(rung.part, rung.part.removeprefix("kernels/").removeprefix("exchange/"))
    return name if rung.reached is None else f"{name} {100 * rung.reached:.0f} %"


def _layer_row(layer: LayerFall) -> tuple[str, ...]:
    def of(*starts: str) -> str:
        share = sum(rung.share for rung in layer.rungs if rung.part.startswith(starts))
        return f"{100 * share:.0f}" if abs(share) >= LEAST_SHARE else "-"

    causes = (of(IDEAL), of("kernels/"), of("exchange/"), of(EXPERTS), of(OVERLAP))
    return layer.name, f"{layer.count:g}", seconds(layer.time_s), *causes


def streams_view(name: str, lanes: Lanes) -> list[RenderableType]:
    """Both streams of a layer of two micro-batches: a picture, and their operators side by side."""
    view: list[RenderableType] = [
        Text(),
        heading(f"Two micro-batches in {name}", f"{seconds(lanes.length_s)} a layer; A, B, . idle"),
        *_picture(lanes),
        Text(),
    ]
    left, right = _columns(lanes)
    rows = [(*one, *other) for one, other in zip_longest(left, right, fillvalue=("", "", ""))]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for stream in lanes.busy_s():
        table.add_column(stream)
        for name in ("alone", "here"):
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return [*view, Padding(table, (0, 0, 0, 2), expand=False)]


def _picture(lanes: Lanes) -> Iterator[Text]:
    """One row of letters per stream."""
    for stream, busy in lanes.busy_s().items():
        cells = ["."] * _PICTURE
        for s in lanes.slices:
            if s.stream == stream:
                first, last = (round(t / lanes.length_s * _PICTURE) for t in (s.start_s, s.end_s))
                cells[first:last] = [s.batch or "#"] * (min(last, _PICTURE) - first)
        row = Text(f"  {stream:<16s}", style="dim")
        for cell in cells:
            row.append(cell, style={"A": "green", "B": "blue", ".": "dim"}.get(cell, "cyan"))
        row.append(f" {100 * busy / lanes.length_s:.0f} %", style="dim")
        yield row


def _columns(lanes: Lanes) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(name, time alone, time here) of both streams: operators of one micro-batch on groups of cores; on a device that
    computes beside exchanges the stages of both."""
    streams = list(lanes.busy_s())
    if EXCHANGE not in streams:
        first = [s for s in lanes.slices if s.batch == "A"]
        columns = [[s for s in first if s.stream == stream] for stream in streams]
    else:
        columns = [list(_stages(lanes, stream)) for stream in (COMPUTE, EXCHANGE)]
    left, *rest = [[(s.name, seconds(s.alone_s), seconds(s.end_s - s.start_s)) for s in own] for own in columns]
    return left, rest[0] if rest else []


def _stages(lanes: Lanes, stream: str) -> Iterator[Slice]:
    """Neighbours of one micro-batch and one part as one stretch."""
    held: Slice | None = None
    for s in sorted((s for s in lanes.slices if s.stream == stream), key=lambda s: s.start_s):
        whole = "experts" if s.name.startswith(("moe", "mlp")) else "attention"
        name = f"{whole if stream == COMPUTE else s.name.rpartition('/')[2]} {s.batch}"
        if held is not None and (held.name, held.batch) == (name, s.batch):
            held = held._replace(end_s=s.end_s, alone_s=held.alone_s + s.alone_s)
            continue
        if held is not None:
            yield held
        held = s._replace(name=name)
    if held is not None:
        yield held


def what_if_view(gains: Sequence[Gain], phase: str) -> list[RenderableType]:
    """What one change buys."""
    return gains_view(gains, _TITLES, "step" if phase == "prefill" else "per token")
