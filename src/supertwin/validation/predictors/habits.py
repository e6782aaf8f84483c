"""What the scripts behind published rows set and the table has no column for, read from the scripts themselves.

A row is recognised by its source, its model, its date or its round; nothing here looks at a measured column.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supertwin.machine.system import System
from supertwin.validation.predictors import ascend
from supertwin.validation.tables import Row

# FlashAttention (arXiv 2205.14135) entered Megatron-LM in January 2023; older runs keep the score matrix in memory.
_FLASH_SINCE = "2023"
_SCORE_MATRIX = ("megatron-lm", "megatron-deepspeed", "deepspeed")
# Megatron's sequence parallelism and distributed optimizer are of May 2022 (arXiv 2205.05198).
_SEQUENCE_PARALLEL_SINCE = "2022-06"
_MEGATRON_DEEPSPEED = "megatron-deepspeed"  # a fork of early Megatron-LM; DeepSpeed's ZeRO stage is 0 unless set
_NO_SEQUENCE_PARALLEL = (_MEGATRON_DEEPSPEED, "paddle")  # PaddleNLP: sequence_parallel and sharding off by default
_FULL_SHARD = ("llm-foundry", "maxtext", "paxml", "torchtitan", "deepspeed", "fsdp")
_MLPERF = "mlperf"
# JAX-Toolbox, rosetta/projects/pax/README.md: fused attention by default from 2024-02-06 (XLA) and 2024-04-26 (TE) on,
# that is in the late table alone, whose note takes the 126M model out.
_PAX_FLASH = "pax-late"
_EIGHT_BIT = ("blackwell", "cdna4")


@dataclass(frozen=True, slots=True)
class Script:
    """Settings of the launch script of a source. model, precision: the script is for that one only ("" = any);
    devices: for jobs of at least so many."""

    source: str
    reason: str
    settings: dict[str, object] = field(default_factory=dict)
    model: str = ""
    precision: str = ""
    recompute: str = ""
    devices: int = 0


_SWAPPED: dict[str, object] = {"offload": 0.0, "offload_optimizer": 1.0, "offload_update": "swapped"}

SCRIPTS = (
    Script(
        "bigscience chronicles-prequel",
        "the same file, on the hanging large model: jobs of 320 GPUs always hang without CUDA_LAUNCH_BLOCKING=1, which "
        "is kept for the time being",
        {"blocking": True},
        devices=320,
    ),
    Script(
        "deepseek_v3_mcore_tp2_pp2_ep2_dualpipev_fb",
        "tests/st/shell_scripts: what is offloaded is the optimizer (--swap-optimizer)",
        _SWAPPED,
    ),
    Script("qwen3_next_80b_4K_A3_ptd", "tests/st/shell_scripts: --swap-optimizer", _SWAPPED),
    Script(
        "MindSpeed-LLM docs/zh/pytorch/features/README.md",
        "its script of DeepSeek-V3 on A3: DualPipeV, swapped optimizer (notes of the row)",
        _SWAPPED,
        model="deepseek-v3",
    ),
    Script(
        "MooreThreads/SimuMax",
        "run_pretrain_llama3.sh: --use-distributed-optimizer without the overlap flags, which are off by default; "
        "context parallelism by all-to-all; fused cross entropy (docs/b200)",
        {"overlap_dp": False, "cp_method": "ulysses", "fused_loss": True},
    ),
    Script(
        "JAX-Toolbox",
        "paxml/contrib/gpu/scripts_gpu: CHECKPOINT_POLICY is SAVE_DOT_WITH_NO_BATCH_DIM for the 5B model in BF16 "
        "(keeps products of weights, repeats attention), SAVE_NOTHING in FP8",
        model="gpt3-5b",
        precision="bf16",
        recompute="selective",
    ),
    Script(
        "JAX-Toolbox",
        "paxml/contrib/gpu/scripts_gpu/configs.py: 126M is no loop over layers (USE_REPEATED_LAYER False), and the "
        "policy of recomputation belongs to the loop",
        model="gpt3-126m",
        recompute="none",
    ),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The machine that a source ran on, where it says so and it is not the usual one of the chip."""

    source: str
    chip: str
    system: str
    reason: str


