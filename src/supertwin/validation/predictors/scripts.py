"""What the files behind published rows say and the table does not: corrections, missing settings, memory counters.

Every reading names the file it was taken from. A row is recognised by its source and its stated settings; nothing here
looks at a measured column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from supertwin.validation.predictors.maxtext import MAXTEXT
from supertwin.validation.predictors.reading import Reading
from supertwin.validation.schema import Value
from supertwin.validation.tables import Row

_COUNTERS = {"allocated": "allocated", "reserved": "reserved", "nvidia-smi": "device"}


_CHRONICLES = "chronicles-prequel.md"
_FLAGPERF = "FlagOpen/FlagPerf"
_SELECTIVE: Mapping[str, Value] = {"recompute": "selective"}

_BLOOM = (
    Reading(_CHRONICLES, "line 962: memory snapshots are nvidia-smi", counter="device"),
    Reading(
        _CHRONICLES,
        "line 899: BF16_Optimizer with FP32 gradients from there on; before, gradients accumulate in 2 bytes",
        lines=(0, 898),
        corrects={"framework": "megatron-deepspeed-zero"},
    ),
    Reading(_CHRONICLES, "line 667: ZERO_STAGE 0", lines=(670, 670), corrects={"sharding": "none"}),
)

_LLAMA2_MEGATRON: Mapping[str, Value] = {"framework": "megatron-deepspeed-zero", "sharding": "zero1", "seq_len": 4096}
_FLAGPERF_READINGS = (
    Reading(
        "llama2_7b-megatron-deepspeed",
        "config/ds_config.json: ZeRO-1, grad_accum_dtype bf16; main.sh: --use-flash-attn-v2",
        corrects=_LLAMA2_MEGATRON,
        settings={"attention_kernel": "flash"},
    ),
    Reading(
        f"{_FLAGPERF} training/metax",
        "llama2_7b-megatron-deepspeed/config/ds_config.json, as on NVIDIA",
        {"model": "llama2-7b"},
        corrects=_LLAMA2_MEGATRON,
        settings={"attention_kernel": "flash"},
    ),
    Reading(
        f"{_FLAGPERF} training/metax",
        "chatglm3_6b-deepspeed: ZeRO-3; README: mpe=2048",
        {"model": "chatglm3-6b"},
        corrects={"framework": "deepspeed", "sharding": "zero3"},
        fills={"seq_len": 2048},
    ),
    Reading("-flagscale", "flagscale_main.sh passes no --sequence-parallel", fills={"sequence_parallel": 0}),
    Reading(
        "nvidia/mixtral_8x7B-megatron",
        "config_H100x4x8.py: localbs 3; megatron_main.sh: --global-batch-size 1200 --recompute-activations",
        fills={"micro_batch": 3, "global_batch": 1200, **_SELECTIVE},
    ),
    Reading(
        "qwen1.5_MoE-megatron",
        "megatron_pai_main.sh: 8 experts of 5504, 2 per token, --recompute-activations; config: 8192 tokens, batch 512",
        corrects={"model": "qwen1.5-moe-8x5504"},
        fills={"micro_batch": 1, "global_batch": 512, "seq_len": 8192, **_SELECTIVE},
    ),
    Reading(
        "iluvatar/mixtral_8x7B-megatron",
        "config/training_adapter.sh: 8 layers, 2048 tokens, batch 128",
        corrects={"model": "mixtral-8x7b-l8"},
        fills={"micro_batch": 1, "global_batch": 128, "seq_len": 2048},
    ),
)

# Options of the test scripts of MindSpeed-LLM (tests/*/*.sh), by the settings that they stand for.
_MINDSPEED_TESTS: tuple[tuple[str, Mapping[str, object], tuple[str, ...]], ...] = (
    (
        "--reuse-fp32-param",
        {"states_reused": True},
        (
            "deepseek_500b_tp1_pp2_ep2_cp2_overlap", "deepseek_v3_mcore_tp1_pp2_ep4", "grok1_40b_tp4_ep2_ptd",
            "llama2_tp2_cp4_general_double_ring", "llama2_tp2_pp4_vpp2_swap", "mamba2_2.7b_tp1_pp1",
            "mamba2_8b_tp4_pp1_cp2_recompute_4k_ptd", "pretrain_qwen3_8b_general_cp_ring",
            "qwen2_moe_tp1_pp2_ep2_cp2_32k", "qwen3_8b_tp2_pp4_vpp2", "qwen3_8b_tp2_pp4_vpp2_swap",
        ),
    ),
    (
        "--swap-attention",
        {"offload": 0.0, "offload_modules": ("attention",)},
        ("deepseek_500b_tp1_pp2_ep2_cp2_overlap", "llama2_tp2_pp4_vpp2_swap", "qwen3_8b_tp2_pp4_vpp2_swap"),
    ),
    (
        "--swap-optimizer",
        {"offload": 0.0, "offload_optimizer": 1.0, "offload_update": "swapped"},
        (
            "deepseek32_tp1_pp2_vpp1_ep4", "deepseek4_flash_mcore_tp1_pp1_ep8",
            "deepseek_v3_mcore_tp2_pp2_ep2_dualpipev_fb", "pretrain_huyuan3_4k_tp1pp1ep4_ptd",
            "qwen3_next_80b_4K_A3_ptd",
        ),
    ),
)  # fmt: skip
_RECOMPUTED: Mapping[str, tuple[str, ...]] = {
    "deepseek_500b_tp1_pp2_ep2_cp2_overlap": ("experts",),  # --moe-zero-memory level1
    "deepseek_v2_mcore_tp1_pp1_ep8": ("norm", "activation"),
    "deepseek_v3_mcore_tp2_pp2_ep2_dualpipev_fb": ("activation", "experts", "mla_up"),
    "llama2_tp2_cp4_general_double_ring": ("activation",),
    "llama2_tp2_pp4_vpp2_swap": ("activation",),
    "llama3_mcore_tp2_pp2_vpp2_noop_layer": ("norm",),
    "mixtral_mcore_tp4_cp2_ep2_ptd": ("activation",),
    "qwen3_8b_tp2_pp2_vpp2_noop_layer": ("norm",),
    "qwen3_8b_tp2_pp4_vpp2_swap": ("activation",),
}
_TESTS = "Ascend/MindSpeed-LLM"


def _mindspeed() -> tuple[Reading, ...]:
    """Readings of the test scripts; their baselines are Megatron's report after the first step."""
    found = [
        Reading(f"/{name}.", option, settings=settings)
        for option, settings, names in _MINDSPEED_TESTS
        for name in names
    ]
    found += [
        Reading(f"/{name}.", "--recompute-* modules", settings={"recompute_modules": modules})
        for name, modules in _RECOMPUTED.items()
    ]
    found += [
        Reading(f"/{name}.", "tokenizer of Llama 3", model={"vocab": 128256})
        for name in ("llama3_tp2_pp2_vpp1", "llama3_mcore_tp2_pp2_vpp2_noop_layer")
    ]
    why = "max allocated of report_memory, once after the first step (mindspeed_llm/training/training.py)"
    return (Reading(_TESTS, why, {"source_group": "mindspeed-ci"}, counter="first-step"), *found)


