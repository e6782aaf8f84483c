"""Few ranks on the mesh of a 910B server use few links; what bounds small messages is the device, not a link."""

from __future__ import annotations

import pytest

from supertwin.machine import load_system
from supertwin.network.collective import collective_time, for_ranks
from supertwin.network.group import Group

A2 = load_system("atlas-a2:8")


def reduce_us(ranks: int, size: float) -> float:
    return float(collective_time(A2, "all_reduce", size, Group(ranks), library="inference").time_s) * 1e6


def test_two_ranks_come_near_the_rate_of_their_link() -> None:
    """256 KB over one link of 28 GB/s: 9.4 us at the line rate."""
    assert 9.4 < reduce_us(2, 262144.0) < 20.0


def test_the_rate_of_the_device_bounds_all_links() -> None:
    """Eight ranks send 1.75 times the message, two send it once."""
    eight, two = (reduce_us(n, 262144.0) - reduce_us(n, 65536.0) for n in (8, 2))
    assert two < eight < 1.75 * two


def test_shares_of_links() -> None:
    numbers = {"efficiency": 0.14, "links": 7.0, "most": 0.728}
    assert [for_ranks(numbers, n)["efficiency"] for n in (2, 4, 8)] == pytest.approx([0.728, 0.14 * 7 / 3, 0.14])
    plain = {"efficiency": 0.5}
    assert for_ranks(plain, 2) is plain