CLUSTERS = (
    Cluster(
        "VIA-Research/vTrain", "a100-sxm-80gb", "hgx-a100-4hdr", "config/validation: inter_node_bandwidth 800 Gb/s"
    ),
    Cluster(
        "bigscience-workshop/bigscience",
        "a100-sxm-80gb",
        "jean-zay-a100",
        "BLOOM model card: 8 GPUs per node, 4 Omni-Path links",
    ),
    Cluster("alibaba/Megatron-LLaMA", "a100-sxm-80gb", "hgx-a100-4hdr", "README: 4x200Gbps RDMA inter-bandwidth"),
    Cluster("arXiv:2303.17564", "a100-sxm-40gb", "p4d", "BloombergGPT, section 3.4: 64 p4d.24xlarge instances"),
)


def cluster_of(row: Row) -> str:
    """Name of the system that a row ran on; "" for the usual one of its chip."""
    source, chip = row.text("source"), row.text("chip")
    found = (c.system for c in CLUSTERS if source.removeprefix("github:").startswith(c.source) and chip == c.chip)
    return next(found, "")


_PADDLE_GPT = "gpt3_6.7B-paddle/README.md"
_PADDLE_LLAMA = "llama1_7B-paddle/README.md"


def model_of(row: Row) -> str:
    """Model of a row. FlagPerf prints the recomputing runs of this page under the heading GPT3-13B."""
    if _PADDLE_GPT in row.text("source") and row.text("recompute") == "full":
        return "gpt3-13b"
    return row.text("model")


def _paddle_profile(row: Row) -> str:
    """PaddleNLP's LLaMA; the runs on 40 GB have use_fused_rms_norm=False, those on 80 GB True (README of the rows)."""
    if not row.text("model").startswith("llama"):
        return row.text("framework")
    return (
        "paddle-llama-plain" if _PADDLE_LLAMA in row.text("source") and "40gb" in row.text("chip") else "paddle-llama"
    )


def script_of(row: Row) -> Script:
    """The script that a row comes from; one without settings when it is not known."""
    for script in SCRIPTS:
        if script.source in row.text("source") and _agrees(row, script):
            return script
    return Script("", "")


def _agrees(row: Row, script: Script) -> bool:
    enough = (row.integer("n_devices") or 0) >= script.devices
    return enough and script.model in ("", row.text("model")) and script.precision in ("", row.text("precision"))


def framework_of(row: Row, system: System) -> str:
    """Framework of a row. MLPerf submitters run NVIDIA's or AMD's implementation, both NeMo; MindSpeed-LLM
    scripts for A3 (2025 on) pass --moe-permute-fusion, those for A2 do not."""
    if row.text("framework").startswith("mindspeed-llm") and system.chip.name.startswith("ascend-910c"):
        return "mindspeed"
    if row.text("framework") == "mindspeed-llm" and row.text("source_group") == "mindspeed-2410":
        return ascend.profile_of(row)
    if row.text("framework") == "paddle":
        return _paddle_profile(row)
    if row.text("framework") == "paxml" and row.id.endswith("-te"):
        return "paxml-te"
    nemo_round = row.text("source_group") == _MLPERF and system.chip.vendor in ("nvidia", "amd")
    return row.text("framework") or ("nemo" if nemo_round else "")


def attention_of(row: Row) -> str:
    """ "unfused" before FlashAttention entered the stack, else "" (the framework's habit)."""
    date, framework = row.text("source_date"), row.text("framework")
    if framework == "paxml" and (not row.id.startswith(_PAX_FLASH) or row.text("model") == "gpt3-126m"):
        return "unfused"
    old = bool(date) and date < _FLASH_SINCE
    return "unfused" if old and framework.startswith(_SCORE_MATRIX) else ""


def early(row: Row) -> bool:
    """Runs on stacks without sequence parallelism and distributed optimizer."""
    date = row.text("source_date")
    return row.text("framework").startswith(_NO_SEQUENCE_PARALLEL) or bool(date and date < _SEQUENCE_PARALLEL_SINCE)


def usual_sharding(row: Row) -> str:
    """Sharding of a row that does not state it."""
    if row.text("framework").startswith(_FULL_SHARD):
        return "zero3"
    return "none" if early(row) else "zero1"


def usual_precision(row: Row, system: System) -> str:
    """Precision of a row that does not state it. MLPerf: FP8 on every chip that has it, unless the script says
    otherwise (mlperf.py)."""
    architecture = system.chip.architecture
    if row.text("source_group") == _MLPERF:
        return "bf16" if architecture.startswith("ampere") else "fp8-tensorwise"
    return "fp8-tensorwise" if architecture.startswith(_EIGHT_BIT) else "bf16"
