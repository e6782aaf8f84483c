"""Classes by symmetry against every flow and every link one by one."""

import time

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.machine.systems import load_system
from supertwin.network import faults
from supertwin.network.flow.classes import FlowClasses
from supertwin.network.group import Group
from supertwin.network.topology import Graph, build, classes, joint_classes
from supertwin.network.topology import patterns as p
from supertwin.network.topology.routes import best_paths, link_shares

SMALL = {
    name: build(load_system(name)) for name in ("cm384:64", "cm384:32", "dgx-h100:32", "atlas-a2:16", "tpu-v5e:16")
}


def fill(usage: np.ndarray, flows: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Max-min fair rates by progressive filling; usage [flows, links] per flow or per class (rate of one flow)."""
    rate, open_ = np.zeros(len(flows)), np.ones(len(flows), bool)
    while open_.any():
        used, wish = rate @ usage, open_ @ usage
        room = np.where(wish > 1e-12, (capacity - used) / np.maximum(wish, 1e-12), np.inf)
        step = room.min()
        rate[open_] += step
        full = room <= step * (1 + 1e-6) + 1.0  # 1 byte/s
        open_ &= ~(usage[:, full] > 1e-12).any(axis=1)
    return rate


def one_by_one(graph: Graph, pattern: p.Pattern) -> tuple[np.ndarray, np.ndarray, int]:
    """(share of each flow on each link, capacity, flows without a path), each pair routed by itself."""
    rows, cut = [], 0
    for source in pattern.ranks():
        for target in pattern.targets(int(source)):
            found = best_paths(graph, int(graph.device_parts[source]), int(graph.device_parts[target]))
            if not len(found.share):
                cut += 1
                continue
            row = np.zeros(len(graph.link_from))
            links, share = link_shares(found)
            row[links] = share
            rows.append(row)
    usage = np.array(rows) if rows else np.zeros((0, len(graph.link_from)))
    used = usage.any(axis=0)
    return usage[:, used], graph.link_bytes_per_s[used], cut


def check_exact(graph: Graph, pattern: p.Pattern) -> FlowClasses:
    """Rates of all flows and loads of all links, sorted, are the same both ways."""
    usage, capacity, cut = one_by_one(graph, pattern)
    found = classes(graph, pattern)
    assert found.cut_off == cut
    assert found.flows.sum() == len(usage)
    single = fill(usage, np.ones(len(usage)), capacity)
    joint = fill(found.usage, found.flows, found.capacity_bytes_per_s)
    assert np.sort(np.repeat(joint, found.flows.astype(int))) == pytest.approx(np.sort(single), rel=1e-6)
    loads = np.repeat(joint @ found.usage, found.links.astype(int))
    assert np.sort(loads[loads > 0]) == pytest.approx(np.sort((single @ usage)[single @ usage > 0]), rel=1e-6)
    assert (joint @ found.usage <= found.capacity_bytes_per_s * (1 + 1e-6)).all()
    return found


PHASES = (Phase.explicit, Phase.generate)  # shrinking would route thousands of flows again and again
BROKEN = [
    [],
    ["ub-l2-3-5"],
    ["node1/ub-l1-4--ub-l2-4-11"],
    ["node1/npu5/die1"],
    ["node2/ub-l1-0", "node3/npu0/die0--node3/ub-l1-*"],
    # four nodes and two chips that look alike one by one, but not in pairs
    [f"node{n}/ub-l1-0--ub-l2-0-{k}" for n, k in ((0, 0), (1, 0), (2, 1), (3, 1))],
    ["ub-l2-1-1=0.25", "node0=0.5"],
]


@pytest.mark.parametrize("broken", BROKEN)
def test_all_to_all_with_faults(broken: list[str]) -> None:
    found = check_exact(faults.apply(SMALL["cm384:64"], broken), p.all_to_all(64, 1.0))
    assert len(found.names) < 100  # of 4,032 flows


RANKS = [0, 1, 2, 16, 17, 40]
PATTERNS = {
    "subset": lambda n: p.all_to_all([r for r in RANKS if r < n], 1.0),
    "blocks": lambda n: p.grouped(p.shaped(Group(8), n), 1.0),
    "across": lambda n: p.grouped(p.shaped(Group(n // 8, 8), n), 1.0),
    "uneven": lambda n: p.grouped([np.arange(12), np.arange(12, n)], 1.0) if n > 13 else p.all_to_all(n, 1.0),
    "ring": lambda n: p.shift(n, 1.0),
    "rings": lambda n: p.shifts(p.shaped(Group(n // 2, 2), n), 1.0),
    "far": lambda n: p.shift(n, 1.0, n // 2),
    "incast": lambda n: p.incast(n, 3, 1.0),
    "broadcast": lambda n: p.broadcast(3, n, 1.0),
    "pair": lambda n: p.pair(1, n - 1, 1.0),
    "hierarchical": lambda n: p.hierarchical(n, 8, 1.0)[1],
    "tier": lambda n: p.Pattern("tier", 1.0, (np.arange(n),), inner=8, outer=16),
}


@pytest.mark.parametrize("pattern", list(PATTERNS))
@pytest.mark.parametrize("name", list(SMALL))
def test_patterns(name: str, pattern: str) -> None:
    graph = SMALL[name]
    check_exact(graph, PATTERNS[pattern](graph.devices))


@settings(max_examples=12, phases=PHASES, deadline=None)
@given(st.sampled_from(["cm384:32", "dgx-h100:32", "atlas-a2:16"]), st.sampled_from(list(PATTERNS)), st.data())
def test_patterns_with_faults(name: str, pattern: str, data: st.DataObject) -> None:
    graph = SMALL[name]
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            hit = graph.parts[data.draw(st.integers(0, len(graph.parts) - 1))]
        else:
            link = data.draw(st.integers(0, len(graph.link_from) - 1))
            arrow = data.draw(st.sampled_from(["--", "->"]))
            hit = f"{graph.parts[graph.link_from[link]]}{arrow}{graph.parts[graph.link_to[link]]}"
        graph = faults.apply(graph, [hit + data.draw(st.sampled_from(["", "=0.5"]))])
    check_exact(graph, PATTERNS[pattern](graph.devices))


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(16)), st.sampled_from(["", "ub-l2-3-5"]))
def test_relabelling_ranks_inside_a_node_changes_nothing(order: list[int], broken: str) -> None:
    graph = faults.apply(SMALL["cm384:32"], [broken] if broken else [])
    straight = classes(graph, p.grouped(p.shaped(Group(32), 32), 1.0))
    mixed = classes(graph, p.grouped([np.array([*order, *range(16, 32)])], 1.0))
    first, second = (np.sort(fill(c.usage, c.flows, c.capacity_bytes_per_s)) for c in (straight, mixed))
    assert first == pytest.approx(second)


def test_healthy_supernode_is_a_handful() -> None:
    """768 dies: same package, same node, other node; 767 flows per die at the line rate of 196 GB/s."""
    graph = build(load_system("cm384"))
    found = classes(graph, p.all_to_all(768, 1.0))
    assert len(found.names) == 3
    assert found.flows.sum() == 768 * 767
    rate = fill(found.usage, found.flows, found.capacity_bytes_per_s)
    over_ub = np.sort(rate)[:2]
    assert over_ub == pytest.approx(196e9 / 766)


def test_joint_patterns_keep_their_owner() -> None:
    found, owner = joint_classes(SMALL["cm384:32"], [p.pair(0, 16, 1.0), p.incast(8, 30, 2.0)])
    assert set(owner.tolist()) == {0, 1}
    assert found.bytes_each[owner == 1] == pytest.approx(2.0)
    with pytest.raises(InputError, match="devices 0 to 31"):
        classes(SMALL["cm384:32"], p.pair(0, 32, 1.0))


def test_speed() -> None:
    """Limits are those of the project for a machine that others use too."""
    for name, broken, limit_s in (
        ("cm384", [], 0.05),
        ("cm384", ["ub-l2-3-5"], 1.0),
        ("atlas-950", ["ub-l2-3-5"], 5.0),
    ):
        graph = faults.apply(build(load_system(name)), broken)
        times = []
        for _ in range(3):
            start = time.process_time()
            classes(graph, p.all_to_all(graph.devices, 1.0))
            times.append(time.process_time() - start)
        assert min(times) < limit_s
