"""Routes: shares, conservation, latency, planes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.systems import load_system
from supertwin.network import faults
from supertwin.network.topology import Graph, build, connect, routes

NAMES = [
    "cm384",
    "dgx-h100:1024",
    "gb200-nvl72:144",
    "atlas-a2:64",
    "tpu-v5p",
    "mi300x-8",
    "a100-pcie-8",
    "mi250x-8:16",
]
GRAPHS = {name: build(load_system(name)) for name in NAMES}


def _balance(graph: Graph, source: int, target: int) -> dict[int, float]:
    """What flows out of each part less what flows in."""
    net: dict[int, float] = {}
    for links, share in routes(graph, source, target):
        for link in links:
            net[int(graph.link_from[link])] = net.get(int(graph.link_from[link]), 0.0) + share
            net[int(graph.link_to[link])] = net.get(int(graph.link_to[link]), 0.0) - share
    return net


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_flow_is_conserved_at_every_part(name: str, data: st.DataObject) -> None:
    graph = GRAPHS[name]
    rank = st.integers(0, graph.devices - 1)
    source, target = data.draw(rank), data.draw(rank)
    if source == target:
        assert routes(graph, source, target) == []
        return
    net = _balance(graph, source, target)
    ends = {int(graph.device_parts[source]): 1.0, int(graph.device_parts[target]): -1.0}
    assert ends.keys() <= net.keys()
    for part, value in net.items():
        assert value == pytest.approx(ends.get(part, 0.0), abs=1e-9)
    for links, share in routes(graph, source, target):
        assert share > 0
        assert (graph.link_to[list(links[:-1])] == graph.link_from[list(links[1:])]).all()


def test_all_paths_of_ub_are_used_equally() -> None:
    found = routes(GRAPHS["cm384"], 0, 767)
    assert len(found) == 7 * 16
    assert {round(share * 112, 9) for _, share in found} == {1.0}


@pytest.mark.parametrize(
    ("target", "plane", "rate", "latency"),
    [
        (1, "d2d", 270e9, 0.2e-6),
        (2, "ub", 196e9, 1.2e-6),  # CM2 table 1: 512 B read inside and between nodes
        (16, "ub", 196e9, 1.9e-6),
    ],
)
def test_cm384_connections(target: int, plane: str, rate: float, latency: float) -> None:
    found = connect(GRAPHS["cm384"], 0, target)
    assert (found.plane, found.bytes_per_s, found.latency_s) == (plane, pytest.approx(rate), pytest.approx(latency))


def test_rails_share_a_leaf() -> None:
    graph = GRAPHS["dgx-h100:1024"]
    assert connect(graph, 0, 8).hops == 4
    assert connect(graph, 0, 9).hops == 6
    assert connect(graph, 0, 9).latency_s == pytest.approx(3.7e-6)  # DeepSeek-V3 hardware paper, table 5


def test_torus_takes_the_short_way() -> None:
    graph = GRAPHS["tpu-v5p"]  # 16 x 20 x 28
    for target, hops in ((1, 1), (15, 1), (16, 1), (16 * 19, 1), (320, 1), (8, 8), (8 + 160 + 320 * 14, 8 + 10 + 14)):
        assert connect(graph, 0, target).hops == hops
    assert connect(graph, 0, 8).paths == 2  # half-way round: both ways


def test_processors_sit_on_ub() -> None:
    found = connect(GRAPHS["cm384"], 0, "node5/cpu1")
    assert (found.plane, found.bytes_per_s) == ("ub", pytest.approx(160e9))


def test_other_planes_by_name() -> None:
    graph = GRAPHS["cm384"]
    assert connect(graph, 0, 16, "rdma").bytes_per_s == pytest.approx(25e9)
    assert connect(graph, 0, 16, "vpc").bytes_per_s == pytest.approx(3.125e9)
    assert connect(graph, 0, 16, "d2d").reason.startswith("no path from node0/npu0/die0")
    with pytest.raises(UnknownName, match="rdma"):
        connect(graph, 0, 16, "rmda")
    with pytest.raises(InputError, match="0 to 767"):
        connect(graph, 0, 768)


def test_route_around_a_torus_link() -> None:
    graph = GRAPHS["tpu-v5p"]
    hurt = faults.apply(graph, ["node0/tpu0--node0/tpu1"])
    found = connect(hurt, 0, 1)
    assert (found.hops, found.bytes_per_s) == (3, pytest.approx(100e9))
    dead = faults.apply(graph, ["node0/tpu0->*", "*->node0/tpu0"])
    assert not np.isfinite(connect(dead, 0, 1).latency_s)
