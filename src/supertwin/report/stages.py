"""A scenario with steps as a Markdown table: what each step gives, beside what its source prints."""

from __future__ import annotations

from supertwin.scenarios import Stage, run_stages
from supertwin.scenarios.run import figure_of

_SCALES = {
    "layer_time_s": (1e6, "us a layer", ",.0f"),
    "tokens_per_s_per_chip": (1.0, "tokens/s", ",.0f"),
    "tokens_per_s_per_device": (1.0, "tokens/s", ",.1f"),
    "mfu_pct": (1.0, "% MFU", ".1f"),
    "mfu_full_attention_pct": (1.0, "% with full attention", ".1f"),
}


def stages_table(name: str) -> str:
    """Rate, layer time and gain of every stage of an inference scenario. Raises as run_stages."""
    lines = ["| Stage | tokens/s per package | us a layer | gain | printed |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(_line(stage) for stage in run_stages(name))])


def training_stages_table(name: str) -> str:
    """MFU, with causal and with full attention counted, and rate of every stage of a training scenario. Raises as
    run_stages."""
    lines = ["| Stage | MFU, % | with full attention | tokens/s per device | printed |", "|---|---:|---:|---:|---|"]
    for stage in run_stages(name):
        p = stage.prediction
        mfu, full = (figure_of(p, figure) for figure in ("mfu_pct", "mfu_full_attention_pct"))
        lines.append(
            f"| {stage.title} | {mfu:.1f} | {full:.1f} | {p.tokens_per_s_per_device:,.0f} | {_printed(stage)} |"
        )
    return "\n".join(lines)


def _line(stage: Stage) -> str:
    p = stage.prediction
    gain = "" if stage.gain is None else f"{100 * stage.gain:+.0f} %"
    layer = 1e6 * figure_of(p, "layer_time_s")
    return f"| {stage.title} | {p.tokens_per_s_per_chip:,.0f} | {layer:,.0f} | {gain} | {_printed(stage)} |"


def _printed(stage: Stage) -> str:
    words = []
    if stage.printed_gain:
        low, high = (f"{100 * x:+.0f}" for x in stage.printed_gain)
        words.append(f"{low} %" if low == high else f"{low} to {high} %")
    for row in stage.comparison:
        scale, unit, form = _SCALES.get(row.figure, (1.0, row.figure, ".4g"))
        words.append(f"{scale * row.printed:{form}} {unit}")
    return ", ".join(words)
