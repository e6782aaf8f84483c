"""What a block shows of its time: exchanges beside a dense path, and two micro-batches side by side.

Times are those of one micro-batch; the laws of the overlap itself are in overlap.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.cost.result import OperatorCost
from supertwin.inference import assumptions, overlap
from supertwin.inference.arrival import waits_s
from supertwin.inference.piece import Piece
from supertwin.inference.placement import Real
from supertwin.machine.chip import Chip
from supertwin.workload.shard import maximum

BEST_LATENT_SHARE = 245.9 / 353.9
"""Of the BF16 peak, in decode with all cores busy (arXiv 2506.12708v2, table 8)."""


Groups = tuple[list[tuple[Piece, Real]], list[tuple[Piece, Real]]]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A layer whose micro-batches overlap. shares: of each (part, bound) in layer_s; the hidden stream has none."""

    layer_s: Real
    streams_s: tuple[Real, Real]
    shares: Mapping[tuple[str, str], Real]


def exposed_share(pieces: list[Piece]) -> Real:
    """Share of the exchanges that outlasts the dense path beside them."""
    exchange: Real = sum((p.time_s for p in pieces if p.stage == "exchange"), start=0.0)
    dense: Real = sum((p.time_s for p in pieces if p.part.startswith(("mlp", "attention"))), start=0.0)
    return np.maximum(np.asarray(exchange) - dense, 0.0) / np.maximum(exchange, 1e-15)


def on_two_groups(chip: Chip, phase: str) -> bool:
    """Whether two micro-batches run on two groups of cores (Ascend decode) rather than beside exchanges."""
    return chip.vendor == "huawei" and phase == "decode"


def cores_taken(chip: Chip, phase: str) -> float:
    """Share of the cores that an exchange kernel holds while compute runs beside it."""
    return assumptions.SM_COMMUNICATION_SHARE if chip.vendor == "nvidia" and phase == "prefill" else 0.0


def side_by_side(pieces: list[Piece], chip: Chip, phase: str) -> SideBySide:
    """A layer of two micro-batches: on two groups of cores (Ascend decode), or compute beside exchanges."""
    if on_two_groups(chip, phase):
        groups = on_core_groups(pieces)
        streams = _total(groups[0]), _total(groups[1])
        memory = np.asarray(_traffic_s(pieces))
        layer = overlap.two_streams(*streams, memory, _waiting_s(groups))
        sides = [p.stage == "attention" for p in pieces]
    else:
        streams = _compute_and_exchange(pieces)
        taken = cores_taken(chip, phase)
        t = stage_times(pieces)
        layer = overlap.two_batches((t["attention"], t["experts"]), (t["dispatch"], t["combine"]), taken)
        sides = [p.stage != "exchange" for p in pieces]
    return SideBySide(layer, streams, _shares(pieces, sides, np.asarray(streams[0]) >= np.asarray(streams[1])))


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A layer whose shortcut experts run on a third of the cores beside the dense path on the others, after its first
    attention on all of them (cann-recipes-infer, LongCat-Flash: limit_core_num 16 and 8). Each list holds operators
    with their times; wait_s: of the experts' stream for the last rank."""

    first: list[tuple[Piece, Real]]
    dense: list[tuple[Piece, Real]]
    experts: list[tuple[Piece, Real]]
    wait_s: Real
    memory_s: Real

    @property
    def beside_s(self) -> Real:
        """Time of what runs side by side."""
        streams = np.maximum(_total(self.dense), _total(self.experts) + self.wait_s)
        return np.maximum(streams, self.memory_s)

    @property
    def layer_s(self) -> Real:
        """Time of the layer."""
        return _total(self.first) + self.beside_s


def shortcut_streams(pieces: Sequence[Piece], chip: Chip) -> Shortcut:
    """The streams of a pair of layers (layers.joined_pairs)."""
    core = next(i for i, p in enumerate(pieces) if p.part == "attention core")
    at = next(i for i, p in enumerate(pieces) if i > core and p.part.startswith("norm")) + 1
    first = [(p, p.time_s) for p in pieces[:at]]
    sides = [p.part.startswith(("moe", "dispatch")) for p in pieces[at:]]
    experts = [p for p, moe in zip(pieces[at:], sides, strict=True) if moe]
    dense = [p for p, moe in zip(pieces[at:], sides, strict=True) if not moe]
    shares = (assumptions.ATTENTION_STREAM, assumptions.MOE_STREAM)
    memory = np.asarray(_traffic_s(dense)) + _traffic_s(experts)

    def layer(groups: Groups) -> Shortcut:
        work = [(time, p.spread) for p, time in [*first, *groups[1]]]
        return Shortcut(first, *groups, sum(waits_s(work), start=0.0), memory)

    return layer(_beside(dense, experts, shares, lambda groups: layer(groups).beside_s, chip))


