"""Tables of docs that set predicted beside printed figures: operating points, and what parts of a deployment do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supertwin.core.prediction import Prediction
from supertwin.scenarios import load_scenario, run_scenario, scenario_names
from supertwin.scenarios.run import figure_of

FIGURES = {
    "tokens_per_s_per_chip": (1.0, "tokens/s per chip", ",.0f"),
    "tpot_s": (1e3, "ms per output token", ".1f"),
    "layer_time_s": (1e6, "us a layer", ",.0f"),
    "step_time_s": (1.0, "s a step", ".1f"),
}
"""Figures of inference by JSON name: scale, words and format."""

DECODE = "cm384-decode-4k"
PREFILL = "cm384-prefill"
PARALLEL: Mapping[str, object] = {"cp": 1, "dp": 32, "cp_method": "all_gather", "cp_adds_devices": False}
"""The prefill instance with prompts dealt out to its dies instead of cut over them."""

VARIANTS: tuple[tuple[str, str, Mapping[str, object], str, float, str], ...] = (
    (
        "DeepSeek-R1 decode, 4K context, 8 requests per chip, no micro-batches, SLO 15 ms",
        DECODE, {"batch": 4, "microbatch_overlap": False},
        "tpot_s", 0.015, "arXiv 2506.12708v2, abstract (538 tokens/s per chip)",
    ),
    (
        "open Ascend recipe: EP128, no micro-batches, INT8 cache, 4K (acceptance 0.7 assumed)",
        DECODE,
        {
            "system": "cm384:128", "dp": 128, "ep": 128, "kv_len": 4096, "kv_dtype": "int8",
            "framework": "cann-recipes", "microbatch_overlap": False, "expert_balance": "perfect",
        },
        "tpot_s", 0.0449, "cann-recipes-infer, DeepSeek-R1 (2,138 tokens/s per chip)",
    ),
    (
        "Llama 3.1 405B, a million tokens around a ring of 16 nodes of H100",
        "h100-prefill",
        {
            "model": "llama-3.1-405b", "system": "dgx-h100:128", "dp": 1, "ep": 1, "dp_attention": False, "tp": 8,
            "cp": 16, "cp_method": "ring", "cp_adds_devices": True, "batch": 1 / 128, "input_len": 1_000_000,
            "part_dtypes": (("attention", "bf16", "bf16"),), "framework": "", "microbatch_overlap": False,
            "redundant_experts": 0,
        },
        "step_time_s", 77.0, "arXiv 2411.01783 (parts of 500 W)",
    ),
)  # fmt: skip
"""Printed points near a scenario: title, scenario, what differs, figure, printed value, where."""


def markdown(header: Sequence[str], rules: str, rows: Sequence[Sequence[str]]) -> str:
    """A table; rules has one letter per column, l or r."""
    marks = ["---:" if rule == "r" else "---" for rule in rules]
    lines = (f"| {' | '.join(row)} |" for row in (header, *rows))
    return "\n".join((next(lines), f"|{'|'.join(marks)}|", *lines))


def points_table() -> str:
    """Every inference scenario of one point that a source prints, and VARIANTS. Raises as run_scenario."""
    rows = []
    for name in scenario_names():
        scenario = load_scenario(name)
        if scenario.kind == "infer" and not scenario.steps:
            for shown in run_scenario(name).comparison:
                rows.append(_point(scenario.title, shown.figure, shown.printed, shown.predicted, scenario.where))
    for title, name, changes, figure, printed, where in VARIANTS:
        predicted = figure_of(run_scenario(name, **changes).prediction, figure)
        rows.append(_point(title, figure, printed, predicted, where))
    return markdown(("Point", "Figure", "printed", "predicted", "off", "where"), "llrrrl", rows)


def _point(title: str, figure: str, printed: float, predicted: float, where: str) -> tuple[str, ...]:
    scale, words, form = FIGURES.get(figure, (1.0, figure, ".4g"))
    both = (format(scale * value, form) for value in (printed, predicted))
    return (title, words, *both, f"{100 * (predicted / printed - 1):+.0f} %", where)


def ablation_table() -> str:
    """What parts are worth on the CM384 at 4K, in per cent of tokens/s, beside section 5.4 of arXiv 2506.12708v2."""
    prefill = (_gain(PREFILL, expert_balance=balance) for balance in ("natural", "perfect"))
    decode = (_gain(DECODE, batch=batch) for batch in (32, 48, 64))
    drafted, plain = (run_scenario(DECODE, mtp_tokens=m).prediction for m in (1, 0))
    layer = figure_of(drafted, "layer_time_s") / figure_of(plain, "layer_time_s")
    staged = (
        _ratio(*(run_scenario(PREFILL, prompt_cv=cv, **way).prediction for way in ({}, PARALLEL)))
        for cv in (0.0, 0.25, 0.5, 1.0)
    )
    rows = [
        ("micro-batches in prefill (natural / perfect balance)", "+23 to +31", " / ".join(prefill)),
        ("micro-batches in decode (64 / 96 / 128 requests per chip)", "+5.8 / +9.4 / +6.9", " / ".join(decode)),
        ("one draft, time of a layer", "+44", f"{100 * (layer - 1):+.0f}"),
        ("one draft, tokens/s", "+6 to +49", _ratio(drafted, plain)),
        ("prompts cut over the dies of a prefill instance (staged) instead of dealt out; "
         "spread of their lengths 0 / 0.25 / 0.5 / 1 of the mean", "", " / ".join(staged)),
    ]  # fmt: skip
    return markdown(("Gain in %", "printed", "here"), "lrr", rows)


def _gain(name: str, **options: object) -> str:
    """Of micro-batches at a point."""
    return _ratio(*(run_scenario(name, microbatch_overlap=both, **options).prediction for both in (True, False)))


def _ratio(after: Prediction, before: Prediction) -> str:
    return f"{100 * (after.tokens_per_s_per_device / before.tokens_per_s_per_device - 1):+.0f}"
