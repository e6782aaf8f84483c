"""Where things lie: how a deployment maps tokens, experts and communication groups onto devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.inference.afd_check import check_afd
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.checks import check_options
from supertwin.inference.context import check_context_method
from supertwin.inference.drafts import check_drafts
from supertwin.inference.local import check_widths
from supertwin.model.spec import FeedForwardSpec, ModelSpec
from supertwin.network.group import Group

Real = float | npt.NDArray[np.float64]
PHASES = ("prefill", "decode", "mixed")
EXCHANGES = ("", "separate")
BALANCES = ("natural", "perfect", "unknown")
MOST_DRAFTS = 64
MOST_CV = 4.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Groups of one instance.

    moe_devices: devices that share one set of routed experts (tp, or tp x dp with attention DP) = ep x etp;
    ranks: attention ranks whose tokens meet in one set of experts (dp with attention DP, else 1); cp splits the prefill
    queries of one sequence over token_split groups of tp devices, or the decode cache over devices of one tp group.
    context_share: those of the token_split groups that share one set of experts, all or 1.
    """

    tp: int
    pp: int
    dp: int
    ep: int
    etp: int
    cp: int
    ranks: int
    devices: int
    token_split: int = 1
    context_share: int = 1

    @property
    def moe_devices(self) -> int:
        """Devices that share one set of routed experts."""
        return self.ep * self.etp

    @property
    def tp_group(self) -> Group:
        """Tensor-parallel neighbours."""
        return Group(self.tp, 1)

    @property
    def cp_group(self) -> Group:
        """Ranks that share one sequence: a tp group apart in prefill, neighbours inside it in decode."""
        return Group(self.cp, self.tp if self.token_split > 1 else 1)

    @property
    def ep_group(self) -> Group:
        """Ranks that exchange tokens with each other."""
        return Group(self.ep, self.etp)

    @property
    def expert_group(self) -> Group:
        """All devices that hold the set of experts."""
        return Group(self.moe_devices, 1)