_MLPERF = (
    Reading(
        "",
        "LoRA on the attention matrices (target_modules: attention); FP8_ACT, FP8_ACTIVATION: its input "
        "of the activation in 8 bits (mlcommons/training_results_v5.0, NVIDIA and AMD, llama2_70b_lora)",
        {"source_group": "mlperf", "task": "lora"},
        settings={"lora_modules": "attention", "narrow_activation": True},
    ),
)


def _recipe(model: str, chip: str, precision: str, settings: Mapping[str, object]) -> Reading:
    where = {"source_group": "mbridge", "task": "pretrain", "model": model, "chip": chip, "precision": precision}
    return Reading("Megatron-Bridge", "recipe of 2025-10 to 2026-05", where, settings=settings)


def _offloaded(layers: int, of: int, model: str, chip: str, precision: str) -> Reading:
    """Activations in host memory (cpu_offloading_num_layers), with full sharding (use_megatron_fsdp)."""
    found = _recipe(model, chip, precision, {"offload": layers / of})
    return replace(found, where={**found.where, "sharding": "zero3"})


_CHEAP: Mapping[str, object] = {"recompute_modules": ("norm", "activation")}
# scripts/performance/configs of 2025-10 to 2026-05, since then src/megatron/bridge/perf_recipes
_BRIDGE = (
    _offloaded(30, 80, "llama3.1-70b", "gb300", "bf16"),
    _offloaded(20, 80, "llama3.1-70b", "gb300", "fp8-tensorwise"),
    _offloaded(20, 80, "llama3.1-70b", "gb200", "bf16"),
    _offloaded(40, 80, "llama3.1-70b", "gb200", "fp8-tensorwise"),
    _offloaded(5, 80, "llama3.1-70b", "b200", "fp8-tensorwise"),
    _offloaded(40, 126, "llama3.1-405b", "gb300", "bf16"),
    _offloaded(10, 126, "llama3.1-405b", "gb300", "fp8-tensorwise"),
    _offloaded(92, 126, "llama3.1-405b", "gb200", "fp8-tensorwise"),
    *(_recipe("gpt-oss-120b", chip, precision, _CHEAP)
      for chip in ("b200", "gb200", "h100") for precision in ("bf16", "mxfp8", "fp8-tensorwise")
      if (chip, precision) != ("gb200", "mxfp8")),
)  # fmt: skip

