"""Fit of the link constants: straight lines of communication libraries from measured collectives.

A set of measurements of one library, link class and operation is described by a few protocols (network.collective);
their fixed cost, hop cost and efficiency are found by robust least squares on the logarithm of the time, from several
starts, and the held-out 30 % of the shapes tells how well they carry over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import require_scipy
from supertwin.machine.system import Tier
from supertwin.network.collective import Plan, evaluate, lines_of
from supertwin.network.group import Group
from supertwin.network.span import group_levels

Array = npt.NDArray[np.float64]
Groups = Mapping[str, Mapping[str, float]]
ROBUST_SCALE = 0.08  # ln units: beyond it a row counts linearly
STARTS = 6
PRIOR_WEIGHT = 0.01  # pull of every constant to its starting value, in units of one e-fold against one row's residual


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured times of one group shape: tiers, group, message bytes [rows], seconds [rows]."""

    tiers: tuple[Tier, ...]
    group: Group
    message_bytes: Array
    seconds: Array


@dataclass(frozen=True, slots=True)
class Template:
    """Which numbers to look for: "algorithm/protocol" names of one operation on the outermost link class.

    inner: numbers of the inner link classes, already known. limits: candidate sizes (bytes) up to which a protocol may
    be used, by name. hop_least_s, hop_most_s: bounds of a hop;
    simple_least: lower bound of the efficiency of the protocols named simple; fixed_most_s: upper bound of fixed_s.
    """

    op: str
    protocols: tuple[str, ...]
    inner: Mapping[str, Groups]
    limits: Mapping[str, Sequence[float]]
    hop_least_s: float = 1e-9
    hop_most_s: float = 3e-6
    simple_least: float = 5e-3
    fixed_most_s: float = 2e-3


@dataclass(frozen=True, slots=True)
class Fitted:
    """Numbers by protocol and the robust cost per row."""

    groups: dict[str, dict[str, float]]
    cost: float


def fit_protocols(samples: Sequence[Sample], template: Template, seed: int = 0) -> Fitted:
    """Fit all protocols of a template together. Raises MissingExtra without scipy."""
    best: Fitted | None = None
    for limits in _limit_choices(template):
        rng = np.random.default_rng(seed)
        for start in range(STARTS if best is None else 2):
            found = _fit_once(samples, template, limits, _start(samples, template, rng, start))
            if best is None or found.cost < best.cost * (0.99 if limits else 1.0):
                best = found
    assert best is not None
    return best


def predict(samples: Sequence[Sample], template: Template, fitted: Fitted) -> Array:
    """Seconds of every row of the samples, concatenated."""
    parts = []
    for sample in samples:
        levels = group_levels(sample.tiers, sample.group)
        lines = lines_of(levels, template.op, {**template.inner, levels[-1].path: fitted.groups})
        time = evaluate(Plan(lines, levels[-1].tier), sample.message_bytes).time_s
        parts.append(np.asarray(time))
    return np.concatenate(parts)


def _limit_choices(template: Template) -> list[dict[str, float]]:
    choices: list[dict[str, float]] = [{}]
    for name, sizes in template.limits.items():
        choices = [{**c, name: s} for c in choices for s in sizes]
    return choices


def _fit_once(samples: Sequence[Sample], template: Template, limits: Mapping[str, float], start: Array) -> Fitted:
    scipy = require_scipy()
    measured = np.log(np.concatenate([s.seconds for s in samples]))

    def residual(x: Array) -> Array:
        out: Array = np.log(predict(samples, template, _unpack(x, template, limits))) - measured
        return out

    low, high = _bounds(template)
    prior = _start(samples, template, np.random.default_rng(0), 0)
    weight = PRIOR_WEIGHT * len(measured) ** 0.5

    def with_prior(x: Array) -> Array:
        return np.concatenate([residual(x), weight * (x - prior)])

    found = scipy.optimize.least_squares(
        with_prior, np.clip(start, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1",
        f_scale=ROBUST_SCALE, max_nfev=60, diff_step=1e-4,
    )  # fmt: skip
    fitted = _unpack(found.x, template, limits)
    return Fitted(fitted.groups, float(found.cost) / len(measured))


def _unpack(x: Array, template: Template, limits: Mapping[str, float]) -> Fitted:
    groups = {}
    for index, name in enumerate(template.protocols):
        fixed, hop, efficiency = np.exp(x[3 * index : 3 * index + 3])
        groups[name] = {"fixed_s": float(fixed), "hop_s": float(hop), "efficiency": float(efficiency)}
        groups[name]["own_share"] = float(x[3 * len(template.protocols)])
        if name in limits:
            groups[name]["up_to_bytes"] = float(limits[name])
    return Fitted(groups, 0.0)


def _bounds(template: Template) -> tuple[Array, Array]:
    count = len(template.protocols)
    low = [np.log(2e-7), np.log(template.hop_least_s), np.log(5e-3)] * count
    for index, name in enumerate(template.protocols):
        if name.endswith("simple"):
            low[3 * index + 2] = np.log(template.simple_least)
    low = [*low, 0.0]
    high = [*([np.log(template.fixed_most_s), np.log(template.hop_most_s), 0.0] * count), 0.6]
    return np.array(low), np.array(high)


def _start(samples: Sequence[Sample], template: Template, rng: np.random.Generator, start: int) -> Array:
    """Latency from the smallest messages; protocols spread from slow-and-early to fast-and-late."""
    least = min(float(s.seconds.min()) for s in samples)
    count = len(template.protocols)
    x: list[float] = []
    for index in range(count):
        late = min(1.0, index / max(1, sum(not p.startswith("nvls") for p in template.protocols) - 1))
        noise = rng.normal(0.0, 0.5, 3) if start else np.zeros(3)
        x += [
            np.log(least) + 1.5 * late + noise[0],
            np.log(least / 8) + noise[1],
            np.log(0.08) * (1 - late) + np.log(0.8) * late + noise[2],
        ]
    x.append(0.1)
    return np.array(x)
