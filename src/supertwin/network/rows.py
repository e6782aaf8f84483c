"""Rows of collectives.csv: what each one measures, and what the model says of it.

`predict_collective_row` and `measured_collective_row` give seconds for a row, or the reason why it says nothing about a
link. Rows that state only a bandwidth are read as the time of the block that they moved; without a block, as the time
of REFERENCE_BYTES.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from supertwin.core.errors import SupertwinError, TableError
from supertwin.machine.system import System, Tier
from supertwin.machine.systems import system_for_chip
from supertwin.network.collective import collective_time
from supertwin.network.exchange import Exchange, distinct_places, price_exchange, token_bytes
from supertwin.network.group import Group
from supertwin.network.transfer import Path, transfer_time

METRIC = "collective_time_s"
REFERENCE_BYTES = 256 * 2.0**20  # block of a row that states a bandwidth and no size: large enough to be the plateau
SMALL_BYTES = 8.0  # "small message"
Row = Mapping[str, str]
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
# mean routing of DeepSeek-V3: a token's experts lie in at most 4 groups (nodes), 256 routed experts
V3_GROUPS, V3_EXPERTS, V3_TOKENS = 4.0, 256.0, 4096.0
HIXL_ENGINES = {
    "FabricMem (AICPU unfold)": "fabricmem-aicpu",
    "FabricMem (Host unfold, 4 concurrent streams)": "fabricmem-host",
    "ROCE (hixl_cs)": "roce-cs",
    "ROCE (communication domain)": "roce-domain",
    "HCCS (hixl_cs)": "hccs-cs",
    "HCCS (communication domain)": "hccs-domain",
}
# the 4 x 8 example of ml-engineering does not state its hardware; its plateau of 98 GB/s over 8 adapters per node
# points to 100 Gb/s each (inferred), its nodes are taken as A100
UNSPECIFIED_RELATIVE, UNSPECIFIED_NIC_BYTES_PER_S = "a100-sxm-80gb", 12.5e9

# rows of path tcp state no hardware: taken as one 10 Gb/s Ethernet port per host (IEEE 802.3ae), the slowest in use,
# and 20 us through two kernel network stacks, the order of a local TCP round trip halved (assumptions)
TCP_BYTES_PER_S, TCP_LATENCY_S = 1.25e9, 20e-6
_MOST_HOSTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """Library, call and group of a dispatch or combine row."""

    library: str
    call: Exchange
    group: Group


def predict_collective_row(row: Row) -> tuple[str, float] | str:
    """(metric, seconds) that the model predicts for a row, or why it cannot."""
    try:
        return skip_reason(row) or (METRIC, float(_predict(row)))
    except SupertwinError as error:
        return str(error)


def measured_collective_row(row: Row) -> tuple[str, float] | str:
    """(metric, seconds) that a row measured, or why it states none."""
    try:
        return skip_reason(row) or (METRIC, _measured(row))
    except SupertwinError as error:
        return str(error)


def _measured(row: Row) -> float:
    if _number(row, "measured_us"):
        return _number(row, "measured_us") * 1e-6
    rate = _number(row, "measured_algbw_gbps") * 1e9
    if row["op"] in ("dispatch", "combine"):
        return exchange_row_bytes(row) / rate
    return (_number(row, "message_bytes") or REFERENCE_BYTES) / rate


def skip_reason(row: Row) -> str:
    """Why a row says nothing about a link; empty when it does."""
    if not _number(row, "measured_us") and not _number(row, "measured_algbw_gbps"):
        return "no time and no bandwidth stated"
    if "during training" in row["notes"] or "during 1T training" in row["notes"]:
        return "traffic of a training job, not what the link can carry"
    if row["op"] in ("dispatch", "combine") and not (_number(row, "hidden") and _number(row, "topk")):
        return "dispatch and combine need hidden and topk"
    return ""


def _predict(row: Row) -> float:
    op = row["op"]
    if op in ("dispatch", "combine"):
        found = exchange_row(row)
        system = _system(row["chip"], row["path"], _count(row, "devices_per_node"))
        return float(price_exchange(system, found.call, found.group, found.library).time_s)
    if op in COLLECTIVES or (op == "p2p" and "sendrecv" in row["id"]):
        return _predict_collective(row)
    if op == "nic":
        return _nic_time(row)
    path = transfer_row(row)
    size = _number(row, "message_bytes") or REFERENCE_BYTES
    return float(transfer_time(_system(row["chip"], "", 0), size, path).time_s)


def _predict_collective(row: Row) -> float:
    system = _system(row["chip"], row["path"], _count(row, "devices_per_node"))
    notes = row["notes"]
    if "NVLS disabled" in notes or row["id"].endswith("-ring"):
        system = replace(system, tiers=tuple(replace(tier, reduction=False) for tier in system.tiers))
    library = "default"
    if "Gloo" in notes:
        library = "gloo"
    elif "stas00/ml-engineering" in row["source"] and system.chip.vendor == "nvidia":
        library = "nccl-torch"
    context = "production" if "production" in row["system"] else "benchmark"
    size = _number(row, "message_bytes") or SMALL_BYTES
    group = Group(_count(row, "n_devices") or 2)
    return float(collective_time(system, row["op"], size, group, library=library, context=context).time_s)


def _nic_time(row: Row) -> float:
    printed = re.search(r"([0-9.]+) ?Gb/s adapter", row["notes"])
    outer = _system(row["chip"], row["path"], 0).tiers[-1]
    line = float(printed.group(1)) / 8 * 1e9 if printed else outer.bandwidth_bytes_per_s
    system = _system(row["chip"], row["path"], 0)
    found = transfer_time(system, REFERENCE_BYTES, Path("nic", inter_node=True))
    return float(found.time_s) * outer.bandwidth_bytes_per_s / line


def transfer_row(row: Row) -> Path:
    """The path that a point-to-point row measures."""
    notes, op = row["notes"], row["op"]
    write = "write" in op
    inter = _count(row, "nodes") > 1
    if "HIXL" in row["source"]:
        ends, mode = notes.split(";")[0], notes.rsplit("; ", 1)[1]
        local, remote = (re.search(f"{word} (device|host)", ends) for word in ("local", "remote"))
        engine = HIXL_ENGINES.get(mode.split(" ", 1)[1], "default")
        return Path(
            engine, inter, local.group(1) if local else "device", remote.group(1) if remote else "device", write
        )
    if op == "h2d_copy":
        return Path("copy", False, "device", "host")
    if op == "p2p_copy":
        return Path("copy", inter)
    if op == "p2p" and "leaf" in notes:
        kind = "roce" if row["path"] == "roce" else "ib"
        return Path(f"verbs-{kind}-{'cross' if 'cross' in notes else 'same'}-leaf", True, write=True)
    if op == "p2p" and row["path"] == "nvlink":
        return Path("verbs-nvlink", False, write=True)
    return Path("default", inter, remote="host" if op.endswith("_host") else "device", write=write)


def exchange_row(row: Row) -> ExchangeRow:
    """The call that a dispatch or combine row measures."""
    tokens = _number(row, "tokens_per_rank") or V3_TOKENS
    system, n = row["system"], _count(row, "n_devices")
    few = tokens <= 512
    library, mode = "default", "low-latency" if few else "normal"
    if "sgl-kernel-npu" in row["source"]:
        library = "deepep-ascend"
    elif "V2" in system:
        library = "deepep-v2"
    elif system == "DeepEP":
        library = "deepep-rdma"  # the paper's comparison ran RDMA also inside the node
    sms = re.search(r"\(([0-9]+) SM\)", row["notes"])
    call = Exchange(
        row["op"], tokens, _number(row, "hidden"), _number(row, "topk"), row["dtype"] or "bf16", mode,
        max(V3_EXPERTS, n), float(sms.group(1)) if sms else 0.0, V3_GROUPS,
    )  # fmt: skip
    return ExchangeRow(library, call, Group(n))


def exchange_row_bytes(row: Row) -> float:
    """Bytes that the printed bandwidth of a row counts: copies that a rank receives (inside a node, or on UB) or
    sends to nodes (over RDMA, its own node included), as DeepEP's tests print them; all copies for low latency."""
    call = exchange_row(row).call
    unit = float(token_bytes(call.hidden, call.dtype))
    tokens, topk = float(call.tokens_per_rank), float(call.topk)
    if call.mode == "low-latency":
        return tokens * topk * unit
    if row["path"] in ("ib", "roce", "efa"):
        nodes = _count(row, "nodes")
        return tokens * float(distinct_places(min(nodes, call.block_limit), topk)) * unit
    return tokens * float(distinct_places(_count(row, "n_devices"), topk)) * unit


