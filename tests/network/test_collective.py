"""Invariants of collectives, and counts of bytes made another way."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.system import System, Tier
from supertwin.machine.systems import load_system
from supertwin.network.algorithms import ALGORITHMS, OPERATIONS
from supertwin.network.collective import collective_seconds, collective_time, lines_of
from supertwin.network.group import Group
from supertwin.network.span import group_levels, pair_levels

SYSTEMS = ("cm384", "dgx-h100", "dgx-a100", "gb200-nvl72", "atlas-a2", "mi300x-8", "tpu-v5p", "atlas-950")
LEAST_WIRE = {  # bytes that one rank has to receive, over the message size, whatever the algorithm
    "all_reduce": lambda n: 1.0 if n > 1 else 0.0,
    "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: 1 / n,
    "all_to_all": lambda n: (n - 1) / n,
    "broadcast": lambda _n: 1.0,
    "p2p": lambda _n: 1.0,
}
groups = st.builds(Group, st.sampled_from([2, 3, 4, 8, 16, 48, 64, 128]), st.sampled_from([1, 2, 4, 8]))
sizes = st.floats(1.0, 2.0**34)


def widest(system: System) -> float:
    """All the bandwidth that a device has into its fabric."""
    return sum(tier.bandwidth_bytes_per_s for tier in system.tiers)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SYSTEMS), st.sampled_from(OPERATIONS), groups, sizes)
def test_never_faster_than_the_links(name: str, op: str, group: Group, size: float) -> None:
    system = load_system(name)
    found = collective_time(system, op, size, group)
    assert found.time_s >= size * LEAST_WIRE[op](group.size) / widest(system)
    assert found.time_s == pytest.approx(found.latency_s + found.bandwidth_s)
    assert found.latency_s >= 0


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SYSTEMS), st.sampled_from(OPERATIONS), groups, st.lists(sizes, min_size=2, max_size=8))
def test_more_bytes_take_longer_and_arrays_agree_with_numbers(
    name: str, op: str, group: Group, several: list[float]
) -> None:
    system = load_system(name)
    ordered = np.sort(np.array(several))
    times = np.asarray(collective_time(system, op, ordered, group).time_s)
    assert np.all(np.diff(times) >= -1e-15)
    assert times == pytest.approx([collective_time(system, op, float(s), group).time_s for s in ordered])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SYSTEMS), st.sampled_from(OPERATIONS), groups, sizes, st.floats(1.0, 8.0))
def test_more_bandwidth_never_slows(name: str, op: str, group: Group, size: float, faster: float) -> None:
    system = load_system(name)
    tiers = tuple(replace(t, bandwidth_bytes_per_s=t.bandwidth_bytes_per_s * faster) for t in system.tiers)
    better = collective_time(replace(system, tiers=tiers), op, size, group).time_s
    assert better <= collective_time(system, op, size, group).time_s * (1 + 1e-12)


@pytest.mark.parametrize("n", [2, 4, 8, 64])
def test_ring_all_reduce_is_reduce_scatter_then_all_gather(n: int) -> None:
    tiers = (Tier("nvlink", "nvlink", 8, 450e9, 1e-6), Tier("out", "ib", 1 << 16, 50e9, 3e-6, scale_out=True))
    levels = group_levels(tiers, Group(n))
    numbers = {"fixed_s": 0.0, "hop_s": 1e-6, "efficiency": 0.8}
    tables = {level.path: {"ring/simple": numbers} for level in levels}
    both, first, second = (lines_of(levels, op, tables)[0] for op in ("all_reduce", "reduce_scatter", "all_gather"))
    assert both.s_per_byte == pytest.approx(first.s_per_byte + second.s_per_byte)
    assert both.latency_s == pytest.approx(first.latency_s + second.latency_s)


@pytest.mark.parametrize(("n", "stride"), [(8, 1), (16, 1), (32, 1), (32, 4), (24, 16)])
def test_bytes_on_the_wire_by_enumeration(n: int, stride: int) -> None:
    # every pair of ranks exchanges S/n; a rank sends to another block through its own link of the tier
    tiers = (
        Tier("package", "d2d", 2, 3e11, 0.0),
        Tier("node", "hccs", 16, 2e11, 0.0),
        Tier("row", "ub", 256, 1e11, 0.0),
        Tier("out", "ib", 4096, 5e10, 0.0),
    )
    group = Group(n, stride)
    levels = group_levels(tiers, group)
    tables = {level.path: {"pairwise/simple": {"fixed_s": 0.0, "hop_s": 0.0, "efficiency": 1.0}} for level in levels}
    (line,) = lines_of(levels, "all_to_all", tables)
    devices = [rank * stride for rank in range(n)]
    sent = {(device, tier.name): 0.0 for device, tier in product(devices, tiers)}
    for source, target in product(devices, devices):
        if source != target:
            tier = next(t for t in tiers if source // t.devices == target // t.devices)
            sent[source, tier.name] += 1.0 / n
    rates = {tier.name: tier.bandwidth_bytes_per_s for tier in tiers}
    slowest = max(share / rates[name] for (device, name), share in sent.items() if device == 0)
    assert line.s_per_byte == pytest.approx(slowest)


@pytest.mark.parametrize("per_node", [1, 2, 8])
def test_ring_crosses_a_node_once_over_all_its_adapters(per_node: int) -> None:
    tiers = (Tier("nvlink", "nvlink", 8, 450e9, 0.0), Tier("out", "ib", 1 << 16, 50e9, 0.0, scale_out=True))
    n = 32
    levels = group_levels(tiers, Group(n, 8 // per_node))
    numbers = {"fixed_s": 0.0, "hop_s": 0.0, "efficiency": 1.0}
    (line,) = lines_of(levels, "all_gather", {level.path: {"ring/simple": numbers} for level in levels})
    assert line.s_per_byte == pytest.approx((n - 1) / n / min(450e9, per_node * 50e9))


def test_group_of_one_costs_nothing() -> None:
    found = collective_time(load_system("cm384"), "all_reduce", 1e9, Group(1))
    assert (found.time_s, found.algorithm) == (0.0, "none")
    assert np.all(np.asarray(collective_time(load_system("cm384"), "all_reduce", np.ones(3), Group(1)).time_s) == 0)


def test_mesh_pair_uses_one_link_and_all_ranks_use_all() -> None:
    mesh = (Tier("hccs", "hccs", 8, 196e9, 0.0, "mesh"),)
    assert group_levels(mesh, Group(2))[0].bytes_per_s == pytest.approx(28e9)
    assert group_levels(mesh, Group(8))[0].bytes_per_s == pytest.approx(196e9)
    assert pair_levels(mesh, Group(8))[0].bytes_per_s == pytest.approx(28e9)


def test_torus_group_within_one_axis_uses_that_axis() -> None:
    torus = (Tier("ici", "ici", 4096, 600e9, 0.0, "torus", links_per_device=6),)
    assert group_levels(torus, Group(16))[0].bytes_per_s == pytest.approx(200e9)
    whole = group_levels(torus, Group(4096))[0]
    assert whole.bytes_per_s == pytest.approx(600e9)
    assert whole.detour == pytest.approx(3 * 16 / 4)  # mean hops of a 16 x 16 x 16 torus


def test_production_costs_a_fixed_time_more_on_cm384() -> None:
    # msModeling communication alignment report: all-reduce +7.7 us and all-gather +14.6 us at 16 dies, +1.2, +2.0 at 8
    system = load_system("cm384")
    for op, n, extra in (("all_reduce", 16, 7.7), ("all_gather", 16, 14.6), ("all_reduce", 8, 1.2)):
        bare, inside = (
            collective_time(system, op, 1e6, Group(n), context=c).time_s for c in ("benchmark", "production")
        )
        assert inside - bare == pytest.approx(extra * 1e-6)


def test_protocol_switch_of_hccl_near_60_kb_per_die() -> None:
    # same report: 30 us below and 155 us above the switch, all-reduce over 8 dies
    system = load_system("cm384")
    below, above = (collective_time(system, "all_reduce", b * 8.0, Group(8)).time_s for b in (61440, 61441))
    assert below < 40e-6
    assert above == pytest.approx(155e-6, rel=0.05)


def test_serving_on_ascend_has_no_switch_below_16_mb() -> None:
    # cann-hccl, SelectAlgfor910B: with vector-core kernels on, 16 MB in all is the next limit
    cm = load_system("cm384")

    def seconds(size: float, library: str) -> float:
        return float(collective_time(cm, "all_reduce", size, Group(8), library=library).time_s)

    for small in (8192.0, 61440.0 * 8):
        assert seconds(small, "inference") == pytest.approx(seconds(small, "hccl"))
    assert seconds(61440.0 * 9, "inference") < 0.3 * seconds(61440.0 * 9, "hccl")
    assert seconds(2.0**25, "inference") == pytest.approx(seconds(2.0**25, "hccl"))


def test_in_network_reduction_needs_switches_that_reduce() -> None:
    system = load_system("dgx-h200")
    plain = replace(system, tiers=tuple(replace(t, reduction=False) for t in system.tiers))
    fast, slow = (collective_time(s, "all_reduce", 2.0**33, Group(8)) for s in (system, plain))
    assert fast.time_s < slow.time_s
    assert str(fast.algorithm).startswith("nvls")
    assert str(slow.algorithm).startswith("ring")


def test_serving_engines_bring_their_own_all_reduce() -> None:
    # aiconfigurator: 8 H200, 16 KiB: 3.5 us in TensorRT-LLM's kernel, 17 us in NCCL
    times = {
        library: collective_time(load_system("dgx-h200"), "all_reduce", 2.0**14, Group(8), library=library).time_s
        for library in ("inference", "default")
    }
    assert times["inference"] == pytest.approx(3.5e-6, rel=0.3)
    assert times["default"] == pytest.approx(17e-6, rel=0.2)
    ascend = load_system("cm384")
    same = {collective_time(ascend, "all_reduce", 1e5, Group(8), library=n).time_s for n in ("inference", "default")}
    assert len(same) == 1


def test_many_groups_at_once_agree_with_one_by_one() -> None:
    system = load_system("cm384")
    found = collective_seconds(system, "all_gather", 1e6, [[2, 16], [64, 1]], [1, 8])
    for (i, j), seconds in np.ndenumerate(found):
        group = Group([[2, 16], [64, 1]][i][j], [1, 8][j])
        expected = collective_time(system, "all_gather", 1e6, group, context="production").time_s
        assert seconds == pytest.approx(expected)


def test_bad_input_is_named() -> None:
    system = load_system("dgx-h100")
    with pytest.raises(UnknownName, match="all_reduce"):
        collective_time(system, "all_reduced", 1.0, Group(8))
    with pytest.raises(UnknownName, match="nccl"):
        collective_time(system, "all_reduce", 1.0, Group(8), library="ncl")
    with pytest.raises(UnknownName, match="production"):
        collective_time(system, "all_reduce", 1.0, Group(8), context="prod")
    with pytest.raises(InputError, match="spans more"):
        collective_time(system, "all_reduce", 1.0, Group(1 << 20))


def test_every_algorithm_moves_at_least_what_must_move() -> None:
    for op, algorithms in ALGORITHMS.items():
        for name, algorithm in algorithms.items():
            for n in (2, 3, 8, 100):
                assert algorithm.wire(n) >= LEAST_WIRE[op](n) * (1 - 1e-12), (op, name, n)
