"""Price model: parts add up, published rental prices are of the same size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.machine import load_system, system_names
from supertwin.room import (
    hour_price,
    purchase_usd_per_device,
    rental_readings,
    room_assumptions,
    usd_per_device_hour,
    usd_per_million_tokens,
)


def test_cm384_by_hand() -> None:
    """8.2 MUSD over 768 dies, 4 years, 80 % sold; 5 % a year of support."""
    price = hour_price(load_system("cm384"), 700.0)
    assert price is not None
    purchase = 8.2e6 / 768
    hours = 4 * 8766 * 0.8
    assert price.capital_usd == pytest.approx(purchase / hours)
    assert price.maintenance_usd == pytest.approx(0.05 * purchase / (8766 * 0.8))
    assert price.electricity_usd == pytest.approx(0.7 * 1.2 * 0.08 / 0.8)


def test_h100_lies_among_rental_prices() -> None:
    """Owning an H100 in a cluster costs less than the dearest rental and more than half of the cheapest."""
    system = load_system("dgx-h100:1024")
    owned = usd_per_device_hour(system)
    rents = [cited.value * 3600 for cited in rental_readings(system)]
    assert owned is not None
    assert len(rents) == 5
    assert 0.5 * min(rents) < owned < max(rents)


def test_cluster_price_includes_the_network() -> None:
    """H100 Freakonomics: 49.5 kUSD per GPU with network; servers alone 40 kUSD (SemiAnalysis)."""
    assert purchase_usd_per_device(load_system("dgx-h100")) == pytest.approx(40e3)
    with_network = purchase_usd_per_device(load_system("dgx-h100:1024"))
    assert with_network == pytest.approx(44.39e3)


def test_other_reading_of_the_purchase_price() -> None:
    system = load_system("cm384")
    readings = [other.value for other in system.cited["price.system"].alternatives]
    dear = hour_price(system, 700.0, purchase_usd=max(readings))
    cheap = hour_price(system, 700.0)
    assert dear is not None
    assert cheap is not None
    assert dear.capital_usd / cheap.capital_usd == pytest.approx(17.7 / 8.2)


@given(st.sampled_from(system_names()))
def test_price_is_known_or_none(name: str) -> None:
    system = load_system(name)
    price = hour_price(system)
    if price is None:
        assert system.price_usd is None
        assert not rental_readings(system)
    else:
        assert 0 < price.total_usd < 20
        assert price.total_usd == pytest.approx(price.capital_usd + price.maintenance_usd + price.electricity_usd)


@given(st.floats(0.1, 100), st.floats(1, 1e5))
def test_price_per_million_tokens(usd: float, rate: float) -> None:
    price = usd_per_million_tokens(usd, rate)
    assert price * rate * 3600 / 1e6 == pytest.approx(usd)


def test_assumptions_carry_their_reason() -> None:
    for name, cited in room_assumptions().items():
        assert cited.kind == "assumption", name
        assert len(cited.note) > 30, name
