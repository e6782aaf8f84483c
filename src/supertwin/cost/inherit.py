"""What a chip takes over from its relative: shares of peak relative to BF16, and the clock that its power allows.

Rules act on the constants of matrix products and experts, the last one on attention too. A chip that measured BF16
itself scales every group that it lacks by its own BF16 share over the one that the relative's constants would give it:

    share(f, chip) = share(f, relative) x share(bf16, chip) / share(bf16, relative)    all at the rates of the chip

A chip of the same architecture that did not keeps the relative's shares at full clock, and sustains the clock that its
power limit allows. Dynamic power is C f V^2 (Mudge, Computer 34(4), 2001), V about linear in f under voltage scaling,
and C in proportion to the FLOP per cycle, so that f ~ (power / FLOP per cycle)^(1/3), at most the full clock.

A chip of the same architecture whose cores multiply r times slower per cycle (H20: a quarter of the tensor rate of H100
in the same SM) spends as many cycles beside the products as its relative: of a tile that took 1 / share there, the
product takes r times as long and the rest as long as before, so that share(chip) = r / (r + 1 / share - 1). Loads and
memory keep their rates.
"""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.cost.surface import Surface
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Gemm

Groups = Mapping[str, Mapping[str, float]]
Surfaces = Mapping[str, Surface]
_PLAIN = ("bf16", "fp16")
_SEARCHED = ("best-shape:bf16",)
_SHARES = ("multiply", "rate")
_NARROW = 1.5  # parts with other clocks or bins have the same cores
_SIDE = 8192.0  # m, n and k of the product at which shares are compared: bound by the cores on every chip
# 0 stands for "not known" in a calibration file, so a clock that the power does not limit is written as this.
_NO_THROTTLE = 1e-3


def bf16_share(groups: Groups, surfaces: Surfaces, name: str, chip: Chip) -> float:
    """Share of the chip's BF16 peak that the group reaches on a large product; 0 where it is not there."""
    from supertwin.cost.calibration import Calibration  # late: calibrations are completed with this module
    from supertwin.cost.gemm import gemm_cost

    if name not in groups:
        return 0.0
    _, _, dtype = name.rpartition(":")
    alone = {dtype: surfaces[name]} if name in surfaces else {}
    calibration = Calibration("gemm", chip.name, parameters={dtype: groups[name]}, surfaces=alone)
    product = Gemm(part="reference", m=_SIDE, n=_SIDE, k=_SIDE, dtype=dtype)
    cost = gemm_cost(chip, calibration, product)
    return float(cost.flop / (cost.time_s * chip.peak("bf16")))


def relative_share(own: tuple[Groups, Surfaces], relative: tuple[Groups, Surfaces], chips: tuple[Chip, Chip]) -> float:
    """BF16 share of a chip over what its relative's constants give on it, by a group that both measured; else 0.

    chips: the chip and its relative. The best shape of a search is one row at a shape of its own, which the formula
    prices to about 10 %: it is compared across architectures, where shares differ by more, not within one.
    """
    chip = chips[0]
    foreign = chip.architecture != chips[1].architecture
    for name in (*_PLAIN, *(_SEARCHED if foreign else ())):
        mine, theirs = bf16_share(*own, name, chip), bf16_share(*relative, name, chip)
        if mine > 0.0 and theirs > 0.0:
            return mine / theirs
    return 0.0


def narrower(own: Chip, relative: Chip) -> float:
    """FLOP per core and cycle of the relative over those of a chip of its architecture; 1 where they differ little."""
    known = min(x.matrix_cores * x.clock_hz * x.peak_flop_per_s.get("bf16", 0.0) for x in (own, relative)) > 0.0
    if not known or own.architecture != relative.architecture:
        return 1.0
    per_cycle, above = (x.peak("bf16") / (x.matrix_cores * x.clock_hz) for x in (own, relative))
    return above / per_cycle if above > _NARROW * per_cycle else 1.0


def narrowed_groups(groups: Groups, ratio: float) -> dict[str, dict[str, float]]:
    """Groups with the share of the cores as narrower ones reach it; matrix shares stay at most the peak."""
    return {
        name: {n: _narrowed(v, ratio) if n in _SHARES and v > 0.0 else v for n, v in values.items()}
        for name, values in groups.items()
    }


def _narrowed(share: float, ratio: float) -> float:
    return 1.0 / (1.0 + (1.0 / min(share, 1.0) - 1.0) / ratio)


def clock_gain(own: Chip, relative: Chip) -> float:
    """Sustained over full clock of a chip, over the same of its relative; 1 across architectures or without power.

    (P / P_r x width_r / width)^(1/3) x clock_r / clock, width = peak / clock (FLOP per cycle).
    """
    peak, peak_r = (chip.peak_flop_per_s.get("bf16", 0.0) for chip in (own, relative))
    known = min(own.tdp_w, relative.tdp_w, own.clock_hz, relative.clock_hz, peak, peak_r) > 0.0
    if not known or own.architecture != relative.architecture:
        return 1.0
    width, width_r = peak / own.clock_hz, peak_r / relative.clock_hz
    sustained = (own.tdp_w / relative.tdp_w * width_r / width) ** (1.0 / 3.0)
    return float(sustained * relative.clock_hz / own.clock_hz)


def scaled_groups(groups: Groups, share: float, feed: float = 1.0) -> dict[str, dict[str, float]]:
    """Groups with the rate of the cores scaled: the matrix share, at most to the peak, and the loads that feed it.

    Fits leave open which of the two binds, so both keep their proportion: feed is the matrix peak over the L2 rate of
    the chip, over the same of the relative. Memory and fixed times stay.
    """
    factors = {"multiply": share, "load": share * feed}
    return {
        name: {**values, **{n: _scaled(n, values[n], f) for n, f in factors.items() if n in values}}
        for name, values in groups.items()
    }


def feed_ratio(own: Chip, relative: Chip) -> float:
    """Matrix peak (BF16) over L2 rate of a chip, over the same of its relative."""
    peaks = own.peak("bf16") / relative.peak("bf16")
    return peaks * relative.l2_bytes_per_s / own.l2_bytes_per_s


def _scaled(name: str, value: float, share: float) -> float:
    """A matrix share is never raised above the peak (a fitted one may stand above: the clock can exceed that of it)."""
    return min(value * share, max(value, 1.0)) if name == "multiply" else value * share


def clocked_groups(groups: Groups, gain: float) -> dict[str, dict[str, float]]:
    """Groups with the sustained clock scaled, at most to the full clock; a throttle that is not known stays so."""
    return {
        name: {**values, **({"throttle": _throttle(values["throttle"], gain)} if values.get("throttle") else {})}
        for name, values in groups.items()
    }


def _throttle(throttle: float, gain: float) -> float:
    """Share of the matrix rate lost at the scaled clock."""
    if gain == 1.0:
        return throttle
    return max(1.0 - gain * (1.0 - throttle), min(throttle, _NO_THROTTLE))
