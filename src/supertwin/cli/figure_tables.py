"""Tables that `make figures` writes: accuracy, sets of specialised peers, the CloudMatrix 384 paper, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supertwin.cli.options import EXPLAIN, JSON, Command, Option
from supertwin.report.published import markdown
from supertwin.validation.outcome import Score

METRICS = {
    "kernel_time_s": "kernel time (operators: also calibration)",
    "collective_time_s": "collective time (links: also calibration)",
    "tokens_per_s_per_device": "training, tokens/s per device",
    "peak_memory_bytes": "training, peak memory",
    "output_tokens_per_s_per_device": "inference, output tokens/s",
    "input_tokens_per_s_per_device": "inference, input tokens/s",
    "tpot_s": "inference, time per output token",
    "ttft_s": "inference, time to first token",
    "step_time_s": "inference, time of one step",
}
CM384 = (
    "cm384-decode-4k",
    "cm384-decode-2k",
    "cm384-decode-1k",
    "cm384-prefill-balanced",
    "cm384-prefill",
)


# Sets of peers with the mean errors that they print of themselves and of each other: vTrain (MICRO 2024) with Calculon,
# SimuMax and msModeling from their repositories.
SPECIALISTS = (
    ("vTrain's runs on several nodes of A100", "vtrain", True, "tokens_per_s_per_device", "vTrain 14.7, Calculon 15.3"),
    (
        "vTrain's runs on one node (composed from measured layers)",
        "vtrain",
        False,
        "tokens_per_s_per_device",
        "vTrain with measured kernels 8.4, Calculon 38.9",
    ),
    ("SimuMax's runs on B200, time", "simumax", None, "tokens_per_s_per_device", "SimuMax with kernel tables 5.6"),
    ("the same, peak memory", "simumax", None, "peak_memory_bytes", "SimuMax 0.46"),
    ("msModeling's forward passes", "msmodeling-measured", None, "step_time_s", "msModeling 9.4"),
)


def specialists_table(scores: Sequence[Score]) -> str:
    """Mean errors on the sets of specialised peers. Several nodes: more than eight devices."""
    header, rows = ("set", "rows", "mean error here", "mean error printed by its authors"), []
    for title, group, several, metric, printed in SPECIALISTS:
        errors = [
            abs(s.predicted / s.measured - 1.0)
            for s in scores
            if s.source_group == group and s.metric == metric and several in (None, (s.n_devices or 0) > 8)
        ]
        rows.append((title, f"{len(errors):,}", f"{100 * sum(errors) / len(errors):.1f} %", f"{printed} %"))
    return markdown(header, "lrrl", rows)


def accuracy_table(summary: Mapping[str, Any]) -> str:
    """The summary of `validate --json` as a table."""
    header, rows = ("predicted against measured", "rows", "median error", "p90", "bias", "in 90 % interval"), []
    for metric, title in METRICS.items():
        s = summary[metric]
        errors = (f"{100 * s['median_ape']:.1f} %", f"{100 * s['p90_ape']:.0f} %", f"{100 * s['bias']:+.1f} %")
        rows.append((title, f"{s['n']:,}", *errors, f"{100 * s['interval_coverage']:.0f} %"))
    return markdown(header, "lrrrrr", rows)


def cm384_table() -> str:
    """Printed and predicted tokens/s per chip of the CloudMatrix 384 paper."""
    from supertwin.scenarios import run_scenario

    rows = []
    for name in CM384:
        outcome = run_scenario(name)
        shown = outcome.comparison[0]
        off = f"{100 * (shown.ratio - 1):+.0f} %"
        rows.append((outcome.scenario.title, f"{shown.printed:,.0f}", f"{shown.predicted:,.0f}", off))
    return markdown(("tokens/s per chip", "printed", "predicted", "off"), "lrrr", rows)


def options_table(command: Command) -> str:
    """Every option of a command, as its help has them; --json and --explain, which all have, apart."""
    rows = [
        (f"`{option.flag}`", _value(option), option.help.replace("|", r"\|"), option.default)
        for option in command.all_options
        if option not in (JSON, EXPLAIN)
    ]
    return markdown(("Option", "Value", "Meaning", "Default"), "llll", rows) if rows else "No options of its own."


def _value(option: Option) -> str:
    if option.kind == "yesno":
        return f"or `--no-{option.flag.removeprefix('--')}`"
    if option.kind == "switch":
        return ""
    return ", ".join(option.choices) if option.choices and not option.form else option.metavar.replace("|", r"\|")
