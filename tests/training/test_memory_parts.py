"""Memory by part, stage, counter and option: identities, published counts, and orders that cannot be otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.prediction import Memory, StageMemory
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, memory
from supertwin.training.assumptions import RESERVED_UNUSED
from supertwin.training.counters import counted_bytes

GIB = 2**30


def job(model: str = "llama3.1-70b", machine: str = "dgx-h100:64", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model),
        system=load_system(machine),
        layout=Layout(tp=8, pp=4, dp=2),
        micro_batch=1,
        global_batch=64,
        seq_len=4096,
    )
    return replace(case, **changes)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    pp=st.sampled_from([1, 2, 4, 8]),
    recompute=st.sampled_from(["none", "selective", "full"]),
    sharding=st.sampled_from(["none", "zero1", "zero2", "zero3"]),
    precision=st.sampled_from(["bf16", "fp16", "fp8-tensorwise"]),
    offload=st.sampled_from([0.0, 0.5]),
)
def test_parts_add_up_and_the_fullest_stage_is_the_peak(
    pp: int, recompute: str, sharding: str, precision: str, offload: float
) -> None:
    layout = Layout(tp=4, pp=pp, dp=64 // (4 * pp))
    case = job(layout=layout, recompute=recompute, sharding=sharding, precision=precision, offload=offload)
    found = memory(case)
    assert sum(found.parts.values()) == pytest.approx(found.peak_bytes)
    assert max(stage.peak_bytes for stage in found.stages) == pytest.approx(found.peak_bytes)
    assert len(found.stages) == pp
    assert found.fits == (found.peak_bytes + found.communication_bytes <= found.capacity_bytes)


def test_in_flight_microbatches_fall_along_the_pipeline() -> None:
    """arXiv 2104.04473, section 2.2: 1F1B holds pp - i microbatches on stage i."""
    assert [stage.in_flight for stage in memory(job()).stages] == [4.0, 3.0, 2.0, 1.0]


def test_counters_of_a_stage_by_hand() -> None:
    stage = StageMemory(10.0, 20.0, 60.0, 30.0, 4.0, 1.0, moments_bytes=40.0, step_bytes=16.0, flat_bytes=16.0)
    found = Memory(capacity_bytes=1000.0, communication_bytes=5.0, runtime_bytes=7.0, stages=(stage,))
    unused = RESERVED_UNUSED.value
    assert counted_bytes(found, "allocated") == 90.0 + 34.0
    assert counted_bytes(found, "first-step") == 90.0 + 16.0  # passes without moments: 34 - 40 < 16
    assert counted_bytes(found, "reserved") == pytest.approx(124.0 / (1.0 - unused) + 16.0)
    assert counted_bytes(found, "device") == pytest.approx(124.0 / (1.0 - unused) + 16.0 + 5.0 + 7.0)
    assert counted_bytes(replace(found, capacity_bytes=100.0), "device") == 107.0
    with pytest.raises(InputError, match="counter is 'peak'"):
        counted_bytes(found, "peak")


def test_megatron_logs_its_memory_before_moments_meet_activations() -> None:
    """MindSpeed's llama2_tp1_pp8 test (7 B, 8 stages, one microbatch): the last rank ends its first step with 16215 MiB
    allocated and has had 16715 (tests/pipeline/legacy/baseline at c77308a1)."""
    case = job("llama-7b", "atlas-a2:8", layout=Layout(pp=8), global_batch=1, framework="mindspeed-llm")
    assert counted_bytes(memory(case), "first-step") / GIB == pytest.approx(16715 / 1024, rel=0.04)


@pytest.mark.parametrize(("precision", "per_weight"), [("bf16", 4.0), ("fp16", 2.0)])
def test_fp16_accumulates_in_fp16(precision: str, per_weight: float) -> None:
    """megatron/arguments.py: accumulate_allreduce_grads_in_fp32 is set for BF16 only."""
    found = memory(job(precision=precision, framework="megatron-lm"))
    assert found.gradients_bytes == pytest.approx(per_weight / 2.0 * found.parameters_bytes)


def test_deepspeed_without_its_bf16_optimizer() -> None:
    """BLOOM's chronicles, line 899: accumulating in FP32 takes 4 bytes per weight more, not shared between replicas."""
    layout = Layout(tp=4, pp=12, dp=8)
    made = {"layout": layout, "recompute": "full", "sequence_parallel": False, "machine": "dgx-a100:384"}
    before, after = (
        memory(job("bloom-176b", framework=name, global_batch=2048, **made))  # type: ignore[arg-type]
        for name in ("megatron-deepspeed-zero", "megatron-deepspeed")
    )
    grown = after.gradients_bytes - before.gradients_bytes
    assert grown == pytest.approx(4.0 / 2.0 * after.parameters_bytes, rel=1e-6)
    assert before.stages[0].flat_bytes == pytest.approx(6.0 / 12.0 * before.optimizer_bytes, rel=1e-6)


