"""A step before pricing: placement, engine and the operators of all blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from supertwin.cost.engine import CostEngine
from supertwin.inference import engines
from supertwin.inference.case import Deployment
from supertwin.inference.checks import read_words
from supertwin.inference.habits import Habits
from supertwin.inference.launch import scheduled
from supertwin.inference.layers import WIDE, Block, computed_in, shard_of
from supertwin.inference.mixed import mixed_blocks
from supertwin.inference.parts import with_part_formats
from supertwin.inference.picks import narrow_prompts, picks_of
from supertwin.inference.placement import Placement, Real, moe, place
from supertwin.inference.sampling import with_sampling
from supertwin.inference.shape import Shape
from supertwin.inference.shared import with_cascade
from supertwin.inference.trees import attends_twice, with_trees
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

MOST_ENGINES = 64
_ENGINES: dict[tuple[int, str, bool], tuple[Chip, CostEngine]] = {}


def engine_of(chip: Chip, deployment: Deployment) -> CostEngine:
    """The cost engine of a chip for a deployment (one per chip object and kind)."""
    kernels, steady = engine_kind(deployment, chip)
    key = (id(chip), kernels, steady)
    found = _ENGINES.get(key)
    if found is None or found[0] is not chip:
        if len(_ENGINES) >= MOST_ENGINES:
            _ENGINES.clear()
        found = _ENGINES[key] = (chip, CostEngine(chip, "serving", kernels, steady))
    return found[1]


def engine_kind(deployment: Deployment, chip: Chip) -> tuple[str, bool]:
    """Kernels of the experts, and whether products lose the clock that long ones lose.

    Products in 16 bits of an engine under load follow each other for seconds, as in training, and the clock is that of
    the whole chip: beside products in 8 and 4 bits, which lose 2 to 11 % even where they take 5 ms and more (operator
    tables of H100, H200, B200, GB200, GB300), nothing is taken off."""
    multiplied, _ = computed_in(deployment.weight_dtype, deployment.activation_dtype, chip)
    return expert_kernels(deployment, chip), multiplied in WIDE


def expert_kernels(deployment: Deployment, chip: Chip) -> str:
    """Kernels of the experts that the deployment's engine takes by default on the chip.

    vLLM multiplies MXFP4 experts by OpenAI's Triton kernels on Hopper and by TensorRT-LLM's on Blackwell (mxfp4.py,
    get_mxfp4_backend), which are those of TensorRT-LLM's tables (aiconfigurator, collector/trtllm/collect_moe.py)."""
    about = engines.engine(deployment.framework, chip)
    return "" if deployment.weight_dtype == "mxfp4" and about.name.startswith("vllm") else about.expert_kernels


@dataclass(frozen=True, slots=True)
class Plan:
    """One step before pricing. experts: routed experts and replicas over all ranks; separate: tokens are sent, sorted
    and restored by kernels of their own; ring: keys travel around a ring beside attention; host_cores: as in
    Deployment; prefetches, super_kernel: see warm.py."""

    placement: Placement
    shape: Shape
    engine: engines.Engine
    blocks: tuple[Block, ...]
    experts: float
    separate: bool = False
    ring: bool = False
    host_cores: float = 0.0
    prefetches: bool = False
    super_kernel: bool = False

    @property
    def prolog(self) -> bool:
        """Whether the operators before the core of latent attention are one kernel."""
        return self.engine.prolog and self.shape.kernels_of == "decode"

    @property
    def numbers(self) -> tuple[Real, ...]:
        """Sizes of the step beside those of its blocks: none."""
        return ()

    def refilled(self, shape: Shape, blocks: tuple[Block, ...], _numbers: tuple[Real, ...]) -> Plan:
        """The plan of a step of another size, from its blocks."""
        return replace(self, shape=shape, blocks=blocks)


def multiplies_cache(model: ModelSpec, deployment: Deployment, chip: Chip) -> bool:
    """Whether latent attention multiplies its 8-bit cache as it is.

    Ascend quantises the queries for an INT8 cache (cann-recipes-infer, DeepSeek-R1: npu_mla_prolog_v3 with
    query_quant_mode 1, npu_fused_infer_attention_score_v2 with query_quant_mode 3); its sparse kernels store 8 bits and
    multiply 16.
    """
    d = deployment
    latent = [x.attention for x in model.layers if x.attention is not None and x.attention.kind == "mla"]
    whole = bool(latent) and not any(a.index_topk for a in latent)
    return chip.vendor == "huawei" and d.kv_dtype == d.activation_dtype == "int8" and whole


def plan_of(model: ModelSpec, chip: Chip, deployment: Deployment, shape: Shape) -> Plan:
    placement = place(deployment)
    engine = engines.engine(deployment.framework, chip)
    if shape.phase == "decode":
        engine = scheduled(engine, model, deployment)
    shard = shard_of(model, deployment, placement, chip, engine)
    if shape.kernels_of == "decode" and multiplies_cache(model, deployment, chip):
        shard = replace(shard, attention_dtype=deployment.kv_dtype)
    mixture = moe(model)
    separate = deployment.exchange == "separate"
    experts = float(mixture.experts + deployment.redundant_experts) if mixture is not None else 0.0
    recipes = engine.shared_beside and chip.vendor == "huawei" and shape.kernels_of == "decode"
    habits = Habits(
        joins_keys=chip.vendor != "huawei",  # npu_fused_infer_attention_score takes query_rope and key_rope
        routes_in_passes=separate or (engine.routes_in_passes and shape.kernels_of == "prefill"),
        wide_gate="fp32" in chip.peak_flop_per_s,
        picks=picks_of(engine, chip, shape.kernels_of),
        fuses=engine.fuses and chip.vendor == "huawei",
        whole_drafts=engine.whole_drafts,
        pairs=recipes,
        sorts=chip if chip.vendor == "huawei" else None,
        mixes=chip.vendor == "huawei" and model.hyper_connections > 1,
        narrow_prompts=narrow_prompts(engine, chip, deployment.kv_dtype),
        starts=recipes,
        compresses=recipes and "fp8" in chip.peak_flop_per_s,  # Ascend 950
    )
    made = mixed_blocks(model, deployment, placement, shape, shard, habits)
    if deployment.shared_prefix and deployment.cascade and shape.phase == "decode":
        made = with_cascade(made, deployment.shared_prefix, placement.cp, chip)
    tree = deployment.draft_topk > 1 and deployment.mtp_tokens > 0 and shape.phase == "decode"
    if tree and attends_twice(engine.name, chip):
        made = with_trees(made, deployment.mtp_tokens, deployment.draft_topk)
    if deployment.sampling:
        made = with_sampling(made, read_words(deployment.sampling))
    if deployment.part_dtypes:
        made = with_part_formats(made, deployment, chip)
    ring = shard.context == "ring"
    ascend = chip.vendor == "huawei" and shape.kernels_of == "decode"
    return Plan(
        placement, shape, engine, made, experts, separate, ring, deployment.host_cores,
        ascend and deployment.weight_prefetch, ascend and deployment.super_kernel,
    )  # fmt: skip
