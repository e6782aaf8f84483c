"""Reading a row of inference.csv: what it states, and what stands in for what it leaves open.

Every stand-in is listed in `Reading.defaults` by column name. An empty cell means *not stated*, so each rule below is
an assumption about what such a run normally is; none looks at a measured column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supertwin.core.errors import InputError
from supertwin.inference.assumptions import (
    ATTENTION_DP_MODELS,
    DATASET_INPUT_LEN,
    EAGLE3_DRAFTS,
    MAX_QUEUE_REQUESTS,
    MLPERF_SAMPLES,
    MLPERF_TPOT_S,
    TRTLLM_REQUESTS,
    draft_acceptance,
    scaling_of,
    unknown_balance,
)
from supertwin.inference.case import Deployment
from supertwin.inference.placement import moe
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

_DATASET_OF_MODEL = {
    "llama-2-70b": "OpenOrca",
    "mixtral-8x7b": "OpenOrca+GSM8K+MBXP",
    "llama-3.1-405b": "LongBench-class",
    "llama-3.1-8b": "CNN-DailyMail",
    "deepseek-r1": "reasoning mix",
}
_WIDE = ("bf16", "fp16")
_RUN = re.compile(r"(\d+) (?:requests|prompts)\b")
_RANDOM = re.compile(r"\brandom\b", re.IGNORECASE)
_EIGHT_BIT_KV = ("tensorrt", "cuda")
UNSTATED_CONTEXT = 4096.0
CUT_REPLY = 4.0
LONGEST_CONVERSATION = 2048.0


@dataclass(slots=True)
class Reading:
    """One row in the program's terms. Lengths in tokens; batch: requests per device (None = the largest that fits);
    data_set: lengths are those of a data set, answered once; counted: a queue of a known number of requests;
    one_length: random prompts, all answers asked for at one length."""

    deployment: Deployment
    n_devices: int
    phase: str
    input_len: float
    output_len: float
    kv_len: float
    hit_rate: float
    accepted: float
    batch: float | None
    concurrency: float
    rate_per_s: float
    requests: float
    prefill_devices: int
    decode_devices: int
    flags: frozenset[str]
    tpot_limit_s: float = 0.0
    data_set: bool = False
    counted: bool = False
    one_length: bool = False
    defaults: dict[str, object] = field(default_factory=dict)

    @property
    def varied(self) -> bool:
        """Whether output lengths differ: means of data sets (also whole but odd prompt lengths such as 467); answers of
        the CNN-DailyMail set are all cut at 128 tokens. Random prompts ask for answers of one length, whose mean lies
        just below it where a few end early."""
        if self.output_len <= 64 or self.one_length or (self.data_set and round(self.output_len) in (128, 129)):
            return False
        odd = _whole(self.input_len) and not _round(self.input_len)
        means = "lengths-are-means" in self.flags and not _round(self.output_len)
        return self.data_set or odd or means

    @property
    def longest_over_mean(self) -> float:
        """Longest reply that the data set holds, over the mean. MLPerf cuts replies (1,024 tokens of OpenOrca with mean
        294; 20,000 of reasoning, mean 3,880); benchmark samplers keep conversations of up to 2,048 tokens in all (vLLM
        benchmarks/datasets.py, is_valid_sequence)."""
        if self.data_set:
            return CUT_REPLY
        return max((LONGEST_CONVERSATION - self.input_len) / max(self.output_len, 1.0), 1.0)

    @property
    def instances(self) -> float:
        """Engine instances (replicas) of the row."""
        return max(1.0, self.n_devices / self.deployment.devices)


def read(row: Mapping[str, object], model: ModelSpec, chip: Chip, weights_bytes: float) -> Reading:
    """Turn a row (columns of inference.csv, None for empty) into a Reading.

    weights_bytes: all weights of the model in BF16, used to choose a layout where none is stated.
    """
    _check_ranges(row)
    defaults: dict[str, object] = {}
    flags = frozenset(str(row.get("flags") or "").split(";"))
    weight, activation, kv = _formats(row, model, chip, defaults)
    n = int(_number(row, "n_devices", 1.0))
    sizes = _layout(row, model, chip, weights_bytes * _ratio(weight), defaults)
    room = sizes["tp"] * sizes["pp"] * sizes["dp"] * chip.usable_memory_bytes
    if "precision-doubtful" in flags and weight in _WIDE and weights_bytes > room and "fp8" in chip.peak_flop_per_s:
        weight = activation = defaults["weight_dtype"] = scaling_of(model, "fp8", "fp8")[0]
    mtp = int(_number(row, "mtp_tokens", 0.0))
    if not mtp and "spec-decode-eagle3" in flags and row.get("mtp_tokens") is None:
        mtp = defaults["mtp_tokens"] = EAGLE3_DRAFTS
    acceptance = row.get("mtp_acceptance")
    if mtp and acceptance is None:
        acceptance = defaults["mtp_acceptance"] = draft_acceptance(mtp)
    deployment = Deployment(
        tp=sizes["tp"], pp=sizes["pp"], dp=sizes["dp"], ep=sizes["ep"], cp=sizes["cp"],
        cp_adds_devices=row["phase"] == "prefill",
        dp_attention=bool(sizes["dp_attention"]),
        weight_dtype=weight, activation_dtype=activation, kv_dtype=kv,
        mtp_tokens=mtp, mtp_acceptance=_float(acceptance or 0.0),
        microbatch_overlap=bool(_number(row, "microbatch_overlap", 0.0)),
        expert_balance=_balance(row, chip, defaults),
        redundant_experts=_redundant(row, model, sizes["ep"], defaults),
        framework=str(row.get("framework") or ""),
        **_local(flags, sizes),
    )  # fmt: skip
    input_len, output_len, kv_len = _lengths(row, defaults)
    batch = row.get("batch_per_device")
    return Reading(
        deployment, n, str(row["phase"]), input_len, output_len, kv_len,
        _number(row, "prefix_hit_rate", 0.0), 1.0 + mtp * deployment.mtp_acceptance,
        None if batch is None else _float(batch),
        _number(row, "concurrency", 0.0), _number(row, "request_rate_per_s", 0.0),
        _requests(row), int(_number(row, "prefill_devices", 0.0)), int(_number(row, "decode_devices", 0.0)),
        flags, _limit(row), row.get("source_group") == "mlperf", _is_perf_overview(row),
        bool(_RANDOM.search(str(row.get("notes") or ""))), defaults,
    )  # fmt: skip


LOCAL_TP = {
    "dense-tp8": {"dense_tp": 8, "output_tp": 8, "head_tp": 16},
    "oproj-lmhead-local-tp": {"output_tp": 8, "head_tp": 16},
}
"""Flags of rows and what the recipes that they come from set (cann-recipes-infer: longcat_flash_densetp8_*.yaml,
deepseek_v3.2_exp_rank_64_64ep_*_decode_*.yaml)."""


def _local(flags: frozenset[str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Dense matrices cut over attention ranks, where a flag says so and the layout allows it."""
    asked = next((LOCAL_TP[flag] for flag in LOCAL_TP if flag in flags), {})
    return {name: n for name, n in asked.items() if sizes["tp"] == 1 and sizes["dp"] % n == 0}


