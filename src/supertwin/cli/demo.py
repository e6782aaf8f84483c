"""`make demo`: DeepSeek-R1 and Pangu Ultra MoE on CloudMatrix 384 and its rivals, beside published figures."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supertwin.core.prediction import Prediction
from supertwin.machine import load_system
from supertwin.scenarios import Outcome, run_scenario
from supertwin.scenarios.run import figure_of

DECODE = ("cm384-decode-4k", "cm384-decode-2k", "cm384-decode-1k", "nvl72-decode", "h800-decode", "h100-decode")
PREFILL = ("cm384-prefill", "cm384-prefill-balanced", "nvl72-prefill", "h800-prefill", "h100-prefill")
TRAINING = (
    "pangu-ultra-moe",
    "pangu-ultra-moe-cm384",
    "pangu-ultra-moe-nvl72",
    "pangu-ultra-moe-h800",
    "pangu-ultra-moe-h100",
)
BAR_WIDTH = 44
WIDTH = 116

Column = tuple[str, Callable[[Outcome], str]]


def _figure(outcome: Outcome, name: str, scale: float, digits: int) -> str:
    try:
        return f"{scale * figure_of(outcome.prediction, name):,.{digits}f}"
    except KeyError:
        return "-"


def _optional(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{scale * value:,.{digits}f}"


def _published(outcome: Outcome, figure: str, scale: float, digits: int) -> str:
    for row in outcome.comparison:
        if row.figure == figure:
            return f"{scale * row.printed:,.{digits}f} ({100 * (row.ratio - 1):+.0f} %)"
    return ""


def _bill_columns() -> list[Column]:
    return [
        (
            "GB used",
            lambda o: f"{o.prediction.memory.peak_bytes / 1e9:.0f}/{o.prediction.memory.capacity_bytes / 1e9:.0f}",
        ),
        ("MW", lambda o: _optional(o.prediction.bill.power_w, 1e-6, 2)),
        ("J/token", lambda o: _optional(o.prediction.bill.energy_j_per_token, 1, 2)),
        ("$/M tokens", lambda o: _optional(o.prediction.bill.usd_per_million_tokens, 1, 2)),
    ]


def _inference_columns(latency: str, latency_title: str) -> list[Column]:
    return [
        ("system", lambda o: o.scenario.label),
        ("tokens/s/chip", lambda o: f"{o.prediction.tokens_per_s_per_chip:,.0f}"),
        ("published", lambda o: _published(o, "tokens_per_s_per_chip", 1, 0)),
        (latency_title, lambda o: _figure(o, latency, 1e3, 1)),
        ("published", lambda o: _published(o, latency, 1e3, 1)),
        ("MFU %", lambda o: _figure(o, "mfu", 100, 1)),
        *_bill_columns(),
    ]


def _training_columns() -> list[Column]:
    return [
        ("system", lambda o: o.scenario.label),
        ("tokens/s/device", lambda o: f"{o.prediction.tokens_per_s_per_device:,.0f}"),
        ("published", lambda o: _published(o, "tokens_per_s_per_device", 1, 0)),
        ("MFU %", lambda o: _figure(o, "mfu", 100, 1)),
        ("published", lambda o: _published(o, "mfu_pct", 1, 0)),
        ("step s", lambda o: f"{o.prediction.step_time_s:.1f}"),
        *_bill_columns(),
    ]


def comparison_table(title: str, outcomes: Sequence[Outcome], columns: Sequence[Column]) -> Table:
    """One row per scenario."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for name, _ in columns:
        table.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(*(cell(outcome) for _, cell in columns))
    return table


def waterfall(title: str, prediction: Prediction) -> Text:
    """The breakdown of one step as bars, largest part first; parts below 1 % are added up."""
    text = Text(f"{title}: {1e3 * prediction.step_time_s:,.1f} ms\n", style="bold")
    shown = sorted((p for p in prediction.breakdown if p.share >= 0.01), key=lambda p: -p.share)
    for part in shown:
        bar = "█" * max(1, round(part.share * BAR_WIDTH))
        text.append(f"  {part.part:<28.28}{1e3 * part.time_s:>12,.2f} ms {100 * part.share:5.1f} %  ", style="not bold")
        text.append(f"{bar} ", style="cyan").append(f"{part.bound}\n", style="dim")
    rest = 1.0 - sum(p.share for p in shown)
    if rest > 0.001:
        text.append(
            f"  {'other':<28}{1e3 * rest * prediction.step_time_s:>12,.2f} ms {100 * rest:5.1f} %\n", style="not bold"
        )
    return text


def machine_line(name: str) -> str:
    """One sentence on a system."""
    s = load_system(name)
    peak = s.full_devices * s.chip.peak("bf16") / 1e15
    memory = s.full_devices * s.chip.memory_bytes / 1e12
    kilowatts = "unknown" if s.power_w is None else f"{s.power_w / 1e3:.0f} kW"
    return f"  {s.name:<12} {s.full_devices:>5} devices  {peak:6.1f} PFLOPS BF16  {memory:6.1f} TB HBM  {kilowatts}"


def main(picture: str = "") -> int:
    """Print the demo; `picture`: an SVG file to write it to as well. Returns the exit code."""
    start = time.perf_counter()
    width = None if sys.stdout.isatty() and not picture else WIDTH
    console = Console(width=width, highlight=False, record=bool(picture))
    console.print("supertwin: what CloudMatrix 384 does, without owning one\n", style="bold")
    for name in ("cm384", "atlas-a2", "gb200-nvl72", "dgx-h800", "dgx-h100"):
        console.print(machine_line(name))
    groups = (
        ("DeepSeek-R1 decode", DECODE, _inference_columns("tpot_s", "TPOT ms")),
        ("DeepSeek-R1 prefill", PREFILL, _inference_columns("ttft_s", "TTFT ms")),
        ("Pangu Ultra MoE 718B training", TRAINING, _training_columns()),
    )
    for title, names, columns in groups:
        outcomes = [run_scenario(n) for n in names]
        console.print()
        console.print(comparison_table(title, outcomes, columns))
        console.print(f"assumed: {outcomes[0].scenario.assumed or 'nothing'}", style="dim")
        console.print()
        console.print(
            waterfall(f"{outcomes[0].scenario.title} on {outcomes[0].scenario.system}", outcomes[0].prediction)
        )
    console.print(
        "published: printed by the source, in brackets how far the prediction is off; nothing is fitted to these."
    )
    console.print(
        f"sources, assumptions: src/supertwin/data/scenarios.toml   ({time.perf_counter() - start:.1f} s)", style="dim"
    )
    if picture:
        drawing = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="make demo"), flags=re.DOTALL)
        Path(picture).write_text(drawing, encoding="utf-8")  # without the fonts that it would fetch
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
