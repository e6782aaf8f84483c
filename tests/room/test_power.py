"""Power model: bounds, monotony, published readings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.machine import load_chip, load_system, system_names
from supertwin.room import (
    Activity,
    chip_power_w,
    component_power_w,
    energy_j_per_token,
    it_power_w,
    limited_at,
    power_w,
)

SHARE = st.floats(0, 1)
HALF = Activity(0.5, 0.5, 0.5, 0.5)


def job_w(name: str, activity: Activity[float]) -> float:
    """IT power in W of a system that runs a job."""
    return sum(value for part, value in component_power_w(load_system(name), activity).items() if part != "cooling")


@given(st.sampled_from(system_names()), SHARE, SHARE, SHARE, SHARE)
def test_between_idle_and_maximum(name: str, matrix: float, memory: float, network: float, busy: float) -> None:
    system, activity = load_system(name), Activity(matrix, memory, network, busy)
    drawn = job_w(name, activity)
    assert it_power_w(system, 0.0) * 0.999999 <= drawn <= it_power_w(system, 1.0) * 1.000001
    assert chip_power_w(system.chip, activity) <= system.chip.tdp_w * 1.000001
    assert power_w(system, activity) == pytest.approx(drawn * system.pue)


@given(SHARE, SHARE, st.floats(0, 0.2))
def test_more_load_never_draws_less(matrix: float, memory: float, more: float) -> None:
    system = load_system("cm384")
    higher = Activity(min(1.0, matrix + more), memory, 0.5, 1.0)
    assert power_w(system, higher) >= power_w(system, Activity(matrix, memory, 0.5, 1.0))


def test_arrays_and_numbers_agree() -> None:
    system = load_system("dgx-h100")
    share = np.linspace(0, 1, 5)
    together = power_w(system, Activity(share, 1.0 - share, share, share))
    single = [power_w(system, Activity(float(c), float(1.0 - c), float(c), float(c))) for c in share]
    assert together == pytest.approx(single)


def test_power_is_proportional_to_devices() -> None:
    system = load_system("cm384")
    assert power_w(system, HALF, 384) == pytest.approx(power_w(system, HALF) / 2)


def test_scale_out_network_counts_only_when_used() -> None:
    one, many = load_system("dgx-h100"), load_system("dgx-h100:1024")
    assert "scale_out_switch" not in component_power_w(one, HALF)
    assert component_power_w(many, HALF)["scale_out_switch"] > 0
    assert power_w(many, HALF) > 128 * power_w(one, HALF)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("place", range(4))
def test_activity_outside_is_refused(bad: float, place: int) -> None:
    values = [0.5] * 4
    values[place] = bad
    with pytest.raises(InputError):
        power_w(load_system("cm384"), Activity(*values))


@pytest.mark.parametrize("chip", ["a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm"])
def test_long_products_draw_the_limit(chip: str) -> None:
    """The clock falls in long matrix products because they reach the power limit."""
    device = load_chip(chip)
    at_limit = Activity(limited_at(device), 0.0, 0.0, 1.0)
    assert chip_power_w(device, at_limit) == pytest.approx(device.tdp_w)
    half = chip_power_w(device, Activity(0.5 * limited_at(device), 0.0, 0.0, 1.0))
    assert half == pytest.approx(device.idle_w + 0.6 * (device.tdp_w - device.idle_w))


# Flops per token of Llama-2 70B LoRA (forward and activation gradients) over the FP8 peaks, at published MLPerf rates.
_LORA_FLOP = 4 * 69e9 * 1.06
MEASURED = {
    # published reading in W: (name of chip or system, activity, tolerance)
    "910B in a long BF16 product at 304.3 TFLOP/s: 364.7 W (FlagPerf)": (
        364.7, "ascend-910b2", Activity(304.3 / 353.9, 0.05, 0.0, 1.0), 0.03,
    ),
    "8 x A100, 95th percentile of a training cluster: 5,040 W (AcmeTrace)": (
        5040.0, "dgx-a100", Activity(0.8, 0.1, 0.05, 1.0), 0.03,
    ),
    "A100 board, 90th percentile: 403.6 W (AcmeTrace)": (403.6, "a100-sxm-80gb", Activity(0.8, 0.1, 0.05, 1.0), 0.03),
    "8 x H100, highest usual reading: 8.4 to 8.9 kW (MLPerf 4.1)": (
        8650.0, "dgx-h100", Activity(0.73, 0.1, 0.05, 1.0), 0.03,
    ),
    "8 x H100, mean of Llama-2 70B LoRA: 7,100 W (MLPerf 4.1)": (
        7100.0, "dgx-h100", Activity(2100 * _LORA_FLOP / 1979e12, 0.15, 0.05, 0.95), 0.16,
    ),
    "8 x B200, water-cooled, mean of the same: 9,580 W (MLPerf 5.0)": (
        9580.0, "dgx-b200", Activity(5373 * _LORA_FLOP / 4500e12, 0.15, 0.05, 0.95), 0.16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MEASURED)
def test_measured_power(what: str) -> None:
    """Chips and servers with meters on them; docs/power-and-cost.md lists how far each is off."""
    measured, name, activity, tolerance = MEASURED[what]
    drawn = job_w(name, activity) if name.startswith("dgx") else chip_power_w(load_chip(name), activity)
    assert drawn == pytest.approx(measured, rel=tolerance)


def test_cm384_between_the_published_readings() -> None:
    """Parts add up to the stress maximum of 719 kW (12 x 54 + 4 x 17.8); a job leaves hosts and fans below theirs, so
    that a job at half of the chips' peak to one at their limit brackets 559 kW (SemiAnalysis, all-in under load)."""
    assert it_power_w(load_system("cm384")) == pytest.approx(719e3, rel=0.01)
    half, limit = (job_w("cm384", Activity(u, 0.4, 0.3, 1.0)) for u in (0.4, 1.0))
    assert half < 559e3 < limit < 680e3
    assert half > 480e3


def test_mlperf_h100_node() -> None:
    """MLPerf Training v4.1: 8 x H100 nodes draw 7.1 kW on average (6.7 to 7.9) and 2.6 kW at least."""
    system = load_system("dgx-h100")
    assert it_power_w(system, 0.0) == pytest.approx(2615, rel=0.01)
    assert 0.5 < (7100 - 2615) / (it_power_w(system) - 2615) < 0.75


def test_server_maximum_is_the_sum_of_its_parts() -> None:
    for name in ("dgx-a100", "dgx-h100", "dgx-b200", "atlas-a2", "mi300x-8", "gb200-nvl72"):
        system = load_system(name)
        assert system.power_w is not None
        assert it_power_w(system) == pytest.approx(system.power_w, rel=0.005)


def test_energy_per_token() -> None:
    assert energy_j_per_token(500e3, 1e6) == 0.5