def _whole(length: float) -> bool:
    return length == int(length)


def _round(length: float) -> bool:
    """A length that somebody typed: a multiple of 4 or 10."""
    return _whole(length) and (length % 4 == 0 or length % 10 == 0)


_RANGES = {
    **dict.fromkeys(("n_devices", "tp", "pp", "dp", "ep", "cp"), (1.0, 1e6)),
    **dict.fromkeys(("prefill_devices", "decode_devices", "mtp_tokens"), (0.0, 1e6)),
    **dict.fromkeys(("input_len", "output_len", "kv_len"), (0.0, 1e8)),
    **dict.fromkeys(("batch_per_device", "batch_global", "concurrency", "request_rate_per_s"), (0.0, 1e7)),
    **dict.fromkeys(("prefix_hit_rate", "mtp_acceptance"), (0.0, 1.0)),
}


def _check_ranges(row: Mapping[str, object]) -> None:
    """Raises InputError for a number that cannot be what its column says."""
    for name, (least, most) in _RANGES.items():
        value = row.get(name)
        if value is not None and value != "" and not least <= _float(value) <= most:
            raise InputError(f"{name} = {value}: expected {least:g} to {most:g}")


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float | str) else 0.0


def _number(row: Mapping[str, object], name: str, default: float) -> float:
    value = row.get(name)
    return default if value is None or value == "" else _float(value)


