"""The first lines of a step: what a user asks for, then what explains it. Every figure once, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from supertwin.core.prediction import Prediction
from supertwin.report.text import gib, number, percent, seconds, si


class _Line(NamedTuple):
    """How a figure is called and written."""

    title: str
    written: Callable[[float], str]


def _times(value: float) -> str:
    return f"{value:.4g} x"


_ANSWERS: dict[str, _Line] = {
    "ttft_s": _Line("time to first token", seconds),
    "tpot_s": _Line("time per output token", seconds),
    "output_tokens_per_s_per_user": _Line("output tokens/s per user", number),
    "output_tokens_per_s_per_device": _Line("output tokens/s per device", number),
    "output_tokens_per_s_per_chip": _Line("output tokens/s per chip", number),
    "input_tokens_per_s_per_device": _Line("input tokens/s per device", number),
    "input_tokens_per_s_per_chip": _Line("input tokens/s per chip", number),
    "requests_in_flight": _Line("requests in flight", number),
}
"""Figures of inference in the order in which they are asked for."""
_OTHERS: dict[str, _Line] = {
    "mfu": _Line("MFU", percent),
    "hfu": _Line("HFU", percent),
    "mfu_full_attention": _Line("MFU with full attention", percent),
    "hbm_use": _Line("memory bandwidth in use", percent),
    "layer_time_s": _Line("time of one layer", seconds),
    "first_stream_s": _Line("first stream of a micro-batch", seconds),
    "second_stream_s": _Line("second stream of a micro-batch", seconds),
    "decode_step_time_s": _Line("decode step alone", seconds),
    "prefill_step_time_s": _Line("prefill step alone", seconds),
    "tpot_inflation": _Line("step over decode alone", _times),
    "mixing_gain": _Line("both alone over the step", _times),
    "attention_busy_share": _Line("attention devices busy", percent),
    "experts_busy_share": _Line("feed-forward devices busy", percent),
    "attention_stage_s": _Line("attention of a micro-batch", seconds),
    "experts_stage_s": _Line("feed-forward of a micro-batch", seconds),
    "transfer_out_s": _Line("way to the feed-forward", seconds),
    "transfer_home_s": _Line("way home", seconds),
}


def headline(prediction: Prediction) -> list[tuple[str, str]]:
    """(name, value) of every figure. Rates per chip are left out where a chip is a device."""
    figures = {name: value for name, value in prediction.figures.items() if value is not None}
    rows = [*_replicas(prediction), ("step time", _step_time(prediction)), *_rates(prediction, figures)]
    for name in (*_ANSWERS, *(name for name in figures if name not in _ANSWERS)):
        if name in figures and not _said(name, figures):
            line = _ANSWERS.get(name) or _OTHERS.get(name) or _Line(_title(name), _form(name))
            rows.append((line.title, line.written(figures[name])))
    return rows


def _step_time(prediction: Prediction) -> str:
    low, high = prediction.interval
    seen = seconds(prediction.step_time_s)
    if (low, high) == (1.0, 1.0):
        return seen
    return f"{seen}  (90 %: {seconds(low * prediction.step_time_s)} to {seconds(high * prediction.step_time_s)})"


def _replicas(prediction: Prediction) -> list[tuple[str, str]]:
    """How many of the devices one step uses, where it leaves some to replicas."""
    used, replicas = int(prediction.layout.get("devices", 1)), int(prediction.layout.get("replicas", 1))
    return [("devices", f"{used} of {used * replicas}, {replicas} replicas")] if replicas > 1 else []


def _rates(prediction: Prediction, figures: dict[str, float]) -> list[tuple[str, str]]:
    """Tokens of both directions, where no figure says the same of one."""
    device, chip = prediction.tokens_per_s_per_device, prediction.tokens_per_s_per_chip
    if any(_equal(figures.get(f"{way}_tokens_per_s_per_device"), device) for way in ("output", "input")):
        return []
    rows = [("tokens/s per device", number(device))]
    return rows if _equal(device, chip) else [*rows, ("tokens/s per chip", number(chip))]


def _said(name: str, figures: dict[str, float]) -> bool:
    """Whether a rate per chip is that per device, or a stream is a stage of devices of their own."""
    if name in ("first_stream_s", "second_stream_s"):
        return "attention_stage_s" in figures
    stem = name.removesuffix("_per_chip")
    return stem != name and _equal(figures[name], figures.get(f"{stem}_per_device"))


def _equal(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9)


def _title(name: str) -> str:
    return name.removesuffix("_s").replace("_per_s", "/s").replace("_", " ")


def _form(name: str) -> Callable[[float], str]:
    """How to write a figure, by the words of its name."""
    words = set(name.split("_"))
    if words & {"mfu", "hfu", "use", "share", "rate"}:
        return percent
    if "flop_per_s" in name:
        return lambda value: si(value, "FLOP/s")
    if name.endswith("_bytes"):
        return gib
    return seconds if name.endswith("_s") and "_per_s" not in name else number