def shortcut_shares(found: Shortcut) -> Mapping[tuple[str, str], Real]:
    """Time of each (part, bound) of the layer; the hidden stream has none."""
    slow = np.asarray(_total(found.dense)) >= np.asarray(_total(found.experts))
    out: dict[tuple[str, str], Real] = {}
    for pieces, shown in ((found.dense, slow), (found.experts, ~slow)):
        length = maximum(_total(pieces), 1e-15)
        for p, time in pieces:
            key = (p.part, p.bound)
            out[key] = out.get(key, 0.0) + np.asarray(time / length * found.beside_s) * shown
    for p, time in found.first:
        out[p.part, p.bound] = out.get((p.part, p.bound), 0.0) + time
    return out


def _beside(
    one: list[Piece],
    other: list[Piece],
    shares: tuple[float, float],
    length: Callable[[Groups], Real],
    chip: Chip | None = None,
) -> Groups:
    """Two streams on their shares of the cores. Each has the memory bandwidth that the other's mean draw leaves: its
    traffic over the time of both (length), which is found by narrowing it from both sides."""
    traffic = _traffic_s(one), _traffic_s(other)

    def together(period_s: Real) -> tuple[Groups, Real]:
        drawn = [np.minimum(t / maximum(period_s, 1e-12), overlap.MOST_DRAWN) for t in reversed(traffic)]
        groups = _on(one, shares[0], drawn[0], chip), _on(other, shares[1], drawn[1], chip)
        return groups, length(groups)

    low = np.maximum(_total(_on(one, shares[0], 0.0, chip)), _total(_on(other, shares[1], 0.0, chip)))
    high = together(low)[1]
    after = together(high)[1]
    # the time falls with the assumed period: where the line through both points meets it
    period = high - (high - low) * (high - after) / maximum(high - low + high - after, 1e-15)
    return together(period)[0]


def _on(pieces: list[Piece], share: float, drawn: Real, chip: Chip | None) -> list[tuple[Piece, Real]]:
    def time(p: Piece) -> Real:
        if p.cost is None:
            return p.time_s
        busy = _busy(p.cost, chip) if chip is not None and p.part == "attention core" else 1.0
        return overlap.on_cores(p.cost, share, drawn, busy) * p.count

    return [(p, time(p)) for p in pieces]


def _busy(cost: OperatorCost, chip: Chip) -> Real:
    """Share of the cores that a core of latent attention finds blocks of rows for: its rate over that of all cores."""
    rate = cost.flop / maximum(cost.compute_s, 1e-15)
    return rate / (BEST_LATENT_SHARE * chip.peak("bf16"))


def _traffic_s(pieces: Sequence[Piece]) -> Real:
    return sum((p.cost.memory_s * p.count + p.ahead_s for p in pieces if p.cost is not None), start=0.0)


def on_core_groups(split: Sequence[Piece]) -> tuple[list[tuple[Piece, Real]], list[tuple[Piece, Real]]]:
    """(attention, experts) of one micro-batch, each operator with its time on its group of cores, sharing the memory
    bandwidth: first alone, then with the other's mean draw."""
    sides = [[p for p in split if (p.stage == "attention") == attention] for attention in (True, False)]
    shares = (assumptions.ATTENTION_STREAM, assumptions.MOE_STREAM)

    def length(groups: Groups) -> Real:
        return overlap.two_streams(_total(groups[0]), _total(groups[1]), 0.0, _waiting_s(groups)) / 2.0

    return _beside(sides[0], sides[1], shares, length)


def _total(stream: list[tuple[Piece, Real]]) -> Real:
    return sum((time for _, time in stream), start=0.0)


def _waiting_s(groups: tuple[list[tuple[Piece, Real]], list[tuple[Piece, Real]]]) -> Real:
    """Wait of one micro-batch for the last rank, with each operator's time on its group of cores."""
    return sum(waits_s([(time, piece.spread) for group in groups for piece, time in group]), start=0.0)


def _compute_and_exchange(split: list[Piece]) -> tuple[Real, Real]:
    """(compute, exchange) of one micro-batch on a device that runs both side by side."""
    times = stage_times(split)
    return times["attention"] + times["experts"], times["dispatch"] + times["combine"]


def stage_times(split: Sequence[Piece]) -> dict[str, Real]:
    """Time of each stage of one micro-batch; exchanges have their wait for the last rank, and all but the way to the
    experts count as combine."""
    times: dict[str, Real] = dict.fromkeys(("attention", "experts", "dispatch", "combine"), 0.0)
    for p, wait in zip(split, waits_s([(p.time_s, p.spread) for p in split]), strict=True):
        stage = p.stage if p.stage != "exchange" else "dispatch" if p.outward else "combine"
        times[stage] = times[stage] + p.time_s + wait
    return times


def _shares(split: list[Piece], in_first: list[bool], first: npt.NDArray[np.bool_]) -> Mapping[tuple[str, str], Real]:
    pick: Callable[..., Real] = np.where if first.ndim else lambda shown, time, hidden: time if shown else hidden
    critical = [pick(first == side, p.time_s, 0.0) for p, side in zip(split, in_first, strict=True)]
    total = maximum(sum(critical), 1e-15)
    out: dict[tuple[str, str], Real] = {}
    for p, time in zip(split, critical, strict=True):
        key = (p.part, p.bound)
        out[key] = out.get(key, 0.0) + time / total
    return out
