"""Power model: bounds, monotony, published readings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.machine import load_chip, load_system, system_names
from supertwin.room import component_power_w, energy_j_per_token, it_power_w, power_w
from supertwin.room.power import chip_load

SHARE = st.floats(0, 1)


@given(st.sampled_from(system_names()), SHARE, SHARE, SHARE)
def test_between_idle_and_maximum(name: str, compute: float, memory: float, network: float) -> None:
    system = load_system(name)
    by_part = component_power_w(system, compute, memory, network)
    drawn = sum(value for part, value in by_part.items() if part != "cooling")
    assert it_power_w(system, 0.0) * 0.999999 <= drawn <= it_power_w(system, 1.0) * 1.000001
    assert power_w(system, compute, memory, network) == pytest.approx(drawn * system.pue)


@given(SHARE, SHARE, st.floats(0, 0.2))
def test_more_load_never_draws_less(compute: float, memory: float, more: float) -> None:
    system = load_system("cm384")
    higher = min(1.0, compute + more)
    assert power_w(system, higher, memory, 0.5) >= power_w(system, compute, memory, 0.5)


def test_arrays_and_numbers_agree() -> None:
    system = load_system("dgx-h100")
    compute = np.linspace(0, 1, 5)
    together = power_w(system, compute, 1.0 - compute, compute)
    single = [power_w(system, float(c), float(1.0 - c), float(c)) for c in compute]
    assert together == pytest.approx(single)


def test_power_is_proportional_to_devices() -> None:
    system = load_system("cm384")
    assert power_w(system, 0.5, 0.5, 0.5, 384) == pytest.approx(power_w(system, 0.5, 0.5, 0.5) / 2)


def test_scale_out_network_counts_only_when_used() -> None:
    one, many = load_system("dgx-h100"), load_system("dgx-h100:1024")
    assert "scale_out_switch" not in component_power_w(one, 0.5, 0.5, 0.5)
    joined = component_power_w(many, 0.5, 0.5, 0.5)
    assert joined["scale_out_switch"] > 0
    assert power_w(many, 0.5, 0.5, 0.5) > 128 * power_w(one, 0.5, 0.5, 0.5)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_utilisation_outside_is_refused(bad: float) -> None:
    with pytest.raises(InputError):
        power_w(load_system("cm384"), bad, 0.5, 0.5)


def test_910b_in_gemm() -> None:
    """FlagPerf: 364.7 W in an 8192^3 BF16 GEMM at 304.3 TFLOP/s, 86 % of the peak of the chip."""
    chip = load_chip("ascend-910b2")
    load = chip_load(304.3e12 / chip.peak("bf16"), 0.05)
    assert chip.idle_w + load * (chip.tdp_w - chip.idle_w) == pytest.approx(364.7, rel=0.05)


def test_cm384_maximum_is_the_white_paper_sum() -> None:
    """Atlas 900 A3 white paper: 12 x 54 + 4 x 17.8 = 719 kW under stress; 559 kW (SemiAnalysis) is a partial load."""
    system = load_system("cm384")
    assert it_power_w(system) == pytest.approx(719e3, rel=0.01)
    assert it_power_w(system, 0.3) < 559e3 < it_power_w(system, 0.9)


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
