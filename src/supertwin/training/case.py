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


ORDER = ("tp", "cp", "ep", "dp", "pp")
"""Parallel axes from the inside out, as Megatron lays ranks out by default (--order tp-cp-ep-dp-pp)."""


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """One training step to predict. Names and vocabularies are those of training.csv (measurements/README).

    Kernels and overlap: attention_kernel: flash | unfused; launch: eager | graph | compiled;
    "" in either takes the framework's habit; blocking: every launch waits for its kernel (CUDA_LAUNCH_BLOCKING=1).
    overlap_tp, overlap_ep: those collectives run beside compute
    (None takes the framework's habit); overlap_dp: gradient reduction and parameter gather do;
    fused_loss: the vocabulary loss is one kernel instead of a row of tensor operations; attention_dtype: format of the
    attention products ("" = BF16 or FP16); dispatcher: all_to_all | deepep | hybridep ("" = the framework's habit);
    fused_experts: experts are one grouped kernel with activation and casts.
    Placement: order: axes from the inside out; stages: layers per pipeline device, or per chunk in model order (empty:
    split by balance: weights | time, of LM head and MTP modules against a layer, or layers, each counting as one).
    Replicas: hsdp_shard_size: ranks that share one copy (0 = all); flat_parameters: full sharding cuts one flat tensor
    per layer (FSDP1), else each parameter along its first dimension (FSDP2; None: the framework's); reshard: weights
    are dropped after forward and gathered again for backward; prefetch: layers gathered ahead (0 = each gather waits);
    bucket_bytes: gradients per collective (0 = the framework's); gather_dtype, reduce_dtype, gradient_dtype:
    parameters and gradients on the wire, and gradients as accumulated ("" = BF16 and the framework's); moment_dtype,
    master_dtype: Adam's moments and the master copy (none = no copy).
    Context: cp_method: ring | all_gather | ulysses | hybrid (Ulysses inside, ring outside); ulysses_size: ranks of the
    inner group; cp_balanced: zigzag chunks, every rank has the same causal work.
    Packs: packed: samples of a pack do not see each other; sample_len: their mean length (0 = a quarter of the pack);
    sample_cv: standard deviation of the length over its mean.
    Experts: skew: tokens of the busiest expert device over the mean (0 = by force_balanced and routing); routing_cv:
    standard deviation of the experts' popularity over its mean (0 = a trained router's); capacity_factor: tokens an
    expert takes over its mean share, the rest is dropped (0 = dropless); pad_experts: every expert computes its full
    capacity; redundant_experts: further copies of the hottest experts; routing_nodes: most nodes that the experts of a
    token lie in (0 = no limit); dispatch_dtype: tokens on the way to their experts ("" = BF16).
    Recomputation: recompute_modules: single modules that are computed again (workload.activations.MODULES).
    Memory: offload_modules: modules whose activations go to host memory (attention); narrow_activation: inputs of the
    activation are kept in 8 bits; states_reused: the 2-byte weights are part of the FP32 copy (None: the framework's).
    Offload, shares of 0 to 1: offload: activations, offload_optimizer: optimizer states; offload_update: sequential |
    pipelined | delayed (the host updates them) | swapped (the device does, states pass through it).
    Other: lora_rank: width of the adapters of task lora; lora_modules: matrices that have them (all | attention);
    logprob_passes: forward passes over the batch before the update (task rl: old policy and reference).
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
    offload: float = 0.0
    packed: bool = False
    force_balanced: bool = True
    cp_method: str = "ring"
    attention_kernel: str = ""
    launch: str = ""
    blocking: bool = False
    overlap_tp: bool | None = None
    overlap_ep: bool | None = None
    overlap_dp: bool | None = None
    fused_loss: bool | None = None
    attention_dtype: str = ""
    dispatcher: str = ""
    fused_experts: bool = False
    skew: float = 0.0
    lora_rank: int = 16
    offload_optimizer: float = 0.0
    offload_update: str = "pipelined"
    order: tuple[str, ...] = ORDER
    stages: tuple[int, ...] = ()
    balance: str = "weights"
    reshard: bool = True
    flat_parameters: bool | None = None
    prefetch: int = 1
    bucket_bytes: float = 0.0
    gather_dtype: str = ""
    reduce_dtype: str = ""
    gradient_dtype: str = ""
    moment_dtype: str = "fp32"
    master_dtype: str = "fp32"
    ulysses_size: int = 0
    cp_balanced: bool = True
    sample_len: float = 0.0
    sample_cv: float = 0.0
    routing_cv: float = 0.0
    capacity_factor: float = 0.0
    pad_experts: bool = False
    redundant_experts: int = 0
    routing_nodes: int = 0
    dispatch_dtype: str = ""
    recompute_modules: tuple[str, ...] = ()
    logprob_passes: int = 0
    lora_modules: str = "all"
    offload_modules: tuple[str, ...] = ()
    narrow_activation: bool = False
    states_reused: bool | None = None
    defaults: dict[str, object] = field(default_factory=dict)
