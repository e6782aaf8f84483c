"""Numbers of the training step that are neither in a data sheet nor fitted on operators.

Each has its author, a reason and where it comes from. None is the result of a fit, but some were introduced or revised
after residuals of training.csv had been seen (docs/training.md lists them): rows outside that table are the fair test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from supertwin.machine.chip import Chip


@dataclass(frozen=True, slots=True)
class Assumption:
    """One number that is ours. source is a citation or 'reasoning' when the reason is all there is."""

    name: str
    value: float
    unit: str
    reason: str
    source: str
    author: str = "supertwin"

    def row(self) -> tuple[str, str, str, str]:
        """As Prediction.sources wants it."""
        return (f"training.{self.name}", f"{self.value:g} {self.unit}".strip(), self.source, "assumption")


HOST_FORWARD_S = Assumption(
    "host_forward_s",
    12.5e-6,
    "s per kernel",
    "eager operator called from Python: 8 us of framework, measured on one EPYC core with a GPT and a Llama layer of "
    "8-wide tensors (torch 2.13, 320 us per layer of 40 kernels), and 4.5 us for the launch and its allocation",
    "own measurement, docs/training.md",
)
HOST_BACKWARD_S = Assumption(
    "host_backward_s",
    11.0e-6,
    "s per kernel",
    "the same measurement, backward: 315 us per layer of 49 kernels, and the launch",
    "own measurement, docs/training.md",
)
KERNELS_FORWARD = Assumption(
    "kernels_per_operator_forward",
    3.0,
    "kernels",
    "an eager GPT layer launches 40 kernels for the 13 operators that the workload lists: bias, mask, dropout, casts, "
    "contiguous copies",
    "own measurement, docs/training.md",
)
KERNELS_BACKWARD = Assumption(
    "kernels_per_operator_backward",
    2.0,
    "kernels",
    "49 kernels for the 24 operators that the workload lists for the backward pass",
    "own measurement, docs/training.md",
)
HOST_COLLECTIVE_S = Assumption(
    "host_collective_s",
    40e-6,
    "s per call",
    "process-group call: Python, work object, two stream events, enqueue",
    "reasoning",
)
HOST_CHECKPOINT_S = Assumption(
    "host_checkpoint_s",
    300e-6,
    "s per recomputed layer",
    "torch checkpoint of an eager layer in the same measurement: 70 us more in forward, 235 us more in backward "
    "(saved random state, nested backward call)",
    "own measurement, docs/training.md",
)
# Hosts of a chip's time against the measuring host (EPYC 9004, Python 3.11), by architecture prefix. Ampere: EPYC 7742
# does 1.19 x 1.14 less per clock (AMD on Zen 3 and Zen 4) at 3.4 instead of 3.7 GHz, Python 3.8 is 1.25 times slower
# (What's new in Python 3.11); the launch itself follows the processor only. Hopper: Xeon 8480 at 3.8 GHz, Python 3.10.
# Grace: a torch Linear takes 37.1 us on GB200 and 13.5 us on a Xeon 8480C (TransformerEngine issue 2053).
# Ascend: Kunpeng 920 at 2.6 GHz, about 0.6 per core, Python 3.8 to 3.10.
HOST_SLOWNESS = {"ampere": 1.7, "hopper": 1.3, "ada": 1.3, "cdna": 1.3, "blackwell": 1.1, "da-vinci": 2.1, "grace": 3.6}
HOST_GENERATION = Assumption(
    "host_generation",
    1.3,
    "times the measuring host",
    "hosts of the chip's time are slower than the measuring one: "
    + ", ".join(f"{k} {v}" for k, v in HOST_SLOWNESS.items()),
    "AMD on Zen 3 and Zen 4; What's new in Python 3.11; reasoning",
)
HOST_EXPERTS_S = Assumption(
    "host_experts_s",
    1.2e-3 / 3.6,
    "s per MoE layer of 64 local experts",
    "dropless routing makes the host wait for the token counts of every layer, so that the device stands still while "
    "the grouped products are prepared: 1.2 ms forward on a Grace host, half of it taken per expert; the backward "
    "pass does not wait",
    "NVIDIA/TransformerEngine, issue 2897; the halves are reasoning",
)
HOST_GRAPH_S = Assumption(
    "host_graph_s",
    1.0e-6,
    "s per kernel",
    "nodes of a replayed graph start about one microsecond apart",
    "NVIDIA, Constant time launch for straight-line CUDA graphs, 2024",
)
HOST_STEP_S = Assumption(
    "host_step_s",
    10e-3,
    "s per step",
    "per-step host work that nothing hides: batch hand-over, loss and gradient norm "
    "read back, learning-rate and logger calls",
    "reasoning",
)
OVERLAP_COMPUTE_LOSS = Assumption(
    "overlap_compute_loss",
    20.0 / 132.0,
    "of the hidden communication time",
    "communication kernels hold 20 of 132 SM, which the products beside them leave free (dispatch, user buffers)",
    "arXiv 2412.19437, section 3.2.2",
)
OVERLAP_PERSISTENT_LOSS = Assumption(
    "overlap_persistent_loss",
    0.5,
    "of the time of hidden NCCL collectives",
    "products with one persistent block per SM need a second wave when NCCL holds some SM: they take twice as long",
    "pytorch/pytorch issue 143988 and pull request 147966 (H100, FSDP)",
)
OVERLAP_AMPERE_LOSS = Assumption(
    "overlap_ampere_loss",
    1.0 - 1.18 / 2.08,
    "of the time of hidden NCCL collectives",
    "a product of 1.18 ms takes 2.08 ms beside an all-gather (GPT training, profiled; attention 0.18 and 0.33 ms)",
    "NVIDIA/nccl issue 1428 (A100)",
)
DP_BUCKET_ELEMENTS = Assumption(
    "dp_bucket_elements",
    40e6,
    "weights",
    "gradient bucket of an overlapping reducer; the last bucket has nothing left to hide behind",
    "Megatron-Core, DistributedDataParallel: bucket_size = max(40000000, 1000000 * dp_size)",
)
DP_BUCKET_PER_RANK = Assumption(
    "dp_bucket_per_rank",
    1e6,
    "weights per replica",
    "buckets grow with the group so that the messages of a ring stay large",
    "Megatron-Core, DistributedDataParallel: bucket_size = max(40000000, 1000000 * dp_size)",
)
MESH_CONTENTION = Assumption(
    "mesh_contention",
    49.7 / 63.6,
    "of the rate alone",
    "collectives of Ascend beside matrix products share the memory with them: an all-reduce of 8 devices runs at 63.6 "
    "GB/s alone and at 49.7 GB/s beside a product, which keeps its own time",
    "hw-native-sys/pto-isa, kernels/manual/a2a3/gemm_ar/README.md (8 x 910B)",
)
TP_OVERLAP_SHARE = Assumption(
    "tp_overlap_share",
    0.6,
    "of the collective time",
    "GEMM-collective overlap cuts the work into chunks of which the first and part of the backward ones stay exposed",
    "arXiv 2305.06942 and torchtitan arXiv 2410.06511, async TP",
)
ROUTING_CV = Assumption(
    "routing_cv",
    0.3,
    "standard deviation over mean",
    "popularity of experts in a micro-batch under a trained router with auxiliary loss or bias; as in inference",
    "arXiv 2408.15664 (balance of a batch); DeepSeek EPLB examples (experts at 1.5 to 2 times the mean)",
)
PACKED_SPANS = Assumption(
    "packed_spans",
    4.0,
    "samples per pack",
    "instruction data are a few times shorter than the pack; attention stays inside a sample",
    "reasoning",
)
FRAGMENTATION = Assumption(
    "fragmentation",
    0.04,
    "of activations and workspace",
    "caching allocators round and split blocks; allocated peaks exclude most of it",
    "arXiv 2205.05198, section 3 and 4.2.4 (reasoning)",
)
UNALIGNED_PRODUCT = Assumption(
    "unaligned_product",
    3.0,
    "times an aligned product",
    "batched products of 2-byte values whose rows are no multiple of 16 bytes load 4 or 8 bytes at a time",
    "NVIDIA, Matrix multiplication background user's guide, section 4.1 (chart of unaligned sizes, about a third)",
)
RESERVED_UNUSED = Assumption(
    "reserved_unused",
    0.15,
    "of the reserved memory",
    "what a caching allocator holds and does not use at the peak (one minus peak of active over peak of reserved "
    "memory): mean over eight training jobs on A100",
    "GMLake, arXiv 2401.08156, abstract",
)
COMMUNICATION_BUFFERS = Assumption(
    "communication_buffers",
    2 * 16 * 4.0 * 2**20,
    "bytes per group",
    "staging of the collective library outside the framework's allocator: 16 channels, send and receive, 4 MiB each "
    "(HCCL_BUFFSIZE: 200 MB per group)",
    "NCCL documentation, NCCL_BUFFSIZE and NCCL_MAX_NCHANNELS; reasoning for the number of channels",
)
CONTEXT_BYTES = Assumption(
    "framework_context",
    0.1e9,
    "bytes",
    "matrix-library workspaces that the framework allocates: 8 to 32 MiB of cuBLAS and a few of Transformer Engine",
    "PyTorch documentation, CUBLAS_WORKSPACE_CONFIG",
)
HOST_MEMORY_RATE = Assumption(
    "host_memory_rate",
    400e9,
    "bytes/s per node",
    "host memory of a node whose catalogue entry does not state it: two sockets of eight DDR4-3200 channels",
    "reasoning",
)
HOST_STREAM_SHARE = Assumption(
    "host_stream_share",
    0.72,
    "of the peak host memory bandwidth",
    "STREAM-like run on the host of an Atlas A2: 442 of 614 GB/s",
    "hicann/cann-recipes, host benchmark",
)
HOST_ADAM_SHARE = Assumption(
    "host_adam_share",
    0.46,
    "of the peak host memory bandwidth",
    "CPU-Adam of DeepSpeed updates 1 G weights (28 bytes each) in 0.24 s on two sockets of six DDR4-2666 channels; "
    "the time is recalled",
    "arXiv 2101.06840, table 4",
)
OFFLOAD_PIECE = Assumption(
    "offload_piece_bytes",
    500e6,
    "bytes",
    "unit in which gradients, host update and parameters follow each other: sub_group_size and buckets of this order",
    "DeepSpeed, offload_optimizer and reduce_bucket_size",
)
OFFLOADED_ROW_SHARE = Assumption(
    "offloaded_row_share",
    0.7,
    "of the activations",
    "what a published run moves that says it offloads activations and not how many",
    "reasoning",
)
COMPUTE_SIGMA = Assumption(
    "compute_sigma",
    0.07,
    "",
    "operator model against unseen shapes, summed over a layer",
    "reasoning",
)
NETWORK_SIGMA = Assumption(
    "network_sigma",
    0.30,
    "",
    "collective model against other clusters and overlap of other frameworks",
    "reasoning",
)
HOST_SIGMA = Assumption("host_sigma", 0.5, "", "host speed and framework differ that much", "reasoning")
STEP_SIGMA = Assumption(
    "step_sigma",
    0.15,
    "",
    "what a table of settings leaves out (library versions, clocks, data loading): step models of others miss "
    "published A100 runs by 15 % in the mean (Calculon 15.3 %, vTrain 14.7 %)",
    "vTrain, MICRO 2024",
)


MEMORY_SIGMA = Assumption(
    "memory_sigma",
    0.13,
    "",
    "90 % within a quarter: allocator, framework buffers and what a counter includes differ that much",
    "reasoning",
)


def host_of(chip: Chip) -> str:
    """Key of the usual host of a chip in HOST_SLOWNESS: the processor of a superchip, else the chip's generation."""
    return "grace" if chip.name.startswith(("gb", "gh")) else chip.architecture


def host_slowness(architecture: str) -> float:
    """How much slower the usual hosts of an architecture are than the measuring host."""
    found = [value for prefix, value in HOST_SLOWNESS.items() if architecture.startswith(prefix)]
    return found[0] if found else HOST_GENERATION.value


@cache
def assumption_rows() -> tuple[tuple[str, str, str, str], ...]:
    """Rows of every assumption, as Prediction.sources wants them."""
    return tuple(item.row() for item in all_assumptions())


def all_assumptions() -> list[Assumption]:
    """Every assumption of this module, sorted by name."""
    found = [value for value in globals().values() if isinstance(value, Assumption)]
    return sorted(found, key=lambda item: item.name)
