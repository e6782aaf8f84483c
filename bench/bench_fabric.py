"""Speed of the fabric: all-to-alls flow by flow, closed-form collectives over arrays, a plain twin side by side.

Peers, for scale (measured on a two-core machine of the same kind, one thread, CPU seconds; none has this fabric):
1 GiB all-to-all of 384 NPUs with ASTRA-sim 2.2 analytical on a single switch, without contention between tiers; the
same with LogGOPSim at message level; 16 KB per pair over 384 hosts and two tiers with csg-htsim at packet level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.peers import report, say
from supertwin.machine import load_system
from supertwin.network import Group, collective_time
from supertwin.network.collective import collective_seconds
from supertwin.network.faults import apply
from supertwin.network.flow import collective, rates
from supertwin.network.topology import Graph, Pattern, build, classes, routes

ASTRA_SIM_S = 4.7
LOGGOPSIM_S = 12.3
HTSIM_S = 42.0
GIB = 2.0**30
PLAIN_DEVICES = 32


PEERS = {"ASTRA-sim analytical": ASTRA_SIM_S, "LogGOPSim": LOGGOPSIM_S, "htsim, 16 KB per pair": HTSIM_S}


@pytest.fixture(scope="module")
def cm384() -> Graph:
    return build(load_system("cm384"))


def test_all_to_all_of_768_dies(benchmark: Any, capsys: Any, cm384: Graph) -> None:
    """1 GiB per package; 589,056 flows over 384 packages."""
    found = benchmark(collective, cm384, "all_to_all", GIB / 2, Group(768))
    assert np.isfinite(found.time_s)
    report(benchmark, PEERS, capsys)


def test_all_to_all_with_a_failed_l2_switch(benchmark: Any, capsys: Any, cm384: Graph) -> None:
    """Fault, new symmetry and flows."""

    def study() -> Any:
        return collective(apply(cm384, ["ub-l2-4-11"]), "all_to_all", GIB / 2, Group(768))

    healthy = collective(cm384, "all_to_all", GIB / 2, Group(768)).time_s
    assert benchmark(study).time_s > healthy
    report(benchmark, PEERS, capsys)


def test_all_to_all_of_8192_chips(benchmark: Any, capsys: Any) -> None:
    """Atlas 950: the graph is built in the same call."""
    system = load_system("atlas-950")

    def study() -> Any:
        return collective(build(system), "all_to_all", GIB, Group(8192))

    assert np.isfinite(benchmark.pedantic(study, rounds=3, iterations=1).time_s)
    import resource

    say(
        capsys,
        f"8,192 chips: peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB",
    )


def test_build_the_graph(benchmark: Any) -> None:
    assert len(benchmark(build, load_system("cm384")).parts) > 2000


SIZES = np.geomspace(1e3, 1e9, 1_000_000)


def test_closed_form_of_a_million_sizes(benchmark: Any, capsys: Any) -> None:
    """One group, a million message sizes."""
    system = load_system("cm384")
    found = benchmark(collective_time, system, "all_to_all", SIZES, Group(768))
    assert np.shape(found.time_s) == SIZES.shape
    say(capsys, f"closed form: {SIZES.size / benchmark.stats.stats.median / 1e6:.1f} M evaluations/s")


def test_closed_form_of_a_million_mixed_groups(benchmark: Any, capsys: Any) -> None:
    """Forty different groups mixed, as a layout search asks for them."""
    system = load_system("cm384")
    ranks = np.resize([2, 4, 8, 16, 32, 64, 128, 256], SIZES.size)
    strides = np.resize([1, 1, 1, 2, 2], SIZES.size)
    found = benchmark(collective_seconds, system, "all_reduce", SIZES, ranks, strides)
    assert found.shape == SIZES.shape
    say(capsys, f"mixed groups: {SIZES.size / benchmark.stats.stats.median / 1e6:.1f} M evaluations/s")


def plain_all_to_all(graph: Graph, devices: int) -> float:
    """Rate of the slowest flow of an all-to-all, flow by flow in dictionaries: progressive filling without classes."""
    crossing: dict[int, dict[tuple[int, int], float]] = {}
    for source in range(devices):
        for target in range(devices):
            if source != target:
                for way in routes(graph, source, target):
                    for link in way.links:
                        shares = crossing.setdefault(link, {})
                        shares[source, target] = shares.get((source, target), 0.0) + way.share
    room = {link: float(graph.link_bytes_per_s[link]) for link in crossing}
    rate: dict[tuple[int, int], float] = {}
    while crossing:
        step = {link: room[link] / sum(shares.values()) for link, shares in crossing.items()}
        height = min(step.values())
        stopped = {flow for link, s in step.items() if s <= height * (1 + 1e-9) for flow in crossing[link]}
        rate |= dict.fromkeys(stopped, height)
        for link, shares in list(crossing.items()):
            for flow in stopped & shares.keys():
                room[link] -= shares.pop(flow) * height
            if not shares:
                del crossing[link]
    return min(rate.values())


def classed_all_to_all(graph: Graph, devices: int) -> float:
    """The same by classes."""
    pattern = Pattern("all", 1.0, groups=(np.arange(devices, dtype=np.int64),))
    return float(rates(classes(graph, pattern)).bytes_per_s.min())


def test_classes_against_the_plain_twin(benchmark: Any, capsys: Any, cm384: Graph) -> None:
    """Side by side in one run: 32 dies, 992 flows."""

    def timed(work: Callable[[Graph, int], float]) -> tuple[float, float]:
        start = time.process_time()
        return work(cm384, PLAIN_DEVICES), time.process_time() - start

    slow, slow_s = timed(plain_all_to_all)
    fast = benchmark(classed_all_to_all, cm384, PLAIN_DEVICES)
    assert fast == pytest.approx(slow, rel=1e-6)
    report(benchmark, {"flow by flow": slow_s}, capsys)
