"""Collectives on real links: agreement with the closed form where nothing is shared, contention where it is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.systems import load_system
from supertwin.network import collective_time, exchange_time, flow
from supertwin.network.algorithms import ALGORITHMS, OPERATIONS
from supertwin.network.flow import collective, ranks_of
from supertwin.network.flow.costs import Call, costs
from supertwin.network.flow.schedule import Wire, phases
from supertwin.network.group import Group
from supertwin.network.topology import Graph, build

SHAPES = {
    "cm384": [(2, 1), (16, 1), (8, 16), (16, 2), (32, 1), (48, 16)],
    "gb200-nvl72": [(4, 1), (8, 1), (72, 1)],
    "dgx-h100:64": [(8, 1), (8, 8), (16, 1), (32, 1)],
    "atlas-a2:64": [(4, 1), (8, 1), (8, 8), (16, 1)],
}
SIZES = (1e4, 1e6, 1e9)


@cache
def graph(name: str) -> Graph:
    return build(load_system(name))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("op", OPERATIONS)
def test_agrees_with_the_closed_form_without_contention(name: str, op: str) -> None:
    system = graph(name).system
    for shape in SHAPES[name]:
        for size in SIZES:
            closed = collective_time(system, op, size, Group(*shape))
            found = collective(graph(name), op, size, Group(*shape))
            assert found.algorithm == closed.algorithm
            if op == "broadcast" and name == "cm384" and shape[1] == 1 and shape[0] > 2:
                # the closed form sends all bytes over the die-to-die link although half of them come over UB
                assert 0.55 * closed.time_s < found.time_s <= closed.time_s * (1 + 1e-9)
                continue
            assert found.time_s == pytest.approx(closed.time_s, rel=0.05), (shape, size)


@pytest.mark.parametrize("name", ["cm384", "dgx-h100:32", "atlas-a2:32", "tpu-v4:64"])
def test_schedules_send_what_the_algorithms_count(name: str) -> None:
    # an independent count from the payload of the flows: bytes sent by each rank, against network.algorithms
    here, n = graph(name), 16
    ranks = np.arange(n)[None, :]
    for op, algorithms in ALGORITHMS.items():
        for algorithm, known in algorithms.items():
            if algorithm in ("tree", "nvls") or op in ("broadcast", "p2p"):
                continue
            wire = Wire(here.system, costs(here.system, Call(op, 1.0, algorithm), ranks[0]), ranks)
            sent = np.zeros(n)
            for pattern in (p for phase in phases(op, algorithm, 1.0, wire) for p in phase):
                for group in pattern.groups:
                    sent[group] += pattern.bytes_each * (len(group) - 1)
                sent += np.bincount(pattern.source, minlength=n) * pattern.bytes_each
            if known.flow == "direct":
                assert sent == pytest.approx(known.wire(n)), (op, algorithm)
            else:  # rings: the wire bytes, plus what blocks of adapters hand on inside
                assert (sent >= known.wire(n) * (1 - 1e-9)).all()
                assert (sent <= known.wire(n) * 1.6).all()


def test_hierarchical_all_to_all_moves_more_bytes_but_crosses_once() -> None:
    direct = collective(graph("dgx-h100:64"), "all_to_all", 1e9, Group(64), algorithm="pairwise")
    nested = collective(graph("dgx-h100:64"), "all_to_all", 1e9, Group(64), algorithm="hierarchical")
    # 7/8 of the bytes leave the node either way, over the same adapters
    crossing = 1e9 * 56 / 64 / 50e9
    for found in (direct, nested):
        share = crossing / found.transfer_s
        assert 0.3 < share <= 1.0
    assert [phase.name for phase in nested.phases] == ["inside", "between"]
    assert nested.phases[1].start_s == pytest.approx(nested.phases[0].end_s)


def test_hierarchical_all_reduce_has_four_phases_and_the_same_result_volume() -> None:
    found = collective(graph("dgx-h100:64"), "all_reduce", 1e9, Group(64), algorithm="hierarchical")
    assert len(found.phases) == 4
    # over the adapters: 2 (N - 1)/N of S/8 for N = 8 nodes
    names = found.run.classes.link_names
    nic = sum(found.run.link_bytes[i] for i, n in enumerate(names) if n.startswith("node") and n.endswith("/nic"))
    share = costs(graph("dgx-h100:64").system, Call("all_reduce", 1e9, "hierarchical"), np.arange(64)).shares["rdma"]
    assert nic == pytest.approx(2 * 7 / 8 * 1e9 / 8 / share)


def test_groups_with_links_of_their_own_do_not_slow_each_other() -> None:
    for name, group in (("dgx-h100:64", Group(8, 8)), ("cm384", Group(48, 16)), ("atlas-a2:64", Group(8))):
        one = collective(graph(name), "all_reduce", 1e9, group)
        every = collective(graph(name), "all_reduce", 1e9, group, every=True)
        assert every.time_s == pytest.approx(one.time_s, rel=1e-9)


def test_two_jobs_on_the_same_links_share_them() -> None:
    # two all-gathers over the same 8 devices at once: twice the bytes on the same links
    job = flow.Job("a", "all_gather", 1e9, Group(8))
    both = flow.jobs(graph("dgx-h100:64"), [job, flow.Job("b", "all_gather", 1e9, Group(8))])
    alone = collective(graph("dgx-h100:64"), "all_gather", 1e9, Group(8))
    for found in both.jobs:
        assert found.alone_s == pytest.approx(alone.time_s, rel=1e-9)
        assert found.time_s == pytest.approx(alone.latency_s + 2 * alone.transfer_s, rel=1e-6)
    strict = flow.jobs(graph("dgx-h100:64"), [job, flow.Job("b", "all_gather", 1e9, Group(8), priority=1)])
    assert strict.jobs[0].slowdown == pytest.approx(1.0)
    assert strict.jobs[1].time_s == pytest.approx(alone.latency_s + 2 * alone.transfer_s, rel=1e-6)
    heavy = flow.jobs(graph("dgx-h100:64"), [job, flow.Job("b", "all_gather", 1e9, Group(8), weight=3.0)])
    # three quarters of the link until it is done, then the other one alone
    assert heavy.jobs[1].time_s == pytest.approx(alone.latency_s + alone.transfer_s * 4 / 3, rel=1e-6)
    assert heavy.jobs[0].time_s == pytest.approx(alone.latency_s + alone.transfer_s * 2, rel=1e-6)


def test_jobs_apart_do_not_meet_and_calls_add_up() -> None:
    given = [
        flow.Job("left", "all_to_all", 1e8, np.arange(0, 16).tolist(), calls=3),
        flow.Job("right", "all_to_all", 1e8, np.arange(16, 32).tolist(), start_s=1e-3),
    ]
    found = flow.jobs(graph("cm384"), given)
    one = collective(graph("cm384"), "all_to_all", 1e8, Group(16))
    assert found.jobs[0].time_s == pytest.approx(3 * one.time_s, rel=1e-9)
    assert found.jobs[1].time_s == pytest.approx(one.time_s, rel=1e-9)
    assert found.jobs[1].slowdown == pytest.approx(1.0, rel=1e-9)
    with pytest.raises(InputError, match="at least one job"):
        flow.jobs(graph("cm384"), [])
    with pytest.raises(InputError, match="0 calls"):
        flow.jobs(graph("cm384"), [flow.Job("x", "all_to_all", 1.0, Group(2), calls=0)])


def test_job_of_few_devices_in_the_way_of_a_large_one() -> None:
    large = flow.Job("large", "all_to_all", 1e9, Group(256))
    small = flow.Job("small", "all_reduce", 1e9, np.arange(16).tolist())
    found = flow.jobs(graph("cm384"), [large, small])
    assert found.jobs[0].slowdown > 1.02
    assert found.jobs[1].slowdown > 1.02
    # no job runs faster because of the other, and together they are not slower than one after the other
    assert found.time_s <= (found.jobs[0].alone_s + found.jobs[1].alone_s) * (1 + 1e-9)


EXCHANGES = [("cm384", (8, 64, 256)), ("gb200-nvl72", (8, 64)), ("dgx-h100:64", (8, 32))]


@pytest.mark.parametrize(("name", "sizes"), EXCHANGES)
@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_exchange_agrees_with_the_closed_form(name: str, sizes: tuple[int, ...], op: str) -> None:
    for size in sizes:
        for mode, tokens in (("low-latency", 128), ("normal", 4096)):
            closed = exchange_time(graph(name).system, op, tokens, 7168, 8, Group(size), mode=mode)
            found = flow.exchange(graph(name), op, tokens, 7168, 8, Group(size), mode=mode)
            if name == "cm384":
                # the closed form lets a die send 0.84 x 270 = 227 GB/s inside, above the 196 GB/s of its UB links
                assert closed.time_s * 0.999 <= found.time_s <= closed.time_s * 1.10
            else:
                assert found.time_s == pytest.approx(closed.time_s, rel=0.03), (size, mode)


def test_uneven_all_to_all() -> None:
    here, n = graph("gb200-nvl72"), 8
    even = collective(here, "all_to_all", 8e8, Group(n))
    same = flow.all_to_all_v(here, np.full((n, n), 1e8), Group(n))
    assert same.time_s == pytest.approx(even.time_s, rel=1e-9)
    # one rank gets twice as much from everybody: its links take twice as long, all others are done before
    hot = np.full((n, n), 1e8)
    hot[:, 3] *= 2
    found = flow.all_to_all_v(here, hot, Group(n))
    assert found.transfer_s == pytest.approx(2 * even.transfer_s, rel=1e-9)
    assert found.bottlenecks[0][0].endswith("gpu3")
    assert flow.all_to_all_v(here, np.diag(np.ones(n)), Group(n)).transfer_s == 0.0
    with pytest.raises(InputError, match="expected"):
        flow.all_to_all_v(here, np.ones((3, 3)), Group(n))


def test_ranks_and_errors() -> None:
    here = graph("dgx-h100:64")
    assert ranks_of(here, Group(4, 8), every=True).shape == (16, 4)
    assert np.unique(ranks_of(here, Group(4, 8), every=True)).size == 64
    assert collective(here, "all_reduce", 1e6, Group(1)).time_s == 0.0
    with pytest.raises(InputError, match="0 to 63"):
        collective(here, "all_reduce", 1e6, [0, 64])
    with pytest.raises(InputError, match="once"):
        collective(here, "all_reduce", 1e6, [3, 3])
    with pytest.raises(UnknownName, match="ring"):
        collective(here, "all_reduce", 1e6, Group(8), algorithm="rings")
    with pytest.raises(UnknownName):
        collective(here, "broadcast", 1e6, Group(8), algorithm="hierarchical")
    with pytest.raises(UnknownName):
        collective(here, "all_shuffle", 1e6, Group(8))
    with pytest.raises(InputError, match="nvls"):
        collective(here, "all_reduce", 1e6, Group(16), algorithm="nvls")


def test_relabelling_ranks_inside_a_node_changes_nothing() -> None:
    draw = np.random.default_rng(0)
    for op in ("all_to_all", "all_reduce"):
        plain = collective(graph("cm384"), op, 1e8, Group(64))
        nodes = [16 * node + draw.permutation(16) for node in range(4)]
        mixed = collective(graph("cm384"), op, 1e8, np.concatenate(nodes), algorithm=plain.algorithm.split("/")[0])
        if op == "all_to_all":
            assert mixed.time_s == pytest.approx(plain.time_s, rel=1e-9)
        else:  # partners of an exchange by distance differ
            assert mixed.time_s == pytest.approx(plain.time_s, rel=0.05)


def test_timeline_has_the_form_that_perfetto_reads() -> None:
    found = collective(graph("cm384"), "all_reduce", 1e8, Group(32))
    made = flow.trace(found.run)
    assert set(made) == {"traceEvents", "displayTimeUnit", "otherData"}
    named = {(e["pid"], e["tid"]) for e in made["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
    spans = [e for e in made["traceEvents"] if e["ph"] == "X"]
    assert spans
    assert all((e["pid"], e["tid"]) in named and e["dur"] > 0 and e["ts"] >= 0 for e in spans)
    assert max(e["ts"] + e["dur"] for e in spans) == pytest.approx(found.run.time_s * 1e6)
    loads = [e["args"]["load"] for e in made["traceEvents"] if e["ph"] == "C"]
    assert max(loads) == pytest.approx(1.0)
    assert min(loads) == 0.0
    assert max(loads) <= 1.0 + 1e-9
    by_counter: dict[str, list[float]] = {}
    for event in made["traceEvents"]:
        if event["ph"] == "C":
            by_counter.setdefault(event["name"], []).append(event["ts"])
    assert all(times == sorted(times) for times in by_counter.values())
