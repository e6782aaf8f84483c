"""Table of docs/inference-engines.md: what `--framework` may name, with host times, limits and their sources."""

from __future__ import annotations

from supertwin.inference.engines import ENGINES, Engine
from supertwin.report.published import markdown


def engines_table() -> str:
    """One row per engine of engines.ENGINES."""
    header = (
        "`--framework`",
        "us a step",
        "us a sequence",
        "ms a request",
        "us a kernel",
        "in prompts",
        "memory",
        "sequences",
        "tokens",
    )
    return markdown((*header, "prompts", "source"), "lrrrrrrrrll", [_row(engine) for engine in ENGINES])


def _row(e: Engine) -> tuple[str, ...]:
    sequence_s = e.sequence_gap_s + e.sequence_host_s
    return (
        f"`{e.name}`",
        f"{1e6 * e.step_gap_s:.0f}",
        f"{1e6 * sequence_s:.3g}",
        f"{1e3 * e.request_gap_s:g}",
        f"{1e6 * e.launch_s:.3g}",
        f"{1e6 * (e.operator_s or e.launch_s):.3g}",
        f"{100 * e.memory_fraction:.0f} %" + (" of free" if e.of_free else ""),
        f"{e.max_num_seqs:,}",
        f"{e.max_batched_tokens:,}",
        "in decode steps" if e.mixes_prefill else "first",
        e.source.replace("|", r"\|"),
    )
