"""What a block shows of its time: exchanges beside a dense path, and two micro-batches side by side.

Times are those of one micro-batch; the laws of the overlap itself are in overlap.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.inference import assumptions, overlap
from supertwin.inference.arrival import waits_s
from supertwin.inference.pieces import Piece
from supertwin.inference.placement import Real
from supertwin.machine.chip import Chip
from supertwin.workload.shard import maximum


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
        memory = np.asarray(_memory_s(pieces, True)) + _memory_s(pieces, False)
        layer = overlap.two_streams(*streams, memory, _waiting_s(groups))
        sides = [p.stage == "attention" for p in pieces]
    else:
        streams = _compute_and_exchange(pieces)
        taken = cores_taken(chip, phase)
        t = stage_times(pieces)
        layer = overlap.two_batches((t["attention"], t["experts"]), (t["dispatch"], t["combine"]), taken)
        sides = [p.stage != "exchange" for p in pieces]
    return SideBySide(layer, streams, _shares(pieces, sides, np.asarray(streams[0]) >= np.asarray(streams[1])))


def on_core_groups(split: Sequence[Piece]) -> tuple[list[tuple[Piece, Real]], list[tuple[Piece, Real]]]:
    """(attention, experts) of one micro-batch, each operator with its time on its group of cores, sharing the memory
    bandwidth: first alone, then with the other's mean draw."""
    attention, experts = _total(_stream(split, True, 0.0)), _total(_stream(split, False, 0.0))
    longest = np.maximum(np.maximum(attention, experts), 1e-12)
    draws = [np.minimum(_memory_s(split, side) / longest, 0.5) for side in (False, True)]
    return _stream(split, True, draws[0]), _stream(split, False, draws[1])


def _stream(split: Sequence[Piece], attention: bool, drawn: Real) -> list[tuple[Piece, Real]]:
    share = assumptions.ATTENTION_STREAM if attention else assumptions.MOE_STREAM
    return [
        (p, p.time_s if p.cost is None else overlap.on_cores(p.cost, share, drawn) * p.count)
        for p in split
        if (p.stage == "attention") == attention
    ]


def _total(stream: list[tuple[Piece, Real]]) -> Real:
    return sum((time for _, time in stream), start=0.0)


def _waiting_s(groups: tuple[list[tuple[Piece, Real]], list[tuple[Piece, Real]]]) -> Real:
    """Wait of one micro-batch for the last rank, with each operator's time on its group of cores."""
    return sum(waits_s([(time, piece.largest) for group in groups for piece, time in group]), start=0.0)


def _memory_s(split: Sequence[Piece], attention: bool) -> Real:
    total: Real = 0.0
    for p in split:
        if p.cost is not None and (p.stage == "attention") == attention:
            total = total + p.cost.memory_s * p.count
    return total


def _compute_and_exchange(split: list[Piece]) -> tuple[Real, Real]:
    """(compute, exchange) of one micro-batch on a device that runs both side by side."""
    times = stage_times(split)
    return times["attention"] + times["experts"], times["dispatch"] + times["combine"]


def stage_times(split: Sequence[Piece]) -> dict[str, Real]:
    """Time of each stage of one micro-batch; all exchanges but the way to the experts count as combine."""
    times: dict[str, Real] = dict.fromkeys(("attention", "experts", "dispatch", "combine"), 0.0)
    for p in split:
        stage = p.stage if p.stage != "exchange" else "dispatch" if p.outward else "combine"
        times[stage] = times[stage] + p.time_s
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
