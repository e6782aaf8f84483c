"""Link constants that rest on few published measurements, or on none.

What is here is either solved from the handful of rows that collectives.csv holds for a library (HCCL on the Atlas A3,
CANN and DeepEP-Ascend exchanges, DeepEP on H800 and its V2) or an assumption with its reason, for link classes that
nobody has measured in public.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Groups = dict[str, dict[str, float]]

# Fixed time that a call in a production engine costs beyond a bare one, at 8 and 16 dies: all-reduce +1.2 and +7.7 us,
# all-gather +2.0 and +14.6 us (msModeling communication alignment report, 2026-03). Others: as all-gather (assumption).
HCCL_PRODUCTION = {"all_reduce": (1.2e-6, 7.7e-6)}
HCCL_PRODUCTION_OTHER = (2.0e-6, 14.6e-6)

# Published UB point-to-point table, per die (CloudMatrix384 paper, Table 1): GB/s, and us of a 512 B transfer.
UB_TABLE = {
    "inter/device-device/read": (164.0, 1.9), "intra/device-device/read": (167.0, 1.2),
    "inter/device-device/write": (135.0, 2.1), "intra/device-device/write": (137.0, 1.3),
    "inter/device-host/read": (147.0, 1.7), "intra/device-host/read": (151.0, 1.0),
    "inter/device-host/write": (107.0, 1.9), "intra/device-host/write": (110.0, 1.1),
}  # fmt: skip

# Fixed part of a fused dispatch or combine on the A3: start, flags and two synchronisations of all vector cores. The
# measured rows all have 128 tokens and cannot tell it from a time per copy; light-llm-simulator (a community model of
# the A3, Apache-2.0) takes 15 us.
FUSED_FIXED_S = 15e-6

# 64 B latencies (Insights into DeepSeek-V3, arXiv 2505.09343, table 5): us, with the line rates of the H800 node.
VERBS_TABLE = {
    "ib-same-leaf": (2.8, 50.0), "ib-cross-leaf": (3.7, 50.0),
    "roce-same-leaf": (3.6, 50.0), "roce-cross-leaf": (5.6, 50.0), "nvlink": (3.33, 200.0),
}  # fmt: skip
VERBS_SHARE = 0.9  # assumption: share of the line rate of one large RDMA write or copy

# assumption: one step of a ring between nodes, a small RDMA write and its flag (64 B latency 2.8 us, table above)
RING_HOP_S = 3e-6

# Copy engines between two devices of a node, and to the host (nvbandwidth, p2pBandwidthLatencyTest): share of line rate
COPY_SHARE = {"a100-sxm-80gb": 274.5 / 300, "h100-sxm": 376.0 / 450, "h200-sxm": 396.4 / 450}
HOST_SHARE = 55.43 / 63.0


def fused_priors() -> dict[str, float]:
    """CANN's fused exchanges: what rows of 128 tokens cannot tell. Vector cores write over UB at the rate of a pair."""
    line = 7 * 28.0  # GB/s of a die
    efficiency = round(UB_TABLE["intra/device-device/write"][0] / line, 3)
    return {"efficiency": efficiency, "fixed_s": FUSED_FIXED_S, "sharpness": 1.0, "fused": 1.0}


def numbers(fixed_s: float, hop_s: float, efficiency: float, **more: float) -> dict[str, float]:
    """One protocol."""
    return {"fixed_s": fixed_s, "hop_s": hop_s, "efficiency": efficiency, "own_share": 0.0, **more}


