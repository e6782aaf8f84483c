"""A plausible training layout where none is given: the smallest model-parallel one that fits the memory.

A rule of thumb, not a search for the best: tensor parallelism inside a node first, then pipeline, then context; experts
spread over the widest group of ranks that one scale-up domain joins. A batch too small for the pipeline (fewer
microbatches than stages, which would idle) is cut along the sequence instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from supertwin.core.errors import InputError, SupertwinError
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.frameworks import default_etp

_MOST_TRIED = 24
_LONG_SEQUENCE = 16384
_TOKENS_PER_STEP = 4 * 2**20
_EXPERT_GROUP = 64
_SHORTEST_SHARE = 2048  # tokens per context-parallel rank where the batch forces a cut


@dataclass(frozen=True, slots=True)
class Choice:
    """What the job fixes: sizes of the layout by name (tp, pp ...), the batch, and the recomputation ('' = free)."""

    sizes: Mapping[str, int]
    global_batch: int | None = None
    recompute: str = ""


def choose(case: TrainingCase, choice: Choice) -> TrainingCase:
    """The case with its open sizes filled in; the last candidate tried when none fits.

    Raises InputError when no layout is legal for the fixed sizes.
    """
    from supertwin.training import memory

    last: TrainingCase | None = None
    problem: SupertwinError | None = None
    for recompute in (choice.recompute,) if choice.recompute else ("none", "full"):
        for tried, layout in enumerate(candidates(case, choice)):
            if tried >= _MOST_TRIED:
                break
            candidate = replace(case, layout=layout, recompute=recompute, global_batch=_batch(case, choice, layout))
            try:
                fits = memory(candidate).fits
            except SupertwinError as error:
                problem = problem or error
                continue
            last = candidate
            if fits:
                return candidate
    if last is None:
        raise problem or InputError(_impossible(case, choice))
    return last


def candidates(case: TrainingCase, choice: Choice) -> Iterator[Layout]:
    """Legal-looking layouts in order of growing model parallelism, those that idle last."""
    n = case.system.devices
    found = []
    usual = _powers(case.seq_len // 8192) if case.seq_len > _LONG_SEQUENCE else [1]
    contexts = sorted({*usual, *_powers(case.seq_len // _SHORTEST_SHARE)})
    for tp in _options(choice, "tp", _powers(min(n, case.system.devices_per_node, 16), _heads(case.model))):
        for pp in _options(choice, "pp", _powers(min(n // tp or 1, case.model.n_layers))):
            for cp in _options(choice, "cp", contexts):
                if n % (tp * pp * cp):
                    continue
                dp = n // (tp * pp * cp)
                if choice.sizes.get("dp", dp) != dp or not _batch_fits(case, choice, dp):
                    continue
                ep = choice.sizes.get("ep") or _expert_ranks(case.model, case.system, tp * cp * dp)
                etp = choice.sizes.get("etp") or default_etp(case.framework, tp, ep, tp * cp * dp)
                layout = Layout(tp, pp, cp, dp, ep, etp, choice.sizes.get("vpp", 1))
                cut = cp not in usual and "cp" not in choice.sizes
                found.append((_idles(case, choice, layout), cut, tp * pp * cp, pp, cp, layout))
    busy = any(not (idle or cut) for idle, cut, *_ in found)
    kept = [entry for entry in found if not (busy and entry[1])]
    return iter([entry[-1] for entry in sorted(kept, key=lambda entry: entry[:5])])


def _idles(case: TrainingCase, choice: Choice, layout: Layout) -> bool:
    """Whether the batch leaves most stages of the pipeline without work."""
    return choice.global_batch is not None and choice.global_batch // (case.micro_batch * layout.dp) < layout.pp


def default_batch(case: TrainingCase, layout: Layout) -> int:
    """Sequences per step for about four million tokens: a multiple of micro batch x dp that keeps the pipeline full."""
    round_size = case.micro_batch * layout.dp
    rounds = max(1, round(_TOKENS_PER_STEP / (case.seq_len * round_size)), 4 * layout.pp if layout.pp > 1 else 1)
    return round_size * rounds


def _batch(case: TrainingCase, choice: Choice, layout: Layout) -> int:
    return choice.global_batch if choice.global_batch is not None else default_batch(case, layout)


def _batch_fits(case: TrainingCase, choice: Choice, dp: int) -> bool:
    return choice.global_batch is None or choice.global_batch % (case.micro_batch * dp) == 0


def _options(choice: Choice, name: str, free: list[int]) -> list[int]:
    return [choice.sizes[name]] if name in choice.sizes else free


def _powers(limit: int, divides: int = 0) -> list[int]:
    powers = [2**i for i in range(int(math.log2(max(1, limit))) + 1)]
    return [power for power in powers if not divides or divides % power == 0]


def _heads(model: ModelSpec) -> int:
    heads = [layer.attention.heads for layer in model.layers if layer.attention is not None and layer.attention.heads]
    return math.gcd(*heads) if heads else 0


def _expert_ranks(model: ModelSpec, system: System, ranks: int) -> int:
    experts = max((layer.feed_forward.experts for layer in model.layers if layer.feed_forward is not None), default=0)
    if not experts:
        return 1
    inside = [tier.devices for tier in system.tiers if not tier.scale_out]
    widest = min(_EXPERT_GROUP, max(inside, default=system.devices_per_node))
    return max(d for d in range(1, min(widest, ranks) + 1) if experts % d == 0 and ranks % d == 0)


def _impossible(case: TrainingCase, choice: Choice) -> str:
    fixed = ", ".join(f"{name} {size}" for name, size in choice.sizes.items()) or "the free layout"
    batch = f" and global batch {choice.global_batch}" if choice.global_batch is not None else ""
    return f"no layout of {case.system.devices} devices agrees with {fixed}{batch} and micro batch {case.micro_batch}"
