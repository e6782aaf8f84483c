"""Sparse latent attention as engines call it: FlashMLA's kernels take whole groups of heads and fixed lists of keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.engines import Engine
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention, Operator, changed

_HEADS = {"hopper": 64, "blackwell": 128}


@dataclass(frozen=True, slots=True)
class Picks:
    """heads: the kernel computes a multiple of them; whole_list: it walks all slots of a query's list of keys, also
    those that a short context leaves empty."""

    heads: int = 1
    whole_list: bool = False


PLAIN_PICKS = Picks()


def picks_of(engine: Engine, chip: Chip, phase: str) -> Picks:
    """What the engine asks of the sparse kernel.

    vLLM pads queries to 64 heads on Hopper and 128 on Blackwell (flashmla_sparse.py: self.padding) and passes lists of
    index_topk slots, the empty ones -1. SGLang pads the same way in prefill (nsa_backend.py); its decode kernel is FA3
    with the true lengths.
    """
    heads = next((n for name, n in _HEADS.items() if chip.architecture.startswith(name)), 1)
    if engine.name in ("vllm", "vllm-async"):
        return Picks(heads, True)
    return Picks(heads if phase == "prefill" and engine.name in ("sglang", "sglang-deepep") else 1)


def narrow_prompts(engine: Engine, chip: Chip, kv_dtype: str) -> bool:
    """Whether full latent attention over prompts multiplies in 8 bits: where the cache does, TensorRT-LLM (FP8 context
    attention: its tables time it so) and SGLang on Blackwell (trtllm_mla_backend.py quantises q, k and v; its post on
    GB300: "FP8 attention"). vLLM does only if told to (use_prefill_query_quantization)."""
    if number_format(kv_dtype).bytes_per_element > 1.0 or chip.vendor != "nvidia":
        return False
    return "tensorrt" in engine.name or (engine.name.startswith("sglang") and chip.architecture.startswith("blackwell"))


def with_narrow_cores(ops: list[Operator], kv_dtype: str) -> list[Operator]:
    """Cores of expanded latent attention with keys and values in the format of the cache."""

    def wide(o: Operator) -> bool:
        return isinstance(o, Attention) and o.phase == "prefill" and not (o.latent or o.gathered)

    return [changed(o, kv_dtype=kv_dtype) if wide(o) and o.part.endswith("attention/core") else o for o in ops]


def with_padding(ops: list[Operator], slots: int, picks: Picks) -> list[Operator]:
    """Operators whose sparse cores compute padded heads and, where lists are walked to their end, all slots."""
    return [_padded(o, slots, picks) if isinstance(o, Attention) and o.gathered else o for o in ops]


def _padded(o: Attention, slots: int, picks: Picks) -> Attention:
    heads = np.ceil(np.asarray(o.heads) / picks.heads) * picks.heads
    keys = np.maximum(o.kv_len, float(slots)) if picks.whole_list else o.kv_len
    return replace(o, heads=float(heads) if heads.ndim == 0 else heads, kv_len=keys)