def _requests(row: Mapping[str, object]) -> float:
    """Size of the run. MLPerf runs last at least 600 s (rules); the experimental sweeps of InferenceX send ten prompts
    per request in flight (bmk_*_sbatch.sh: NUM_PROMPTS)."""
    flags = str(row.get("flags") or "")
    concurrency = _number(row, "concurrency", 0.0)
    if row.get("source_group") == "mlperf" and row.get("phase") == "offline":
        return float(MLPERF_SAMPLES.get(str(row.get("model")), 24576))
    stated = _RUN.search(str(row.get("notes") or ""))
    if stated:
        return float(stated[1])
    if _is_perf_overview(row):
        lengths = (round(_number(row, "input_len", 0.0)), round(_number(row, "output_len", 0.0)))
        return float(TRTLLM_REQUESTS.get(lengths, MAX_QUEUE_REQUESTS))
    if "all-requests-at-t0" in flags or row.get("phase") == "offline":
        return concurrency or float(MAX_QUEUE_REQUESTS)
    if "experimental-sweep" in flags:
        return 10.0 * concurrency
    if row.get("source_group") == "mlperf":
        return max(float(MAX_QUEUE_REQUESTS), 600.0 * _number(row, "request_rate_per_s", 0.0))
    return float(MAX_QUEUE_REQUESTS)


def _is_perf_overview(row: Mapping[str, object]) -> bool:
    """Whether a row is a queue of equal requests that TensorRT-LLM's own benchmark answers at once."""
    offline = row.get("phase") == "offline" and "saturated" in str(row.get("flags") or "")
    return offline and not row.get("concurrency") and str(row.get("framework") or "").startswith("TensorRT-LLM")


def _limit(row: Mapping[str, object]) -> float:
    """The p99 limit on TPOT that an MLPerf server or interactive run was loaded up to."""
    if row.get("kind") != "slo-constrained" or row.get("source_group") != "mlperf":
        return 0.0
    server, interactive = MLPERF_TPOT_S.get(str(row.get("model")), (0.0, 0.0))
    return interactive if "Interactive" in str(row.get("notes") or "") else server


def _ratio(weight: str) -> float:
    from supertwin.core.formats import number_format

    return number_format(weight).bytes_per_element / 2.0


def _formats(
    row: Mapping[str, object], model: ModelSpec, chip: Chip, defaults: dict[str, object]
) -> tuple[str, str, str]:
    weight, activation, kv = (str(row.get(f"{k}_dtype") or "") for k in ("weight", "activation", "kv"))
    framework = str(row.get("framework") or "").lower()
    if not weight:
        weight = defaults["weight_dtype"] = _usual_weight(row, chip)
    if not activation:
        activation = weight if weight not in ("int4", "mxfp4") else "bf16"
        defaults["activation_dtype"] = activation
    if not kv:
        eight = weight in ("fp8", "nvfp4") and (
            framework.startswith(_EIGHT_BIT_KV) or row.get("source_group") == "mlperf"
        )
        kv = defaults["kv_dtype"] = "fp8" if eight else "bf16"
    return (*scaling_of(model, weight, activation), kv)


