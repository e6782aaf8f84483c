"""A training layout where sizes are open: the fastest of a bounded search among those that fit the memory.

Tensor parallelism stays inside a node, then pipeline, then context; experts spread over the widest group of ranks that
one scale-up domain joins. Every size divides what it cuts (devices, heads, experts), so any number of devices has a
layout. A batch too small for the pipeline (fewer microbatches than stages, which would idle) is cut along the sequence
instead. Of the layouts that fit, those with the least model parallelism are priced and the fastest is taken; one that
leaves less than 8 % of the memory free is taken only when none leaves more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from supertwin.core.errors import InputError, SupertwinError
from supertwin.core.prediction import Memory
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.check import divisors, expert_count
from supertwin.training.frameworks import default_etp
from supertwin.training.predict import memory, predict

FULLEST = 0.92
"""Share of the memory that a chosen layout fills when another one fills less: what the model leaves out (fragments,
peaks of libraries) is of the order of its error on peak memory."""
_MOST_CHECKED = 160  # memory checks per recomputation, about 0.3 ms each
_MOST_PRICED = 6  # predictions per recomputation, about 10 ms each
_WIDEST_TP = 16
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


@dataclass(frozen=True, slots=True)
class _Tried:
    """A legal candidate with its memory; rank: its place in the order of candidates."""

    case: TrainingCase
    memory: Memory
    rank: int

    @property
    def filled(self) -> float:
        return self.memory.peak_bytes / max(self.memory.capacity_bytes, 1.0)


def choose(case: TrainingCase, choice: Choice) -> TrainingCase:
    """The case with its open sizes filled in; the candidate that needs the least memory when none fits.

    Raises InputError when no layout is legal for the fixed sizes.
    """
    legal: list[_Tried] = []
    problem: SupertwinError | None = None
    for recompute in (choice.recompute,) if choice.recompute else ("none", "full"):
        for rank, layout in enumerate(candidates(case, choice)):
            if rank >= _MOST_CHECKED:
                break
            candidate = _filled_in(case, choice, layout, recompute)
            try:
                legal.append(_Tried(candidate, memory(candidate), rank))
            except SupertwinError as error:
                problem = problem or error
    if not legal:
        raise problem or InputError(_impossible(case, choice))
    fitting = [tried for tried in legal if tried.memory.fits]
    if not fitting:
        return min(legal, key=lambda tried: tried.filled).case
    roomy = [tried for tried in fitting if tried.filled <= FULLEST]
    return _fastest(roomy or fitting)


def _fastest(fitting: list[_Tried]) -> TrainingCase:
    """The highest rate among the first candidates of each recomputation; the earlier one of equals."""
    priced: list[tuple[float, TrainingCase]] = []
    for recompute in dict.fromkeys(tried.case.recompute for tried in fitting):
        same = [tried for tried in fitting if tried.case.recompute == recompute]
        priced += [(predict(tried.case).tokens_per_s_per_device, tried.case) for tried in same[:_MOST_PRICED]]
    return max(priced, key=lambda entry: entry[0])[1] if len(priced) > 1 else priced[0][1]


def _filled_in(case: TrainingCase, choice: Choice, layout: Layout, recompute: str) -> TrainingCase:
    batch = choice.global_batch if choice.global_batch is not None else default_batch(case, layout)
    parallel = case.sequence_parallel and layout.tp > 1
    return replace(case, layout=layout, recompute=recompute, global_batch=batch, sequence_parallel=parallel)


def candidates(case: TrainingCase, choice: Choice) -> Iterator[Layout]:
    """Legal-looking layouts in order of growing model parallelism, those that idle last."""
    usual = set(_powers(case.seq_len // 8192) if case.seq_len > _LONG_SEQUENCE else [1])
    found = []
    experts = expert_count(case.model)
    for tp, pp, cp in _model_parallel(case, choice, usual):
        dp = case.system.devices // (tp * pp * cp)
        if choice.sizes.get("dp", dp) != dp or not _batch_fits(case, choice, dp):
            continue
        cut = cp not in usual and "cp" not in choice.sizes
        for wide, ep in enumerate(_expert_sizes(case, choice, tp * cp * dp)):
            etp = choice.sizes.get("etp") or default_etp(case.framework, tp, ep, tp * cp * dp, experts)
            layout = Layout(tp, pp, cp, dp, ep, etp, choice.sizes.get("vpp", 1))
            found.append((_idles(case, choice, layout), cut, wide, tp * pp * cp, pp, cp, layout))
    busy = any(not (idle or cut) for idle, cut, *_ in found)
    kept = [entry for entry in found if not (busy and entry[1])]
    return iter([entry[-1] for entry in sorted(kept, key=lambda entry: entry[:6])])


def _model_parallel(case: TrainingCase, choice: Choice, usual: set[int]) -> Iterator[tuple[int, int, int]]:
    """(tp, pp, cp) whose product divides the devices."""
    n, heads = case.system.devices, _heads(case.model)
    widest = min(case.system.devices_per_node, _WIDEST_TP)
    tensor = [size for size in divisors(n) if size <= widest and not heads % size]
    contexts = sorted({*usual, *_powers(case.seq_len // _SHORTEST_SHARE)})
    for tp in _options(choice, "tp", tensor):
        stages = [size for size in divisors(n // tp) if size <= case.model.n_layers] if n % tp == 0 else []
        for pp in _options(choice, "pp", stages):
            for cp in _options(choice, "cp", contexts):
                if n % (tp * pp * cp) == 0:
                    yield tp, pp, cp


def default_batch(case: TrainingCase, layout: Layout) -> int:
    """Sequences per step for about four million tokens: a multiple of micro batch x dp that keeps the pipeline full."""
    round_size = case.micro_batch * layout.dp
    rounds = max(1, round(_TOKENS_PER_STEP / (case.seq_len * round_size)), 4 * layout.pp if layout.pp > 1 else 1)
    return round_size * rounds


def _idles(case: TrainingCase, choice: Choice, layout: Layout) -> bool:
    """Whether the batch leaves most stages of the pipeline without work."""
    return choice.global_batch is not None and choice.global_batch // (case.micro_batch * layout.dp) < layout.pp


def _batch_fits(case: TrainingCase, choice: Choice, dp: int) -> bool:
    return choice.global_batch is None or choice.global_batch % (case.micro_batch * dp) == 0


def _options(choice: Choice, name: str, free: list[int]) -> list[int]:
    return [choice.sizes[name]] if name in choice.sizes else free


def _powers(limit: int) -> list[int]:
    return [2**i for i in range(int(math.log2(max(1, limit))) + 1)]


def _heads(model: ModelSpec) -> int:
    heads = [layer.attention.heads for layer in model.layers if layer.attention is not None and layer.attention.heads]
    return math.gcd(*heads) if heads else 0


def _expert_sizes(case: TrainingCase, choice: Choice, ranks: int) -> list[int]:
    """Expert parallel sizes: as wide as one scale-up domain joins, then wider ones across domains."""
    if "ep" in choice.sizes:
        return [choice.sizes["ep"]]
    experts = expert_count(case.model)
    if not experts:
        return [1]
    inside = _most_dividing(experts, ranks, min(_EXPERT_GROUP, _scale_up(case.system)))
    return list(dict.fromkeys((inside, _most_dividing(experts, ranks, _EXPERT_GROUP))))


def _scale_up(system: System) -> int:
    inside = [tier.devices for tier in system.tiers if not tier.scale_out]
    return max(inside, default=system.devices_per_node)


def _most_dividing(experts: int, ranks: int, most: int) -> int:
    return max(d for d in range(1, min(most, ranks) + 1) if experts % d == 0 and ranks % d == 0)


def _impossible(case: TrainingCase, choice: Choice) -> str:
    """Which of the fixed sizes do not agree, with the arithmetic and what would be legal."""
    n = case.system.devices
    fixed = {name: choice.sizes[name] for name in ("tp", "pp", "cp", "dp") if name in choice.sizes}
    product, batch = math.prod(fixed.values()), choice.global_batch
    shown = " * ".join(f"{name}({size})" for name, size in fixed.items()) or "the free layout"
    if n % product:
        equals = f" = {product}" if len(fixed) > 1 else ""
        legal = f"; legal {next(iter(fixed))}: {_listed(divisors(n))}" if len(fixed) == 1 else ""
        return f"{shown}{equals} does not divide the {n} devices of {case.system.name}{legal}"
    if batch is not None and batch % (case.micro_batch * fixed.get("dp", 1)):
        rounds = f"micro batch({case.micro_batch})" + (f" * dp({fixed['dp']})" if "dp" in fixed else "")
        return f"global batch({batch}) is not a multiple of {rounds}"
    rest = f", global batch({batch}) and micro batch({case.micro_batch})" if batch is not None else ""
    return f"no layout of the {n} devices of {case.system.name} agrees with {shown}{rest}"


def _listed(numbers: list[int], most: int = 12) -> str:
    return ", ".join(str(number) for number in numbers[:most]) + (" ..." if len(numbers) > most else "")