def test_low_precision_states() -> None:
    """DeepSeek-V3 keeps BF16 moments (arXiv 2412.19437, section 3.3.3): 8 instead of 12 bytes of optimizer state."""
    plain, narrow = memory(job()), memory(job(moment_dtype="bf16"))
    assert narrow.optimizer_bytes == pytest.approx(plain.optimizer_bytes * 8.0 / 12.0)
    assert memory(job(master_dtype="none")).optimizer_bytes == pytest.approx(plain.optimizer_bytes * 8.0 / 12.0)


def test_low_precision_copies_of_the_weights_stay() -> None:
    """Two 8-bit copies on Hopper, one with per-tensor scales on Blackwell, two with scales along rows."""
    extra = {}
    for system, precision in (
        ("dgx-h100:64", "fp8-tensorwise"),
        ("dgx-b200:64", "fp8-tensorwise"),
        ("dgx-b200:64", "mxfp8"),
    ):
        found = memory(job(machine=system, precision=precision, framework="megatron-core"))
        extra[system, precision] = found.parts["weight_copies"] / found.parts["weights"]
    assert list(extra.values()) == pytest.approx([1.0, 0.5, 1.03125])


@pytest.mark.parametrize("module", ["norm", "activation", "attention", "mlp"])
def test_a_recomputed_module_is_not_kept(module: str) -> None:
    assert memory(job(recompute_modules=(module,))).activations_bytes < memory(job()).activations_bytes


def test_recomputed_modules_of_latent_attention_and_experts() -> None:
    case = job("deepseek-v3", "cm384:256", layout=Layout(tp=1, pp=8, dp=32, ep=32))
    plain = memory(case).activations_bytes
    kept = [memory(replace(case, recompute_modules=(name,))).activations_bytes for name in ("mla_up", "experts")]
    assert max(kept) < 0.95 * plain


def test_offloaded_modules_lie_on_the_host() -> None:
    plain, moved = memory(job()), memory(job(offload_modules=("attention",)))
    taken = plain.parts["kept_activations"] - moved.parts["kept_activations"]
    assert moved.host_bytes == pytest.approx(taken)
    assert memory(job(offload_optimizer=1.0)).host_bytes == pytest.approx(plain.optimizer_bytes)


def test_frozen_matrices_keep_no_input() -> None:
    """LoRA on the attention matrices: feed-forward inputs are not kept (the product, the norm output)."""
    full = memory(job(task="lora")).activations_bytes
    assert memory(job(task="lora", lora_modules="attention")).activations_bytes < 0.8 * full


def test_the_loss_is_cut_by_the_vocabulary_and_two_passes_of_mtp_hold_activations() -> None:
    narrow, wide = (memory(job(layout=Layout(tp=tp, dp=64 // tp))).parts["loss"] for tp in (8, 4))
    assert wide == pytest.approx(2.0 * narrow)
    case = job("deepseek-v3", "cm384:256", layout=Layout(tp=1, pp=8, dp=32, ep=32))
    assert "mtp" in memory(case).parts or memory(case).stages[-1].activations_bytes > 0.0
