"""Parts and links as built against published counts. CM2 is arXiv 2506.12708 v2."""

import time

import numpy as np
import pytest

from supertwin.core.errors import UnknownName
from supertwin.machine.systems import load_system, system_names
from supertwin.network.topology import Graph, build, checks


@pytest.fixture(scope="module")
def cm384() -> Graph:
    return build(load_system("cm384"))


def _links(graph: Graph, start: str, end: str, plane: str) -> np.ndarray:
    hit = np.isin(graph.link_from, graph.of_kind(start)) & np.isin(graph.link_to, graph.of_kind(end))
    return np.flatnonzero(hit & (graph.link_plane == graph.planes.index(plane)))


def test_cm384_parts_as_published(cm384: Graph) -> None:
    """CM2 3.2-3.3: 48 nodes of 8 packages and 4 CPUs and 7 L1 chips; 7 sub-planes x 16 L2 chips."""
    counts = {kind: len(cm384.of_kind(kind)) for kind in cm384.kinds}
    assert counts["device"] == 48 * 8 * 2
    assert counts["cpu"] == 48 * 4
    assert counts["switch-l1"] == 48 * 7
    assert counts["switch-l2"] == 7 * 16
    assert counts["nic"] == 768
    assert counts["card"] == 48


def test_cm384_links_as_published(cm384: Graph) -> None:
    """CM2: 28 GB/s per link, 7 per die; 448 GB/s per L1 chip over 16 uplinks; 48 ports per L2 chip."""
    die = _links(cm384, "device", "switch-l1", "ub")
    assert len(die) == 768 * 7
    assert cm384.link_bytes_per_s[die] == pytest.approx(28e9)
    up = _links(cm384, "switch-l1", "switch-l2", "ub")
    assert len(up) == 336 * 16
    assert cm384.link_optical[up].all()
    per_chip = np.bincount(cm384.link_from[up], cm384.link_bytes_per_s[up])
    assert per_chip[cm384.of_kind("switch-l1")] == pytest.approx(448e9)
    ports = np.bincount(cm384.link_to[up], minlength=len(cm384.parts))[cm384.of_kind("switch-l2")]
    assert (ports == 48).all()
    between = _links(cm384, "device", "device", "d2d")
    assert len(between) == 768
    assert cm384.link_bytes_per_s[between] == pytest.approx(270e9)
    assert _links(cm384, "cpu", "switch-l1", "ub").size == 192 * 7


def test_sub_planes_do_not_mix(cm384: Graph) -> None:
    for link in _links(cm384, "switch-l1", "switch-l2", "ub"):
        low, high = cm384.parts[cm384.link_from[link]], cm384.parts[cm384.link_to[link]]
        assert low.rpartition("-")[2] == high.split("-")[2]


def test_addresses(cm384: Graph) -> None:
    assert cm384.kind_of(cm384.part("node47/npu7/die1")) == "device"
    assert cm384.device_parts[17] == cm384.part("node1/npu0/die1")
    assert cm384.part_node[cm384.part("node3/ub-l1-4")] == 3
    assert cm384.part_node[cm384.part("ub-l2-4-11")] == -1
    with pytest.raises(UnknownName, match="ub-l2-4-1"):
        cm384.part("ub-l2-4-16")


@pytest.mark.parametrize(
    "name", [*system_names(), "cm384:128", "cm384:40", "cm384:1536", "dgx-h100:1024", "tpu-v5p:96"]
)
def test_every_system_passes_its_checks(name: str) -> None:
    if name.startswith("ironwood"):
        pytest.skip("as tpu-v5p, larger")
    assert [check for check in checks(build(load_system(name))) if not check.passed] == []


def test_checks_see_what_is_wrong(cm384: Graph) -> None:
    from supertwin.network import faults

    hurt = faults.apply(cm384, ["ub-l2-3-5"])
    failed = {check.name for check in checks(hurt) if not check.passed}
    assert failed == {"1:1 convergence per L1 chip", "full bisection"}
    cut = faults.apply(cm384, ["node3/npu5"])
    assert "every device reaches every device" in {check.name for check in checks(cut) if not check.passed}


def test_transceivers_as_published(cm384: Graph) -> None:
    """SemiAnalysis: 6,912 modules, 18 per package = 14 scale-up + 4 scale-out."""
    by_name = {check.name: check for check in checks(cm384)}
    assert by_name["scale-up transceivers"].detail.startswith("5376 built")
    assert by_name["scale-out transceivers"].detail.startswith("1536 built")


def test_nvl72_as_published() -> None:
    """18 NVSwitch chips, 72 GPUs, 18 links of 50 GB/s: one to each chip."""
    graph = build(load_system("gb200-nvl72"))
    links = _links(graph, "device", "switch-l1", "nvlink")
    assert len(links) == 72 * 18
    assert graph.link_bytes_per_s[links] == pytest.approx(50e9)


def test_atlas_a2_pairs_as_published() -> None:
    """WP-A2: full mesh of 8 with 28 GB/s per pair; one 200 Gb/s port each."""
    graph = build(load_system("atlas-a2"))
    links = _links(graph, "device", "device", "hccs")
    assert len(links) == 8 * 7
    assert graph.link_bytes_per_s[links] == pytest.approx(28e9)
    assert graph.link_bytes_per_s[_links(graph, "device", "nic", "rdma")] == pytest.approx(25e9)


def test_torus_degree() -> None:
    graph = build(load_system("tpu-v4"))
    links = _links(graph, "device", "device", "ici")
    assert (np.bincount(graph.link_from[links])[graph.device_parts] == 6).all()


@pytest.mark.parametrize(("name", "limit_s"), [("cm384", 0.1), ("atlas-950", 1.0)])
def test_build_time(name: str, limit_s: float) -> None:
    system = load_system(name)
    times = []
    for _ in range(3):
        start = time.process_time()
        build(system)
        times.append(time.process_time() - start)
    assert min(times) < limit_s