@lru_cache(maxsize=256)
def _system(chip: str, path: str, per_node: int) -> System:
    """The chip's usual system with the scale-out class of the row, and its nodes where the row has smaller ones."""
    if chip == "unspecified":
        system = system_for_chip(UNSPECIFIED_RELATIVE)
        system = replace(system, chip=replace(system.chip, name=chip, relative=UNSPECIFIED_RELATIVE))
        rate = UNSPECIFIED_NIC_BYTES_PER_S
        return replace(
            system, tiers=tuple(replace(t, bandwidth_bytes_per_s=rate) if t.scale_out else t for t in system.tiers)
        )
    system = system_for_chip(chip)
    if path == "tcp":
        return replace(system, tiers=(Tier("tcp", "tcp", _MOST_HOSTS, TCP_BYTES_PER_S, TCP_LATENCY_S),))
    tiers = system.tiers
    if path in ("ib", "roce", "efa"):
        tiers = tuple(replace(tier, path=path) if tier.scale_out else tier for tier in tiers)
    if path in ("ib", "roce", "efa", "pcie") and 0 < per_node < tiers[0].devices <= 8:
        tiers = (replace(tiers[0], devices=per_node), *tiers[1:])
    return replace(system, tiers=tiers)


def _number(row: Row, column: str) -> float:
    try:
        return float(row.get(column) or 0.0)
    except ValueError:
        raise TableError(f"{column} is {row[column]!r}, expected a number") from None


def _count(row: Row, column: str) -> int:
    return int(_number(row, column))
