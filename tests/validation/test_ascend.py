"""Launch scripts of Ascend rows: cells they fill in, settings, and fused kernels by script."""

from __future__ import annotations

from supertwin.training.frameworks import framework_named
from supertwin.validation.predictors import ascend
from supertwin.validation.predictors.training import case_of
from supertwin.validation.tables import load

ROWS = {row.id: row for row in load("training").rows}


def test_scripts_agree_with_their_devices() -> None:
    sizes = [launch.cells for launch in ascend.LAUNCHES if "tp" in launch.cells]
    assert sizes
    for cells in sizes:
        assert int(str(cells["global_batch"])) % (int(str(cells["micro_batch"])) * int(str(cells["dp"]))) == 0


def test_ascendspeed_row_takes_its_script() -> None:
    """pretrain_llama2_7b_zero_8p.sh at 79eb5e89: ZeRO-2, micro-batch 4, batch 32, every layer recomputed."""
    case, assumed = case_of(ROWS["as2311-llama2-7b"])
    assert (case.layout.dp, case.micro_batch, case.global_batch, case.seq_len) == (8, 4, 32, 4096)
    assert (case.sharding, case.recompute, case.attention_kernel) == ("zero2", "full", "triangle")
    assert "recompute=full" in assumed


def test_printed_step_time_confirms_the_batch() -> None:
    """The README of 2023 prints 6.66 s at 2460 tokens/s and device: 131072 tokens, the 32 x 4096 of the script."""
    row = ROWS["as2311-llama2-7b"]
    tokens = (row.number("measured_tokens_per_s_per_device") or 0.0) * 8 * (row.number("measured_step_time_s") or 0.0)
    case, _ = case_of(row)
    assert abs(tokens / (case.global_batch * case.seq_len) - 1.0) < 0.01


def test_stated_cells_are_kept() -> None:
    row = ROWS["ms2410-qwen2-5-32b-32768"]
    filled, names = ascend.completed(row)
    assert filled is row
    assert not names
    assert sum(ascend.settings_of(row)["stages"]) == 64  # type: ignore[call-overload]


def test_fused_kernels_follow_the_script() -> None:
    assert ascend.profile_of(ROWS["ms2410-llama3-8b-8192"]) == "mindspeed-llm"
    assert ascend.profile_of(ROWS["ms2410-llama3-1-8b-8192"]) == "mindspeed-llm-plain-rotary"
    assert ascend.profile_of(ROWS["ms2410-gemma-7b-8192"]) == "mindspeed-llm-plain-activation"
    legacy = framework_named(ascend.profile_of(ROWS["ms2410-qwen-7b-8192"]))
    assert min(legacy.rotary_passes, legacy.activation_passes) > 1.0
    assert framework_named(ascend.profile_of(ROWS["ms2410-internlm-7b-2048"])).rotary_passes == 1.0


def test_context_parallel_is_ulysses_unless_a_ring_is_asked_for() -> None:
    """--context-parallel-algo has ulysses_cp_algo as its default (modellink/training/arguments.py, October 2024)."""
    assert case_of(ROWS["ms2410-chatglm3-6b-32768"])[0].cp_method == "ulysses"
    assert case_of(ROWS["ms2410-glm4-9b-32768"])[0].cp_method == "ring"


def test_stages_of_the_scripts_hold_all_layers() -> None:
    for name in ("ms2410-qwen2-5-32b-32768", "ms2410-gemma2-27b-8192", "a3-rl-qwen235-grpo", "ms2410-bloom-176b-2048"):
        case, _ = case_of(ROWS[name])
        assert sum(case.stages) == case.model.n_layers, name
        assert len(case.stages) == case.layout.pp


def test_latent_attention_is_padded_as_the_script_says() -> None:
    """multi_head_latent_attention.py of October 2024: with --shape-order BNSD values to 192, else all to 256."""
    assert framework_named(case_of(ROWS["ms2410-deepseek-v2-60b-8192"])[0].framework).latent_padding == 1
    assert framework_named(case_of(ROWS["ms2410-deepseek-v2-lite-16b-8192"])[0].framework).latent_padding == 256
    assert framework_named(case_of(ROWS["mslm_dsv3"])[0].framework).latent_padding == 0
