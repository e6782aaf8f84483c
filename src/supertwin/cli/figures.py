"""`make figures`: what predictions decide in README and docs, written anew.

Pages keep such parts between `<!-- NAME -->` and `<!-- /NAME -->` (blocks): session is the output of the command on its
first lines, all others are tables. Speed figures come from `make bench` and stay as they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from supertwin.cli.app import COMMANDS
from supertwin.cli.figure_tables import accuracy_table, cm384_table, options_table, specialists_table
from supertwin.core.regimes import Scored
from supertwin.report.deployed import deployed_table
from supertwin.report.engines import engines_table
from supertwin.report.groups import groups_table, off_table
from supertwin.report.published import ablation_table, points_table
from supertwin.report.scores import report_fields
from supertwin.report.stages import stages_table, training_stages_table
from supertwin.validation.outcome import Report

ROOT = Path(__file__).parents[3]
README = "README.md"
ACCURACY = "docs/inference-accuracy.md"
EXPLAIN = "docs/inference-explain.md"

PREDICTED: Mapping[tuple[str, str], Callable[[], str]] = {
    (README, "cm384"): cm384_table,
    (ACCURACY, "points"): points_table,
    (ACCURACY, "ablation"): ablation_table,
    (EXPLAIN, "decode-stages"): lambda: stages_table("cm384-decode-stages"),
    (EXPLAIN, "prefill-stages"): lambda: stages_table("cm384-prefill-stages"),
    ("docs/training-bill.md", "dense-stages"): lambda: training_stages_table("pangu-ultra-135b-stages"),
    ("docs/training-bill.md", "moe-stages"): lambda: training_stages_table("pangu-ultra-moe-stages"),
    ("docs/deployments.md", "deployed"): deployed_table,
    ("docs/inference-engines.md", "engines"): engines_table,
    **{("docs/options.md", command.name): partial(options_table, command) for command in COMMANDS},
}
"""Tables of single predictions, and of options, by page and block."""

VALIDATED: Mapping[tuple[str, str], Callable[[Report], str]] = {
    (README, "accuracy"): lambda report: accuracy_table(report_fields(report)["summary"]),
    (README, "specialists"): lambda report: specialists_table(report.scores),
    (ACCURACY, "groups"): lambda report: groups_table(report.scores),
    (ACCURACY, "off"): lambda report: off_table(report.scores),
}
"""Tables of a run over all rows."""

COVERED: Mapping[tuple[str, str], str] = {
    (ACCURACY, "coverage"): "inference",
    ("docs/training-bill.md", "coverage"): "training",
}
"""Tables of how often intervals hold on rows that they have not seen: block, and table of rows."""


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
        raise ValueError(f"the page has no block {name!r}")
    return pattern.sub(lambda m: m[1] + block + m[2], text)


def block_of(text: str, name: str) -> str:
    """What stands in a block of the page."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    if not found:
        raise ValueError(f"the page has no block {name!r}")
    return found[1]


def shown(page: str, name: str) -> str:
    """A block as it stands in its page."""
    return block_of((ROOT / page).read_text(encoding="utf-8"), name)


def write(page: str, name: str, block: str) -> None:
    """Put a block into its page."""
    path = ROOT / page
    path.write_text(replaced(path.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def coverage(scores: Mapping[str, list[Scored]]) -> dict[tuple[str, str], str]:
    """The blocks of COVERED. scores: by table of rows."""
    from supertwin.validation.intervals import coverage_table

    return {place: coverage_table(scores[table]) for place, table in COVERED.items()}


def write_intervals() -> None:
    """Make the interval files and the tables of their coverage anew. To be run in a process of its own: predictions
    keep what they have read of those files."""
    from supertwin.validation import intervals

    scores = {"training": intervals.training_scores(), "inference": intervals.inference_scores()}
    intervals.write(scores=scores)
    for place, table in coverage(scores).items():
        write(*place, table)


def main() -> int:
    """Write docs/accuracy, the demo's picture and all other blocks. Returns the exit code."""
    from supertwin.cli import demo
    from supertwin.report.accuracy import write_accuracy
    from supertwin.validation.run import validate

    with contextlib.redirect_stdout(io.StringIO()):
        demo.main(str(ROOT / "docs" / "demo.svg"))
    report = validate({})
    write_accuracy(report, ROOT / "docs")
    write(README, "session", session(shown(README, "session")))
    for place, table in PREDICTED.items():
        write(*place, table())
    for place, of_report in VALIDATED.items():
        write(*place, of_report(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
