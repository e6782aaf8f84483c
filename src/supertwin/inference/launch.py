"""What an engine makes of a deployment when it starts: how it schedules, how much memory it keeps, whom it admits.

SGLang server_args (0.5.3 to 0.5.14) sizes static memory (weights and caches) from the device and the layout, and gives
models with recurrent layers a pool of states that bounds the running requests.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.inference.case import Deployment
from supertwin.inference.engines import UNOVERLAPPED_GAP_S, Engine, speculating
from supertwin.inference.footprint import largest_graph, server_devices
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import weights_bytes
from supertwin.inference.placement import place
from supertwin.inference.versions import vllm_version
from supertwin.machine.chip import Chip
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.workload.recurrent import state_bytes

_SGLANG = ("sglang", "sglang-deepep")
_MIB = 2.0**20
STATE_SHARE = 0.9 / 1.9
"""Share of the cache memory that recurrent states get (server_args: mamba_full_memory_ratio 0.9 of the rest)."""
WIDE_SHARE, NODE = 0.82, 8
"""Static memory of attention ranks over several nodes: recipes state it, because the default would reserve more than
the device has (sgl-project/sglang issue 6017: --mem-fraction-static 0.82 for decode)."""
ASCEND_LAYER_S = 832e-6
"""Host time per layer of a decode step that is not one graph: a block of Qwen3-VL-30B-A3B on two 910B3, in 591 us of
which the device waits (vllm-project/vllm-ascend issue 9404; gone with cudagraph_mode FULL_DECODE_ONLY)."""
STATES_PER_REQUEST = 3
"""Slots of that pool per running request while prefixes are cached: its own, the matched prefix, a copy
(kv_cache_configurator: MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO)."""


def scheduled(about: Engine, model: ModelSpec, deployment: Deployment) -> Engine:
    """The engine as it schedules this model: SGLang switches its overlapped scheduler off for drafts and, with cached
    prefixes, for recurrent layers (server_args: MambaRadixCache no_buffer); drafts may have gaps of their own."""
    found = speculating(about, deployment.mtp_tokens, deployment.dp)
    if found.name == "vllm-ascend" and _without_graph(deployment.framework):
        layers = sum(layer.count for layer in model.layers)
        return replace(found, unrecorded_s=layers * ASCEND_LAYER_S)
    if found.draft_gap_s:
        return replace(found, step_gap_s=found.step_gap_s + found.draft_gap_s * deployment.mtp_tokens)
    if found.name in _SGLANG and _recurrent(model):
        return replace(found, step_gap_s=max(found.step_gap_s, UNOVERLAPPED_GAP_S), ahead_steps=0)
    return found


def _without_graph(framework: str) -> bool:
    """vLLM-Ascend before its graphs of whole decode steps (FULL_DECODE_ONLY, 0.11)."""
    version = vllm_version(framework)
    return version is not None and version < (0, 11, 0)


def started(about: Engine, model: ModelSpec, system: System, deployment: Deployment) -> Engine:
    """The engine with the memory and the admission limit that it chooses for the deployment."""
    found = scheduled(about, model, deployment)
    if found.name not in _SGLANG or system.chip.vendor != "nvidia":
        return found
    share = static_share(system.chip, deployment, found.max_batched_tokens)
    if deployment.dp_attention and deployment.devices > NODE:
        share = max(share, WIDE_SHARE)
    found = replace(found, memory_fraction=share, static_memory=True)
    slots = _state_slots(found, model, system, deployment)
    return replace(found, max_num_seqs=max(1, min(found.max_num_seqs, slots // STATES_PER_REQUEST)))


def static_share(chip: Chip, deployment: Deployment, chunk_tokens: int) -> float:
    """Share of the memory for weights and caches (server_args, mem_fraction_static): what activations of a chunk,
    captured graphs and communicators leave; attention ranks that share experts and drafts need more."""
    size = chip.usable_memory_bytes / _MIB
    devices = server_devices(deployment)
    graphs = largest_graph(size, devices)
    reserved = 512.0 + 1.5 * max(chunk_tokens, 2048) + 2.0 * graphs + devices * 1024.0 / 8.0
    if deployment.dp_attention:
        reserved += (4.5 if graphs > 300 else 3.0) * graphs * deployment.dp
    if size > 60.0 * 1024.0:
        reserved = max(reserved, 10.0 * 1024.0)
    if deployment.mtp_tokens:
        reserved += 2.0 * 1024.0
    return max(1.0 - reserved / size, 0.1)


def least_parts(about: Engine, model: ModelSpec, caches: bool) -> int:
    """Steps into which the engine cuts every prompt at least. caches: prefixes are kept. vLLM then ends a step of a
    prompt with recurrent layers where its last whole block ends, to keep the state, and computes the rest in another
    (v1/core/sched/scheduler.py: _mamba_block_aligned_split, mamba_cache_mode align, pull request 30877)."""
    return 2 if caches and about.name in ("vllm", "vllm-async") and _recurrent(model) else 1


def _state_slots(about: Engine, model: ModelSpec, system: System, deployment: Deployment) -> int:
    """Recurrent states that the pool of one attention rank holds; no bound without recurrent layers."""
    shard = shard_of(model, deployment, place(deployment), system.chip, about)
    blocks = [(x.attention, x.count) for x in model.layers if x.attention is not None]
    each = sum(float(state_bytes(a, shard)) * n for a, n in blocks if a.kind in ("linear", "mamba"))
    if each == 0.0:
        return STATES_PER_REQUEST * about.max_num_seqs
    rest = about.memory_fraction * system.chip.usable_memory_bytes - weights_bytes(model, deployment, shard, about)
    return int(max(rest, 0.0) * STATE_SHARE / each)


def _recurrent(model: ModelSpec) -> bool:
    return any(x.attention is not None and x.attention.kind in ("linear", "mamba") for x in model.layers)
