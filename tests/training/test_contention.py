"""Compute lost beside communication."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.machine.systems import load_system
from supertwin.training.contention import brief_loss, collective_loss, lost_s, persistent, reserved_loss


def slowdown(loss: float) -> float:
    """Time of a product that runs beside a collective all the while, over its time alone."""
    return 1.0 / (1.0 - loss)


def test_products_beside_collectives_slow_down_as_profiled() -> None:
    hopper, ampere = load_system("dgx-h100").chip, load_system("dgx-a100").chip
    assert slowdown(collective_loss(hopper)) == pytest.approx(2.0)  # pytorch/pytorch issue 143988
    assert slowdown(collective_loss(ampere)) == pytest.approx(2.08 / 1.18)  # NVIDIA/nccl issue 1428
    assert slowdown(collective_loss(ampere)) == pytest.approx(0.33 / 0.18, rel=0.05)  # its attention kernel


def test_persistent_products_wait_for_a_short_collective() -> None:
    hopper, ampere = load_system("dgx-h100").chip, load_system("dgx-a100").chip
    assert persistent(hopper)
    assert not persistent(ampere)
    assert brief_loss(hopper) == 1.0
    assert brief_loss(ampere) == collective_loss(ampere)


def test_kernels_with_reserved_cores_cost_least() -> None:
    for name in ("dgx-h100", "dgx-a100", "dgx-b200"):
        chip = load_system(name).chip
        assert 0.0 < reserved_loss(chip) < collective_loss(chip) <= brief_loss(chip)
    assert collective_loss(load_system("cloudmatrix384").chip) == 0.0


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0), st.floats(0.0, 0.9))
def test_both_streams_played_out_end_when_the_formula_says(collective_s: float, compute_s: float, loss: float) -> None:
    """Compute advances at 1 - loss while the collective runs, at 1 afterwards."""
    left = compute_s - (1.0 - loss) * collective_s
    played = collective_s + max(left, 0.0)
    longer = max(collective_s - compute_s, 0.0)
    formula = compute_s + longer + lost_s(collective_s - longer, longer, loss)
    assert formula == pytest.approx(played, abs=1e-9)
