"""Build the link calibration files of all chips from the operator tables and collectives.csv."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import errors, spread_90, write_calibration
from supertwin.calibration.links_exchange import DEFAULT_SMS, fit_exchange, predict_exchange
from supertwin.calibration.links_fit import Sample, Template, fit_protocols, predict
from supertwin.calibration.links_priors import (
    Groups,
    fabric_priors,
    fused_priors,
    hccl_by_vector_cores,
    hccl_on,
    hccl_on_mesh,
    hccl_production,
    published_transfers,
    scale_out_priors,
)
from supertwin.calibration.links_rows import (
    fit_exchange_rows,
    fit_hccl,
    fit_plateaus,
    fit_scale_out,
    fit_transfers,
    seconds,
)
from supertwin.calibration.links_tables import (
    Bench,
    ExchangeBench,
    comm_samples,
    exchange_samples,
)
from supertwin.network.rows import Row

NCCL_PROTOCOLS = {
    "all_reduce": ("ring/ll", "ring/ll128", "ring/simple", "nvls/simple"),
    "all_gather": ("ring/ll", "ring/ll128", "ring/simple"),
    "reduce_scatter": ("ring/ll", "ring/ll128", "ring/simple"),
    "all_to_all": ("pairwise/ll", "pairwise/ll128", "pairwise/simple"),
    "p2p": ("direct/ll", "direct/ll128", "direct/simple"),
}
CUSTOM_PROTOCOLS = ("one-shot/custom", "two-shot/custom", "ring/simple", "nvls/simple")
HOST_S = 18e-6  # a call from Python in the ml-engineering benchmark, beyond NCCL in a captured graph; refitted per chip
MOST_ROWS = 1200  # per group shape: more do not sharpen a fit of a dozen numbers
# Chips whose links are taken to behave as another one's: same link generation and library
LIKE = {
    "a800-sxm-80gb": "a100-sxm-80gb", "a100-sxm-40gb": "a100-sxm-80gb", "a800-40gb": "a100-sxm-80gb",
    "h800-sxm": "h100-sxm", "h100-500w-hbm2e": "h100-sxm", "h100-sxm-powercap": "h100-sxm", "h20": "h200-sxm",
    "b300": "gb300", "ascend-910b2": "ascend-910c-die", "ascend-910b3": "ascend-910c-die",
    "ascend-910b": "ascend-910c-die", "ascend-910b1": "ascend-910c-die", "ascend-910b4": "ascend-910c-die",
    "ascend-unspecified": "ascend-910c-die", "ascend-910d": "ascend-910c-die", "unspecified": "a100-sxm-80gb",
}  # fmt: skip


class Report:
    """What was fitted: rows and errors by chip and set."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        self.held: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def add(self, chip: str, name: str, fit: Sequence[np.ndarray], held: Sequence[np.ndarray]) -> None:
        """Record predicted and measured of the fitted and the held-out rows."""
        inside, outside = errors(fit[0], fit[1]), errors(held[0], held[1])
        self.sets[chip][name] = {
            "n": inside["n"], "fit_median_ape": inside["median_ape"],
            "n_held_out": outside["n"], "held_out_median_ape": outside["median_ape"], "p90": outside["p90_ape"],
        }  # fmt: skip
        self.held[chip].append((np.asarray(held[0]), np.asarray(held[1])))

    def residual(self, chip: str) -> dict[str, float]:
        """Held-out errors of a chip, all sets together."""
        if not self.held[chip]:
            return {}
        predicted, measured = (np.concatenate([pair[i] for pair in self.held[chip]]) for i in (0, 1))
        found = errors(predicted, measured)
        return {
            "n_held_out": float(found["n"]), "held_out_median_ape": found["median_ape"], "p90": found["p90_ape"],
            "spread": spread_90(predicted, measured),
        }  # fmt: skip


