"""Fits of libraries that only collectives.csv measures: a handful of rows each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from supertwin.calibration.links_exchange import ExchangeSample, fit_exchange
from supertwin.calibration.links_fit import Sample, Template, fit_protocols
from supertwin.calibration.links_priors import HCCL_PRODUCTION, HCCL_PRODUCTION_OTHER, Groups
from supertwin.calibration.links_tables import tiers_of
from supertwin.calibration.links_transfer import Block, fit_engine
from supertwin.machine.system import Tier
from supertwin.network.collective import lines_of
from supertwin.network.group import Group
from supertwin.network.rows import (
    UNSPECIFIED_NIC_BYTES_PER_S,
    Row,
    exchange_row,
    measured_collective_row,
    transfer_row,
)
from supertwin.network.span import group_levels

SMALL_PER_RANK_BYTES = 61440.0  # protocol switch of HCCL near 60 KB per die
# Either side of the switch at 8 dies an all-reduce takes 30 and 155 us (msModeling communication alignment report)
SWITCH_DIES, BELOW_S, ABOVE_S = 8, 30e-6, 155e-6
PAIR_WRITE_SHARE = 137.0 / 196.0  # UB write of one pair inside a node (CloudMatrix384 paper, Table 1)
LARGEST_MEASURED, LOGARITHMIC_SHARE = 16, 0.85
PLATEAU_BYTES, PLATEAU_WEIGHT = 2.0**28, 8
PLATEAU_CHIPS = ("a100-sxm-80gb", "h200-sxm", "b200-sxm")
PLATEAU_OPS = ("all_reduce", "all_gather", "reduce_scatter")


def seconds(row: Row) -> float:
    """Measured seconds of a row that has them."""
    found = measured_collective_row(row)
    assert not isinstance(found, str)
    return found[1]


def fit_transfers(rows: Iterable[Row]) -> tuple[dict[str, Groups], dict[str, np.ndarray]]:
    """Engines of the HIXL rows by chip, and the absolute log errors of left-out rows by engine."""
    sets: dict[tuple[str, str, str], list[Block]] = defaultdict(list)
    for row in rows:
        if "HIXL" in row["source"]:
            path = transfer_row(row)
            scope, ends, way = path.name.split("/")
            sets[row["chip"], path.engine, scope].append(Block(ends, way, float(row["message_bytes"]), seconds(row)))
    out: dict[str, Groups] = defaultdict(dict)
    errors = {}
    for (chip, engine, scope), blocks in sets.items():
        found = fit_engine(blocks)
        for name, values in found.groups.items():
            out[chip][f"transfer/{engine}/{scope}/{name}"] = values
        errors[f"{chip}/{engine}/{scope}"] = found.left_out
    return out, errors


def fit_hccl(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """HCCL over UB from the production rows, less the production offset: operation -> protocol -> numbers.

    The all-reduce above the switch is a reduce-scatter and an all-gather after each other, shifted to its one
    known time.
    """
    out: dict[str, dict[str, dict[str, float]]] = {}
    tiers = tiers_of("ascend-910c-die")
    for op in ("all_gather", "reduce_scatter"):
        points = [(int(r["n_devices"]), float(r["message_bytes"]), _bare(r)) for r in rows if r["op"] == op]
        for name, wanted in (("direct/small", True), ("direct/large", False)):
            chosen = [p for p in points if (p[1] / p[0] <= SMALL_PER_RANK_BYTES) == wanted]
            out.setdefault(op, {})[name] = _one_protocol(tiers, op, name, chosen)
        out[op]["direct/small"]["up_to_bytes_per_rank"] = SMALL_PER_RANK_BYTES
    small = [(int(r["n_devices"]), float(r["message_bytes"]), _bare(r)) for r in rows if r["op"] == "all_reduce"]
    small.append((SWITCH_DIES, SMALL_PER_RANK_BYTES * SWITCH_DIES, BELOW_S))
    gather, scatter = (out[op]["direct/large"] for op in ("all_gather", "reduce_scatter"))
    large = {k: gather[k] + scatter[k] for k in ("fixed_s", "hop_s")}
    large["efficiency"] = 2 / (1 / gather["efficiency"] + 1 / scatter["efficiency"])
    large["fixed_s"] += ABOVE_S - HCCL_PRODUCTION["all_reduce"][0] - _line_s(tiers, large)
    out["all_reduce"] = {
        "direct/small": _share_only(tiers, out["all_gather"]["direct/small"], small),
        "direct/large": {**large, "own_share": 0.0},
    }
    out["all_reduce"]["direct/small"]["up_to_bytes_per_rank"] = SMALL_PER_RANK_BYTES
    for op, algorithm in (("all_to_all", "pairwise"), ("broadcast", "tree"), ("p2p", "direct")):
        out[op] = {f"{algorithm}/{k.split('/')[1]}": dict(v) for k, v in out["all_gather"].items()}
    # no exchange of different data with every peer was measured beyond the rate at which a pair writes (DeepEP normal
    # kernels: 95 to 125 GB/s), although a gather inside a node runs at the line rate
    out["p2p"]["direct/large"]["efficiency"] = out["all_to_all"]["pairwise/large"]["efficiency"] = PAIR_WRITE_SHARE
    for op, name in (("all_reduce", "halving-doubling/large"), ("all_gather", "recursive/large"),
                     ("reduce_scatter", "recursive/large")):  # fmt: skip
        out[op][name] = _logarithmic(out[op]["direct/large"])
    return out


def _line_s(tiers: tuple[Tier, ...], numbers: Mapping[str, float]) -> float:
    """Seconds of the direct all-reduce just above the switch."""
    levels = group_levels(tiers, Group(SWITCH_DIES))
    (line,) = lines_of(levels, "all_reduce", {levels[-1].path: {"direct/large": numbers}})
    return line.latency_s + line.s_per_byte * SMALL_PER_RANK_BYTES * SWITCH_DIES


def _share_only(
    tiers: tuple[Tier, ...], like: Mapping[str, float], points: Sequence[tuple[int, float, float]]
) -> dict[str, float]:
    """The small all-reduce with the fixed and hop costs of another operation: its efficiency from a few points."""
    found = []
    for n, size, time in points:
        levels = group_levels(tiers, Group(n))
        (line,) = lines_of(levels, "all_reduce", {levels[-1].path: {"direct/small": {**like, "efficiency": 1.0}}})
        found.append(line.s_per_byte * size / (time - line.latency_s))
    return {**like, "efficiency": float(f"{np.exp(np.mean(np.log(found))):.4g}")}


def _logarithmic(direct: Mapping[str, float]) -> dict[str, float]:
    """What the library does among many ranks (assumption): logarithmic rounds that cost as much as the direct
    exchange at LARGEST_MEASURED ranks, at LOGARITHMIC_SHARE of its bandwidth."""
    rounds = math.log2(LARGEST_MEASURED)
    hop = direct["hop_s"] * (LARGEST_MEASURED - 1) / rounds
    return {**direct, "hop_s": hop, "efficiency": direct["efficiency"] * LOGARITHMIC_SHARE}


def fit_plateaus(rows: Iterable[Row], host_s: float) -> dict[tuple[str, str], list[Sample]]:
    """Large NCCL messages inside a node, less the host's share, by chip and operation; each counts PLATEAU_WEIGHT
    times, since they alone show the bandwidth that training sees."""
    out: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for row in rows:
        size = float(row["message_bytes"] or 0)
        known = row["chip"] in PLATEAU_CHIPS and row["op"] in PLATEAU_OPS and row["nodes"] == "1"
        if "stas00" not in row["source"] or not known or size < PLATEAU_BYTES:
            continue
        tiers = tiers_of(row["chip"])
        if "NVLS disabled" in row["notes"] or row["id"].endswith("-ring"):
            tiers = tuple(replace(t, reduction=False) for t in tiers)
        times = np.full(PLATEAU_WEIGHT, seconds(row) - host_s)
        sample = Sample(tiers, Group(int(row["n_devices"])), np.full(PLATEAU_WEIGHT, size), times)
        out[row["chip"], row["op"]].append(sample)
    return out


def _bare(row: Row) -> float:
    at_8, at_16 = HCCL_PRODUCTION.get(row["op"], HCCL_PRODUCTION_OTHER)
    return seconds(row) - float(np.interp(float(row["n_devices"]), (8.0, 16.0), (at_8, at_16)))


def _one_protocol(
    tiers: tuple[Tier, ...], op: str, name: str, points: Sequence[tuple[int, float, float]]
) -> dict[str, float]:
    samples = [Sample(tiers, Group(n), np.array([size]), np.array([time])) for n, size, time in points]
    found = fit_protocols(samples, Template(op, (name,), {}, {}, hop_most_s=5e-6))
    return {k: float(f"{v:.4g}") for k, v in {**found.groups[name], "own_share": 0.0}.items()}


def fit_scale_out(rows: Sequence[Row], inner: Groups, host_s: float) -> dict[str, dict[str, float]]:
    """All-reduce between nodes: the 4 x 8 example, less the host's share of each call."""
    chosen = [r for r in rows if r["chip"] == "unspecified" and r["op"] == "all_reduce"]
    node, outer, *_ = tiers_of("a100-sxm-80gb")
    outer = Tier(outer.name, "ib", outer.devices, UNSPECIFIED_NIC_BYTES_PER_S, outer.latency_s)
    size = np.array([float(r["message_bytes"]) for r in chosen])
    time = np.array([max(1e-5, seconds(r) - host_s) for r in chosen])
    template = Template(
        "all_reduce", ("tree/ll128", "tree/simple"), {"nvlink": inner}, {},
        hop_least_s=2.5e-6, hop_most_s=5e-6, simple_least=0.7, fixed_most_s=6e-5,
    )  # fmt: skip
    found = fit_protocols([Sample((node, outer), Group(32), size, time)], template)
    return {name: {k: float(f"{v:.4g}") for k, v in values.items()} for name, values in found.groups.items()}


def fit_exchange_rows(
    rows: Iterable[Row], keep: Callable[[Row], bool], names: Sequence[str], known: Mapping[str, float]
) -> dict[str, float]:
    """One library, mode and operation from the rows that `keep` accepts."""
    samples = []
    mode = "normal"
    for row in rows:
        if row["op"] in ("dispatch", "combine") and keep(row):
            found = exchange_row(row)
            mode = found.call.mode
            levels = group_levels(tiers_of(row["chip"]), found.group)
            samples.append(ExchangeSample(levels, found.call, np.array([seconds(row)])))
    return fit_exchange(samples, mode, names, known)
