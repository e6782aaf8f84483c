"""Pipeline schedules in closed form: how long m microbatches take on p devices, and how many are in flight.

f_i, b_i: forward and backward time of one microbatch on device i (all its chunks), t_i = f_i + b_i. A 1F1B device is
busy m t_i; it waits for the devices before it once on the way in and out, and for those after it between its w = p -
1 - i warm-up forwards and the first backward, and again in the last w backwards, as far as its own work does not fill
the gap:

    T = max_i [ m t_i + (sum_{j<i} t_j + max(0, D_i - min(w, m-1) f_i) + [m > w] max(0, D_i - w b_i)) / v ]
    D_i = sum_{j>i} t_j

which is (m + (p - 1) / v) t for equal devices with v chunks each.

With fewer than p microbatches every lap through the chunks waits for the first one: (p - m)(v - 1) t / v more.

Zero-bubble schedules end together, at the reduction of the gradient norm, so what the published zero leaves out (the
first forward of the last device, with the optimizer validated afterwards) counts. Idle time per other device, with i =
b - w, read off the schedules played out over a grid of f, i and w: ZB-H1 max(f + i - w, f, i), of which the first is
the published one; ZB-V max(i, 2 (i - w), 2 f - i, w) / 2.

Sources: 1F1B and interleaved (fill / vpp), Narayanan et al. 2021, arXiv 2104.04473, section 2.2; ZB-H1 and ZB-V,
Qi et al. 2023 and 2024, arXiv 2401.10241 and 2405.15362; DualPipe, arXiv 2412.19437, table 2; DualPipeV, its
repository. All are compared with the schedules played out (training/timeline/schedules.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_TIE = 1e-9  # devices of GPipe end together but for rounding
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
    """total_s = busy_s + bubble_s of the device that ends last, of several the busiest; `slowest` is its index."""

    total_s: float
    busy_s: float
    bubble_s: float
    slowest: int


def pipeline_time(times: DeviceTimes, microbatches: float, schedule: str, vpp: int) -> PipelineTime:
    """Time of `microbatches` through the pipeline, without exposed point-to-point time.

    schedule is one of SCHEDULES; vpp model chunks per device shorten the fill of 1F1B.
    """
    both = times.both_s
    fill = _fill_s(times, microbatches, schedule, vpp)
    total = np.maximum(microbatches * both + fill, _few_s(times, microbatches, schedule))
    end = float(total.max())
    last = int(np.argmax(np.where(total >= end * (1.0 - _TIE), both, -1.0)))
    busy = microbatches * float(both[last])
    return PipelineTime(end, busy, end - busy, last)


def _few_s(times: DeviceTimes, microbatches: float, schedule: str) -> float:
    """Shortest step of a zero-bubble schedule with too few microbatches to fill it (0 for the others): the first one
    goes through all devices and back, and the rest queue where it turns or ends."""
    f, b, w = times.forward_s, times.backward_s, times.wgrad_s
    later = microbatches - 1.0
    if schedule == "zb-h1":
        return float(f.sum() + (b - w).sum() + later * b[0] + w[0])
    if schedule == "zb-v":
        return float(f.sum() + (b - w).sum() + 0.5 * later * times.both_s[-1] + 0.5 * w[0])
    if schedule in ("dualpipe", "dualpipev"):  # half of the microbatches, or half of a device, at a time
        queue = max(0.5 * microbatches - 1.0, 0.0) if schedule == "dualpipe" else 0.5 * later
        return float(f.sum() + b.sum() + queue * b[0])
    return 0.0


def _fill_s(times: DeviceTimes, microbatches: float, schedule: str, vpp: int) -> Array:
    """Idle time of each device while the pipeline fills and drains, shape [pp]."""
    f, b, w = times.forward_s, times.backward_s, times.wgrad_s
    missing = max(len(f) - microbatches, 0.0) * (vpp - 1.0)  # microbatches short of one lap per chunk
    if schedule in ("1f1b", "interleaved"):
        filled: Array = (_fill_1f1b(f, b, microbatches) + missing * times.both_s) / vpp
        return filled
    if schedule == "gpipe":  # all forwards, then all backwards
        through = (f.sum() - f + b.sum() - b + missing * times.both_s) / vpp
        waves: Array = (microbatches - 1.0) * (f.max() - f + b.max() - b) + through
        return waves
    i = b - w  # backward of the inputs alone
    idle = {
        "zb-h1": np.maximum.reduce([f + i - w, f, i]) / vpp,
        "zb-v": 0.5 * np.maximum.reduce([i, 2.0 * (i - w), 2.0 * f - i, w]),
        "dualpipe": 0.5 * np.maximum(f + 2.0 * b - 3.0 * w, 0.0),
        "dualpipev": 0.5 * np.maximum(f + 2.0 * b - 3.0 * w, 0.0),
    }[schedule]
    others: Array = idle.sum() - idle
    if schedule == "dualpipe" and len(f) > 1:  # two half pipelines run against each other: p/2 - 1 instead of (p - 1)/2
        others = others * max(len(f) - 2.0, 0.0) / (len(f) - 1.0)
    return others


def _fill_1f1b(forward_s: Array, backward_s: Array, microbatches: float) -> Array:
    """Waiting of each 1F1B device for the devices before and after it, shape [pp]."""
    both = forward_s + backward_s
    before = np.cumsum(both) - both
    after = both.sum() - before - both
    warm = np.arange(len(both))[::-1].astype(np.float64)
    steady = microbatches > warm  # fewer microbatches than that: one gap between all forwards and all backwards
    first = np.maximum(after - np.minimum(warm, microbatches - 1.0) * forward_s, 0.0)
    second = np.where(steady, np.maximum(after - warm * backward_s, 0.0), 0.0)
    result: Array = before + first + second
    return result


def paired_share(schedule: str, pp: int, microbatches: float, device: int) -> float:
    """Share of a device's forwards that DualPipe or DualPipeV runs as one with a backward: the units of steps 4 and 5
    of its repository."""
    both_ends = schedule == "dualpipe"
    half, near = (pp / 2.0, min(device, pp - 1 - device)) if both_ends else (float(pp), device)
    per_phase = microbatches / 2.0 if both_ends else microbatches
    inner = half - near - 1.0
    pairs = 2.0 * max(per_phase - 2.0 * half + near + 1.0, 0.0) - (inner == 0.0) + inner
    return float(min(max(pairs / (2.0 * per_phase), 0.0), 1.0))


def in_flight(pp: int, vpp: int, microbatches: int, schedule: str) -> Array:
    """Microbatches whose activations a device holds at its peak, shape [pp] (a fraction counts single chunks).

    1F1B: pp - i; interleaved: (2 (pp - 1 - i) + (vpp - 1) pp + 1) / vpp chunks of 1/vpp each (arXiv 2104.04473);
    GPipe: all; ZB-H1 keeps pp everywhere, weight gradients being late; ZB-V: pp; DualPipe: pp + 1; DualPipeV, which
    counts 2 pp stages of half a device: pp + 1/2 (deepseek-ai/DualPipe, README).
    """
    stage = np.arange(pp, dtype=np.float64)
    if schedule == "gpipe":
        held = np.full(pp, float(microbatches))
    elif schedule == "zb-v" or (schedule == "zb-h1" and vpp == 1):
        held = np.full(pp, float(pp))
    elif schedule == "dualpipev":
        held = np.full(pp, pp + 0.5)
    elif schedule == "dualpipe":
        held = np.full(pp, pp + 1.0)
    elif vpp > 1:
        held = (2.0 * (pp - 1.0 - stage) + (vpp - 1.0) * pp + 1.0) / vpp
    else:
        held = pp - stage
    result: Array = np.minimum(held, float(microbatches))
    return result