def place(deployment: Deployment) -> Placement:
    """Derive the groups. ep = 1 shards the experts over all devices that share them."""
    d = deployment
    if d.afd_instances:
        there = d.afd[1] * d.afd_unit
        ep = min(d.ep, there)
        return Placement(d.tp, 1, d.dp, ep, max(1, there // ep), 1, d.dp, d.devices)
    ranks = d.dp if d.dp_attention else 1
    context = d.token_split if d.ep > d.tp * ranks else 1
    shared = d.tp * ranks * context
    ep = min(d.ep, shared)
    return Placement(d.tp, d.pp, d.dp, ep, max(1, shared // ep), max(1, d.cp), ranks, d.devices, d.token_split, context)


def moe(model: ModelSpec) -> FeedForwardSpec | None:
    """The first mixture-of-experts block of the model (LongCat has it on a shortcut)."""
    for layer in model.layers:
        for block in (layer.feed_forward, layer.shortcut):
            if block is not None and block.experts > 0:
                return block
    return None


def check(case: InferenceCase) -> None:
    """Raise InputError when the case cannot be laid out; the message shows the arithmetic and the legal choices."""
    d = case.deployment
    for name in ("tp", "pp", "dp", "ep", "cp"):
        if getattr(d, name) < 1:
            raise InputError(f"{name} = {getattr(d, name)}: expected a whole number of at least 1")
    if case.phase not in PHASES:
        raise InputError(f"phase {case.phase!r}: expected one of {', '.join(PHASES)}")
    if d.expert_balance not in BALANCES:
        raise InputError(f"expert_balance {d.expert_balance!r}: expected one of {', '.join(BALANCES)}")
    if d.kv_pool and not any(x.attention is not None and x.attention.index_topk for x in case.model.layers):
        raise InputError(
            f"kv_pool({d.kv_pool}) keeps the tokens that sparse attention picks on the device; {case.model.name} has "
            "no sparse attention; expected none (0)"
        )
    if d.exchange not in EXCHANGES:
        raise InputError(f"exchange {d.exchange!r}: expected one of {', '.join(map(repr, EXCHANGES))}")
    if not 0.0 <= case.batch < np.inf or (case.batch == 0 and case.chunk_tokens == 0):
        raise InputError(f"batch = {case.batch:g}: expected requests per device above 0 (below 1 is legal with tp > 1)")
    _check_lengths(case)
    if d.draft or d.draft_topk != 1 or d.verify_tokens:
        check_drafts(case.model, d)
    check_options(case)
    check_afd(d, case.phase, moe(case.model) is not None)
    _check_devices(case)
    requests = case.batch * d.devices
    if requests < 1.0 - 1e-9 and not (case.phase == "mixed" and case.batch == 0):
        raise InputError(
            f"batch({case.batch:g}) * {d.devices} devices of one instance = {requests:g} requests; expected at least "
            f"1, a batch of {1.0 / d.devices:g} or more"
        )
    _check_shares(case.model, d)
    check_widths(d)


def _check_lengths(case: InferenceCase) -> None:
    d = case.deployment
    if case.phase == "prefill" and case.input_len < 1:
        raise InputError(f"prefill needs input_len of at least 1 token, got {case.input_len}")
    if (case.phase == "decode" or (case.phase == "mixed" and case.batch > 0)) and case.kv_len < 1:
        raise InputError(f"{case.phase} needs kv_len of at least 1 token, got {case.kv_len}")
    _check_chunk(case)
    if not 0.0 <= case.prompt_cv <= MOST_CV:
        raise InputError(f"prompt_cv = {case.prompt_cv:g}: expected spread over mean of lengths, 0 to {MOST_CV:g}")
    if case.prefix_len < 0:
        raise InputError(f"prefix_len = {case.prefix_len}: expected 0 or more")
    if not 0 <= d.mtp_tokens <= MOST_DRAFTS:
        raise InputError(f"mtp_tokens = {d.mtp_tokens}: expected 0 to {MOST_DRAFTS} drafts per step")
    if not 0.0 <= d.mtp_acceptance <= 1.0:
        raise InputError(f"mtp_acceptance = {d.mtp_acceptance:g}: expected accepted drafts / drafts between 0 and 1")


def _check_chunk(case: InferenceCase) -> None:
    """A chunk belongs to mixed steps, which cut no sequence over context ranks."""
    if case.chunk_tokens < 0:
        raise InputError(f"chunk_tokens = {case.chunk_tokens}: expected 0 or more prompt tokens per attention rank")
    if case.phase != "mixed":
        if case.chunk_tokens:
            raise InputError(f"chunk_tokens = {case.chunk_tokens} needs phase mixed, got {case.phase}")
        return
    if case.chunk_tokens and case.input_len < 1:
        raise InputError(f"mixed needs input_len of at least 1 token, the prompt of the chunk; got {case.input_len}")
    if case.deployment.cp > 1:
        raise InputError(f"cp({case.deployment.cp}) in a mixed step is not modelled; legal cp: 1")


def _check_devices(case: InferenceCase) -> None:
    d, system = case.deployment, case.system
    context = f" x cp({d.cp})" if d.token_split > 1 else ""
    if d.afd_instances:
        sizes = f"({d.afd[0]}A + {d.afd[1]}F) x {d.afd_unit} = {d.devices} devices"
    else:
        sizes = f"tp({d.tp}) x pp({d.pp}) x dp({d.dp}){context} = {d.devices} devices"
    if d.devices > system.devices:
        raise InputError(
            f"{sizes} of one instance, but {system.name} has {system.devices}; take less or {system.name}:N"
        )
    if system.devices % d.devices:
        whole = system.devices // d.devices * d.devices
        raise InputError(
            f"{sizes} does not divide the {system.devices} devices of {system.name} into whole instances; expected"
            f" {system.name}:{whole} or other sizes"
        )
    if d.pp > case.model.n_layers:
        raise InputError(
            f"pp({d.pp}) exceeds the {case.model.n_layers} layers of {case.model.name}; expected at most as many"
        )
    _check_context(case)


def _check_context(case: InferenceCase) -> None:
    """Prefill: a rank has at least one token. Decode: the cp devices hold copies of the same keys, which GQA has only
    where tp exceeds the KV heads (vLLM: decode_context_parallel_size)."""
    d, model = case.deployment, case.model
    if case.phase == "prefill":
        if d.cp > case.input_len:
            raise InputError(f"cp({d.cp}) exceeds the {case.input_len} new tokens of a sequence")
        check_context_method(model, d)
        return
    heads = kv_heads(model)
    copies = max(1, d.tp // max(heads, 1)) if heads else 1
    if copies % d.cp:
        legal = ", ".join(str(i) for i in range(1, copies + 1) if copies % i == 0)
        raise InputError(
            f"cp({d.cp}) in decode cuts the cache over devices that hold the same keys: tp({d.tp}) over "
            f"{heads} KV heads of {model.name} makes {copies} copies; legal cp: {legal}"
        )


def kv_heads(model: ModelSpec) -> int:
    """Heads over which tp cuts the cache, the most of any layer: one where attention is latent; 0 without a cache."""
    blocks = [layer.attention for layer in model.layers if layer.attention is not None]
    return max((1 if a.kind == "mla" else a.kv_heads for a in blocks if a.kind in ("gqa", "mla")), default=0)


def _check_shares(model: ModelSpec, d: Deployment) -> None:
    experts = moe(model)
    shared = d.afd[1] * d.afd_unit if d.afd_instances else d.tp * (d.dp if d.dp_attention else 1)
    name = "tp x dp" if d.dp_attention else "tp (dp ranks share experts only with dp_attention)"
    if d.ep > 1 and experts is None:
        raise InputError(f"ep({d.ep}) > 1, but {model.name} has no routed experts; expected 1")
    if d.ep > shared and d.token_split > 1:
        name, shared = f"{name} x cp", shared * d.token_split
    if d.ep > 1 and shared % d.ep:
        legal = [i for i in range(1, shared + 1) if shared % i == 0]
        raise InputError(f"ep({d.ep}) does not divide {name} = {shared}; legal: {', '.join(map(str, legal))}")
    if d.redundant_experts < 0:
        raise InputError(f"redundant_experts = {d.redundant_experts}: expected 0 or more")
    heads = max((layer.attention.heads for layer in model.layers if layer.attention is not None), default=0)
    if heads and heads % d.tp and d.tp % heads:
        legal = [i for i in range(1, heads + 1) if heads % i == 0]
        raise InputError(
            f"tp({d.tp}) does not divide the {heads} heads of {model.name}; legal: {', '.join(map(str, legal))}"
        )