_QWEN_LONG: Mapping[str, object] = {"recompute_modules": ("norm", "experts")}
_ZOO = "Megatron-MoE-ModelZoo"
_MOE_ZOO = (
    Reading(
        _ZOO,
        "best_practice/qwen3/run_235b.sh: long contexts recompute layernorm and moe",
        {"model": "qwen3-235b-a22b", "global_batch": "256"},
        settings=_QWEN_LONG,
    ),
    Reading(
        _ZOO,
        "best_practice/qwen3/readme.md, column recompute: norm, act",
        {"model": "qwen3-235b-a22b", "global_batch": "2048", "tp": "2", "recompute": ""},
        settings=_CHEAP,
    ),
    Reading(
        _ZOO,
        "best_practice/qwen3/readme.md, column FSDP: on",
        {"model": "qwen3-235b-a22b", "recompute": "full"},
        fills={"sharding": "zero3"},
    ),
    Reading(
        _ZOO,
        "best_practice/qwen3/run_gb200_235b.sh: moe_act and layernorm recomputed, expert_fc1 and moe_act offloaded",
        {"model": "qwen3-235b-a22b", "global_batch": "3072", "chip": "gb200"},
        settings={"recompute_modules": ("norm",), "offload_modules": ("experts",)},
    ),
)

_MINDSPEED_EXAMPLES = (
    Reading(
        "pretrain_mixtral_8x22b_32k",
        "--reuse-fp32-param --swap-attention, whose --recompute-num-layers 30 computes feed-forwards again "
        "(MindSpeed docs/zh/features/swap_attention.md)",
        settings={
            "states_reused": True,
            "offload": 0.0,
            "offload_modules": ("attention",),
            "recompute_modules": ("experts",),
        },
    ),
    Reading(
        "docs/llm_rl/deepseek_rl_train_optimization.md",
        "llm_rl/deepseek scripts: swap_optimizer=True",
        settings={"offload_optimizer": 1.0, "offload_update": "swapped"},
    ),
)

_PAX = (
    Reading(
        "JAX-Toolbox",
        "README of 2023-08-28 (69233e9c): DP 32, FSDP 4, TP 2; configs.py: ICI_MESH_SHAPE [1, 4, 2], no policy",
        {"model": "gpt3-5b", "notes": "early revision"},
        corrects={
            "micro_batch": 16, "tp": 2, "dp": 128, "sharding": "hsdp", "hsdp_shard_size": 4, "recompute": "full",
        },
    ),
)  # fmt: skip

_PANGU = (
    Reading(
        "arXiv:2505.04519",
        "section 4: experts over the tensor-parallel group too, hierarchical exchange beside compute, recomputation of "
        "single modules; the printed EP 4 alone would need 122 GB",
        {"model": "pangu-ultra-moe", "ep": "4"},
        corrects={"ep": 32},
        fills={"recompute": "selective"},
        settings={"dispatcher": "deepep", "overlap_ep": True},
    ),
)

READINGS = (
    *_BLOOM,
    *_PANGU,
    *_PAX,
    *_FLAGPERF_READINGS,
    *_mindspeed(),
    *_MLPERF,
    *_BRIDGE,
    *_MOE_ZOO,
    *_MINDSPEED_EXAMPLES,
    *MAXTEXT,
)


def readings_of(row: Row) -> list[Reading]:
    """Readings that apply to a row, in order."""
    return [reading for reading in READINGS if reading.source in row.text("source") and _agrees(row, reading)]


def _agrees(row: Row, reading: Reading) -> bool:
    if reading.lines != Reading.__dataclass_fields__["lines"].default:
        line = re.search(r"line (\d+)", row.text("source"))
        if line is None or not reading.lines[0] <= int(line.group(1)) <= reading.lines[1]:
            return False
    return all(_begins(row.text(column), word) for column, word in reading.where.items())


def _begins(cell: str, word: str) -> bool:
    """Whether a cell begins with a word; an empty word asks for an empty cell."""
    return cell.startswith(word) if word else not cell


def corrected(row: Row) -> Row:
    """The row as its source has it: wrong cells replaced, empty ones filled."""
    values = dict(row)
    for reading in readings_of(row):
        values |= reading.corrects
        values |= {name: value for name, value in reading.fills.items() if values[name] is None}
    return Row(row.table, row.line, values)


def settings_of(row: Row) -> dict[str, object]:
    """Fields of the training case that have no column."""
    found: dict[str, object] = {}
    for reading in readings_of(row):
        found |= reading.settings
    return found


def dimensions_of(row: Row) -> dict[str, object]:
    """Fields of the model that its file has wrong for this row."""
    found: dict[str, object] = {}
    for reading in readings_of(row):
        found |= reading.model
    return found


def counter_of(row: Row) -> str:
    """How the memory of a row was read; what tensors hold where the source does not say."""
    stated = _COUNTERS.get(row.text("memory_kind"))
    read = [reading.counter for reading in readings_of(row) if reading.counter]
    return read[-1] if read else stated or "allocated"