def scale_out_priors(fitted: Mapping[str, Mapping[str, float]]) -> Groups:
    """Collectives between nodes from the fitted all-reduce: the others share its fixed and hop costs.

    fitted: protocols of the all-reduce over 4 nodes of 8. all-to-all reaches less of the line rate than rings, since
    every pair of devices talks (assumption: three quarters).
    """
    out: Groups = {}
    simple = {**fitted["tree/simple"], "hop_s": RING_HOP_S}
    small = dict(fitted["tree/ll128"])
    latency = numbers(small["fixed_s"], small["hop_s"], small["efficiency"])
    for path in ("ib", "roce", "efa", "tcp"):
        share = {"tcp": 0.5}.get(path, 1.0)
        for op in ("all_gather", "reduce_scatter"):
            out[f"collective/any/{path}/{op}/tree/ll128"] = latency
            out[f"collective/any/{path}/{op}/ring/simple"] = {**simple, "efficiency": simple["efficiency"] * share}
        for name, values in {**fitted, "ring/simple": simple}.items():
            kept = {**values, "efficiency": values["efficiency"] * share}
            out[f"collective/any/{path}/all_reduce/{name}"] = kept
        out[f"collective/any/{path}/all_to_all/pairwise/simple"] = numbers(2e-5, 1e-6, 0.75 * share)
        out[f"collective/any/{path}/broadcast/tree/simple"] = {**simple, "efficiency": simple["efficiency"] * share}
        out[f"collective/any/{path}/p2p/direct/simple"] = numbers(1.5e-5, 3e-6, 0.8 * share)
    return out


def fabric_priors() -> Groups:
    """Link classes without public collectives: assumptions, with the reason beside each."""
    out: Groups = {}
    shapes = {
        # xGMI mesh: one MI300X pair reaches 47.7 of 64 GB/s (ml-engineering, all-reduce over 2)
        "xgmi": (1.5e-5, 1.0e-6, 0.745),
        # TPU inter-chip links: compiled collectives, no host in the way; ring pipelines reach about 0.85
        "ici": (5e-6, 1.0e-6, 0.85),
        # PCIe peer to peer through the host bridge: as the host copy, less the return traffic
        "pcie": (2e-5, 3e-6, 0.7),
        # two dies of a package
        "d2d": (4e-6, 2e-7, 0.85),
    }
    for path, (fixed, hop, share) in shapes.items():
        for op in ("all_reduce", "all_gather", "reduce_scatter", "broadcast"):
            out[f"collective/any/{path}/{op}/ring/simple"] = numbers(fixed, hop, share)
        if path == "xgmi":
            for op in ("all_reduce", "all_gather", "reduce_scatter"):
                out[f"collective/any/{path}/{op}/direct/simple"] = numbers(fixed, hop, share)
        out[f"collective/any/{path}/all_to_all/pairwise/simple"] = numbers(fixed, hop, share)
        out[f"collective/any/{path}/p2p/direct/simple"] = numbers(fixed, hop, share)
    return out


def hccl_on(path: str, fitted: Mapping[str, Mapping[str, Mapping[str, float]]], share: float, library: str) -> Groups:
    """HCCL's fitted protocols (by operation) on a link class, with the efficiencies scaled by `share`."""
    out: Groups = {}
    for op, protocols in fitted.items():
        for name, values in protocols.items():
            out[f"collective/{library}/{path}/{op}/{name}"] = {
                **values, "efficiency": min(1.0, values["efficiency"] * share)
            }  # fmt: skip
    return out


# Share of the efficiencies over UB that HCCL reaches on the mesh of 910B (HCCS). An all-reduce of 8 ranks in the
# profile of a job of April 2024 moves 14 pieces of 12.583 MB in 9.557 ms, seven links at once: 18.43 of 28 GB/s per
# link in both phases (Ascend/msprof-analyze 8399c1cd, test/ut/advisor/communication_advice/test_packet_advice.py; its
# rules take 18 GB/s as normal). With this share the fitted all-reduce runs at that rate; gather and reduction keep
# their ratio.
MESH_SHARE = 0.728
MESH_LINKS = 7.0  # in use there; below its switch a protocol runs at a rate of the device, not of a link
# cann-hccl all_reduce_operator.cc, SelectAlgfor910B and aiv_communication_base.h: HCCL_MID_COUNT_16_MB,
# AIV_ALL_REDUCE_BIG_SIZE
VECTOR_CORE_BYTES = 16.0 * 2**20
VECTOR_CORE_OPERATIONS = {
    "all_reduce": "direct",
    "all_gather": "direct",
    "reduce_scatter": "direct",
    "all_to_all": "pairwise",
}
PAIR_SHARE = 0.96  # a single pair of devices reaches this share of the line rate (HIXL, collectives.csv)


