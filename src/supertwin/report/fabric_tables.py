"""Rows of the fabric views in closed form: point to point, collectives and expert exchange by size of group.

Rows are dictionaries with JSON field names (SI units); report.fabric renders them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supertwin.core.errors import UnknownName
from supertwin.machine.system import System, Tier
from supertwin.network import Group, Path, collective_time, exchange_time, transfer_time
from supertwin.network.links import load_links
from supertwin.network.topology.build import plane_name

Row = dict[str, Any]

SMALL_BYTES = 512.0  # what the latency tables of the papers send
LARGE_BYTES = 2.0**28
PAIR_SIZES = (512.0, 4096.0, 65536.0, 2.0**20, 2.0**24, 2.0**28)
SIZES = tuple(2.0**i for i in (10, 13, 16, 18, 20, 22, 24, 26, 28, 30))
GROUP_BYTES = 2.0**28
EXCHANGES = ("dispatch", "combine")
TOKENS, HIDDEN, TOPK, EXPERTS = 128.0, 7168.0, 8.0, 256.0  # a DeepSeek-V3 layer, CloudMatrix384 paper, table 7
# arXiv 2506.12708v2, table 1: (scope, far end, operation) -> GB/s per die and us of 512 bytes
TABLE_1 = {
    ("inter", "device", "read"): (164.0, 1.9),
    ("inter", "device", "write"): (135.0, 2.1),
    ("inter", "host", "read"): (147.0, 1.7),
    ("inter", "host", "write"): (107.0, 1.9),
    ("intra", "device", "read"): (167.0, 1.2),
    ("intra", "device", "write"): (137.0, 1.3),
    ("intra", "host", "read"): (151.0, 1.0),
    ("intra", "host", "write"): (110.0, 1.1),
}
# the same, table 7: ranks -> us of dispatch and combine
TABLE_7 = {8: (116, 118), 16: (131, 132), 32: (133, 146), 64: (141, 150), 128: (152, 150), 256: (152, 149)}
PAPER_CHIP = "ascend-910c-die"


def on_plane(system: System, plane: str) -> System:
    """The system with the tiers of one plane of its graph only (links inside a package belong to the scale-up plane).

    A plane without a tier of its own (VPC) becomes one switched tier of its bandwidth. Raises UnknownName.
    """
    own = tuple(tier for tier in system.tiers if plane_name(tier) == plane)
    if not own:
        found = next((p for p in system.planes if p.name == plane), None)
        if found is None:
            raise UnknownName(f"plane of {system.name}", plane, {plane_name(tier) for tier in system.tiers})
        latency = found.latency_s or max((t.latency_s for t in system.tiers), default=0.0)
        own = (Tier(plane, "tcp", system.full_devices, found.bandwidth_bytes_per_s, latency),)
    outside = own[-1].scale_out or own[-1].name == plane == "vpc"
    inside = () if outside else tuple(t for t in system.tiers if t.path == "d2d" and t not in own)
    return replace(system, tiers=(*inside, *own))


def pair_rows(system: System) -> list[Row]:
    """Latency of 512 B and bandwidth of 256 MiB by pair, read and write, beside the published ones where there are."""
    rows = []
    package = [tier for tier in system.tiers if tier.path == "d2d"]
    if package:
        small, large = (
            float(collective_time(system, "p2p", size, Group(2)).time_s) for size in (SMALL_BYTES, LARGE_BYTES)
        )
        rows.append(_pair_row("package", "device", "write", (small, large)))
    published = TABLE_1 if system.chip.name == PAPER_CHIP else {}
    scopes = [scope for scope in ("intra", "inter") if scope in _scopes(system)]
    for scope in scopes:
        for remote in ("device", "host") if system.host_link_bytes_per_s else ("device",):
            for operation in ("read", "write"):
                path = Path("default", scope == "inter", "device", remote, operation == "write")
                small, large = (float(transfer_time(system, size, path).time_s) for size in (SMALL_BYTES, LARGE_BYTES))
                printed = published.get((scope, remote, operation), (None, None))
                rows.append(_pair_row(scope, remote, operation, (small, large), printed))
    return rows


def _pair_row(
    scope: str,
    remote: str,
    operation: str,
    seconds: tuple[float, float],
    printed: tuple[float | None, float | None] = (None, None),
) -> Row:
    gigabytes, microseconds = printed
    return {
        "scope": scope,
        "remote": remote,
        "operation": operation,
        "latency_s": seconds[0],
        "bytes_per_s": LARGE_BYTES / seconds[1],
        "published_latency_s": None if microseconds is None else microseconds * 1e-6,
        "published_bytes_per_s": None if gigabytes is None else gigabytes * 1e9,
    }


def _scopes(system: System) -> list[str]:
    """Whether two devices can be in one node, in two."""
    last = system.tiers[-1].devices if system.tiers else 1
    return [
        *(["intra"] if min(system.devices_per_node, system.devices) > 1 else []),
        *(["inter"] if min(last, system.devices) > system.devices_per_node else []),
    ]


def engine_rows(system: System) -> list[Row]:
    """Bandwidth of one stream between two devices by message size, for every engine that was measured, read."""
    rows = []
    names = [name for name in load_links(system.chip).names("transfer", 0) if name != "nic"]
    for engine in names or ["default"]:
        for scope in _scopes(system):
            path = Path(engine, scope == "inter")
            if _measured(system, path):
                rates = [size / float(transfer_time(system, size, path).time_s) for size in PAIR_SIZES]
                rows.append({"engine": engine, "scope": scope, "bytes": list(PAIR_SIZES), "bytes_per_s": rates})
    return rows


def _measured(system: System, path: Path) -> bool:
    links = load_links(system.chip)
    start = f"transfer/{path.engine}/{path.name.rsplit('/', 1)[0]}"
    return path.engine == "default" or any(links.group(f"{start}/{way}") for way in ("read", "write"))


def group_sizes(system: System) -> list[int]:
    """Devices of the groups in the tables: powers of two from 8, the widest scale-up tier, all in use."""
    inside = [t.devices for t in system.tiers if not t.scale_out]
    powers = [2**i for i in range(1, 24)]
    wanted = sorted({*powers, *inside, system.devices})
    most = min(system.devices, system.tiers[-1].devices if system.tiers else 1)
    least = min(8, most)
    return [n for n in wanted if least <= n <= most and n > 1][:16]


def group_rows(system: System) -> list[Row]:
    """All-reduce and all-to-all of 256 MiB per device, dispatch and combine of 128 tokens per device, by group size."""
    rows = []
    for devices in group_sizes(system):
        group = Group(devices)
        row: Row = {"devices": devices, "packages": devices / system.chip.devices_per_package}
        for op in ("all_reduce", "all_to_all"):
            found = collective_time(system, op, GROUP_BYTES, group)
            row[op] = {
                "bytes": GROUP_BYTES,
                "time_s": float(found.time_s),
                "bytes_per_s": GROUP_BYTES / float(found.time_s),
                "algorithm": str(found.algorithm),
            }
        for index, op in enumerate(EXCHANGES):
            found = exchange_time(system, op, TOKENS, HIDDEN, TOPK, group, experts=max(EXPERTS, devices))
            printed = TABLE_7.get(devices) if system.chip.name == PAPER_CHIP else None
            published = printed[index] * 1e-6 if printed else None
            row[op] = {"tokens": TOKENS, "time_s": float(found.time_s), "published_time_s": published}
        rows.append(row)
    return rows


def busbw_factor(op: str, ranks: int) -> float:
    """Bus bandwidth over algorithm bandwidth, as nccl-tests counts it."""
    share = (ranks - 1) / ranks
    return {"all_reduce": 2 * share, "broadcast": 1.0, "p2p": 1.0}.get(op, share)
