"""Maximum flow on the folded graph equals networkx on all links, exactly."""

import networkx
import numpy as np
import pytest

from supertwin.core.errors import InputError
from supertwin.machine.systems import load_system
from supertwin.network import faults
from supertwin.network.topology import bisection_bytes_per_s, build, most_bytes_per_s, to_networkx, write_graphml
from supertwin.network.topology.capacity import halves, usable_links
from supertwin.network.topology.graph import Graph


def reference(graph: Graph, sources: list[int], targets: list[int], planes: list[str]) -> float:
    """Maximum flow by networkx over every single link."""
    ends = [graph.device_parts[side].astype(np.int64) for side in (sources, targets)]
    net = networkx.DiGraph()
    for link in usable_links(graph, ends[0], ends[1], planes):
        start, end, rate = int(graph.link_from[link]), int(graph.link_to[link]), float(graph.link_bytes_per_s[link])
        before = net.get_edge_data(start, end, {"capacity": 0.0})["capacity"]
        net.add_edge(start, end, capacity=before + rate)
    for part in ends[0]:
        net.add_edge("source", int(part))
    for part in ends[1]:
        net.add_edge(int(part), "target")
    return float(networkx.maximum_flow_value(net, "source", "target", flow_func=networkx.algorithms.flow.preflow_push))


@pytest.mark.parametrize("name", ["cm384:64", "dgx-h100:64", "atlas-a2:16", "mi300x-8", "gb200-nvl72", "tpu-v5e:16"])
@pytest.mark.parametrize("hurt", [False, True])
def test_pairs_and_bisection_equal_networkx(name: str, hurt: bool) -> None:
    graph = build(load_system(name))
    if hurt:
        part = graph.parts[graph.link_to[graph.link_from == graph.device_parts[3]][0]]
        graph = faults.apply(graph, [part + "=0.25", graph.parts[graph.device_parts[5]]])
    planes = [plane for plane in graph.planes if plane != "host"]
    last = graph.devices - 1
    for source, target in ((0, 1), (0, 2), (3, last), (last, 0)):
        found = most_bytes_per_s(graph, [source], [target])
        assert found == pytest.approx(reference(graph, [source], [target], planes), rel=1e-9)
    assert bisection_bytes_per_s(graph) == pytest.approx(reference(graph, *halves(graph), planes), rel=1e-9)


@pytest.mark.parametrize("broken", [[], ["ub-l2-3-5", "node1/ub-l1-4--ub-l2-4-11", "node7/npu3/die0"]])
def test_full_cm384_equals_networkx(broken: list[str]) -> None:
    graph = faults.apply(build(load_system("cm384")), broken)
    assert bisection_bytes_per_s(graph, ["ub"]) == pytest.approx(reference(graph, *halves(graph), ["ub"]), rel=1e-9)
    assert most_bytes_per_s(graph, [0], [700], ["ub"]) == pytest.approx(reference(graph, [0], [700], ["ub"]), rel=1e-9)


def test_healthy_bisection_of_cm384() -> None:
    """1:1: 384 dies of 196 GB/s reach the other half (CM2: non-blocking)."""
    assert bisection_bytes_per_s(build(load_system("cm384")), ["ub"]) == pytest.approx(384 * 196e9)


def test_sets_must_differ() -> None:
    with pytest.raises(InputError, match="without common members"):
        most_bytes_per_s(build(load_system("dgx-h100")), [0, 1], [1, 2])


def test_export(tmp_path) -> None:  # type: ignore[no-untyped-def]
    graph = faults.apply(build(load_system("dgx-h100")), ["node0/gpu3"])
    net = to_networkx(graph)
    assert net.number_of_nodes() == len(graph.parts)
    assert net.number_of_edges() == int((graph.link_bytes_per_s > 0).sum())
    assert not net.nodes["node0/gpu3"]["alive"]
    write_graphml(graph, tmp_path / "fabric.graphml")
    back = networkx.read_graphml(tmp_path / "fabric.graphml")
    assert back.edges["node0/gpu0", "node0/nvswitch-0"]["capacity"] == pytest.approx(100e9)
