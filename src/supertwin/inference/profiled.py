"""What vLLM holds beside weights and caches on NVIDIA parts: padded MXFP4 experts and the sampler that it profiles.

vLLM sizes its cache by a dummy step of the most tokens, whose last part samples the most requests with top-k and top-p
(v1/worker/gpu_model_runner.py, profile_run and _dummy_sampler_run). The peak of both counts as used.
"""

from __future__ import annotations

import math

from supertwin.core.formats import number_format
from supertwin.inference.engines import Engine
from supertwin.inference.placement import moe
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec
from supertwin.workload.shard import Shard

_ENGINES = ("vllm", "vllm-async")

SAMPLER_BYTES = 12.0
"""Bytes per logit at the peak of sampling by FlashInfer, vLLM's default where it is installed: logits in BF16 and FP32,
probabilities and renormalised ones are 14, of which the first is freed (v1/sample/ops/topk_topp_sampler.py). The sort
that replaces it takes 37 (vLLM PR 32558: 1.25 GB for 256 x 131,072); with it, gpt-oss-120b leaves -2.14 GiB of 71.3
less 66.0 GiB on H100 (issue 23278), which is 7.1 GiB for 1,024 x 201,088 logits and 0.4 for the rest."""

EXPERT_MULTIPLES = {"ampere": (128, 256), "hopper": (64, 256), "blackwell": (256, 256)}
"""Multiples to which (inner, hidden) sizes of MXFP4 experts are padded by the kernels of an architecture (mxfp4.py of
vLLM 0.11: Marlin, FlashInfer; OpenAI's Triton layout for Hopper, which SGLang takes too). gpt-oss-120b loads 66.0 GiB
with Marlin (issue 23278) and 64.4 with Triton (issue 33155) where its matrices are 60.7."""


def samples_by_kernel(engine: Engine, chip: Chip) -> bool:
    """Whether the engine samples with FlashInfer's kernel."""
    return engine.name in _ENGINES and chip.vendor == "nvidia"


def sampler_bytes(model: ModelSpec, engine: Engine, chip: Chip) -> float:
    """Peak of the profiled sampler on one device [bytes]; 0 for other engines."""
    if not samples_by_kernel(engine, chip):
        return 0.0
    return SAMPLER_BYTES * engine.max_num_seqs * model.vocab


def padding_bytes(model: ModelSpec, shard: Shard, engine: Engine, chip: Chip) -> float:
    """Bytes by which padding widens the MXFP4 experts of one device; 0 for other engines and formats."""
    mixture, stored = moe(model), shard.expert_weight_dtype
    multiples = EXPERT_MULTIPLES.get(chip.architecture)
    swizzled = engine.name.startswith("sglang") and chip.architecture == "hopper"
    if not (engine.name in _ENGINES or swizzled) or mixture is None or stored != "mxfp4" or multiples is None:
        return 0.0
    inner, hidden = mixture.inter / float(shard.etp), float(model.hidden)
    padded = math.prod(math.ceil(x / m) * m for x, m in zip((inner, hidden), multiples, strict=True))
    layers = sum(x.count for x in model.layers if x.feed_forward is not None and x.feed_forward.experts)
    matrices = 3.0 * mixture.experts / float(shard.ep) * layers
    return float(matrices * (padded - inner * hidden) * number_format(stored).bytes_per_element)
