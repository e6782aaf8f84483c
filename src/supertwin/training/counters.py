"""Peak memory as different counters see it."""

from __future__ import annotations

from supertwin.core.errors import InputError
from supertwin.core.prediction import Memory, StageMemory
from supertwin.training import assumptions as assume

COUNTERS = ("allocated", "first-step", "reserved", "device")


def counted_bytes(memory: Memory, counter: str) -> float:
    """Peak of the worst pipeline device, bytes.

    allocated: what tensors hold at once, at most (torch max_memory_allocated); first-step: the same as Megatron logs it
    once, after the first step: the Adam moments appear in its optimizer step, after its backward passes
    (megatron/training/training.py, report_memory); reserved: with what the caching allocator holds unused; device: with
    context, driver and communication buffers (nvidia-smi, npu-smi), at most the whole device.

    Flat temporaries of the optimizer step are blocks that no cached one holds, so they add to the reserved memory.
    Raises InputError for another counter.
    """
    if counter not in COUNTERS:
        raise InputError(f"counter is {counter!r}, expected one of {', '.join(COUNTERS)}")
    if counter == "allocated":
        return max(stage.peak_bytes for stage in memory.stages)
    if counter == "first-step":
        return max(_first_step(stage) for stage in memory.stages)
    reserved = max(_reserved(stage) for stage in memory.stages)
    if counter == "reserved":
        return min(reserved, memory.capacity_bytes)
    seen = reserved + memory.communication_bytes
    return min(seen, memory.capacity_bytes) + memory.runtime_bytes


def _first_step(stage: StageMemory) -> float:
    return stage.states_bytes + max(stage.passes_bytes - stage.moments_bytes, stage.step_bytes)


def _reserved(stage: StageMemory) -> float:
    """What lies in cached blocks and is in use at the peak is one minus the unused share of them."""
    used = stage.states_bytes + max(stage.passes_bytes, stage.step_bytes - stage.flat_bytes)
    return used / (1.0 - assume.RESERVED_UNUSED.value) + stage.flat_bytes
