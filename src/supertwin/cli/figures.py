"""`make figures`: what predictions decide in README and docs, written anew (intervals apart: validation.intervals).

README keeps its tables between `<!-- NAME -->` and `<!-- /NAME -->`: session (the output of the command on its first
line), accuracy, specialists, cm384. Speed figures come from `make bench` and stay as they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supertwin.validation.outcome import Score

ROOT = Path(__file__).parents[3]
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
    rows = ["| set | rows | mean error here | mean error printed by its authors |", "|---|---:|---:|---|"]
    for title, group, several, metric, printed in SPECIALISTS:
        errors = [
            abs(s.predicted / s.measured - 1.0)
            for s in scores
            if s.source_group == group and s.metric == metric and several in (None, (s.n_devices or 0) > 8)
        ]
        rows.append(f"| {title} | {len(errors):,} | {100 * sum(errors) / len(errors):.1f} % | {printed} % |")
    return "\n".join(rows)


def accuracy_table(summary: Mapping[str, Any]) -> str:
    """The summary of `validate --json` as a table."""
    head = "| predicted against measured | rows | median error | p90 | bias | in 90 % interval |"
    rows = [head, "|---|---:|---:|---:|---:|---:|"]
    for metric, title in METRICS.items():
        s = summary[metric]
        errors = f"{100 * s['median_ape']:.1f} % | {100 * s['p90_ape']:.0f} % | {100 * s['bias']:+.1f} %"
        rows.append(f"| {title} | {s['n']:,} | {errors} | {100 * s['interval_coverage']:.0f} % |")
    return "\n".join(rows)


def cm384_table() -> str:
    """Printed and predicted tokens/s per chip of the CloudMatrix 384 paper."""
    from supertwin.scenarios import run_scenario

    rows = ["| tokens/s per chip | printed | predicted | off |", "|---|---:|---:|---:|"]
    for name in CM384:
        outcome = run_scenario(name)
        shown = outcome.comparison[0]
        off = f"{100 * (shown.ratio - 1):+.0f} %"
        rows.append(f"| {outcome.scenario.title} | {shown.printed:,.0f} | {shown.predicted:,.0f} | {off} |")
    return "\n".join(rows)


def session(block: str) -> str:
    """A session whose command is rerun: lines up to the first without a trailing backslash are the command."""
    from supertwin.cli.main import main

    lines = block.strip("\n").split("\n")
    last = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
    command = " ".join(line.strip().rstrip("\\") for line in lines[: last + 1]).removeprefix("$ supertwin")
    out = io.StringIO()
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(out):
        main(shlex.split(command))
    shown = [f"    {line}".rstrip() for line in out.getvalue().rstrip().split("\n")]
    return "\n".join([*lines[: last + 1], *shown])


def replaced(text: str, name: str, block: str) -> str:
    """The page with one block replaced. Raises ValueError when it has no such block."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README has no block {name!r}")
    return pattern.sub(lambda m: m[1] + block + m[2], text)


def block_of(text: str, name: str) -> str:
    """What stands in a block of the page."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    if not found:
        raise ValueError(f"README has no block {name!r}")
    return found[1]


def main() -> int:
    """Write docs/accuracy, the demo's picture and the blocks of README. Returns the exit code."""
    from supertwin.cli import demo
    from supertwin.report.accuracy import write_accuracy
    from supertwin.report.scores import report_fields
    from supertwin.validation.run import validate

    with contextlib.redirect_stdout(io.StringIO()):
        demo.main(str(ROOT / "docs" / "demo.svg"))
    report = validate({})
    write_accuracy(report, ROOT / "docs")
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    text = replaced(text, "session", session(block_of(text, "session")))
    text = replaced(text, "accuracy", accuracy_table(report_fields(report)["summary"]))
    text = replaced(text, "specialists", specialists_table(report.scores))
    page.write_text(replaced(text, "cm384", cm384_table()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
