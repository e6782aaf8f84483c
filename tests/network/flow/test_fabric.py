"""Classes against every flow by itself, incast, oversubscription, broken parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.machine.systems import load_system
from supertwin.network import flow
from supertwin.network.faults import apply
from supertwin.network.flow import FlowClasses, collective, rates
from supertwin.network.flow.fabric import flows
from supertwin.network.group import Group
from supertwin.network.topology import Graph, build, routes
from supertwin.network.topology.patterns import Pattern, all_to_all, incast
from tests.network.flow.build import make
from tests.network.flow.test_collectives import graph


def without(whole: Graph, address: str) -> Graph:
    """The graph with one part gone."""
    return apply(whole, [address])


def one_by_one(here: Graph, pattern: Pattern) -> FlowClasses:
    """Every flow as a class, every link as a class, straight from the routes."""
    pairs = [(int(a), int(b)) for a in pattern.ranks() for b in pattern.targets(int(a))]
    usage = np.zeros((len(pairs), len(here.link_from)))
    for row, (source, target) in enumerate(pairs):
        for route in routes(here, source, target):
            for link in route.links:
                usage[row, link] += route.share
    used = usage.any(axis=0)
    return make(usage[:, used], here.link_bytes_per_s[used].tolist(), bytes_each=pattern.bytes_each)


@pytest.mark.parametrize("broken", ["", "ub-l2-0-3", "node0/ub-l1-2", "ub-l2-6-15"])
@pytest.mark.parametrize("ranks", [range(20), [0, 1, 2, 17, 40, 41], range(0, 64, 7)])
def test_classes_have_the_rates_of_every_flow_by_itself(broken: str, ranks: range | list[int]) -> None:
    here = without(graph("cm384:64"), broken) if broken else graph("cm384:64")
    pattern = all_to_all(list(ranks), 1e6)
    classes, _ = flows(here, [pattern], [{}])
    grouped = rates(classes).bytes_per_s.repeat(classes.flows.astype(int))
    single = rates(one_by_one(here, pattern)).bytes_per_s
    assert np.sort(grouped) == pytest.approx(np.sort(single), rel=1e-9)
    together, apart = flow.run(classes), flow.run(one_by_one(here, pattern))
    assert together.time_s == pytest.approx(apart.time_s, rel=1e-9)
    assert len(classes.names) < single.size


def test_two_patterns_at_once_as_every_flow_by_itself() -> None:
    here = graph("dgx-h100:32")
    first, second = all_to_all(12, 3e6), incast(range(4, 28), 29, 1e6)
    classes, owner = flows(here, [first, second], [{}, {}])
    assert [classes.flows[owner == i].sum() for i in (0, 1)] == [132, 24]
    joined = Pattern(
        "both", 1.0, source=np.concatenate([np.repeat(np.arange(12), 11), second.source]),
        target=np.concatenate([np.concatenate([first.targets(i) for i in range(12)]), second.target]),
    )  # fmt: skip
    single = rates(one_by_one(here, joined)).bytes_per_s
    assert np.sort(rates(classes).bytes_per_s.repeat(classes.flows.astype(int))) == pytest.approx(np.sort(single))


def test_incast_shares_the_links_of_the_receiver() -> None:
    # 47 dies on other nodes to die 0: its seven links of 28 GB/s are all there is (CM384 paper: 196 GB/s per die)
    classes, _ = flows(graph("cm384"), [incast(list(range(16, 768, 16)), 0, 1e9)], [{}])
    assert rates(classes).bytes_per_s == pytest.approx(196e9 / 47)


def test_shares_of_the_line_rate_are_paid_on_the_links() -> None:
    pattern = all_to_all(4, 1e6)
    full = rates(flows(graph("gb200-nvl72"), [pattern], [{}])[0]).bytes_per_s
    half = rates(flows(graph("gb200-nvl72"), [pattern], [{"nvlink": 0.5}])[0]).bytes_per_s
    assert half == pytest.approx(full / 2)
    assert full == pytest.approx(900e9 / 3)


def test_oversubscription_slows_what_crosses() -> None:
    system = load_system("cm384")
    tiers = tuple(replace(t, oversubscription=4.0) if t.name == "ub-supernode" else t for t in system.tiers)
    thin = build(replace(system, tiers=tiers))
    inside = (collective(g, "all_to_all", 1e9, Group(16)).time_s for g in (graph("cm384"), thin))
    assert next(inside) == pytest.approx(next(inside))
    one = collective(graph("cm384"), "all_to_all", 1e9, Group(48, 16), every=False)
    alone = collective(thin, "all_to_all", 1e9, Group(48, 16))
    crowd = collective(thin, "all_to_all", 1e9, Group(48, 16), every=True)
    # one rank per node has the up links of its node to itself; sixteen of them share a quarter
    assert alone.transfer_s == pytest.approx(one.transfer_s, rel=1e-6)
    assert crowd.transfer_s == pytest.approx(4 * one.transfer_s, rel=1e-6)


def test_broken_switches_slow_and_lost_dies_stop() -> None:
    whole = graph("cm384")
    healthy = collective(whole, "all_to_all", 1e9, Group(768))
    top = collective(without(whole, "ub-l2-3-7"), "all_to_all", 1e9, Group(768))
    # 1 of 16 L2 chips of a sub-plane: each die sends 1/111 of its inter-node bytes over every other L2 column
    assert 1.005 < top.transfer_s / healthy.transfer_s < 1.02
    low = collective(without(whole, "node5/ub-l1-0"), "all_to_all", 1e9, Group(768))
    assert low.transfer_s / healthy.transfer_s == pytest.approx(7 / 6, rel=1e-6)
    lost = collective(without(whole, "node5/npu0/die1"), "all_to_all", 1e9, Group(768))
    assert lost.time_s == np.inf
    assert lost.reasons == ("all_to_all: 1534 flows: no route",)


def test_half_a_link_is_worse_than_a_whole_one_and_better_than_none() -> None:
    whole = graph("cm384:64")
    part = "node1/ub-l1-3"
    times = [collective(whole, "all_to_all", 1e9, Group(64), faults=f).time_s for f in ((), (f"{part}=0.5",), (part,))]
    assert times[0] < times[1] < times[2]


@pytest.mark.parametrize("part", ["ub-l2-0-0", "node1/ub-l1-3", "ub-l2-6-15", "node0/ub-l1-6"])
@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "all_to_all", "broadcast", "p2p"])
def test_removing_a_part_never_helps(part: str, op: str) -> None:
    whole = graph("cm384:64")
    for size in (1e5, 1e9):
        before = collective(whole, op, size, Group(64)).time_s
        assert collective(without(whole, part), op, size, Group(64)).time_s >= before * (1 - 1e-9)


def test_repriced_step() -> None:
    whole = graph("cm384:64")
    axes = [
        flow.StepCollective("tp", "all_reduce", 1e8, Group(8), 120),
        flow.StepCollective("dp", "reduce_scatter", 1e9, Group(8, 8)),
        flow.StepCollective("none", "all_reduce", 1e9, Group(1)),
    ]
    same = flow.slowdown(whole, (), axes)
    assert [row.factor for row in same] == [1.0, 1.0, 1.0]
    hurt = flow.slowdown(whole, ("node1/ub-l1-3",), axes)
    assert all(row.factor > 1.05 for row in hurt[:2])
    assert hurt[0].time_s == pytest.approx(hurt[0].healthy_s * hurt[0].factor)
    assert hurt[2].factor == 1.0
    gone = flow.slowdown(whole, ("node1/npu3/die0",), axes)
    assert gone[0].factor == np.inf
    assert "no route" in gone[0].reason
    with pytest.raises(InputError):
        flow.slowdown(whole, ("node1/npu99",), axes)


@given(st.data(), st.sampled_from(["cm384:32", "dgx-h100:32", "atlas-a2:32"]), st.sampled_from(["", "=0.5"]))
@settings(max_examples=12, deadline=None)
def test_no_broken_part_helps_any_collective(data: st.DataObject, name: str, degree: str) -> None:
    whole = graph(name)
    part = data.draw(st.sampled_from(whole.parts))
    for op in ("all_to_all", "all_reduce", "broadcast"):
        before = collective(whole, op, 1e9, Group(32)).time_s
        assert collective(whole, op, 1e9, Group(32), faults=(part + degree,)).time_s >= before * (1 - 1e-9)