def hccl_on_mesh(fitted: Mapping[str, Mapping[str, Mapping[str, float]]], library: str) -> Groups:
    """HCCL's fitted protocols on the full mesh of a 910B server: collectives at the rate of a profiled job, transfers
    between two devices at that of a pair. Every pair has a link of its own there: an all-to-all runs as a gather."""
    pairs = {"p2p": fitted["p2p"]} if "p2p" in fitted else {}
    meshed = dict(fitted)
    if "all_to_all" in fitted:
        gather = {k.split("/")[1]: v for k, v in fitted["all_gather"].items() if k.startswith("direct/")}
        meshed["all_to_all"] = {
            k: {**v, "efficiency": gather[k.split("/")[1]]["efficiency"]} for k, v in fitted["all_to_all"].items()
        }
    groups = {**hccl_on("hccs", meshed, MESH_SHARE, library), **hccl_on("hccs", pairs, PAIR_SHARE, library)}
    for name, values in groups.items():
        if name.endswith(("direct/small", "pairwise/small")) and "/p2p/" not in name:
            groups[name] = {**values, "links": MESH_LINKS, "most": MESH_SHARE}
    return groups


def hccl_by_vector_cores(
    fitted: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, Mapping[str, float]]]:
    """HCCL where its vector-core kernels are switched on (HCCL_OP_EXPANSION_MODE=AIV), as serving engines do for decode
    (cann-recipes-infer, vLLM-Ascend tutorials): no switch of the protocol by a share per rank, up to 16 MB in all; an
    all-to-all keeps its kernel up to 760 KB per pair (AIV_A3_ALL_TO_ALL_GRAPH_GUIYI_SIZE), taken as the same 16 MB."""
    out: dict[str, dict[str, Mapping[str, float]]] = {}
    for op, algorithm in VECTOR_CORE_OPERATIONS.items():
        protocols = dict(fitted[op])
        name = f"{algorithm}/small"
        small = {k: v for k, v in protocols[name].items() if k != "up_to_bytes_per_rank"}
        out[op] = {**protocols, name: {**small, "up_to_bytes": VECTOR_CORE_BYTES}}
    return out


def hccl_production(operations: Iterable[str]) -> Groups:
    """Production offsets by operation."""
    out: Groups = {}
    for op in operations:
        at_8, at_16 = HCCL_PRODUCTION.get(op, HCCL_PRODUCTION_OTHER)
        out[f"production/hccl/{op}"] = {"extra_8_s": at_8, "extra_16_s": at_16}
    return out


def published_transfers(chip: str) -> Groups:
    """Transfers that a source states as a rate, a latency or both."""
    out: Groups = {}
    if chip == "ascend-910c-die":
        for name, (rate, latency) in UB_TABLE.items():
            fixed = latency * 1e-6 - 512 / (rate * 1e9)
            out[f"transfer/ub/{name}"] = {"fixed_s": fixed, "bytes_per_s": rate * 1e9, "sharpness": 1.0}
    if chip == "h800-sxm":
        for name, (latency, rate) in VERBS_TABLE.items():
            values = {"fixed_s": latency * 1e-6, "bytes_per_s": rate * 1e9 * VERBS_SHARE, "sharpness": 1.0}
            scope = "intra" if name == "nvlink" else "inter"
            out[f"transfer/verbs-{name}/{scope}/device-device/write"] = values
    if chip in COPY_SHARE:
        line = {"a100-sxm-80gb": 300e9}.get(chip, 450e9)
        out["transfer/copy/intra/device-device/read"] = {
            "fixed_s": 3.33e-6, "bytes_per_s": COPY_SHARE[chip] * line, "sharpness": 1.0
        }  # fmt: skip
    if chip in ("h100-sxm", "h200-sxm", "h800-sxm", "b200-sxm"):
        out["transfer/copy/intra/device-host/read"] = {
            "fixed_s": 5e-6, "bytes_per_s": HOST_SHARE * 63e9, "sharpness": 1.0
        }  # fmt: skip
    return out
