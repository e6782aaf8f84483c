"""A training job as given: model, machine, layout and the switches that change its step time or memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Layout:
    """Parallel sizes. tp x pp x cp x dp = devices; ep lies inside dp x cp x tp; etp is the experts' own tp."""

    tp: int = 1
    pp: int = 1
    cp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 1
    vpp: int = 1

    @property
    def devices(self) -> int:
        """Devices of the job."""
        return self.tp * self.pp * self.cp * self.dp


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """One training step to predict. Names and vocabularies are those of training.csv (measurements/README).

    cp_method: ring | all_gather | ulysses. attention_kernel: flash | unfused; launch: eager | graph | compiled;
    "" in either takes the framework's habit. overlap_tp, overlap_ep: those collectives run beside compute
    (None takes the framework's habit); overlap_dp: gradient reduction and parameter gather do;
    fused_loss: the vocabulary loss is one kernel instead of a row of tensor operations.
    skew: tokens of the busiest expert device over the mean (0 = by force_balanced).
    lora_rank: width of the adapters of task lora. offload: activations, offload_optimizer: its states, in host memory.
    """

    model: ModelSpec
    system: System
    layout: Layout
    micro_batch: int
    global_batch: int
    seq_len: int
    precision: str = "bf16"
    sequence_parallel: bool = True
    sharding: str = "zero1"
    hsdp_shard_size: int = 0
    recompute: str = "none"
    recompute_layers: int = 0
    schedule: str = "1f1b"
    task: str = "pretrain"
    framework: str = ""
    offload: bool = False
    packed: bool = False
    force_balanced: bool = True
    cp_method: str = "ring"
    attention_kernel: str = ""
    launch: str = ""
    overlap_tp: bool | None = None
    overlap_ep: bool | None = None
    overlap_dp: bool | None = None
    fused_loss: bool | None = None
    skew: float = 0.0
    lora_rank: int = 16
    offload_optimizer: bool = False
    defaults: dict[str, object] = field(default_factory=dict)
