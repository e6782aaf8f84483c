"""Tables, matrix and fault study of a fabric against published numbers, hand calculations and invariants."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.core.errors import UnknownName
from supertwin.machine import load_system, system_names
from supertwin.network.topology import build, connect
from supertwin.report.fabric_collectives import EVERY_OP, Question, collective_fields
from supertwin.report.fabric_faults import fault_fields, slowed, whole_nodes
from supertwin.report.fabric_matrix import downsampled, package_matrix
from supertwin.report.fabric_study import Fabric, overview_fields
from supertwin.report.fabric_tables import TABLE_1, TABLE_7, group_rows, on_plane, pair_rows

CM384 = load_system("cm384")


def test_published_point_to_point_table() -> None:
    """arXiv 2506.12708v2, table 1: eight rows of bandwidth and of latency, each within 10 %."""
    rows = [row for row in pair_rows(CM384) if row["published_bytes_per_s"]]
    assert len(rows) == len(TABLE_1) == 8
    for row in rows:
        assert row["bytes_per_s"] == pytest.approx(row["published_bytes_per_s"], rel=0.1)
        assert row["latency_s"] == pytest.approx(row["published_latency_s"], rel=0.1)


@pytest.mark.parametrize("index", [0, 1], ids=["dispatch", "combine"])
def test_published_exchange_table(index: int) -> None:
    """The same paper, table 7: EP8 to EP256, closed form, each within 10 %."""
    rows = {row["devices"]: row for row in group_rows(CM384)}
    op = ("dispatch", "combine")[index]
    for ranks, printed in TABLE_7.items():
        assert rows[ranks][op]["time_s"] == pytest.approx(printed[index] * 1e-6, rel=0.1), ranks


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_flow_level_of_the_exchange_is_near_the_table(op: str) -> None:
    payload = 128 * (7168 + 512 if op == "dispatch" else 2 * 7168)
    for ranks, printed in TABLE_7.items():
        fields = collective_fields(Fabric(CM384), Question(op, (float(payload),), ranks))
        row = fields["rows"][0]
        assert row["tokens"] == pytest.approx(128)
        assert row["flow"]["time_s"] == pytest.approx(printed[op == "combine"] * 1e-6, rel=0.1), ranks


@pytest.mark.parametrize("op", EVERY_OP)
def test_levels_agree_without_contention(op: str) -> None:
    if op == "broadcast":
        pytest.skip("priced apart: the closed form takes the prior of the link between dies, see docs/fabric.md")
    for row in collective_fields(Fabric(CM384), Question(op, (2.0**16, 2.0**26), 64))["rows"]:
        assert row["flow"]["time_s"] == pytest.approx(row["closed"]["time_s"], rel=0.05)


@pytest.mark.parametrize("name", [n for n in system_names() if load_system(n).devices <= 1024])
def test_every_system_has_an_overview(name: str) -> None:
    fields = overview_fields(Fabric(load_system(name)))
    assert all(row["links"] > 0 and row["bytes_per_s"] > 0 for row in fields["links"])
    assert [row for row in fields["checks"] if not row["ok"]] == []


def test_bisection_by_hand() -> None:
    # 384 dies on one side, 7 links of 28 GB/s each, nothing oversubscribed
    rows = {row["plane"]: row for row in overview_fields(Fabric(CM384))["bisection"]}
    assert rows["ub"]["bytes_per_s"] == pytest.approx(384 * 7 * 28e9)
    assert rows["rdma"]["bytes_per_s"] == pytest.approx(384 * 25e9)


def test_matrix_classes_equal_pair_by_pair() -> None:
    """The few classes against a route search for every pair, with faults that break the symmetry."""
    fabric = Fabric(load_system("cm384:64"), "ub", ("node1/ub-l1-3", "node2/npu4/die0", "ub-l2-2-*=0.5"))
    matrix = package_matrix(fabric.graph, fabric.whole, "ub")
    for row in range(0, 32, 3):
        for column in range(32):
            if row == column:
                continue
            ends = 2 * row, 2 * column + 1
            now, before = connect(fabric.graph, *ends, "ub"), connect(fabric.whole, *ends, "ub")
            share = now.bytes_per_s / before.bytes_per_s
            inter = row // 8 != column // 8
            measured = (164e9 if inter else 167e9) * share
            assert matrix.bytes_per_s[row, column] == pytest.approx(measured, rel=0.01), (row, column)
    assert matrix.classes < 32 * 32


def test_healthy_matrix_is_symmetric_and_has_three_values() -> None:
    graph = build(CM384)
    matrix = package_matrix(graph, graph)
    assert np.array_equal(matrix.bytes_per_s, matrix.bytes_per_s.T)
    assert len(np.unique(matrix.bytes_per_s)) == 3
    assert matrix.unreachable == 0


def test_removing_a_part_never_helps_a_pair() -> None:
    fabric = Fabric(load_system("cm384:64"), "", ("node0/ub-l1-0", "ub-l2-1-3"))
    before, after = (package_matrix(g, fabric.whole) for g in (fabric.whole, fabric.graph))
    assert (after.bytes_per_s <= before.bytes_per_s * (1 + 1e-9)).all()
    assert (after.latency_s >= before.latency_s * (1 - 1e-9)).all()


def test_downsampling_keeps_the_worst_value() -> None:
    values = np.full((12, 12), 5.0)
    values[7, 2] = 1.0
    assert downsampled(values, 4, {"high": False}).tolist()[2] == [1.0, 5.0, 5.0, 5.0]
    assert downsampled(values, 5, {"high": False}).min() == 1.0


def test_lost_switches_cost_their_share() -> None:
    # one of 7 L1 chips: 6/7 of the node's bandwidth; one of 7 x 16 L2 chips: 111/112 of everyone's, weighted by path
    chip = fault_fields(Fabric(CM384, "", ("node3/ub-l1-4",)))
    assert chip["tier_shares"]["ub-supernode"] == pytest.approx(6 / 7)
    upper = fault_fields(Fabric(CM384, "", ("ub-l2-4-11",)))
    assert upper["tier_shares"]["ub-supernode"] == pytest.approx(111 / 112, rel=1e-3)
    assert upper["cut_off_pairs"] == 0
    assert upper["links_lost"] == 48
    for fields in (chip, upper):
        assert all(row["ratio"] >= 1.0 - 1e-9 for row in (*fields["collectives"], *fields["steps"]))
    train = {row["scenario"]: row["ratio"] for row in chip["steps"]}["pangu-ultra-moe-cm384"]
    assert 1.0 < train < 7 / 6


def test_a_lost_node_is_left_out() -> None:
    fabric = Fabric(CM384, "", ("node5",))
    fields = fault_fields(fabric)
    assert len(fields["devices_lost"]) == 16
    # ordered pairs with at least one end in the node: 768 x 767 - 752 x 751
    assert fields["cut_off_pairs"] == 768 * 767 - 752 * 751
    assert fields["cut_off_pairs_of_living_devices"] == 0
    left = whole_nodes(fabric.graph)
    assert left.size == 45 * 16  # 47 nodes are prime; 45 = 3 x 3 x 5
    assert not np.isin(np.arange(80, 96), left).any()


def test_without_the_bus_traffic_takes_the_rdma_plane() -> None:
    fields = fault_fields(Fabric(CM384, "", ("ub",)))
    assert fields["cut_off_pairs"] == 0
    worst = fields["pairs"][0]["after"]
    assert (worst["plane"], worst["bytes_per_s"]) == ("rdma", pytest.approx(25e9))
    assert fields["tier_shares"]["ub-supernode"] == pytest.approx(25 / 196, rel=0.02)
    assert slowed(CM384, fields["tier_shares"]).tiers[2].bandwidth_bytes_per_s == pytest.approx(25e9, rel=0.02)
    assert all(row["ratio"] > 1.1 for row in fields["steps"])


def test_planes_are_held_to() -> None:
    assert [tier.name for tier in on_plane(CM384, "ub").tiers] == ["package", "ub-node", "ub-supernode"]
    assert [tier.name for tier in on_plane(CM384, "rdma").tiers] == ["rdma"]
    assert [tier.bandwidth_bytes_per_s for tier in on_plane(CM384, "vpc").tiers] == [3.125e9]
    with pytest.raises(UnknownName, match="rdma"):
        _ = Fabric(CM384, "rdm").whole
