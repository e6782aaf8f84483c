"""Reading a row of inference.csv: what it states, and what stands in for what it leaves open.

Every stand-in is listed in `Reading.defaults` by column name. An empty cell means *not stated*, so each rule below is
an assumption about what such a run normally is; none looks at a measured column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supertwin.core.errors import InputError
from supertwin.inference.acceptance import draft_acceptance
from supertwin.inference.assumptions import EAGLE3_DRAFTS
from supertwin.inference.benchmarks import (
    DATASET_OF_MODEL,
    DATASET_PROMPTS,
    TRTLLM_DEEPSEEK,
    amd_prompts,
    mlperf_batch,
    mlperf_tokens,
)
from supertwin.inference.case import Deployment
from supertwin.inference.pages import Options, draft_tree, framework_of, options
from supertwin.inference.recipe_layout import local_widths, switches
from supertwin.inference.row_formats import formats_of, too_wide, width_ratio
from supertwin.inference.row_layout import as_float, balance_of, devices_of, layout_of, number, overlap_of, redundant_of
from supertwin.inference.runs import (
    at_intervals,
    is_perf_overview,
    least_run_s,
    limits_s,
    means_of_tokens,
    prompt_spread,
    reply_spread,
    requests_of,
    template_tokens,
)
from supertwin.inference.scaling import scaling_of
from supertwin.inference.trtllm_bench import TUNED_FORMATS, limits
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

_RANDOM = re.compile(r"\brandom\b", re.IGNORECASE)
_POOL = re.compile(r"(\d+)-token device pool", re.IGNORECASE)
UNSTATED_CONTEXT = 4096.0
CUT_REPLY = 4.0
LONGEST_CONVERSATION = 2048.0


@dataclass(slots=True)
class Reading:
    """One row in the program's terms. Lengths in tokens; batch: requests per device (None = the largest that fits);
    data_set: lengths are those of a data set, answered once; counted: a queue of a known number of requests;
    one_length: random prompts, all answers asked for at one length;
    memory_share, most_running, batched_tokens, held_steps, least_prompts: options of the server that the row or its
    source names (0: none); least_run_s: an offline run repeats its data set (requests) until it lasts as long; even:
    requests come at equal intervals; caches: prefixes are cached; mean_of_tokens: its TPOT is the mean inter-token
    latency; template_tokens: what the server adds to a prompt."""

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
    ttft_limit_s: float = math.inf
    data_set: bool = False
    counted: bool = False
    one_length: bool = False
    memory_share: float = 0.0
    most_running: int = 0
    batched_tokens: int = 0
    least_run_s: float = 0.0
    held_steps: int = 0
    least_prompts: int = 1
    prompt_spread: float = 0.0
    reply_spread: float = 1.0
    even: bool = False
    caches: bool = False
    mean_of_tokens: bool = False
    template_tokens: float = 0.0
    defaults: dict[str, object] = field(default_factory=dict)

    @property
    def varied(self) -> bool:
        """Whether output lengths differ: means of data sets (also whole but odd lengths such as 202 and 214, while 467
        and 16 or 256 tokens are answers of one length to the prompts of a set); answers of
        the CNN-DailyMail set are all cut at 128 tokens. Random prompts ask for answers of one length, whose mean lies
        just below it where a few end early."""
        if self.output_len <= 64 or self.one_length or (self.data_set and round(self.output_len) in (128, 129)):
            return False
        odd = _whole(self.input_len) and not _round(self.input_len) and not _round(self.output_len)
        means = "lengths-are-means" in self.flags and not _typed(self.output_len)
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
    def decoded(self) -> float:
        """Tokens that a resident has answered in the mean: half of equal replies; of varied ones the long are resident
        longer, E[n^2] / (2 E[n])."""
        return 0.5 * self.output_len * (1.0 + self.reply_spread * self.varied)

    @property
    def prompt_cv2(self) -> float:
        """Variance of prompt lengths over their squared mean; one length where somebody typed it."""
        if self.one_length or not (self.data_set or self.varied or not _round(self.input_len)):
            return 0.0
        return self.prompt_spread

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
    served = options(row)
    deployment = _deployment(row, model, chip, weights_bytes, (served, flags, defaults))
    input_len, output_len, kv_len = _lengths(row, defaults)
    most_running, tokens = _limits(row, served, model, chip, (deployment, input_len, output_len))
    tpot_limit_s, ttft_limit_s = limits_s(row)
    return Reading(
        deployment=deployment,
        n_devices=devices_of(row),
        phase=str(row["phase"]),
        input_len=input_len,
        output_len=output_len,
        kv_len=kv_len,
        hit_rate=number(row, "prefix_hit_rate", 0.0),
        accepted=1.0 + deployment.mtp_tokens * deployment.mtp_acceptance,
        batch=_batch(row, served, defaults),
        concurrency=number(row, "concurrency", 0.0),
        rate_per_s=number(row, "request_rate_per_s", 0.0),
        requests=requests_of(row),
        prefill_devices=int(number(row, "prefill_devices", 0.0)),
        decode_devices=int(number(row, "decode_devices", 0.0)),
        flags=flags,
        tpot_limit_s=tpot_limit_s,
        ttft_limit_s=ttft_limit_s,
        data_set=row.get("source_group") == "mlperf",
        counted=is_perf_overview(row),
        one_length=bool(_RANDOM.search(str(row.get("notes") or ""))),
        memory_share=served.memory_share,
        most_running=most_running,
        batched_tokens=tokens,
        least_run_s=least_run_s(row),
        held_steps=served.held_steps,
        least_prompts=amd_prompts(row),
        prompt_spread=prompt_spread(row, input_len),
        reply_spread=reply_spread(row),
        even=at_intervals(row),
        caches=served.caches,
        mean_of_tokens=means_of_tokens(row),
        template_tokens=template_tokens(row),
        defaults=defaults,
    )


def _deployment(
    row: Mapping[str, object],
    model: ModelSpec,
    chip: Chip,
    weights_bytes: float,
    about: tuple[Options, frozenset[str], dict[str, object]],
) -> Deployment:
    """about: options of the server, flags of the row, what stands in (filled)."""
    served, flags, defaults = about
    weight, activation, kv = formats_of(row, model, chip, defaults)
    if "hif8" in flags:  # 8 bits with one scale per tensor
        activation = "fp8-tensorwise"
    sizes = layout_of(row, model, chip, weights_bytes * width_ratio(weight), defaults)
    if "precision-doubtful" in flags and too_wide(weight, weights_bytes, sizes, chip):
        weight = activation = defaults["weight_dtype"] = scaling_of(model, "fp8", "fp8")[0]
    drafts = _drafts(row, flags, defaults)
    mtp = drafts["mtp_tokens"]
    return Deployment(
        **_placed(row, flags, sizes),
        dp_attention=bool(sizes["dp_attention"]),
        weight_dtype=weight, activation_dtype=activation, kv_dtype=kv,
        microbatch_overlap=served.two_batches or overlap_of(row, chip, mtp, defaults),
        expert_balance=balance_of(row, chip, defaults),
        redundant_experts=redundant_of(row, model, sizes["ep"], chip, defaults),
        framework=framework_of(row, served),
        kv_pool=_pool(row, model, flags),
        draft=_drafter(mtp, model, flags), **drafts, host_cores=served.host_cores,
        **local_widths(row, flags, sizes), **switches(row),
    )  # fmt: skip


def _drafts(row: Mapping[str, object], flags: frozenset[str], defaults: dict[str, object]) -> dict[str, Any]:
    """Drafts, their acceptance and the shape of their tree, as fields of a Deployment."""
    mtp = int(number(row, "mtp_tokens", 0.0))
    tree: dict[str, Any] = {}
    if not mtp and "spec-decode-eagle3" in flags and row.get("mtp_tokens") is None:
        if "spec-tree" in flags:
            mtp, tree["draft_topk"], tree["verify_tokens"] = draft_tree(row)
        mtp = defaults["mtp_tokens"] = mtp or EAGLE3_DRAFTS
    acceptance = row.get("mtp_acceptance")
    if mtp and acceptance is None:
        acceptance = defaults["mtp_acceptance"] = draft_acceptance(mtp, *tree.values())
    return {"mtp_tokens": mtp, "mtp_acceptance": as_float(acceptance or 0.0), **tree}


def _batch(row: Mapping[str, object], served: Options, defaults: dict[str, object]) -> float | None:
    """Sequences per device of those that run, or None."""
    batch, stated = row.get("batch_per_device"), int(number(row, "n_devices", 1.0))
    if batch is None and served.batch:
        defaults["batch_per_device"] = served.batch
        return served.batch
    return None if batch is None else as_float(batch) * stated / devices_of(row)


def _limits(
    row: Mapping[str, object],
    served: Options,
    model: ModelSpec,
    chip: Chip,
    asked: tuple[Deployment, float, float],
) -> tuple[int, int]:
    """Most requests that run at a time, and most tokens of a step; 0: the engine's. asked: deployment, lengths."""
    deployment, *lengths = asked
    if is_perf_overview(row) and deployment.weight_dtype in TUNED_FORMATS:
        return _tuned(model, chip, deployment, (lengths[0], lengths[1]))
    tokens = served.batched_tokens
    if row.get("source_group") == "trtllm-dsr1":
        tokens = TRTLLM_DEEPSEEK.get(int(number(row, "concurrency", 0.0)), (tokens, 0))[0]
    return served.most_running or mlperf_batch(row) * deployment.dp, tokens or mlperf_tokens(row)


