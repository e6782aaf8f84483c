"""Pipeline schedules in closed form: how long m microbatches take on p devices, and how many are in flight.

With t_i = f_i + b_i the forward and backward time of one microbatch on device i (all its chunks), the slowest device is
busy m max(t) and waits for the others once, while the pipeline fills and drains:

    T = m max_i t_i + fill,        fill(1F1B) = sum_i t_i - max_i t_i

Sources: 1F1B and interleaved (fill / vpp), Narayanan et al. 2021, arXiv 2104.04473, section 2.2; ZB-H1 and ZB-V,
Qi et al. 2023 and 2024, arXiv 2401.10241 and 2405.15362; DualPipe, arXiv 2412.19437, table 2; DualPipeV, its repository.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SCHEDULES = ("1f1b", "interleaved", "gpipe", "zb-h1", "zb-v", "dualpipe", "dualpipev")
FOLDED = ("zb-v", "dualpipe", "dualpipev")  # a device holds one chunk of each half: stage i and its mirror


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """One microbatch on each pipeline device. Arrays of shape [pp], seconds; wgrad_s is part of backward_s."""

    forward_s: Array
    backward_s: Array
    wgrad_s: Array

    @property
    def both_s(self) -> Array:
        """Forward plus backward, shape [pp]."""
        return self.forward_s + self.backward_s


@dataclass(frozen=True, slots=True)
class PipelineTime:
    """total_s = busy_s + bubble_s of the slowest device; `slowest` is its index."""

    total_s: float
    busy_s: float
    bubble_s: float
    slowest: int


def pipeline_time(times: DeviceTimes, microbatches: float, schedule: str, vpp: int) -> PipelineTime:
    """Time of `microbatches` through the pipeline, without exposed point-to-point time.

    schedule is one of SCHEDULES; vpp model chunks per device shorten the fill of 1F1B.
    """
    both = times.both_s
    slowest = int(np.argmax(both))
    busy = microbatches * float(both[slowest])
    bubble = _fill_s(times, slowest, schedule, vpp)
    return PipelineTime(busy + bubble, busy, bubble, slowest)


def _fill_s(times: DeviceTimes, slowest: int, schedule: str, vpp: int) -> float:
    """Idle time of the slowest device while the pipeline fills and drains."""
    f, b, w = times.forward_s, times.backward_s, times.wgrad_s
    per_device = {
        "1f1b": (f + b) / vpp,
        "interleaved": (f + b) / vpp,
        "gpipe": f + b,
        "zb-h1": np.maximum(f + b - 2.0 * w, 0.0),
        "zb-v": 0.5 * np.maximum(f + b - 3.0 * w, 0.0),
        "dualpipe": 0.5 * np.maximum(f + 2.0 * b - 3.0 * w, 0.0),
        "dualpipev": 0.5 * np.maximum(f + 2.0 * b - 3.0 * w, 0.0),
    }[schedule]
    others = float(per_device.sum() - per_device[slowest])
    if schedule == "dualpipe" and len(f) > 1:  # two half pipelines run against each other: (p/2 - 1) instead of (p - 1)
        others *= max(len(f) / 2.0 - 1.0, 0.0) / (0.5 * (len(f) - 1.0))
    return others


def in_flight(pp: int, vpp: int, microbatches: int, schedule: str) -> Array:
    """Microbatches whose activations a device holds at its peak, shape [pp] (a fraction counts single chunks).

    1F1B: pp - i; interleaved: (2 (pp - 1 - i) + (vpp - 1) pp + 1) / vpp chunks of 1/vpp each (arXiv 2104.04473);
    GPipe: all; ZB-H1 as 1F1B; ZB-V and DualPipeV: pp; DualPipe: pp + 1.
    """
    stage = np.arange(pp, dtype=np.float64)
    if schedule == "gpipe":
        held = np.full(pp, float(microbatches))
    elif schedule in ("zb-v", "dualpipev"):
        held = np.full(pp, float(pp))
    elif schedule == "dualpipe":
        held = np.full(pp, pp + 1.0)
    elif vpp > 1:
        held = (2.0 * (pp - 1.0 - stage) + (vpp - 1.0) * pp + 1.0) / vpp
    else:
        held = pp - stage
    return np.minimum(held, float(microbatches))
