"""Claims about the fabric, pinned to hand calculations."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from supertwin.claims import evaluate
from supertwin.claims.fabric import all_to_all_bytes_per_s, optics_inventory
from supertwin.claims.scaling import best_point, curves
from supertwin.machine import load_system
from supertwin.machine.system import System, cut_to_the_node
from supertwin.model import load_model

VERDICTS = {c.statement.id: c.verdict for c in evaluate(["C16", "C17", "C18", "C19"])}


@pytest.mark.parametrize(
    ("name", "verdict"), [("C16", "holds"), ("C17", "depends"), ("C18", "holds"), ("C19", "holds")]
)
def test_verdicts(name: str, verdict: str) -> None:
    assert VERDICTS[name].verdict == verdict
    assert VERDICTS[name].sources


def test_optics_by_hand() -> None:
    # 48 nodes x 56 ports, the same at L2, 4 per package: 2,688 + 2,688 + 1,536 (SemiAnalysis: 6,912, 18 per NPU)
    found = optics_inventory()
    assert found.modules == 2688 + 2688 + 1536 == 18 * 384
    assert found.scale_up == 14 * 384
    assert found.power_w == (6912 * 4.0, 6912 * 7.0)
    assert found.price_usd == (6912 * 200.0, 6912 * 800.0)
    # 500,000 and 2,000,000 h between failures of one module
    assert found.hours_between_failures == pytest.approx((500_000 / 6912, 2_000_000 / 6912))


def test_shares_of_optics_by_hand() -> None:
    numbers = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", VERDICTS["C18"].computed)]
    # readings of the catalogue: 500 to 719 kW, 8.2 to 17.7 MUSD
    assert numbers[:4] == pytest.approx(
        [100 * 27.648 / 719, 100 * 48.384 / 500, 100 * 1.3824 / 17.7, 100 * 5.5296 / 8.2], abs=0.5
    )


def test_the_bus_keeps_its_rate_where_servers_drop_to_scale_out() -> None:
    # line rates per package: 2 x 196 GB/s on CM384 at any size; a GPU outside its NVLink domain has one 50 GB/s port
    ours, racks, servers = (load_system(name) for name in ("cm384", "gb200-nvl72", "dgx-h800"))
    assert 196e9 < all_to_all_bytes_per_s(ours, 384) < 392e9 * 384 / 383
    for other in (racks, servers):
        inside = other.full_devices / 384
        assert all_to_all_bytes_per_s(other, 384) < 50e9 / (1 - inside)
    assert all_to_all_bytes_per_s(racks, 72) > all_to_all_bytes_per_s(ours, 72)


def test_cut_to_the_node_leaves_only_the_scale_out_between_nodes() -> None:
    assert [tier.name for tier in cut_to_the_node(load_system("cm384")).tiers] == ["package", "ub-node", "rdma"]


def test_more_bandwidth_never_slows_the_job() -> None:
    model, system = load_model("pangu-ultra-moe-718b"), load_system("cm384")
    cut = cut_to_the_node(system)
    best = [best_point(machine, model, 768, 9216).tokens_per_s_per_device for machine in (cut, _faster(cut), system)]
    assert 0 < best[0] < best[1] <= best[2]


def _faster(system: System) -> System:
    tiers = [replace(t, bandwidth_bytes_per_s=2 * t.bandwidth_bytes_per_s) if t.scale_out else t for t in system.tiers]
    return replace(system, tiers=tuple(tiers))


def test_layouts_found_lie_on_the_machine() -> None:
    for points in curves().values():
        for devices, point in points.items():
            assert point.layout is not None
            assert point.layout.devices == devices
