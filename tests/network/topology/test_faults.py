"""Faults: addresses, rerouting, what a missing part can never do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.systems import load_system
from supertwin.network import faults
from supertwin.network.topology import build, connect, most_bytes_per_s
from supertwin.network.topology.graph import Graph

CM = build(load_system("cm384:48"))
OTHERS = {name: build(load_system(name)) for name in ("dgx-h100:24", "atlas-a2:16", "tpu-v5e:16", "gb200-nvl72")}


def _rate(graph: Graph, *ends: int) -> float:
    return connect(graph, *ends).bytes_per_s


def test_one_l2_chip_of_a_sub_plane() -> None:
    hurt = faults.apply(CM, ["ub-l2-3-5"])
    found = connect(hurt, 0, 16)
    assert found.paths == 111
    # 28 GB/s of the die's busiest link over its share of 16 of 111 paths
    assert found.bytes_per_s == pytest.approx(28e9 * 111 / 16)


@pytest.mark.parametrize(("target", "links"), [("ub-4", 7), ("node1/ub-l1-4", 7)])
def test_a_lost_sub_plane_costs_a_seventh(target: str, links: int) -> None:
    assert _rate(faults.apply(CM, [target]), 0, 16) == pytest.approx(196e9 * (links - 1) / links)


def test_without_ub_the_adapters_carry_on() -> None:
    hurt = faults.apply(CM, ["ub"])
    assert connect(hurt, 0, 16).plane == "rdma"
    assert _rate(hurt, 0, 16) == pytest.approx(25e9)
    assert connect(faults.apply(CM, ["ub", "rdma"]), 0, 16).plane == "vpc"
    cut = connect(faults.apply(CM, ["ub", "rdma", "vpc"]), 0, 16)
    assert (cut.paths, cut.bytes_per_s) == (0, 0.0)
    assert "after ub removed, rdma removed, vpc removed" in cut.reason


def test_a_lost_die_is_an_answer() -> None:
    hurt = faults.apply(CM, ["node1/npu0/die0"])
    assert connect(hurt, 0, 16).reason == "node1/npu0/die0 removed"
    found = faults.effect(CM, hurt)
    assert found.devices_lost == ("node1/npu0/die0",)
    assert found.cut_off == 2 * 47
    assert found.parts_lost == 2  # the die and its adapter


def test_a_transceiver_takes_two_uplinks() -> None:
    hurt = faults.apply(CM, ["node0/ub-l1-2/optics-3"])
    lost = np.flatnonzero((hurt.link_bytes_per_s == 0) & (CM.link_bytes_per_s > 0))
    ends = {CM.parts[part] for part in CM.link_to[lost]} | {CM.parts[part] for part in CM.link_from[lost]}
    assert ends == {"node0/ub-l1-2", "ub-l2-2-6", "ub-l2-2-7"}
    assert len(lost) == 4
    full = build(load_system("cm384"))
    assert sum(faults.modules(full, f"node3/ub-l1-{p}") for p in range(7)) == 56  # WP-A3: 56 bus ports per node
    assert faults.modules(full, "ub-l2-0-0") == 24  # two chips in a device of 48 modules


def test_degraded_parts_and_words() -> None:
    assert _rate(faults.apply(CM, ["ub=0.5"]), 0, 16) == pytest.approx(98e9)
    hurt = faults.apply(CM, ["node0/npu0/die0--node0/ub-l1-0=0.5"])
    assert hurt.faults == ("node0/npu0/die0--node0/ub-l1-0 at 50 %",)
    assert _rate(hurt, 0, 16) == pytest.approx(6.5 * 28e9)
    one_way = faults.apply(CM, ["node0/npu0/die0->node0/ub-l1-0"])
    assert _rate(one_way, 0, 16) == pytest.approx(6 * 28e9)
    assert _rate(one_way, 16, 0) == pytest.approx(7 * 28e9)


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("ub-l2-3-16", "ub-l2-3-1"),
        ("node0/npu9", "node0/npu"),
        ("nodee1", "node1"),
        ("node0/npu0/die0--node1/npu0/die0", "node0/npu0/die0--node0/ub-l1-0"),
        ("node0/ub-l1-2/optics-8", "node0/ub-l1-2"),
    ],
)
def test_unknown_addresses_name_the_nearest(target: str, near: str) -> None:
    with pytest.raises(UnknownName, match=near):
        faults.apply(CM, [target])


def test_bad_shares() -> None:
    with pytest.raises(InputError, match="share from 0 to 1"):
        faults.apply(CM, ["ub=1.5"])
    with pytest.raises(UnknownName, match="degrade"):
        faults.apply(CM, [faults.Fault("ub", "degrad")])


def _draw_fault(data: st.DataObject, graph: Graph) -> str:
    if data.draw(st.booleans()):
        return graph.parts[data.draw(st.integers(0, len(graph.parts) - 1))]
    link = data.draw(st.integers(0, len(graph.link_from) - 1))
    return f"{graph.parts[graph.link_from[link]]}->{graph.parts[graph.link_to[link]]}"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["cm384:48", *OTHERS]), st.data())
def test_removing_a_part_never_helps(name: str, data: st.DataObject) -> None:
    graph = CM if name == "cm384:48" else OTHERS[name]
    first = _draw_fault(data, graph) + data.draw(st.sampled_from(["", "=0.5", "=0.05"]))
    before = faults.apply(graph, [first])
    after = faults.apply(before, [_draw_fault(data, graph)])
    rank = st.integers(0, graph.devices - 1)
    source, target = data.draw(rank), data.draw(rank)
    if source == target:
        return
    assert _rate(after, source, target) <= _rate(before, source, target) * (1 + 1e-9)
    most = [most_bytes_per_s(g, [source], [target]) for g in (before, after)]
    assert most[1] <= most[0] * (1 + 1e-9)
    assert _rate(before, source, target) <= most[0] * (1 + 1e-9)


def test_effect_counts_every_pair() -> None:
    found = faults.effect(CM, faults.apply(CM, ["node0/ub-l1-4", "ub-l2-1-1=0.5"]))
    assert sum(row.pairs for row in found.pairs) == 48 * 47
    assert found.links_lost == 16 + 4 + 16
    assert found.links_degraded == 3
    assert found.mean_bytes_per_s[1] < found.mean_bytes_per_s[0]
    before, after = next((b, a) for plane, b, a in found.bisection if plane == "ub")
    assert after < before == pytest.approx(16 * 196e9)
