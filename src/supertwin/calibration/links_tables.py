"""Measured links as samples to fit: the operator tables (comm, ep_all_to_all) and collectives.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import held_out, require_polars
from supertwin.calibration.links_exchange import ExchangeSample
from supertwin.calibration.links_fit import Sample
from supertwin.machine.system import Tier
from supertwin.network.exchange import Exchange
from supertwin.network.group import Group
from supertwin.network.span import group_levels

CHIP_NAMES = {"b200": "b200-sxm"}
OPS = ("all_gather", "all_reduce", "all_to_all", "reduce_scatter", "p2p")
GB = 1e9


@dataclass(frozen=True, slots=True)
class Bench:
    """One set to fit together: chip, library, op, and whether any group crosses nodes."""

    chip: str
    library: str
    op: str
    across: bool


def tiers_of(chip: str) -> tuple[Tier, ...]:
    """Tiers of the system that a chip is normally found in (catalogue line rates)."""
    from supertwin.machine.systems import system_for_chip

    return system_for_chip(chip).tiers


def library_name(library: str) -> str:
    """nccl, nccl-vidur, trtllm, vllm-graph, vllm-eager, sglang-graph, sglang-eager, sglang-0.5.14-graph ..."""
    if library.startswith("nccl"):
        return "nccl"
    if library.startswith("vidur"):
        return "nccl-vidur"
    if "trtllm" in library:
        return "trtllm"
    name = library.split()[-1].replace("_", "-")
    return name.replace("sglang", "sglang-0.5.14") if library.startswith("sglang 0.5.14") else name


def comm_samples(folder: Path) -> Iterator[tuple[Bench, list[Sample], list[Sample]]]:
    """Sets of comm.csv.gz: (what, samples to fit, samples held out). Raises MissingExtra without polars."""
    pl = require_polars()
    table = pl.read_csv(folder / "comm.csv.gz", infer_schema_length=None)
    table = table.with_columns(
        pl.col("op").replace({"send_recv": "p2p"}),
        pl.col("chip").replace(CHIP_NAMES),
        pl.col("library").map_elements(library_name, return_dtype=pl.Utf8),
        (pl.col("n") > pl.col("devices_per_node")).alias("across"),
    )
    code = table["op"].replace_strict({op: i for i, op in enumerate(OPS)}, return_dtype=pl.Int64)
    table = table.with_columns(
        pl.Series("held", held_out(code.to_numpy(), table["n"].to_numpy(), table["bytes"].to_numpy()))
    )
    for key, rows in table.group_by(["chip", "library", "op", "across"], maintain_order=True):
        bench = Bench(*key)
        fit, held = (_samples(bench.chip, rows.filter(pl.col("held") == flag)) for flag in (False, True))
        yield bench, fit, held


def _samples(chip: str, rows: Any) -> list[Sample]:
    out = []
    for (n, per_node), part in rows.group_by(["n", "devices_per_node"], maintain_order=True):
        tiers = node_tiers(tiers_of(chip), per_node)
        out.append(Sample(tiers, Group(n), part["bytes"].to_numpy().astype(float), part["us"].to_numpy() * 1e-6))
    return out


def node_tiers(tiers: tuple[Tier, ...], per_node: int) -> tuple[Tier, ...]:
    """The same fabric with `per_node` devices used in each node of its fast tier."""
    fast, outer = tiers[0], tiers[1:]
    if per_node >= fast.devices or not outer or fast.devices > 8:
        return tiers
    small = Tier(
        fast.name, fast.path, per_node, fast.bandwidth_bytes_per_s, fast.latency_s, fast.topology, fast.reduction
    )
    return (small, *outer) if per_node > 1 else outer


@dataclass(frozen=True, slots=True)
class ExchangeBench:
    """One kernel to fit: chip, library, mode, operation."""

    chip: str
    library: str
    mode: str
    op: str


MODES = {
    "deepep-low-latency": ("deepep", "low-latency"),
    "deepep-normal": ("deepep", "normal"),
    "trtllm-NVLinkOneSided": ("trtllm-one-sided", "normal"),
    "trtllm-NVLinkTwoSided": ("trtllm-two-sided", "normal"),
}
Samples = list[ExchangeSample]


def exchange_samples(folder: Path) -> Iterator[tuple[ExchangeBench, Samples, Samples]]:
    """Sets of ep_all_to_all.csv.gz: (what, to fit, held out). combine_low_precision is a combine in NVFP4."""
    pl = require_polars()
    table = pl.read_csv(folder / "ep_all_to_all.csv.gz", infer_schema_length=None)
    shape = [table[c].fill_null(0).to_numpy() for c in ("n", "hidden", "tokens", "topk", "experts", "sms")]
    table = table.with_columns(pl.Series("held", held_out(*shape)), pl.col("chip").replace(CHIP_NAMES))
    for (chip, mode, op), rows in table.group_by(["chip", "mode", "op"], maintain_order=True):
        library, kind = MODES[mode]
        bench = ExchangeBench(chip, library, kind, op)
        fit, held = (_exchanges(bench, rows.filter(pl.col("held") == flag)) for flag in (False, True))
        yield bench, fit, held


def payload(op: str, dtype: str | None) -> str:
    """What travels: combine is BF16 whatever the experts compute in, unless it is the low-precision one."""
    return {"combine": "bf16", "combine_low_precision": "nvfp4"}.get(op) or dtype or "fp8"


def _exchanges(bench: ExchangeBench, rows: Any) -> Samples:
    out = []
    keys = ["n", "dtype", "sms"]
    for (n, dtype, sms), part in rows.group_by(keys, maintain_order=True):
        column: Mapping[str, npt.NDArray[np.float64]] = {
            c: part[c].fill_null(0).to_numpy().astype(float) for c in ("tokens", "hidden", "topk", "experts")
        }
        call = Exchange(
            "prepare" if bench.op == "prepare" else "dispatch", column["tokens"], column["hidden"], column["topk"],
            payload(bench.op, dtype), bench.mode, column["experts"], float(sms or 0),
        )  # fmt: skip
        levels = group_levels(tiers_of(bench.chip), Group(n))
        out.append(ExchangeSample(levels, call, part["us"].to_numpy() * 1e-6))
    return out
