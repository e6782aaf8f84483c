"""The parallel layout of a row of inference.csv: what it states, and what such runs normally take for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping

from supertwin.inference.assumptions import ATTENTION_DP_MODELS, unknown_balance
from supertwin.inference.benchmarks import mlperf_layout
from supertwin.inference.placement import moe
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec


def as_float(value: object) -> float:
    return float(value) if isinstance(value, int | float | str) else 0.0


def number(row: Mapping[str, object], name: str, default: float) -> float:
    value = row.get(name)
    return default if value is None or value == "" else as_float(value)


def balance_of(row: Mapping[str, object], chip: Chip, defaults: dict[str, object]) -> str:
    """Balance of a row; where it is unknown, a run whose drafts were counted computed real tokens: forced balance would
    have spoiled them."""
    stated = str(row.get("expert_balance") or "natural")
    if stated == "unknown" and "acceptance-derived" in str(row.get("flags") or ""):
        stated = defaults["expert_balance"] = "natural"
    elif stated == "unknown":
        stated = defaults["expert_balance"] = unknown_balance(chip, str(row.get("phase")))
    return stated


def redundant_of(row: Mapping[str, object], model: ModelSpec, ep: int, chip: Chip, defaults: dict[str, object]) -> int:
    """Wide expert parallelism, from two nodes of NVIDIA devices on, runs with 32 replicas (llm-d's benchmark of vLLM's
    wide EP, prefill on 16 H200 too: eplb-config num_redundant_experts 32), or the next number that gives all ranks as
    many slots (384 experts on 96 ranks: 96, as SGLang's post on Kimi-K2 has them; SGLang and vLLM refuse others). The
    Ascend recipes hold none (no model of cann-recipes-infer has redundant experts)."""
    if str(row.get("framework") or "").startswith("cann-recipes"):
        return 0
    mixture = moe(model)
    experts = 0 if mixture is None else mixture.experts
    wide = 16 if chip.vendor == "nvidia" else 32
    if experts and ep >= wide and (ep > experts or str(row.get("expert_balance") or "") != "perfect"):
        slots = math.ceil((experts + LEAST_REPLICAS) / ep)
        whole = chip.vendor == "nvidia" and ep <= experts
        replicas = slots * ep - experts if whole else LEAST_REPLICAS
        defaults["redundant_experts"] = replicas
        return replicas
    return 0


LEAST_REPLICAS = 32


def layout_of(
    row: Mapping[str, object], model: ModelSpec, chip: Chip, weights_bytes: float, defaults: dict[str, object]
) -> dict[str, int]:
    n = devices_of(row)
    has_moe = moe(model) is not None
    mla = any(x.attention is not None and x.attention.kind == "mla" for x in model.layers)
    given = {k: row.get(k) for k in ("tp", "pp", "dp", "ep", "dp_attention")}
    out = {k: int(as_float(v)) for k, v in given.items() if v is not None}
    out["cp"] = int(number(row, "cp", 1.0))
    out.setdefault("pp", 1)
    asked = mlperf_layout(row) if "tp" not in out else None
    if asked is not None and n % (asked[0] * asked[1]) == 0:
        out["tp"], out["pp"] = asked
    if "tp" not in out:
        out.update(_unstated_layout(row, n, has_moe and mla, weights_bytes, chip))
    framework = str(row.get("framework") or "").lower()
    if "dp" not in out and "tensorrt-llm" in framework and model.name.startswith(ATTENTION_DP_MODELS):
        out.update({"dp": out["tp"], "ep": out["tp"], "dp_attention": 1, "tp": 1})
        defaults["tp"] = 1
    spare = n // (out["tp"] * out["pp"])
    if "dp" not in out and has_moe and chip.vendor == "huawei" and spare > 1 and n == spare * out["tp"] * out["pp"]:
        out.update({"dp": spare, "ep": out.get("ep", n // out["pp"]), "dp_attention": 1})
    out.setdefault("dp", 1)
    out.setdefault("dp_attention", int(out["dp"] > 1 and has_moe and out.get("ep", 1) > out["tp"]))
    if "ep" not in out:
        npu = chip.vendor == "huawei"
        out["ep"] = out["tp"] * (out["dp"] if out["dp_attention"] else 1) if has_moe and npu else 1
    if not has_moe:
        out["ep"] = 1
    left_open = ("tp", "pp", "dp", "ep", "dp_attention") if asked else ("tp", "dp", "ep", "dp_attention")
    defaults.update({k: out[k] for k in left_open if given.get(k) is None})
    return out


_PIPELINED, _PAIR = "pipeline parallelism", "1P1D"


def devices_of(row: Mapping[str, object]) -> int:
    """Devices of a row. A prompt step of one prefill and one decode instance (1P1D) runs on half of them (SGLang on
    GB300, prompts of 128K, srt-slurm recipes/gb300-fp4/128k8k: four stages on a node, decode on another)."""
    n = int(number(row, "n_devices", 1.0))
    paired = row.get("phase") == "prefill" and _PAIR in str(row.get("notes") or "")
    return n // 2 if paired and n > 1 else n


def _unstated_layout(row: Mapping[str, object], n: int, wide: bool, weights_bytes: float, chip: Chip) -> dict[str, int]:
    """Fewer requests than devices: TP over all. Latent-attention MoE: attention DP over all. Else the least power of
    two that leaves 40 % of the memory free. On NVIDIA an instance is a node; rows of a prompt step are those of one
    instance of up to two (the 16 H200 that vLLM's post on GB200 compares with)."""
    ep = int(number(row, "ep", 0.0))
    if _PIPELINED in str(row.get("notes") or "").lower() and row.get("phase") == "prefill":
        return {"tp": 1, "pp": n, "dp": 1, "dp_attention": 0}
    single = 0.0 < max(number(row, "batch_global", 0.0), number(row, "concurrency", 0.0)) < n
    if single and not ep:
        return {"tp": n, "dp": 1, "dp_attention": 0}
    if wide or ep > 1 or (chip.vendor == "huawei" and row.get("source_group") == "sglang-ascend-ci"):
        instance = 16 if row.get("phase") == "prefill" else 8
        size = ep if ep > 1 else min(n, instance if chip.vendor == "nvidia" else n)
        return {"tp": 1, "dp": size, "ep": size, "dp_attention": 1}
    tp = 1
    while tp < n and weights_bytes / tp > 0.6 * chip.usable_memory_bytes:
        tp *= 2
    return {"tp": min(tp, n), "dp": 1, "dp_attention": 0}


SMALLEST_OVERLAP_TOKENS = 32
"""Tokens of a rank from which engines split a decode batch (vLLM ParallelConfig.dbo_decode_token_threshold)."""


def overlap_of(row: Mapping[str, object], chip: Chip, mtp_tokens: int, defaults: dict[str, object]) -> bool:
    """Two micro-batches where a row does not say: SGLang runs DeepEP instances with them in both phases (issue 6017 of
    sgl-project/sglang: --enable-two-batch-overlap). Small decode batches stay whole."""
    stated = row.get("microbatch_overlap")
    tokens = number(row, "batch_per_device", math.inf) * (1 + mtp_tokens)
    if row.get("phase") == "decode" and tokens < SMALLEST_OVERLAP_TOKENS:
        defaults["microbatch_overlap"] = 0
        return False
    if stated is not None:
        return bool(as_float(stated))
    if "deepep" in str(row.get("framework") or "").lower() and chip.vendor == "nvidia":
        defaults["microbatch_overlap"] = 1
        return True
    return False