def _usual_weight(row: Mapping[str, object], chip: Chip) -> str:
    """MLPerf and vendor tables without a stated type: the narrowest format that the chip computes in."""
    if row.get("source_group") == "mlperf":
        return next(
            (f for f, rate in (("nvfp4", "fp4"), ("fp8", "fp8"), ("int8", "int8")) if rate in chip.peak_flop_per_s),
            "fp16",
        )
    return "bf16"


def _lengths(row: Mapping[str, object], defaults: dict[str, object]) -> tuple[float, float, float]:
    input_len, output_len = _number(row, "input_len", 0.0), _number(row, "output_len", 0.0)
    kv_len = _number(row, "kv_len", 0.0)
    if not input_len and not kv_len:
        data_set = _DATASET_OF_MODEL.get(str(row.get("model")), "")
        known = "input-len-is-dataset" in str(row.get("flags") or "") and data_set
        input_len = DATASET_INPUT_LEN[data_set][0] if known else UNSTATED_CONTEXT
        defaults["input_len"] = input_len
    if not output_len and row.get("phase") in ("serving", "offline"):
        output_len = defaults["output_len"] = 256.0
    return input_len or kv_len, output_len, kv_len or input_len + output_len / 2.0


def _balance(row: Mapping[str, object], chip: Chip, defaults: dict[str, object]) -> str:
    stated = str(row.get("expert_balance") or "natural")
    if stated == "unknown":
        stated = defaults["expert_balance"] = unknown_balance(chip, str(row.get("phase")))
    return stated


def _redundant(row: Mapping[str, object], model: ModelSpec, ep: int, defaults: dict[str, object]) -> int:
    """Wide expert parallelism runs with at least one replica per rank pair: 32 in general."""
    mixture = moe(model)
    experts = 0 if mixture is None else mixture.experts
    if experts and ep >= 32 and (ep > experts or str(row.get("expert_balance") or "") != "perfect"):
        defaults["redundant_experts"] = 32
        return 32
    return 0


def _layout(
    row: Mapping[str, object], model: ModelSpec, chip: Chip, weights_bytes: float, defaults: dict[str, object]
) -> dict[str, int]:
    n = int(_number(row, "n_devices", 1.0))
    has_moe = moe(model) is not None
    mla = any(x.attention is not None and x.attention.kind == "mla" for x in model.layers)
    given = {k: row.get(k) for k in ("tp", "pp", "dp", "ep", "dp_attention")}
    out = {k: int(_float(v)) for k, v in given.items() if v is not None}
    out["cp"] = int(_number(row, "cp", 1.0))
    out.setdefault("pp", 1)
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
    defaults.update({k: out[k] for k in ("tp", "dp", "ep", "dp_attention") if given.get(k) is None})
    return out


def _unstated_layout(row: Mapping[str, object], n: int, wide: bool, weights_bytes: float, chip: Chip) -> dict[str, int]:
    """Fewer requests than devices: TP over all. Latent-attention MoE: attention DP over all. Else the least power of
    two that leaves 40 % of the memory free."""
    ep = int(_number(row, "ep", 0.0))
    single = 0.0 < max(_number(row, "batch_global", 0.0), _number(row, "concurrency", 0.0)) < n
    if single and not ep:
        return {"tp": n, "dp": 1, "dp_attention": 0}
    if wide or ep > 1 or (chip.vendor == "huawei" and row.get("source_group") == "sglang-ascend-ci"):
        size = ep if ep > 1 else min(n, 8 if chip.vendor == "nvidia" else n)
        return {"tp": 1, "dp": size, "ep": size, "dp_attention": 1}
    tp = 1
    while tp < n and weights_bytes / tp > 0.6 * chip.usable_memory_bytes:
        tp *= 2
    return {"tp": min(tp, n), "dp": 1, "dp_attention": 0}
