"""An inference step or deployment as given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Deployment:
    """How one engine instance is laid out and quantised. Vocabulary of inference.csv.

    tp: attention tensor parallel inside one data-parallel rank; dp: attention ranks of the instance;
    dp_attention: the dp ranks share one set of experts; ep: expert-parallel degree (1 = experts tensor-sharded over
    tp x dp); instance devices = tp x pp x dp.
    cp in decode cuts the cache over devices of the tp group, which would hold copies of it otherwise, and adds none
    (vLLM: decode context parallelism). In prefill it cuts the new tokens over own devices (cp_adds_devices): an
    instance then has tp x pp x dp x cp, and every cp rank holds the weights of its tp group.
    cp_method: how prefill ranks that share a sequence come by each other's keys (context.py); cp_balanced: each has an
    early and a late part of the tokens (zigzag). With an ep above tp x dp the cp ranks share one set of experts too.
    exchange: kernels of dispatch and combine: "" is what the engine runs, "separate" an all-to-all of the counts, one
    of the tokens and one of their scales, with passes of their own that sort and restore (for ablations).
    dense_tp, output_tp, head_tp: attention ranks over which the dense MLP, the output projection of attention and the
    head are cut although attention is data parallel (local.py).
    kv_pool: tokens of a sequence that sparse attention keeps on the device while all keys lie in host memory; 0: all
    lie on the device (offload.py).
    part_dtypes: (part, weight format, activation format) of parts that have their own (parts.py).
    shared_prefix: tokens that all requests begin with; cascade: attention reads them once (shared.py).
    sampling: words of sampling.py joined by commas, "" for greedy.
    mtp_tokens: drafts in a row; mtp_acceptance: accepted drafts over mtp_tokens. draft: who makes them (drafts.py), ""
    the model's own module; draft_topk > 1: a tree of mtp_tokens levels, of which verify_tokens - 1 nodes are checked.
    afd (x, y): x attention and y feed-forward instances of afd_unit devices each, with afd_microbatches in ping-pong
    (afd.py); the dp attention ranks of tp devices lie on the first, the ep expert ranks on the second.
    host_cores: physical cores of each node that the processes of the instance on it have; 0: enough (host.py).
    weight_prefetch, super_kernel: Ascend decode moves weights into L2 ahead of their products; joins kernels (warm.py).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    dp_attention: bool = False
    weight_dtype: str = "bf16"
    activation_dtype: str = "bf16"
    kv_dtype: str = "bf16"
    mtp_tokens: int = 0
    mtp_acceptance: float = 0.0
    microbatch_overlap: bool = False
    expert_balance: str = "natural"
    redundant_experts: int = 0
    framework: str = ""
    exchange: str = ""
    cp_adds_devices: bool = False
    dense_tp: int = 1
    output_tp: int = 1
    head_tp: int = 1
    kv_pool: int = 0
    cp_method: str = "all_gather"
    cp_balanced: bool = True
    draft: str = ""
    draft_topk: int = 1
    verify_tokens: int = 0
    part_dtypes: tuple[tuple[str, str, str], ...] = ()
    sampling: str = ""
    shared_prefix: int = 0
    cascade: bool = True
    afd: tuple[int, int] = (0, 0)
    afd_unit: int = 8
    afd_microbatches: int = 3
    host_cores: float = 0.0
    weight_prefetch: bool = False
    super_kernel: bool = False

    @property
    def new_tokens(self) -> int:
        """Tokens of a sequence that one decode step checks: the last one and its drafts."""
        return self.verify_tokens or 1 + self.mtp_tokens

    @property
    def drafts_itself(self) -> bool:
        """Whether the model's own module drafts."""
        return self.mtp_tokens > 0 and self.draft in ("", "mtp")

    @property
    def token_split(self) -> int:
        """Devices over which context parallelism cuts the new tokens of a sequence: cp in prefill, else 1."""
        return self.cp if self.cp_adds_devices else 1

    @property
    def staged_devices(self) -> int:
        """Devices that bring prompts of their own to one step of staged attention, which then holds so many times an
        engine's tokens; else 1."""
        return self.token_split if self.cp_method == "staged" else 1

    @property
    def afd_instances(self) -> int:
        """Attention and feed-forward instances together; 0 where both run on the same devices."""
        return self.afd[0] + self.afd[1]

    @property
    def rank_devices(self) -> float:
        """Devices whose requests one attention rank holds (per pipeline micro-batch)."""
        return self.devices / self.dp if self.afd_instances else self.tp * self.token_split

    @property
    def devices(self) -> int:
        """Devices of one instance."""
        if self.afd_instances:
            return self.afd_instances * self.afd_unit
        return self.tp * self.pp * self.dp * self.token_split


@dataclass(frozen=True, slots=True)
class InferenceCase:
    """One step to predict.

    `batch` counts sequences per DEVICE in both phases (below 1 where a tensor-parallel group shares one):
    phase prefill: input_len new tokens each on top of prefix_len cached ones;
    phase decode: context kv_len, 1 + mtp_tokens tokens each;
    prompt_cv: spread of the prompts' lengths over their mean in prefill (context.py);
    phase mixed: `batch` as in decode, and chunk_tokens prompt tokens on every attention rank, cut from prompts of
    input_len new tokens on top of prefix_len cached ones. Without a batch it is a prefill step, without a chunk decode.
    """

    model: ModelSpec
    system: System
    deployment: Deployment
    phase: str
    batch: float
    input_len: int = 0
    kv_len: int = 0
    prefix_len: int = 0
    chunk_tokens: int = 0
    prompt_cv: float = 0.0
    defaults: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Context parallelism means what the phase makes of it."""
        adds = self.phase == "prefill"
        if self.deployment.cp_adds_devices != adds:
            object.__setattr__(self, "deployment", replace(self.deployment, cp_adds_devices=adds))
