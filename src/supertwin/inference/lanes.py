"""One step as stretches of streams: what runs when, micro-batch by micro-batch.

Without overlap everything runs on one stream after the other. With two micro-batches A and B a layer shows

    two groups of cores   attention A, attention B on one group; beside them experts B of the layer before, experts A
    compute and exchange  attention A, attention B, experts A, experts B; beside them combine B of the layer before,
                          dispatch A, dispatch B, combine A

in the steady state that the closed form prices: the first layer is drawn like all others. Operators of a stage that
shares cores or memory are drawn longer in proportion. The last stretch ends with the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from supertwin.inference.anatomy import Anatomy, Opened
from supertwin.inference.arrival import waits_s
from supertwin.inference.overlap import beside, slowed
from supertwin.inference.piece import Piece
from supertwin.inference.step import RANK_WAIT
from supertwin.inference.streams import (
    cores_taken,
    exposed_share,
    on_core_groups,
    on_two_groups,
    shortcut_streams,
    stage_times,
)
from supertwin.inference.times import scalar
from supertwin.machine.chip import Chip

COMPUTE, EXCHANGE, PIPELINE, HOST = "compute", "exchange", "pipeline", "host"
ATTENTION, EXPERTS = "attention cores", "expert cores"
DRAWN = (COMPUTE, ATTENTION, EXPERTS, EXCHANGE, PIPELINE, HOST)
"""Streams in the order in which they are drawn."""

_SLOTS = (
    ("attention", "A", "combine", "B"),
    ("attention", "B", "dispatch", "A"),
    ("experts", "A", "dispatch", "B"),
    ("experts", "B", "combine", "A"),
)
"""(compute, of micro-batch, exchange beside it, of micro-batch)."""


class Slice(NamedTuple):
    """One stretch of one stream, seconds from the start of its block. batch: micro-batch A or B ("" for both); alone_s:
    its time with the whole machine to itself."""

    stream: str
    name: str
    start_s: float
    end_s: float
    batch: str = ""
    alone_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Lanes:
    """One execution of a block: its length and its stretches."""

    length_s: float
    slices: tuple[Slice, ...]

    def busy_s(self) -> dict[str, float]:
        """Seconds that each stream works, in the order of DRAWN."""
        found: dict[str, float] = {}
        for stream in DRAWN:
            seconds = sum(s.end_s - s.start_s for s in self.slices if s.stream == stream)
            if seconds > 0.0:
                found[stream] = seconds
        return found


def step_slices(step: Anatomy) -> Iterator[tuple[str, int, Slice]]:
    """(block, execution, stretch) of a whole step, times from the start of the step."""
    at = 0.0
    for opened in step.blocks:
        one = lanes(opened, step)
        whole, rest = divmod(opened.block.count, 1.0)
        for number in range(int(whole) + (rest > 1e-9)):
            scale = 1.0 if number < whole else rest
            for s in one.slices:
                yield opened.name, number, s._replace(start_s=at + scale * s.start_s, end_s=at + scale * s.end_s)
            at += scale * one.length_s
    blocks = step.alone().parts
    for (part, bound), value in step.times.parts.items():
        seconds = scalar(value) - scalar(blocks.get((part, bound), 0.0))
        if seconds > 1e-12:
            stream = HOST if part == "host" else PIPELINE
            yield "", 0, Slice(stream, part, at, at + seconds, alone_s=seconds)
            at += seconds


def lanes(opened: Opened, step: Anatomy) -> Lanes:
    """One execution of a block."""
    chip, phase = step.case.system.chip, step.plan.shape.kernels_of
    if opened.block.pair:
        return _pair(opened, step.case.system.chip)
    if opened.block.microbatches == 1:
        return _serial(opened)
    if on_two_groups(chip, phase):
        return _two_groups(opened, scalar(step.alone(lambda o: o is opened).last_layer_s))
    return _beside_exchange(opened, cores_taken(chip, phase))


def _serial(opened: Opened) -> Lanes:
    """Operators one after the other; beside a dense path (shortcut) only what outlasts it is drawn of exchanges."""
    shown = scalar(exposed_share(list(opened.pieces))) if opened.block.shortcut else 1.0
    out, at = [], 0.0
    waits = waits_s([(piece.time_s, piece.spread) for piece in opened.pieces])
    for (operator, piece), wait in zip(opened.operators, waits, strict=True):
        alone = scalar(piece.time_s)
        exchange = piece.stage == "exchange"
        if (waited := scalar(wait) * shown) > 0.0:
            out.append(Slice(EXCHANGE, RANK_WAIT[0], at, at + waited, alone_s=waited))
            at += waited
        end = at + alone * (shown if exchange else 1.0)
        if end > at:
            out.append(Slice(EXCHANGE if exchange else COMPUTE, operator.part, at, end, alone_s=alone))
        at = end
    return Lanes(at, tuple(out))


def _pair(opened: Opened, chip: Chip) -> Lanes:
    """First attention on all cores; then experts beside the dense path."""
    names = {id(piece): operator.part for operator, piece in opened.operators}
    found = shortcut_streams(opened.pieces, chip)
    first = sum(scalar(time) for _, time in found.first)
    out: list[Slice] = []
    for stream, timed, start in (
        (ATTENTION, found.first, 0.0),
        (ATTENTION, found.dense, first),
        (EXPERTS, found.experts, first),
    ):
        at = start
        for piece, took in timed:
            end = at + scalar(took)
            out.append(Slice(stream, names[id(piece)], at, end, alone_s=scalar(piece.time_s)))
            at = end
    return Lanes(scalar(found.layer_s), tuple(out))


def _two_groups(opened: Opened, length_s: float) -> Lanes:
    """Attention of A and B in turn on one group; experts of B (of the layer before) and of A on the other."""
    names = {id(piece): operator.part for operator, piece in opened.operators}
    out: list[Slice] = []
    for stream, timed, order in zip((ATTENTION, EXPERTS), on_core_groups(opened.pieces), ("AB", "BA"), strict=True):
        for half, batch in enumerate(order):
            at = half * length_s / 2.0
            for piece, took in timed:
                end = at + scalar(took)
                out.append(Slice(stream, names[id(piece)], at, end, batch, scalar(piece.time_s)))
                at = end
    return Lanes(length_s, tuple(out))


def _beside_exchange(opened: Opened, taken: float) -> Lanes:
    """Four slots, each as long as the longer of its compute and its exchange."""
    t = {name: scalar(value) for name, value in stage_times(opened.pieces).items()}
    out: list[Slice] = []
    at = 0.0
    for compute, first, exchange, second in _SLOTS:
        length = scalar(beside(t[compute], t[exchange], taken))
        out += _laid(opened, compute, first, (at, scalar(slowed(t[compute], t[exchange], taken))))
        out += _laid(opened, exchange, second, (at, t[exchange]))
        at += length
    return Lanes(at, tuple(out))


def _laid(opened: Opened, stage: str, batch: str, place: tuple[float, float]) -> list[Slice]:
    """Operators of a stage from place[0] on, stretched to place[1] seconds."""
    own = [(o.part, p) for o, p in opened.operators if _stage_of(p) == stage]
    total = sum(scalar(p.time_s) for _, p in own)
    at, out = place[0], []
    for name, piece in own:
        alone = scalar(piece.time_s)
        end = at + (alone * place[1] / total if total > 0.0 else 0.0)
        out.append(Slice(EXCHANGE if piece.stage == "exchange" else COMPUTE, name, at, end, batch, alone))
        at = end
    return out


def _stage_of(piece: Piece) -> str:
    return piece.stage if piece.stage != "exchange" else "dispatch" if piece.outward else "combine"
