"""What the launch scripts behind Ascend rows set: AscendSpeed (2023), ModelLink (2024), MindSpeed-LLM (2026) and the
CANN training recipes.

Read from github:Ascend/MindSpeed-LLM: examples at 79eb5e89 (November 2023), 670f7290^ (October 2024) and c77308a1
(August 2026); github:hicann/cann-recipes-train at 93819a7. Nothing here looks at a measured column.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supertwin.validation.schema import Value
from supertwin.validation.tables import Row

_2023, _2024, _2026 = "ascendspeed-2311", "mindspeed-2410", "mindspeed-2608"
_A3, _CI = "a3", "mindspeed-ci"
# Mean sample of Congliu/Chinese-DeepSeek-R1-Distill-data-110k-SFT, which the scripts of 2026 name: its file holds
# 677 MB in 110,000 samples, about 6.2 kB each, at about 3.6 bytes per token of Chinese text with formulas.
_R1_ANSWER_TOKENS = 1700.0
_LEGACY = "(Legacy;"

# Flags that a script of 2024 lacks although the others pass them: --use-fused-swiglu, --use-fused-rotary-pos-emb.
# Scripts for the older model code (Legacy) pass neither; InternLM's passes the second.
_PLAIN_ACTIVATION = ("gemma_", "gemma2_", "yi_")
_PLAIN_ROTARY = ("llama31_", "llama32_", "chatglm3_", "glm4_", "grok1_")
_FUSED_ROTARY_IN_LEGACY = ("internlm_",)
_PADDED_HEADS = ("deepseek2_lite_", "deepseek2_100b_")  # no --shape-order BNSD


@dataclass(frozen=True, slots=True)
class Launch:
    """One script. cells: columns of the table that it fixes; settings: fields of TrainingCase beside them.

    model: the name in the table; seq_len 0: any.
    """

    group: str
    model: str
    cells: dict[str, Value] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    seq_len: int = 0


def _cells(sizes: tuple[int, int, int], batch: tuple[int, int, int], sharding: str, **more: Value) -> dict[str, Value]:
    """sizes = (tp, pp, dp), batch = (sequence length, micro-batch, global batch)."""
    tp, pp, dp = sizes
    seq_len, micro, together = batch
    layout: dict[str, Value] = {"tp": tp, "pp": pp, "cp": 1, "dp": dp, "ep": 1, "vpp": 1, "sharding": sharding}
    return {**layout, "seq_len": seq_len, "micro_batch": micro, "global_batch": together, **more}


_ZERO: dict[str, object] = {"attention_kernel": "triangle", "overlap_dp": True}  # --triangle-attn, overlap_comm
_SWAPPED: dict[str, object] = {"offload": 0.0, "offload_optimizer": 1.0, "offload_update": "swapped"}
_SQUARE: dict[str, object] = {"attention_kernel": "unfused"}  # neither --triangle-attn nor --use-flash-attn

_ULYSSES_TESTS = ("ci-mixtral-l6", "ci-qwen2-moe-l2", "ci-qwen3-30b-l1")
_ULYSSES = ("chatglm3-6b", "qwen2-0.5b", "qwen2-1.5b", "qwen2.5-3b")

LAUNCHES = (
    # *_zero_8p.sh: DeepSpeed, ZERO_STAGE=2, --checkpoint-activations (every layer)
    Launch(_2023, "llama-7b", _cells((1, 1, 8), (2048, 8, 64), "zero2", recompute="full"), _ZERO),
    Launch(_2023, "internlm-7b", _cells((1, 1, 8), (2048, 8, 64), "zero2", recompute="full"), _ZERO),
    Launch(_2023, "llama2-7b", _cells((1, 1, 8), (4096, 4, 32), "zero2", recompute="full"), _ZERO),
    # pretrain_llama_13B_ptd_8p.sh: --recomputation-layer-num 3 2 1 0 0 0 0 0
    Launch(
        _2023,
        "llama-13b",
        _cells((1, 8, 1), (2048, 1, 128), "none", recompute="partial", recompute_layers=3),
        {"attention_kernel": "triangle"},
    ),
    # *_32p.sh: --checkpoint-activations, --sequence-parallel
    Launch(_2023, "llama-33b", _cells((4, 4, 2), (2048, 2, 512), "zero1", recompute="full"), _SQUARE),
    Launch(_2023, "llama-65b", _cells((8, 4, 1), (2048, 2, 512), "none", recompute="full"), _SQUARE),
    Launch(_2023, "baichuan-13b", _cells((8, 1, 1), (4096, 1, 32), "none"), _SQUARE),
    Launch(_2023, "llama2-70b", _cells((8, 8, 1), (4096, 2, 1024), "none"), {"attention_kernel": "flash"}),
    # --num-layer-list: layers per pipeline stage
    Launch(_2024, "gemma2-27b", {}, {"stages": (20, 26)}),
    Launch(_2024, "internlm2-20b", {}, {"stages": (22, 26)}, 4096),
    Launch(_2024, "llama3.1-70b", {}, {"stages": (17, 20, 22, 21)}, 8192),
    Launch(_2024, "qwen1.5-110b", {}, {"stages": (7, 8, 9, 10, 11, 11, 12, 12)}),
    Launch(_2024, "qwen1.5-32b", {}, {"stages": (14, 17, 18, 15)}),
    Launch(_2024, "qwen2-72b", {}, {"stages": (18, 22, 21, 19)}, 32768),
    Launch(_2024, "qwen2.5-32b", {}, {"stages": (11, 13, 19, 21)}),
    Launch(_2024, "bloom-176b", {}, {"stages": (5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5)}),
    # no --context-parallel-algo: ulysses_cp_algo is the default (modellink/training/arguments.py)
    *(Launch(_2024, model, {}, {"cp_method": "ulysses"}) for model in _ULYSSES),
    # pretrain_qwen2_57b_a14b_4K_ptd.sh; CP_TYPE='ulysses_cp_algo'
    Launch(
        _2024,
        "qwen2-57b-a14b",
        {**_cells((1, 4, 4), (4096, 1, 64), "zero1"), "cp": 4, "ep": 4},
        {"cp_method": "ulysses"},
        4096,
    ),
    # tune_*_256K_full_pack_A3_ptd.sh: --pack, --reset-attention-mask, CP_TYPE='ulysses_cp_algo'
    Launch(_2026, "qwen3-30b-a3b", {}, {"cp_method": "ulysses", "sample_len": _R1_ANSWER_TOKENS}, 262144),
    Launch(_2026, "qwen3-32b", {}, {"cp_method": "ulysses", "sample_len": _R1_ANSWER_TOKENS}, 262144),
    # tests/pipeline/legacy, tests/st/shell_scripts: CP_TYPE='ulysses_cp_algo'
    *(Launch(_CI, model, {}, {"cp_method": "ulysses"}) for model in _ULYSSES_TESTS),
    # llm_rl: swap_optimizer=True; pipeline_parallel_num_layer_list, pipeline_num_transformer_layers; 4 layers are
    # recomputed with trained weights (docs/llm_rl/deepseek_rl_train_optimization.md)
    Launch(_A3, "deepseek-v3-nomtp", {}, {**_SWAPPED, "stages": (7, 7, 8, 8, 8, 8, 8, 7)}, 3118),
    Launch(
        _A3,
        "deepseek-v3-nomtp",
        {"recompute": "partial", "recompute_layers": 4},
        {**_SWAPPED, "stages": (7, 7, 8, 8, 8, 8, 8, 7)},
        1654,
    ),
    Launch(_A3, "qwen3-235b-a22b", {}, {**_SWAPPED, "stages": (23, 24, 24, 23)}),
    # deepseek_v32_671b_128die.toml: local_batch_size 16, swap_optimizer; dsa_cp.py gathers keys and values
    Launch(
        _A3, "deepseek-v3.2", {"dp": 1, "micro_batch": 1, "global_batch": 16}, {**_SWAPPED, "cp_method": "all_gather"}
    ),
)


def launch_of(row: Row) -> Launch | None:
    """The script of a row, None where it is not known or sets nothing beside the table."""
    length = row.integer("seq_len")
    for launch in LAUNCHES:
        known = launch.group == row.text("source_group") and launch.model == row.text("model")
        if known and (not launch.seq_len or length in (None, launch.seq_len)):
            return launch
    return None


def completed(row: Row) -> tuple[Row, list[str]]:
    """The row with the cells that its script fixes and the table leaves empty, and the names of those cells."""
    launch = launch_of(row)
    missing = {name: value for name, value in launch.cells.items() if row[name] is None} if launch else {}
    if not missing:
        return row, []
    return Row(row.table, row.line, {**row, **missing}), [f"{name}={value}" for name, value in missing.items()]


def settings_of(row: Row) -> dict[str, object]:
    """Fields of the case that the script sets beside the columns of the table."""
    launch = launch_of(row)
    return dict(launch.settings) if launch else {}


def profile_of(row: Row) -> str:
    """Framework profile of a ModelLink row of 2024 by the fused vector kernels that its script turns on."""
    source = row.text("source")
    if _script(source, _PADDED_HEADS):
        return f"{row.text('framework')}-padded-heads"
    legacy = _LEGACY in source
    activation = legacy or _script(source, _PLAIN_ACTIVATION)
    rotary = not _script(source, _FUSED_ROTARY_IN_LEGACY) if legacy else _script(source, _PLAIN_ROTARY)
    suffix = {(True, True): "-plain", (True, False): "-plain-activation", (False, True): "-plain-rotary"}
    return row.text("framework") + suffix.get((activation, rotary), "")


def _script(source: str, names: tuple[str, ...]) -> bool:
    return any(f"script pretrain_{name}" in source for name in names)