def _placed(row: Mapping[str, object], flags: frozenset[str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Sizes; with latent attention in stages over all attention ranks (flag hybrid-sp-tp-sp-mla) these share every
    prompt: context ranks instead of data-parallel ones."""
    placed: dict[str, Any] = {name: sizes[name] for name in ("tp", "pp", "dp", "ep", "cp")}
    placed["cp_adds_devices"] = row["phase"] == "prefill"
    if "hybrid-sp-tp-sp-mla" in flags and placed["cp_adds_devices"] and sizes["cp"] == 1:
        placed.update(cp=sizes["dp"], dp=1, cp_method="staged")
    return placed


def _drafter(drafts: int, model: ModelSpec, flags: frozenset[str]) -> str:
    """An EAGLE-3 head where the row says so, or says that the model's own module does not draft and it has none."""
    eagle = "spec-decode-eagle3" in flags or ("spec-decode-not-mtp" in flags and model.mtp is None)
    return "eagle3" if drafts and eagle else ""


def _pool(row: Mapping[str, object], model: ModelSpec, flags: frozenset[str]) -> int:
    """Tokens per sequence kept on the device when keys lie in host memory (flag kv-offload-host): as the row's text
    says, else four times what the indexer picks, the smaller pool of cann-recipes-infer (GLM-5.2)."""
    picks = max((x.attention.index_topk for x in model.layers if x.attention is not None), default=0)
    if "kv-offload-host" not in flags or not picks:
        return 0
    return int(_named(row, _POOL)) or 4 * picks


def _named(row: Mapping[str, object], option: re.Pattern[str]) -> float:
    """A number that the row's text gives for an option of the server, 0 where it gives none."""
    found = option.search(str(row.get("notes") or ""))
    return float(found[1]) if found else 0.0


def _whole(length: float) -> bool:
    return length == int(length)


def _round(length: float) -> bool:
    """A length that somebody typed: a multiple of 4 or 10."""
    return _whole(length) and (length % 4 == 0 or length % 10 == 0)


def _typed(length: float) -> bool:
    """An answer length that somebody asked for: a multiple of 10 or 32 (a mean of 196.0 is neither)."""
    return _whole(length) and (length % 10 == 0 or length % 32 == 0)


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
        if value is not None and value != "" and not least <= as_float(value) <= most:
            raise InputError(f"{name} = {value}: expected {least:g} to {most:g}")


def _tuned(model: ModelSpec, chip: Chip, d: Deployment, lengths: tuple[float, float]) -> tuple[int, int]:
    """(requests of the instance, tokens of a step on a rank) of trtllm-bench: one micro-batch per pipeline stage."""
    found = limits(model, chip, (d.weight_dtype, d.kv_dtype), (d.tp * d.dp, d.pp), lengths)
    return found.batch_size * d.pp * d.dp, found.num_tokens


def _lengths(row: Mapping[str, object], defaults: dict[str, object]) -> tuple[float, float, float]:
    input_len, output_len = number(row, "input_len", 0.0), number(row, "output_len", 0.0)
    kv_len = number(row, "kv_len", 0.0)
    if not input_len and not kv_len:
        data_set = DATASET_OF_MODEL.get(str(row.get("model")), "")
        known = "input-len-is-dataset" in str(row.get("flags") or "") and data_set
        input_len = DATASET_PROMPTS[data_set][0] if known else UNSTATED_CONTEXT
        defaults["input_len"] = input_len
    if not output_len and row.get("phase") in ("serving", "offline"):
        output_len = defaults["output_len"] = 256.0
    return input_len or kv_len, output_len, kv_len or input_len + output_len / 2.0