def build_links(operators: Path, rows: Sequence[Row], date: str) -> tuple[dict[str, dict[str, Any]], Report]:
    """Contents of `<chip>/links.json` by chip, and the report. Raises MissingExtra without polars and scipy."""
    groups: dict[str, Groups] = defaultdict(dict)
    report = Report()
    _collectives(operators, groups, report, fit_plateaus(rows, HOST_S))
    _exchanges(operators, groups, report)
    _inherit_outside(groups)
    transfers, left_out = fit_transfers(rows)
    for chip, found in transfers.items():
        groups[chip].update(found)
    for name, error in left_out.items():
        chip = name.split("/")[0]
        report.add(chip, f"transfer {name}", (np.exp(error), np.ones_like(error)), (np.exp(error), np.ones_like(error)))
    for chip in ("ascend-910c-die", "h800-sxm", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm"):
        groups[chip].update(published_transfers(chip))
    _few_rows(rows, groups)
    contents = {}
    for chip, found in groups.items():
        residual = report.residual(chip)
        contents[chip] = {
            "family": "links", "chip": chip, "date": date, "parameters": found, "residual": residual,
            "spread": round(min(1.0, max(0.1, residual.get("spread", 0.4))), 3),
            "data_sets": _data_sets(chip, report, rows),
        }  # fmt: skip
    contents["generic"]["like"] = LIKE
    return contents, report


def write_links(contents: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write all files below a folder. Returns their paths."""
    return [write_calibration(folder, content) for content in contents.values()]


def _data_sets(chip: str, report: Report, rows: Sequence[Row]) -> list[dict[str, Any]]:
    operators = sum(v["n"] for k, v in report.sets[chip].items() if not k.startswith("transfer"))
    listed = sum(1 for row in rows if row["chip"] == chip)
    sets = [{"name": "operators/comm, ep_all_to_all", "rows": int(operators)}] if operators else []
    return [*sets, {"name": "collectives.csv", "rows": listed}]


def _thin(samples: list[Sample]) -> list[Sample]:
    rng = np.random.default_rng(0)
    out = []
    for s in samples:
        take = rng.permutation(len(s.seconds))[:MOST_ROWS]
        out.append(Sample(s.tiers, s.group, s.message_bytes[take], s.seconds[take]))
    return out


def _collectives(
    operators: Path, groups: dict[str, Groups], report: Report, plateaus: Mapping[tuple[str, str], list[Sample]]
) -> None:
    for bench, fit, held in sorted(comm_samples(operators), key=lambda item: item[0].across):
        library, path = _placed(bench)
        protocols = NCCL_PROTOCOLS[bench.op] if library.startswith("nccl") else CUSTOM_PROTOCOLS
        if bench.chip.startswith("a100") or bench.across:
            protocols = tuple(p for p in protocols if not p.startswith("nvls"))
        inner = {"nvlink": _under(groups[bench.chip], f"collective/nccl/nvlink/{bench.op}")} if bench.across else {}
        template = Template(bench.op, protocols, inner, {}, hop_most_s=8e-6 if bench.across else 3e-6)
        more = plateaus.get((bench.chip, bench.op), []) if library == "nccl" and not bench.across else []
        found = fit_protocols([*_thin(fit), *more], template)
        for name, values in found.groups.items():
            rounded = {k: float(f"{v:.4g}") for k, v in values.items()}
            groups[bench.chip][f"collective/{library}/{path}/{bench.op}/{name}"] = rounded
        pairs = [(predict(s, template, found), np.concatenate([x.seconds for x in s])) for s in (fit, held)]
        report.add(bench.chip, f"{library} {bench.op} {path}", *pairs)


def _placed(bench: Bench) -> tuple[str, str]:
    """Library and link class under which a fit is filed. Point-to-point of the profiler is NCCL's own, except over
    the A100 pair's network, which is far below an HDR adapter's rate and stays under the profiler's name."""
    slow = bench.across and bench.chip.startswith("a100")
    library = "nccl" if bench.op == "p2p" and not slow else bench.library
    return library, "ib" if bench.across else "nvlink"


def _under(groups: Groups, prefix: str) -> Groups:
    return {k[len(prefix) + 1 :]: v for k, v in groups.items() if k.startswith(prefix + "/")}


def _exchanges(operators: Path, groups: dict[str, Groups], report: Report) -> None:
    for bench, fit, held in exchange_samples(operators):
        names, known = _exchange_names(bench, across=any(s.levels[-1].path == "ib" for s in fit))
        found = fit_exchange(fit, bench.mode, names, known)
        op = bench.op.replace("_", "-")
        groups[bench.chip][f"exchange/{bench.library}/{bench.mode}/{op}"] = found
        pairs = [(predict_exchange(s, bench.mode, found), np.concatenate([x.seconds for x in s])) for s in (fit, held)]
        report.add(bench.chip, f"{bench.library} {bench.mode} {op}", *pairs)


def _inherit_outside(groups: dict[str, Groups]) -> None:
    """DeepEP on chips that were measured in one node only: between nodes as on H100 (same kernels, same adapters)."""
    for chip in ("b200-sxm", "gb200", "gb300"):
        for name, values in groups[chip].items():
            if name.startswith("exchange/deepep/"):
                values.update({k: v for k, v in groups["h100-sxm"][name].items() if k.startswith("outer_")})


def _exchange_names(bench: ExchangeBench, across: bool) -> tuple[list[str], dict[str, float]]:
    if bench.op == "prepare":
        return ["fixed_s", "token_s", "sharpness", "rank_s"], {"efficiency": 1.0}
    names, known = ["fixed_s", "efficiency", "sharpness"], {}
    if bench.library == "deepep":
        if bench.mode == "normal":
            names, known = [*names, "sm_bytes_per_s", "message_s"], {"sms": DEFAULT_SMS}
        else:
            names = [*names, "expert_bytes_per_s", "expert_s"]
    else:
        names = [*names, "rank_s"]
    if across:
        names += ["outer_efficiency", "outer_fixed_s", "outer_hop_s"]
        names += ["outer_crowding"] if bench.mode == "normal" else []
    return names, known


def _few_rows(rows: Sequence[Row], groups: dict[str, Groups]) -> None:
    """Libraries with a handful of rows, and the priors that follow from them."""
    ascend, generic, h800 = groups["ascend-910c-die"], groups["generic"], groups["h800-sxm"]
    hccl = fit_hccl([r for r in rows if r["id"].startswith("a3-hccl-prod")])
    for library, fitted in (("hccl", hccl), ("hccl-aiv", hccl_by_vector_cores(hccl))):
        ascend.update(hccl_on("ub", fitted, 1.0, library))
        ascend.update(hccl_on_mesh(fitted, library))
    ascend.update(hccl_production(hccl))
    generic.update(hccl_on("ub", hccl, 1.0, "any"))
    generic.update(hccl_on_mesh(hccl, "any"))
    generic.update(fabric_priors())
    for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"):
        for name, values in _under(groups["h100-sxm"], f"collective/nccl/nvlink/{op}").items():
            generic[f"collective/any/nvlink/{op}/{name}"] = values
    simple = groups["h100-sxm"]["collective/nccl/nvlink/all_gather/ring/simple"]
    generic["collective/any/nvlink/broadcast/ring/simple"] = simple
    inner = _under(groups["a100-sxm-80gb"], "collective/nccl/nvlink/all_reduce")
    generic.update(scale_out_priors(fit_scale_out(rows, inner, HOST_S)))
    gloo = next((seconds(r) for r in rows if "Gloo" in r["notes"]), 1e-2)
    generic["collective/gloo/tcp/all_reduce/tree/host"] = {
        "fixed_s": 1e-4, "hop_s": (gloo - 1e-4) / 16, "efficiency": 0.5, "own_share": 0.0
    }  # fmt: skip
    generic["transfer/nic/inter/device-device/read"] = {"fixed_s": 5e-6, "bytes_per_s": 0.9686 * 50e9, "sharpness": 1.0}
    for chip in ("a100-sxm-80gb", "h200-sxm", "b200-sxm"):
        groups[chip]["floor/nccl-torch/nvlink/all_reduce"] = {"floor_s": 0.0, "extra_s": HOST_S}
    generic["floor/nccl-torch/nvlink/all_reduce"] = {"floor_s": 0.0, "extra_s": HOST_S}
    generic["floor/nccl-torch/ib/all_reduce"] = {"floor_s": 0.0, "extra_s": HOST_S}
    _exchange_rows(rows, groups, ascend, h800)


def _exchange_rows(rows: Sequence[Row], groups: dict[str, Groups], ascend: Groups, h800: Groups) -> None:
    generic = groups["generic"]
    outer = {k: v for k, v in groups["h100-sxm"]["exchange/deepep/low-latency/dispatch"].items() if "outer" in k}
    for op in ("dispatch", "combine"):
        base = groups["h100-sxm"][f"exchange/deepep/normal/{op}"]
        fast = groups["h100-sxm"][f"exchange/deepep/low-latency/{op}"]
        for mode, values in (("normal", base), ("low-latency", fast)):
            generic[f"exchange/any/{mode}/{op}"] = values

        def of(system: str, op: str = op, tokens: str = "") -> Any:
            return lambda r: r["op"] == op and r["system"] == system and tokens in ("", r["tokens_per_rank"])

        known, names = fused_priors(), ["message_s", "wait_s"]
        cann = fit_exchange_rows(rows, of("CloudMatrix384 CANN EP"), names, known)
        ascend[f"exchange/cann/fused/{op}"] = {**cann, **_rdma(outer)}
        superpod = "Atlas A3 384 SuperPOD"
        few = fit_exchange_rows(rows, of(superpod, tokens="128"), names, known)
        ascend[f"exchange/deepep-ascend/low-latency/{op}"] = {**few, **_rdma(outer)}
        known = {"efficiency": 0.84, "sharpness": 1.0, "fused": 1.0, "distinct": 1.0}
        names = ["fixed_s", "message_s", "rank_s"]
        ascend[f"exchange/deepep-ascend/normal/{op}"] = {
            **fit_exchange_rows(rows, of(superpod, tokens="4096"), names, known), **_rdma(outer)
        }  # fmt: skip
        ours = fit_exchange_rows(rows, of("DeepEP low-latency"), ["fixed_s", "efficiency", "outer_hop_s"], {**fast})
        h800[f"exchange/deepep/low-latency/{op}"] = ours
        kept = {**base, "sm_bytes_per_s": 1e11, "outer_crowding": 1e-3, "outer_efficiency": 0.9}
        h800[f"exchange/deepep/normal/{op}"] = fit_exchange_rows(rows, of("DeepEP normal"), ["efficiency"], kept)
        h800[f"exchange/deepep-rdma/low-latency/{op}"] = fit_exchange_rows(
            rows, of("DeepEP"), ["fixed_s", "outer_efficiency", "outer_hop_s"],
            {"rdma_only": 1.0, "rdma_bytes_per_s": 50e9, "efficiency": 1.0, "outer_fixed_s": 0.0},
        )  # fmt: skip
        _second_version(rows, groups, op, kept)
    for kind in ("dispatch", "combine"):
        generic[f"exchange/cann/fused/{kind}"] = ascend[f"exchange/cann/fused/{kind}"]


def _second_version(rows: Sequence[Row], groups: dict[str, Groups], op: str, base: Mapping[str, float]) -> None:
    """DeepEP V2 from its table: half the cores on Hopper, 24 or 64 on Blackwell; RDMA close to line rate."""
    start = {
        **base, "sms": 24.0, "message_s": 0.0, "efficiency": 0.82, "outer_efficiency": 0.95,
        "outer_fixed_s": 1e-5, "outer_hop_s": 1e-5, "unforwarded": 1.0,
    }  # fmt: skip
    for chip, wanted in (("h800-sxm", ["efficiency"]), ("b200-sxm", ["efficiency", "sm_bytes_per_s"])):
        mine = [r for r in rows if "V2" in r["system"] and (r["chip"], r["op"]) == (chip, op)]
        groups[chip][f"exchange/deepep-v2/normal/{op}"] = fit_exchange_rows(mine, lambda _r: True, wanted, start)


def _rdma(outer: Mapping[str, float]) -> dict[str, float]:
    """Beyond the supernode: as DeepEP over RDMA (assumption)."""
    return {"outer_efficiency": outer["outer_efficiency"], "outer_fixed_s": 1e-5, "outer_hop_s": outer["outer_hop_s"]}
